"""Bits, where they are known in closed form."""

import math

import numpy as np
import pytest

from genie_lite.inspect.information import (
    code_information,
    few_columns,
    shuffled,
    vector_choice_information,
    vector_information,
)


def test_a_code_that_names_the_choice_shares_all_its_bits() -> None:
    choice = np.arange(4000) % 4
    assert code_information(7 - choice, choice).mean() == pytest.approx(2, abs=0.01)


def test_a_channel_that_errs_shares_what_shannon_says() -> None:
    random = np.random.default_rng(0)
    sent = random.integers(0, 2, 20_000)
    received = np.where(random.random(20_000) < 0.1, 1 - sent, sent)
    capacity = 1 + 0.1 * math.log2(0.1) + 0.9 * math.log2(0.9)
    assert code_information(received, sent).mean() == pytest.approx(capacity, abs=0.02)


def test_counting_few_rows_is_no_information() -> None:
    random = np.random.default_rng(0)
    found = [
        code_information(random.integers(0, 16, 400), random.integers(0, 8, 400)).mean() for _ in range(30)
    ]
    plain_bias = 15 * 7 / (2 * 400 * math.log(2))
    assert abs(np.mean(found)) < 0.2 * plain_bias


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
def test_normal_vectors_share_minus_half_the_log_of_what_is_left(correlation: float) -> None:
    random = np.random.default_rng(0)
    first, noise = random.normal(size=(2, 1500, 1))
    second = correlation * first + math.sqrt(1 - correlation**2) * noise
    bits = -0.5 * math.log2(1 - correlation**2)
    assert vector_information(first, second).mean() == pytest.approx(bits, abs=0.08)


def test_vectors_far_apart_tell_the_choice_and_shuffled_ones_do_not() -> None:
    random = np.random.default_rng(0)
    choice = random.integers(0, 4, 1200)
    vector = 100 * np.eye(4)[choice] + random.normal(size=(1200, 4))
    assert vector_choice_information(vector, choice).mean() == pytest.approx(2, abs=0.05)
    assert vector_choice_information(shuffled(vector, 0), choice).mean() == pytest.approx(0, abs=0.08)


def test_overlapping_normals_share_what_integration_says() -> None:
    random = np.random.default_rng(0)
    choice = random.integers(0, 2, 2000)
    vector = (random.normal(size=2000) + 2.0 * choice)[:, None]
    grid = np.linspace(-8, 10, 4001)
    low, high = (np.exp(-((grid - mean) ** 2) / 2) / math.sqrt(2 * math.pi) for mean in (0.0, 2.0))
    both = (low + high) / 2
    bits = sum(np.trapezoid(0.5 * each * np.log2(each / both), grid) for each in (low, high))
    assert vector_choice_information(vector, choice).mean() == pytest.approx(bits, abs=0.06)


def test_a_choice_that_occurs_once_and_equal_rows_do_no_harm() -> None:
    choice = np.array([0] * 20 + [1] * 20 + [2])
    rows = vector_choice_information(np.eye(3)[choice], choice)
    assert np.isfinite(rows).all()
    assert rows[-1] == 0
    assert np.isfinite(vector_information(np.ones((30, 2)), np.ones((30, 1)))).all()


def test_few_columns_are_those_that_vary_most_together() -> None:
    random = np.random.default_rng(0)
    common = random.normal(size=(300, 2))
    wide = np.concatenate([common @ random.normal(size=(2, 10)), 0.01 * random.normal(size=(300, 1))], axis=1)
    few = few_columns(wide, most=2)
    assert few.shape == (300, 2)
    left = common - few @ np.linalg.lstsq(few, common, rcond=None)[0]
    assert (left**2).mean() < 0.02
