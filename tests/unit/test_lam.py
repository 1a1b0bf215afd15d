"""The latent action: one per transition, necessary, and the same wherever a clip is cut."""

import pytest
import torch

from genie_lite.models.lam import LAMWeights, objective
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


def test_one_code_per_transition() -> None:
    code = models.lam().encode(models.frames(batch=2, num=5))
    assert code.index.shape == (2, 4)
    assert code.vector.shape == code.embedding.shape == (2, 4, 4)


def test_a_trained_lam_needs_its_code_and_names_the_direction() -> None:
    """Zeroed or shuffled codes raise the loss; with true codes the two directions are told apart."""
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

    def error(prediction: torch.Tensor) -> float:
        return float((prediction - frames[:, 1:]).square().mean())

    assert error(out.prediction) < 0.7 * error(zeroed)
    assert error(out.prediction) < 0.7 * error(shuffled)
    for index in out.code.index.unique():
        chosen = goes_right[out.code.index[:, 0] == index].float().mean()
        assert chosen < 0.1 or chosen > 0.9


def test_code_does_not_depend_on_where_a_clip_begins() -> None:
    model, frames = models.lam(window=2).eval(), models.frames(num=8)
    whole = model.encode(frames).embedding
    reach = 2 * (2 - 1)  # transitions that two blocks of window 2 look back
    cut = model.encode(frames[:, 3:]).embedding
    torch.testing.assert_close(cut[:, reach:], whole[:, 3 + reach :])


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
