"""How well scores tell good clips from bad ones, with intervals over sources.

    roc_auc     chance that a good clip scores more than a bad one; 0.5 for guessing, 1 without a mistake
    precision   share of good clips among those that are kept at a threshold, with good and bad as in the labels
    recall      share of the good clips that are kept
    kept        share of all clips that are kept

An interval without width does not mean certainty: only that no mistake was found in these sources.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

NUM_RESAMPLES = 1000
# A figure with its 95 % interval and the number of sources that it rests on; None where nothing can be said.
Estimate = dict[str, float | int | None]


@dataclass(frozen=True)
class Scored:
    """Clips with their scores. weight: how much each counts."""

    score: Float64[np.ndarray, " rows"]
    is_good: Bool[np.ndarray, " rows"]
    source: Sequence[str] | np.ndarray
    weight: Float64[np.ndarray, " rows"]


def roc_auc(
    score: Float64[np.ndarray, " rows"],
    is_good: Bool[np.ndarray, " rows"],
    weight: Float64[np.ndarray, " rows"],
) -> float:
    """Chance that a good clip scores more than a bad one, equal scores counting half; NaN without one of them."""
    levels, level = np.unique(score, return_inverse=True)
    good = np.bincount(level, weights=weight * is_good, minlength=len(levels))
    bad = np.bincount(level, weights=weight * ~is_good, minlength=len(levels))
    pairs = good.sum() * bad.sum()
    return float((good * (np.cumsum(bad) - bad / 2)).sum() / pairs) if pairs else np.nan


def estimate_auc(scored: Scored, seed: int) -> Estimate:
    """The area under the curve, with its interval."""
    return _estimates(scored, lambda weight: [roc_auc(scored.score, scored.is_good, weight)], seed)[0]


def estimate_threshold(scored: Scored, min_score: float, seed: int) -> dict[str, Estimate]:
    """Precision, recall and the share kept when clips below `min_score` are dropped, with their intervals."""
    is_kept = scored.score >= min_score

    def measure(weight: np.ndarray) -> list[float]:
        hits, kept = weight[is_kept & scored.is_good].sum(), weight[is_kept].sum()
        good = weight[scored.is_good].sum()
        return [_ratio(hits, kept), _ratio(hits, good), _ratio(kept, weight.sum())]

    return dict(zip(("precision", "recall", "kept"), _estimates(scored, measure, seed), strict=True))


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else np.nan


def _estimates(scored: Scored, measure: Callable[[np.ndarray], Sequence[float]], seed: int) -> list[Estimate]:
    """Each measure with the 2.5 % and 97.5 % quantiles over sources drawn with replacement."""
    names, where = np.unique(np.asarray(scored.source), return_inverse=True)
    num = len(names)
    draws = np.random.default_rng(seed).multinomial(num, np.full(num, 1 / num), size=NUM_RESAMPLES)
    resampled = np.array([measure(scored.weight * draw[where]) for draw in draws])
    means = measure(scored.weight)
    return [_estimate(mean, values, num) for mean, values in zip(means, resampled.T, strict=True)]


def _estimate(mean: float, values: np.ndarray, num: int) -> Estimate:
    known = values[np.isfinite(values)]
    low, high = np.quantile(known, (0.025, 0.975)) if len(known) else (np.nan, np.nan)
    figures = {name: _figure(value) for name, value in (("mean", mean), ("low", low), ("high", high))}
    return figures | {"num": num}


def _figure(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
