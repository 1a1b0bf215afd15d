"""Drawing a frame's tokens in a few passes."""

import torch
from torch import Tensor

from genie_lite.models.sampling import draw, sample

MASK = 9  # of nine tokens


class Guess:
    """Predicts one distribution for every token, whatever is shown, and remembers what was shown."""

    def __init__(self, logits: Tensor) -> None:
        self.logits, self.shown = logits, []

    def __call__(self, tokens: Tensor) -> Tensor:
        self.shown.append(tokens)
        return self.logits.expand(*tokens.shape, -1)


def noise(batch: int, passes: int, tokens: int, seed: int = 0) -> Tensor:
    return torch.rand(batch, passes, tokens, generator=torch.Generator().manual_seed(seed))


def test_kept_tokens_stay_and_fewer_are_masked_from_pass_to_pass() -> None:
    guess = Guess(torch.arange(9.0))
    drawn = sample(guess, noise(2, 6, 64), 1.0, MASK)
    assert (guess.shown[0] == MASK).all()
    counts = [(shown == MASK).sum(dim=1).unique().tolist() for shown in guess.shown]
    assert counts == [[64], [61], [55], [45], [32], [16]]
    for before, after in zip(guess.shown, [*guess.shown[1:], drawn], strict=True):
        kept = before != MASK
        assert torch.equal(after[kept], before[kept])
    assert (drawn != MASK).all()


def test_the_surest_are_kept_and_equals_by_their_place() -> None:
    logits = torch.zeros(4, 9)
    logits[2, 5] = 10.0  # the third token is sure, the others are all alike
    guess = Guess(logits)
    sample(guess, noise(1, 2, 4), 0.0, MASK)
    assert guess.shown[1].tolist() == [[MASK, MASK, 5, 0]]


def test_temperature_zero_takes_the_likeliest_whatever_the_noise() -> None:
    logits = torch.randn(2, 3, 9, generator=torch.Generator().manual_seed(1))
    assert torch.equal(draw(logits, noise(2, 1, 3)[:, 0], 0.0), logits.argmax(dim=-1))


def test_draws_follow_the_distribution_at_its_temperature() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0])
    for temperature in (0.5, 1.0, 2.0):
        drawn = draw(logits.expand(1, 200_000, -1), noise(1, 1, 200_000)[:, 0], temperature)
        share = drawn.flatten().bincount(minlength=4) / 200_000
        torch.testing.assert_close(share, (logits / temperature).softmax(0), atol=0.005, rtol=0)


def test_a_tiny_temperature_is_almost_none() -> None:
    logits = torch.randn(2, 3, 9, generator=torch.Generator().manual_seed(1))
    assert torch.equal(draw(logits, noise(2, 1, 3)[:, 0], 1e-40), logits.argmax(dim=-1))


def test_the_ends_of_the_unit_interval_are_drawn_from() -> None:
    logits = torch.tensor([-200.0, 0.0, 0.0, -200.0]).expand(1, 2, -1)
    ends = torch.tensor([[0.0, 1 - 2.0**-24]])
    assert draw(logits, ends, 1.0).tolist() == [[1, 2]]
