"""Metrics in closed form."""

import math

import pytest
import torch

from genie_lite.metrics import (
    active_units,
    code_usage,
    effective_rank,
    kl_per_dim_nats,
    perplexity,
    psnr_db,
    ssim,
)
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


def test_units_are_active_where_means_vary() -> None:
    mean = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.09, 0.0])
    assert active_units(mean + 5) == 1
    assert active_units(mean + 5, at_least=0.005) == 2
    assert active_units(torch.ones(2, 3, 4)) == 0


def test_divergence_of_each_channel_is_that_of_normals() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, spread = torch.randn(50, 3, generator=generator), 0.1 + torch.rand(50, 3, generator=generator)
    prior = torch.distributions.Normal(0.0, 1.0)
    wanted = torch.distributions.kl_divergence(torch.distributions.Normal(mean, spread), prior).mean(dim=0)
    torch.testing.assert_close(kl_per_dim_nats(mean, spread).float(), wanted)
    assert kl_per_dim_nats(torch.zeros(4, 2), torch.ones(4, 2)).tolist() == [0, 0]


def test_effective_rank_counts_directions() -> None:
    rows = torch.randn(20000, 3, generator=torch.Generator().manual_seed(0))
    assert effective_rank(rows) == pytest.approx(3, abs=0.01)
    assert effective_rank(rows * torch.tensor([1.0, 1.0, 1e-4]) + 7) == pytest.approx(2, abs=0.01)
    assert effective_rank(rows[:, :1] * torch.ones(3)) == pytest.approx(1, abs=0.01)
    assert effective_rank(torch.ones(10, 3)) == 0
    assert effective_rank(rows[:, :1]) == pytest.approx(1)
