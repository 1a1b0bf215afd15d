"""Variants of the latent action model: other eyes, other views, relations between codes, weights of pixels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from genie_lite.adapt.idm import InverseModel
from genie_lite.adapt.supervised import ActionSpace
from genie_lite.artifact import read_artifact, write_artifact
from genie_lite.config import parse
from genie_lite.errors import UserError
from genie_lite.losses import mean_where, pixel_loss, relative_distance
from genie_lite.models.lam import LAMConfig, LAMWeights, LatentActionModel, load_lam, objective
from genie_lite.nn.features import FeatureTarget, TimmFeatures
from genie_lite.nn.quantize import NoneConfig, VAEConfig, VQConfig
from genie_lite.train.config import LAMStage
from tests import models

EYE = TimmFeatures(
    name="test_efficientnet", pretrained=False, size_px=64
)  # no weights: nothing is downloaded
SHAPE = {"frame_hw": models.FRAME_HW, "patch": 8, "width": 16, "depth": 1, "heads": 2}


def lam(**changes: object) -> LatentActionModel:
    torch.manual_seed(0)
    return LatentActionModel(LAMConfig.model_validate({**SHAPE, "code": VAEConfig(dim=4), **changes}))


# --- seconds of a pair ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair_s", [[0.0, 0.5], [0.5, 0.2], [-1.0, 1.0]])
def test_pairs_are_a_range_of_seconds_above_zero(pair_s: list[float]) -> None:
    with pytest.raises(UserError, match=r"pair_s is \[.*\]; expected seconds above 0, the smaller first"):
        parse({"pair_s": pair_s}, LAMConfig, "recipe")
    assert parse({"pair_s": [0.2, 0.2]}, LAMConfig, "recipe").pair_s == (0.2, 0.2)


# --- features as input ---------------------------------------------------------------------------------------


def test_a_model_that_looks_at_features_trains_all_but_its_eye_and_foretells_pixels() -> None:
    model, frames = lam(input=EYE), models.frames(num=4)
    assert model.eye is not None
    before = {name: tensor.clone() for name, tensor in model.eye.state_dict().items()}
    out = model.train()(frames)
    assert out.prediction.shape == (2, 3, 3, *models.FRAME_HW)
    objective(out, frames, LAMWeights()).total.backward()
    assert all(parameter.grad is None for parameter in model.eye.parameters())
    assert model.embed.weight.grad is not None
    assert model.embed.weight.grad.abs().sum() > 0
    for name, tensor in model.eye.state_dict().items():
        assert torch.equal(tensor, before[name]), "not even its statistics change"


def test_each_frame_is_looked_at_by_itself() -> None:
    """Streams show one frame at a time."""
    model, frames = lam(input=EYE).eval(), models.frames(num=4)
    whole = model.look(frames)
    for k in range(4):
        torch.testing.assert_close(model.look(frames[:, k : k + 1])[:, 0], whole[:, k])


def test_the_eye_is_kept_with_the_model_and_not_downloaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import timm

    nothing = {"recipe": "", "parents": {}, "data": {}, "metrics": {}, "seconds": 0.0}
    model, frames = lam(input=EYE).eval(), models.frames()
    config = model.config.model_copy(update={"input": EYE.model_copy(update={"pretrained": True})})
    write_artifact(tmp_path, "lam", model, config, **nothing)
    asked: list[Any] = []
    create: Callable[..., Any] = timm.create_model

    def note(*args: Any, **options: Any) -> Any:
        asked.append(options["pretrained"])
        return create(*args, **options)

    monkeypatch.setattr(timm, "create_model", note)
    torch.manual_seed(99)  # a random eye is no other one for it
    loaded = load_lam(tmp_path)
    assert set(asked) == {False}
    assert torch.equal(loaded.encode(frames).embedding, model.encode(frames).embedding)
    assert LatentActionModel.from_artifact(read_artifact(tmp_path, "lam")).config == config


def test_without_timm_a_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(
        UserError, match=r"lam\.model\.input: kind timm needs the package timm; pip install timm"
    ):
        lam(input=EYE)
    with pytest.raises(UserError, match=r"lam\.model\.features: kind timm needs the package timm"):
        FeatureTarget(EYE, 16, (2, 2))


def test_pictures_of_another_size_are_made_for_the_eye_or_refused_in_a_line() -> None:
    small = TimmFeatures(name="test_vit", pretrained=False, size_px=32)
    model = lam(input=small)
    assert model.eye is not None
    assert model.eye.input_hw == (32, 32)
    assert model.look(models.frames()).shape == (2, 5, 5, 16)
    crooked = small.model_copy(update={"size_px": 33})
    with pytest.raises(
        UserError, match=r"lam\.model\.input\.size_px: found 33, expected a multiple of .* 16 pixels"
    ):
        lam(input=crooked)


def test_the_labelled_inverse_model_has_the_same_eye() -> None:
    torch.manual_seed(0)
    model = InverseModel(lam(input=EYE).config, ActionSpace("discrete", ("a", "b")))
    assert model.encoder.eye is not None
    assert model(models.frames(num=2)).shape == (2, 2)


# --- two views -----------------------------------------------------------------------------------------------


def test_the_code_is_of_what_the_encoder_is_shown_and_the_target_of_the_frames() -> None:
    model, frames, seen = lam().eval(), models.frames(), models.frames(seed=1)
    out = model(frames, seen)
    assert torch.equal(out.code.embedding, model.encode(seen).embedding)
    assert torch.equal(out.prediction, model.decode(frames[:, :-1], out.code.vector))
    torch.testing.assert_close(
        objective(out, frames, LAMWeights()).terms["pixel"], (out.prediction - frames[:, 1:]).square().mean()
    )
    assert torch.equal(model(frames).prediction, model(frames, frames).prediction)


# --- the objective -------------------------------------------------------------------------------------------


def test_terms_that_are_off_are_not_there_and_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, frames = models.lam(), models.frames()
    looked = []
    monkeypatch.setattr(plain, "compare", lambda rows: looked.append(1) or type(plain).compare(plain, rows))
    out = plain(frames, relations=LAMWeights().relations)
    assert list(objective(out, frames, LAMWeights()).terms) == ["pixel", "motion", "features", "commitment"]
    assert looked == [1], "the encoder ran once"
    weights = LAMWeights(additivity=0.5, reversal=0.25)
    both = objective(plain(frames, relations=weights.relations), frames, weights)
    torch.testing.assert_close(
        both.total,
        both.terms["pixel"]
        + 0.25 * both.terms["commitment"]
        + 0.5 * both.terms["additivity"]
        + 0.25 * both.terms["reversal"],
    )
    assert looked == [1] * 4


def test_a_bottlenecks_prior_counts_by_its_own_weight() -> None:
    model, frames = lam(code=VAEConfig(dim=4, beta=0.5)), models.frames()
    loss = objective(model(frames), frames, LAMWeights())
    assert loss.terms["kl"] > 0
    torch.testing.assert_close(loss.total, loss.terms["pixel"] + 0.5 * loss.terms["kl"])


def test_pixels_count_by_their_weight() -> None:
    prediction, target = torch.zeros(2, 3, 3, 4, 4), torch.zeros(2, 3, 3, 4, 4)
    target[..., 0, 0] = 1.0
    plain = pixel_loss(prediction, target)
    assert pixel_loss(prediction, target, torch.ones(2, 3, 1, 4, 4)) == plain
    there, elsewhere = torch.zeros(2, 3, 1, 4, 4), torch.full((2, 3, 1, 4, 4), 16 / 15)
    there[..., 0, 0] = 16.0
    elsewhere[..., 0, 0] = 0.0
    torch.testing.assert_close(pixel_loss(prediction, target, there), 16 * plain)
    assert pixel_loss(prediction, target, elsewhere) == 0
    model, frames = models.lam(), models.frames()
    weight = torch.zeros(2, 4, 1, 16, 16)
    weight[..., :8, :8] = 4.0
    loss = objective(model(frames), frames, LAMWeights(), pixel_weight=weight)
    (grad,) = torch.autograd.grad(loss.terms["pixel"], model.to_pixels.bias)
    assert grad.abs().sum() > 0
    out = model.eval()(frames)
    corner = (out.prediction - frames[:, 1:])[..., :8, :8].square().mean()
    torch.testing.assert_close(
        objective(out, frames, LAMWeights(), pixel_weight=weight).terms["pixel"], corner
    )


def test_features_count_by_the_weight_of_their_patch() -> None:
    torch.manual_seed(0)
    target, frames = FeatureTarget(EYE, 16, (2, 2)), models.frames(num=3)
    rows, ones = torch.randn(2, 3, 4, 16), torch.ones(2, 3, 1, 16, 16)
    torch.testing.assert_close(target(rows, frames, ones), target(rows, frames))
    corner = torch.zeros(2, 3, 1, 16, 16)
    corner[..., :8, 8:] = 4.0
    wrong = (target.to_features(rows) - target.features(frames)).square()
    torch.testing.assert_close(target(rows, frames, corner), wrong[:, :, 1].mean())


def test_a_mean_of_what_is_known_does_not_see_the_rest() -> None:
    values = torch.tensor([[1.0, 100.0], [3.0, 5.0]])
    assert mean_where(values, torch.tensor([[True, False], [True, True]])) == 3.0
    assert mean_where(values, torch.zeros(2, 2, dtype=torch.bool)) == 0.0


# --- relations -----------------------------------------------------------------------------------------------


def test_the_distance_is_bounded_blind_to_units_and_cannot_be_cheated() -> None:
    one, other = torch.randn(64, 8), torch.randn(64, 8)
    assert relative_distance(one, one) == 0
    torch.testing.assert_close(relative_distance(one, -one), torch.tensor(2.0))
    distance = relative_distance(one, other)
    torch.testing.assert_close(relative_distance(7 * one, 7 * other), distance)
    torch.testing.assert_close(relative_distance(torch.zeros_like(one), one), torch.tensor(1.0))
    assert relative_distance(100 * one, other) > 0.95
    still = torch.cat([one, 1e-6 * one])  # next to nothing happened
    assert relative_distance(still, torch.cat([one, 1e-6 * other])) < 1e-6


def test_clips_of_two_frames_have_no_three_in_a_row() -> None:
    tree = {"weights": {"additivity": 1.0}, "train": {"steps": 1, "clip_frames": 2}}
    with pytest.raises(UserError, match=r"additivity is about three frames, train\.clip_frames is 2"):
        parse(tree, LAMStage, "recipe")


def slides(num: int, seed: int) -> torch.Tensor:
    """A bar slides by -3 … 3 pixels from frame to frame, anything as likely."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randint(-3, 4, (num, 2), generator=generator)
    start = torch.randint(6, 8, (num, 1), generator=generator)
    places = torch.cat([start, start + steps.cumsum(dim=1)], dim=1)
    across = torch.arange(16)
    bar = ((across >= places[..., None]) & (across < places[..., None] + 3)).float()
    return bar[:, :, None, None, :].expand(-1, -1, 3, 16, -1).contiguous()


def slid(weights: LAMWeights, code: VQConfig | NoneConfig, steps: int = 100) -> dict[str, float]:
    """How far a trained model's codes are from both relations, and its error beside copying."""
    torch.manual_seed(0)
    shape = {**SHAPE, "width": 32, "frame_hw": (16, 16)}
    model = LatentActionModel(LAMConfig.model_validate({**shape, "code": code}))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(
        optimizer, 1.0, 0.01, steps
    )  # statistics lag behind fast weights
    for step in range(steps):
        frames = slides(32, seed=step)
        loss = objective(model(frames, relations=weights.relations), frames, weights)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        schedule.step()
    frames = slides(256, seed=10**6)
    with torch.no_grad():
        out = model.eval()(frames, relations=("additivity", "reversal"))
    copied = (frames[:, :-1] - frames[:, 1:]).square().mean()
    error = (out.prediction - frames[:, 1:]).square().mean() / copied
    return {name: float(value) for name, value in out.relations.items()} | {"error": float(error)}


def test_trained_codes_add_up_and_turn_round() -> None:
    code = NoneConfig(dim=4)
    free = slid(LAMWeights(), code, steps=30)
    bound = slid(LAMWeights(additivity=0.1, reversal=0.1), code)
    for name in ("additivity", "reversal"):
        assert free[name] > 0.25
        assert bound[name] < 0.1, name
    assert bound["error"] < 0.5, "and still say what happened"
