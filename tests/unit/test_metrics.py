"""Metrics in closed form."""

import math

import pytest
import torch

from genie_lite.metrics import code_usage, perplexity, psnr_db, ssim
from genie_lite.types import Loss


def test_psnr_of_a_known_error() -> None:
    target = torch.full((2, 3, 3, 8, 8), 0.5)
    torch.testing.assert_close(psnr_db(target + 0.1, target), torch.full((2, 3), 20.0))
    torch.testing.assert_close(psnr_db(target, target), torch.full((2, 3), 100.0))


def test_predictions_are_clamped_before_they_are_scored() -> None:
    target = torch.ones(1, 3, 8, 8)
    assert float(psnr_db(target + 5, target)) == 100.0


def test_ssim_of_identical_frames_is_one_and_each_frame_is_scored_by_itself() -> None:
    """D8: similarity taken over the wrong axes mixes frames, or rows of pixels, with one another."""
    frames = torch.rand(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ssim(frames, frames), torch.ones(2, 3))
    changed = frames.clone()
    changed[1, 2] = 1 - changed[1, 2]
    scores = ssim(changed, frames)
    assert scores[1, 2] < 0.2
    scores[1, 2] = 1
    torch.testing.assert_close(scores, torch.ones(2, 3))


def test_two_of_eight_codes_used_is_a_quarter() -> None:
    index = torch.tensor([[0, 5], [5, 0]])
    assert code_usage(index, 8) == 0.25
    assert perplexity(index, 8) == pytest.approx(2.0)
    assert perplexity(torch.zeros(9, dtype=torch.long), 8) == pytest.approx(1.0)
    assert perplexity(torch.arange(8), 8) == pytest.approx(8.0)


def test_rare_codes_do_not_count_above_a_threshold() -> None:
    index = torch.cat([torch.zeros(999, dtype=torch.long), torch.ones(1, dtype=torch.long)])
    assert code_usage(index, 2) == 1.0
    assert code_usage(index, 2, at_least=0.005) == 0.5


def test_no_term_without_a_weight_and_no_weight_without_a_term() -> None:
    one = torch.ones(())
    assert float(Loss.weigh({"a": one, "b": 2 * one}, {"a": 0.5, "b": 2.0}).total) == 4.5
    with pytest.raises(AssertionError):
        Loss.weigh({"a": one}, {"a": 1.0, "b": 1.0})
    with pytest.raises(AssertionError):
        Loss.weigh({"a": one, "b": one}, {"a": 1.0})
    assert math.isclose(float(Loss.weigh({"a": one}, {"a": 3.0}).total), 3.0)
