"""The latent action: one per transition, necessary, and the same wherever a clip is cut."""

import pytest
import torch

from genie_lite.models.lam import LAMWeights, LatentActionModel, objective
from genie_lite.nn.patch import grid_of
from tests import models


def bars_moving(num: int = 32, seed: int = 0) -> torch.Tensor:
    """Pairs of frames: a bar of random brightness moves left or right by its own width, at random."""
    generator = torch.Generator().manual_seed(seed)
    brightness = 0.5 + 0.5 * torch.rand(num, 3, 1, 1, generator=generator)
    goes_right = torch.rand(num, 1, 1, 1, generator=generator) < 0.5
    frames = torch.zeros(num, 2, 3, 16, 16)
    frames[:, 0, :, :, 6:10] = brightness
    frames[:, 1, :, :, 2:6] = torch.where(goes_right, 0.0, brightness)
    frames[:, 1, :, :, 10:14] = torch.where(goes_right, brightness, 0.0)
    return frames


def test_one_code_per_transition_and_each_is_learnt() -> None:
    """D7: one code per patch is room for the picture itself; one trained code of many leaves the rest noise."""
    # A decoder of one frame, so that no code is learnt through a later one.
    config = models.lam().config.model_copy(update={"past_window": 1})
    model, frames = LatentActionModel(config), models.frames(batch=2, num=5)
    out = model(frames)
    assert out.code.index.shape == (2, 4)
    assert out.code.vector.shape == out.code.embedding.shape == (2, 4, 4)
    loss = objective(out, frames, LAMWeights(commitment=0.0)).total
    (grad,) = torch.autograd.grad(loss, out.code.embedding)
    assert (grad.abs().sum(dim=-1) > 0).all()


def test_a_trained_lam_needs_its_code_and_names_the_direction() -> None:
    """D2: a decoder that is given the frames it has to rebuild needs no code.

    Zeroed or shuffled codes raise the loss; with true codes the two directions are told apart.
    """
    model = models.lam()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(120):
        frames = bars_moving(seed=step)
        loss = objective(model(frames), frames, LAMWeights())
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    model.eval()
    frames = bars_moving(seed=1000)
    goes_right = frames[:, 1, 0, 0, 12] > 0
    with torch.no_grad():
        out = model(frames)
        zeroed = model.decode(frames[:, :-1], torch.zeros_like(out.code.vector))
        shuffled = model.decode(frames[:, :-1], out.code.vector.roll(1, dims=0))

    torch.testing.assert_close(out.prediction, model.decode(frames[:, :-1], out.code.vector))

    def error(prediction: torch.Tensor) -> float:
        return float((prediction - frames[:, 1:]).square().mean())

    assert error(out.prediction) < 0.7 * error(zeroed)
    assert error(out.prediction) < 0.7 * error(shuffled)
    for index in out.code.index.unique():
        chosen = goes_right[out.code.index[:, 0] == index].float().mean()
        assert chosen < 0.1 or chosen > 0.9


def test_the_term_about_codes_is_their_distance_and_counts_against_the_loss() -> None:
    """D3: with the sign of such a term turned round, training does the opposite of what its name says."""
    model, frames = models.lam(), models.frames()
    out = model(frames)
    term = objective(out, frames, LAMWeights()).terms["commitment"]
    assert term > 0
    assert LAMWeights().commitment > 0
    towards = torch.nn.functional.normalize(out.code.embedding, dim=-1)  # codes are directions
    torch.testing.assert_close(term, (towards - out.code.vector).square().mean())


def test_code_does_not_depend_on_where_a_clip_begins() -> None:
    model, frames = models.lam(window=2).eval(), models.frames(num=8)
    whole = model.encode(frames).embedding
    reach = 2 * (2 - 1)  # transitions that two blocks of window 2 look back
    cut = model.encode(frames[:, 3:]).embedding
    torch.testing.assert_close(cut[:, reach:], whole[:, 3 + reach :])


def test_a_model_of_changes_starts_as_a_copy_and_learns_what_to_add() -> None:
    config = models.lam().config.model_copy(update={"predict": "change"})
    model, frames = LatentActionModel(config), models.frames()
    assert torch.equal(model(frames).prediction, frames[:, :-1])
    assert torch.equal(model.decode(frames[:, :-1], model.encode(frames).vector), frames[:, :-1])
    objective(model(frames), frames, LAMWeights()).total.backward()
    assert model.to_pixels.weight.grad is not None
    assert model.to_pixels.weight.grad.abs().sum() > 0


def test_motion_weight_counts_pixels_that_move() -> None:
    model, frames = models.lam(), models.frames()
    still = frames[:, :1].expand_as(frames).contiguous()
    assert objective(model(still), still, LAMWeights()).terms["motion"].item() == 0
    loss = objective(model(frames), frames, LAMWeights(motion=1.0))
    assert loss.terms["motion"].item() > 0
    torch.testing.assert_close(
        loss.total, loss.terms["pixel"] + loss.terms["motion"] + 0.25 * loss.terms["commitment"]
    )


def test_frame_that_patches_do_not_tile_is_refused() -> None:
    with pytest.raises(ValueError, match="not divisible by patch"):
        grid_of((64, 60), 16)
