"""The head of the quality classifier: fitted in balance, judged on sources it has not seen."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genie_lite.data.quality.figures import FIGURES
from genie_lite.data.quality.fit import (
    STRENGTHS,
    Examples,
    assign_folds,
    choose_strength,
    fit,
    held_out_scores,
    num_folds,
)
from genie_lite.data.quality.judge import FURTHEST, Head, readings
from genie_lite.data.quality.score import Scored, estimate_auc, estimate_threshold, roc_auc

NUM = len(FIGURES)


def examples(described: np.ndarray, is_good: np.ndarray, source: list[str] | None = None) -> Examples:
    names = source if source is not None else [f"{row}.mp4" for row in range(len(is_good))]
    return Examples(described.astype(float), is_good, np.array(names), np.ones(len(is_good)))


def separable(num: int, share_good: float = 0.5, seed: int = 0) -> Examples:
    """The first figure is about +1 for good clips and -1 for bad ones, everything else is noise."""
    random = np.random.default_rng(seed)
    is_good = np.arange(num) < share_good * num
    described = random.normal(size=(num, NUM + 6))
    described[:, 0] = np.where(is_good, 1, -1) + 0.7 * described[:, 0]
    return examples(described, is_good)


def auc(score: np.ndarray, some: Examples) -> float:
    return roc_auc(score, some.is_good, some.weight)


def test_held_out_sources_are_told_apart() -> None:
    some = separable(80)
    assert auc(held_out_scores(some, 0), some) > 0.85


def test_a_source_is_never_judged_by_itself() -> None:
    random = np.random.default_rng(0)
    source = [f"{number}.mp4" for number in range(24) for _ in range(6)]
    identity = random.normal(size=(24, NUM + 30)).repeat(
        6, axis=0
    )  # tells the source, and nothing of quality
    some = examples(identity, random.permutation(np.arange(24) % 2 == 0).repeat(6), source)
    assert auc(fit(some, 1e-3)(some.described), some) > 0.99, "seen sources are recognised"
    assert auc(held_out_scores(some, 0), some) < 0.75


def test_the_threshold_does_not_move_with_the_share_of_good_clips() -> None:
    even, rare = separable(300), separable(300, share_good=0.1)
    for some in (even, rare):
        score = fit(some, 1e-2)(some.described)
        recalls = [np.mean((score >= 0.5)[some.is_good]), np.mean((score < 0.5)[~some.is_good])]
        assert min(recalls) > 0.8


def test_too_little_and_too_much_can_both_be_bad() -> None:
    random = np.random.default_rng(0)
    described = random.normal(size=(200, NUM))
    some = examples(described, np.abs(described[:, 2]) < 0.7)
    assert auc(held_out_scores(some, 0), some) > 0.9


def test_many_features_that_say_nothing_do_not_drown_the_figures() -> None:
    some = separable(80)
    noise = np.random.default_rng(1).normal(size=(80, 200))
    many = examples(np.concatenate([some.described, noise], axis=1), some.is_good)
    assert auc(held_out_scores(many, 0), many) > 0.8


def test_useless_descriptions_take_the_strongest_penalty() -> None:
    random = np.random.default_rng(0)
    some = examples(random.normal(size=(60, NUM + 20)), np.arange(60) % 2 == 0)
    assert choose_strength(some, 0) >= STRENGTHS[-2]
    assert choose_strength(separable(200), 0) < STRENGTHS[-1]


def test_the_same_examples_give_the_same_head() -> None:
    first, second = (fit(separable(40), 1e-2) for _ in range(2))
    assert np.array_equal(first.weight, second.weight)
    assert first.bias == second.bias


def test_a_figure_that_never_changes_says_nothing() -> None:
    some = separable(40)
    some.described[:, 3] = 7.0
    head = fit(some, 1e-2)
    assert np.isfinite(head.weight).all()
    assert np.isfinite(head(some.described)).all()


def test_scores_stay_scores_whatever_is_described() -> None:
    head = Head(np.zeros(NUM + 2), np.full(NUM + 2, 1e-3), np.full(NUM + 38, 100.0), 0.0)
    far = np.full((2, NUM + 2), 1e9) * np.array([[1], [-1]])
    assert np.abs(readings(far, head.centre, head.scale)[:, :NUM]).max() == FURTHEST
    assert ((head(far) >= 0) & (head(far) <= 1)).all()


# One source: how many good and how many bad clips it has.
SOURCES = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3)).filter(lambda pair: sum(pair) > 0), min_size=4
)


@given(SOURCES, st.integers(0, 5))
def test_folds_keep_sources_whole_and_leave_both_labels(sources: list[tuple[int, int]], seed: int) -> None:
    sources = [(2, 2), (2, 2), *sources]  # two sources of either label are what a fold needs
    is_good = np.array([flag for good, bad in sources for flag in [True] * good + [False] * bad])
    source = np.array([f"{number}" for number, pair in enumerate(sources) for _ in range(sum(pair))])
    num = num_folds(is_good, source)
    folds = assign_folds(is_good, source, num, seed)
    assert all(len(set(folds[source == name])) == 1 for name in set(source))
    for fold in range(num):
        assert set(is_good[folds != fold]) == {True, False}


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(1, 3)), min_size=1, max_size=12))
def test_the_area_under_the_curve_is_the_share_of_ordered_pairs(rows: list[tuple[int, bool, int]]) -> None:
    score, is_good, weight = (np.array(column) for column in zip(*rows, strict=True))
    found = roc_auc(score.astype(float), is_good.astype(bool), weight.astype(float))
    pairs = [(w * v, (s > r) + (s == r) / 2) for s, g, w in rows for r, b, v in rows if g and not b]
    total = sum(weight for weight, _ in pairs)
    expected = sum(weight * wins for weight, wins in pairs) / total if total else np.nan
    assert found == pytest.approx(expected, nan_ok=True)


def scored(num_sources: int, clips: int) -> Scored:
    random = np.random.default_rng(0)
    is_good = np.arange(num_sources) % 2 == 0
    score = np.clip(0.5 + 0.2 * np.where(is_good, 1, -1) + 0.2 * random.normal(size=num_sources), 0, 1)
    source = np.array([f"{number}" for number in range(num_sources)])
    return Scored(
        score.repeat(clips), is_good.repeat(clips), source.repeat(clips), np.ones(num_sources * clips)
    )


def test_clips_of_one_source_do_not_narrow_the_interval() -> None:
    once, often = (estimate_auc(scored(30, clips), 0) for clips in (1, 20))
    assert once == often
    assert once["num"] == 30
    assert once["low"] is not None
    assert once["mean"] is not None
    assert once["high"] is not None
    assert 0.5 < once["low"] < once["mean"] < once["high"] <= 1


def test_precision_and_recall_are_those_of_the_threshold() -> None:
    some = Scored(
        np.array([0.9, 0.8, 0.6, 0.2]),
        np.array([True, True, False, True]),
        np.array(list("abcd")),
        np.array([1.0, 1.0, 2.0, 1.0]),
    )
    found = {name: each["mean"] for name, each in estimate_threshold(some, 0.6, 0).items()}
    assert found == {"precision": 0.5, "recall": 0.6667, "kept": 0.8}
    nothing = estimate_threshold(some, 0.95, 0)
    assert nothing["precision"] == {"mean": None, "low": None, "high": None, "num": 4}
    assert nothing["recall"]["mean"] == 0
