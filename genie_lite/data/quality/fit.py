"""Fitting a linear head to labelled clips, and what it is worth on sources that it has not seen.

Clips of one source resemble each other: whatever is held out is held out by source, and intervals are over sources.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int

from genie_lite.data.quality.judge import Head, readings

MOST_FOLDS = 5
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)  # of the penalty on squared weights, beside a mean loss


@dataclass(frozen=True)
class Examples:
    """Labelled clips. weight: 1 for a labelled clip; clips that one label was given to share that 1."""

    described: Float64[np.ndarray, "rows d"]
    is_good: Bool[np.ndarray, " rows"]
    source: Sequence[str] | np.ndarray
    weight: Float64[np.ndarray, " rows"]

    def select(self, rows: np.ndarray) -> "Examples":
        """The given rows, by a mask."""
        source = np.asarray(self.source)
        return Examples(self.described[rows], self.is_good[rows], source[rows], self.weight[rows])

    @property
    def balanced(self) -> Float64[np.ndarray, " rows"]:
        """Weights that sum to 1/2 for the good ones and to 1/2 for the bad ones, however many there are."""
        sums = np.bincount(self.is_good.astype(int), weights=self.weight, minlength=2)
        return self.weight / (2 * sums[self.is_good.astype(int)])


def fit(examples: Examples, strength: float) -> Head:
    """Logistic regression with good and bad weighing alike: mean loss + strength / 2 * squared weights.

    The loss is convex: there is one answer, whatever the start.
    """
    centre, spread = examples.described.mean(axis=0), examples.described.std(axis=0)
    scale = np.where(spread > 1e-6, spread, 1.0)
    rows = torch.from_numpy(readings(examples.described, centre, scale))
    truth, row_weight = torch.from_numpy(examples.is_good).double(), torch.from_numpy(examples.balanced)
    weight = torch.zeros(rows.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=200,
        history_size=10,
        tolerance_grad=1e-5,
        tolerance_change=1e-7,
        line_search_fn="strong_wolfe",
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            rows @ weight + bias, truth, weight=row_weight, reduction="sum"
        )
        total = loss + strength / 2 * weight.square().sum()
        total.backward()
        return total

    optimizer.step(closure)
    return Head(centre, scale, weight.detach().numpy(), float(bias.detach()))


def choose_strength(examples: Examples, seed: int) -> float:
    """The penalty whose heads surprise least on held-out sources, by mean log loss."""
    truth = examples.is_good
    losses = []
    for strength in STRENGTHS:
        score = _held_out(examples, [strength] * MOST_FOLDS, seed)
        said = np.where(truth, score, 1 - score)
        losses.append(-(examples.balanced * np.log(np.maximum(said, 1e-12))).sum())
    return STRENGTHS[int(np.argmin(losses))]


def held_out_scores(examples: Examples, seed: int) -> Float64[np.ndarray, " rows"]:
    """Each clip's score by a head that saw nothing of its source, not even to choose the penalty."""
    strengths = [choose_strength(examples.select(train), seed) for train, _ in _splits(examples, seed)]
    return _held_out(examples, strengths, seed)


def num_folds(is_good: np.ndarray, source: Sequence[str] | np.ndarray) -> int:
    """As many as there are sources of the rarer label, 5 at most."""
    return min(MOST_FOLDS, *(len(set(np.asarray(source)[is_good == label])) for label in (False, True)))


def assign_folds(
    is_good: Bool[np.ndarray, " rows"], source: Sequence[str] | np.ndarray, num: int, seed: int
) -> Int[np.ndarray, " rows"]:
    """A fold for every row: all of a source in one, and the sources of either label spread evenly.

    Sources with both labels are dealt out first, and the rest evens out what they leave uneven, so that without
    any one fold both labels remain.
    """
    names, where = np.unique(np.asarray(source), return_inverse=True)
    has = np.zeros((len(names), 2), dtype=int)
    has[where, is_good.astype(int)] = 1
    order = np.random.default_rng(seed).permutation(len(names))
    load, fold_of = np.zeros((num, 2), dtype=int), np.zeros(len(names), dtype=int)
    for name in sorted(order, key=lambda name: -has[name].sum()):
        fold = int(np.lexsort((load.sum(axis=1), load @ has[name]))[0])
        fold_of[name] = fold
        load[fold] += has[name]
    return fold_of[where]


def only(examples: Examples, num: int) -> Examples:
    """The same clips, described by the first `num` numbers alone."""
    return Examples(examples.described[:, :num], examples.is_good, examples.source, examples.weight)


def about(examples: Examples) -> dict[str, Any]:
    """How many clips and sources there are of either label."""
    source = np.asarray(examples.source)
    return {
        name: {"clips": int(rows.sum()), "sources": len(set(source[rows]))}
        for name, rows in (("good", examples.is_good), ("bad", ~examples.is_good))
    }


def _splits(examples: Examples, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Masks of the rows to fit on and of those to score."""
    num = num_folds(examples.is_good, examples.source)
    assert num > 1, "to hold out a source of each label, two of each are needed"
    folds = assign_folds(examples.is_good, examples.source, num, seed)
    for fold in range(num):
        yield folds != fold, folds == fold


def _held_out(examples: Examples, strengths: Sequence[float], seed: int) -> np.ndarray:
    """Scores of every row by the head of its fold."""
    score = np.zeros(len(examples.is_good))
    for strength, (train, test) in zip(strengths, _splits(examples, seed), strict=False):
        score[test] = fit(examples.select(train), strength)(examples.described[test])
    return score
