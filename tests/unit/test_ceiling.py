"""What labels alone teach the same network: with the transition, and from the scene alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genie_lite.adapt.ceiling import frames_at, read_supervised
from genie_lite.adapt.footage import Footage
from genie_lite.adapt.idm import IDMConfig, InverseModel
from genie_lite.adapt.setting import Setting
from genie_lite.adapt.supervised import ActionSpace
from genie_lite.data.labels import Labels
from genie_lite.errors import UserError
from genie_lite.evals.untrained import with_random_weights
from genie_lite.models.lam import LatentActionModel
from genie_lite.nn.features import TimmFeatures
from genie_lite.nn.quantize import NoneConfig, VAEConfig
from tests import models
from tests.footage import footage, write_shards

CONFIG = IDMConfig(steps=100, batch=32, lr=5e-3, warmup_steps=5, precision="32-true")


def levels(frames: torch.Tensor) -> list[list[int]]:
    return (frames[:, :, 0, 0, 0] * 255).round().int().tolist()


def test_what_is_shown_of_a_transition() -> None:
    film = footage((6, 5))
    rows = np.array([0, 3, 6])
    assert levels(frames_at(film, "transition")(rows)) == [[0, 1], [3, 4], [6, 7]]
    assert levels(frames_at(film, "transition", stride=2)(rows)) == [[0, 2], [3, 5], [6, 8]]
    assert levels(frames_at(film, "transition", context=3)(rows)) == [[0, 0, 1], [2, 3, 4], [6, 6, 7]]
    assert levels(frames_at(film, "still", context=3)(rows)) == [[0] * 3, [3] * 3, [6] * 3]


def steps(num: int = 40, length: int = 8) -> tuple[Footage, Labels]:
    """Shots whose brightness goes up or down, as the action says."""
    random = np.random.default_rng(0)
    film = footage((length,) * num, split=("train",) * (num - 10) + ("test",) * 10)
    action = random.integers(0, 2, (num, length))
    level = 120 + 14 * np.cumsum(np.roll(2 * action - 1, 1, axis=1), axis=1)
    frames = np.broadcast_to(level.reshape(-1, 1, 1, 1), film.frames.shape).astype(np.uint8)
    labels = Labels(film.source, film.frame_index, action.ravel(), "discrete", ("down", "up"))
    return Footage(frames, film.first, film.source, film.split, film.frame_index, film.has_next), labels


def test_the_transition_tells_what_the_scene_does_not() -> None:
    film, labels = steps()
    train, test = (np.flatnonzero(film.has_next & (film.split == split)) for split in ("train", "test"))
    truth = labels.action[labels.locate(film.source[test], film.frame_index[test])]
    hits = {}
    for sees in ("transition", "still"):
        answer = read_supervised(
            models.lam().config, film, labels, train, test, CONFIG, Setting(0), sees=sees
        )
        assert answer.sum(dim=1).numpy() == pytest.approx(1, abs=1e-5)
        hits[sees] = float((answer.argmax(dim=1).numpy() == truth).mean())
    assert hits["transition"] > 0.85
    assert hits["still"] < 0.75


def test_a_row_without_a_label_is_our_mistake() -> None:
    film, labels = steps()
    with pytest.raises(AssertionError, match="no label"):
        read_supervised(
            models.lam().config,
            film,
            labels.of(["shot-0.mp4"]),
            np.array([9]),
            np.array([0]),
            CONFIG,
            Setting(0),
        )


@pytest.mark.parametrize("code", [VAEConfig(dim=4), NoneConfig(dim=4)], ids=lambda code: code.kind)
def test_random_weights_do_not_depend_on_what_was_drawn_before(code: Any, tmp_path: Path) -> None:
    """The menu starts anew at rows that are drawn."""
    shards = write_shards(tmp_path / "shards", ("train",))
    trained = LatentActionModel(models.lam().config.model_copy(update={"code": code}))
    found = []
    for drawn_before in (0, 1):
        torch.manual_seed(drawn_before)
        before = torch.random.get_rng_state()
        found.append(with_random_weights(trained, shards.samples("train"), seed=1).state_dict())
        assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


EYE = TimmFeatures(name="test_vit", pretrained=False, size_px=32)


def test_after_training_no_eye_is_downloaded_and_all_see_with_the_model_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from genie_lite.torchvision_shim import repair

    repair()
    import timm

    film, labels = steps(num=12)
    torch.manual_seed(3)
    plain = LatentActionModel(models.lam().config.model_copy(update={"input": EYE}))
    lam = LatentActionModel(
        plain.config.model_copy(update={"input": EYE.model_copy(update={"pretrained": True})}),
        has_weights=True,
    )
    lam.load_state_dict(plain.state_dict())
    create, seen = timm.create_model, []

    def offline(*args: Any, **options: Any) -> Any:
        if options["pretrained"]:
            raise OSError("no network")
        return create(*args, **options)

    def note(self: InverseModel, frames: torch.Tensor) -> torch.Tensor:
        seen.append(self.encoder.eye)
        return forward(self, frames)

    forward = InverseModel.forward
    monkeypatch.setattr(timm, "create_model", offline)
    monkeypatch.setattr(InverseModel, "forward", note)
    config, rows = CONFIG.model_copy(update={"steps": 1, "batch": 4}), np.arange(4)
    read_supervised(lam.config, film, labels, rows, rows, config, Setting(0), eye=lam.eye)
    seen.append(with_random_weights(lam, [], seed=0).eye)
    assert lam.eye is not None
    for eye in seen:
        assert eye is not lam.eye, "a copy: it may be put on another device"
        for name, tensor in lam.eye.state_dict().items():
            assert torch.equal(eye.state_dict()[name], tensor), name
    with pytest.raises(UserError, match="no weights of 'test_vit' to be had"):
        InverseModel(lam.config, ActionSpace("discrete", ("a", "b")))


def test_random_weights_are_those_of_the_seed_and_use_several_codes(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", ("train",))
    trained = models.lam(seed=5)
    before = torch.random.get_rng_state()
    first, second, other = (with_random_weights(trained, shards.samples("train"), seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not first.training
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    assert not torch.equal(first.embed.weight, other.embed.weight)
    assert not torch.equal(first.embed.weight, trained.embed.weight)
    codes = first.encode(models.frames(8, 5)).index
    assert len(codes.unique()) > 1
