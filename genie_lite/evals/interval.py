"""95 % intervals over independent units: episodes, sources or levels, never frames.

Frames of one episode resemble each other; counting them as independent makes every interval too narrow.
So each measurement is written as a *table*: one row per unit, holding sums. The measurement is a function of
the summed rows (accuracy = hits / rows, R² = 1 - residual / total), and its interval comes from drawing
units with replacement and summing again. Measurements in one table are drawn together: a difference taken
inside the statistic is a paired difference.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from genie_lite.types import Interval

NUM_RESAMPLES = 4000
Z_95 = 1.959964  # the normal quantile that leaves 2.5 % on each side

Statistic = Callable[[np.ndarray], np.ndarray]


def bootstrap(table: np.ndarray, statistic: Statistic, seed: int = 0) -> Interval:
    """Percentile interval of a statistic of sums.

    Args:
        table: (units, *cells) sums of each unit.
        statistic: maps summed tables (draws, *cells) to values (draws,).
        seed: of the draws; the same table and seed give the same interval.

    Returns:
        The statistic of all units, with the 2.5 % and 97.5 % quantiles over resamples. One unit carries no
        information about the others: its interval is NaN on both sides, which is written as null.
    """
    num = len(table)
    assert num > 0, "a measurement needs at least one unit"
    mean = float(statistic(table.sum(axis=0, keepdims=True))[0])
    if num == 1:
        return Interval(mean=mean, low=math.nan, high=math.nan, num=1)
    weights = np.random.default_rng(seed).multinomial(num, np.full(num, 1 / num), size=NUM_RESAMPLES)
    values = statistic(np.tensordot(weights.astype(float), table.astype(float), axes=(1, 0)))
    low, high = np.nanquantile(values, (0.025, 0.975))
    return Interval(mean=mean, low=float(low), high=float(high), num=num)


def by_unit(values: np.ndarray, units: Sequence[str] | np.ndarray) -> np.ndarray:
    """Sum rows of each unit: values (rows, *cells) -> (units, *cells), units in sorted order."""
    names, where = np.unique(np.asarray(units, dtype=str), return_inverse=True)
    table = np.zeros((len(names), *values.shape[1:]))
    np.add.at(table, where, values)
    return table


def mean_over(
    values: Sequence[float] | np.ndarray, units: Sequence[str] | np.ndarray, seed: int = 0
) -> Interval:
    """Mean over rows, interval over units: `values` has one number per row, `units` the unit of each row."""
    values = np.asarray(values, dtype=float)
    return bootstrap(by_unit(np.stack([values, np.ones_like(values)], axis=1), units), ratio, seed)


def ratio(sums: np.ndarray) -> np.ndarray:
    """First cell over second cell: the mean from (sum, count)."""
    return sums[..., 0] / sums[..., 1]


def wilson(successes: int, trials: int) -> Interval:
    """Wilson's score interval of a proportion, in [0, 1]; honest at 0 and at all successes too.

    Source: Wilson 1927.
    """
    assert 0 <= successes <= trials > 0
    share, spread = successes / trials, Z_95**2 / trials
    middle = (share + spread / 2) / (1 + spread)
    half = Z_95 * math.sqrt(share * (1 - share) / trials + spread / (4 * trials)) / (1 + spread)
    return Interval(mean=share, low=max(0.0, middle - half), high=min(1.0, middle + half), num=trials)
