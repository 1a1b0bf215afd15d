"""Intervals: over units, honest at the edges, paired."""

import math

import numpy as np
import pytest

from genie_lite.evals.interval import bootstrap, by_unit, mean_over, ratio, wilson
from genie_lite.evals.tree import to_tree


def test_rows_of_one_unit_do_not_narrow_the_interval() -> None:
    values = np.random.default_rng(0).normal(size=20)
    units = [f"episode {number}" for number in range(20)]
    once = mean_over(values, units)
    often = mean_over(values.repeat(50), np.repeat(units, 50))
    assert often.mean == pytest.approx(once.mean)
    assert often.num == 20
    assert often.high - often.low == pytest.approx(once.high - once.low)


def test_the_interval_of_a_mean_is_the_textbook_one() -> None:
    values = np.random.default_rng(1).normal(size=400)
    found = mean_over(values, [str(number) for number in range(400)])
    half = 1.96 * values.std() / math.sqrt(400)
    assert found.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_long_units_weigh_as_many_rows_as_they_have() -> None:
    assert mean_over([1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"]).mean == 0.75


def test_one_unit_has_no_interval_and_is_written_as_null() -> None:
    alone = mean_over([0.2, 0.4], ["a", "a"])
    assert alone.mean == pytest.approx(0.3)
    assert math.isnan(alone.low)
    assert to_tree(alone)["low"] is None


def test_the_same_seed_gives_the_same_interval() -> None:
    table = np.random.default_rng(2).random((9, 2))
    assert bootstrap(table, ratio, seed=3) == bootstrap(table, ratio, seed=3)
    assert bootstrap(table, ratio, seed=3) != bootstrap(table, ratio, seed=4)


def test_units_are_summed_in_sorted_order() -> None:
    assert by_unit(np.array([[1.0], [2.0], [4.0]]), ["b", "a", "b"]).tolist() == [[2.0], [5.0]]


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)],
)
def test_wilson_gives_published_values(successes: int, trials: int, low: float, high: float) -> None:
    found = wilson(successes, trials)
    assert found.mean == successes / trials
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
