"""Usage of codes and their agreement with actions."""

import numpy as np
import pytest

from genie_lite.evals.codes import adjusted_information, agreement, normalised_information, usage


def test_codes_that_hardly_occur_are_not_in_use() -> None:
    code = np.array([0] * 500 + [1] * 499 + [2])
    found = usage(code, num_codes=8)
    assert (found.codes_used, found.num_codes) == (2, 8)
    assert found.perplexity == pytest.approx(2, abs=0.02)
    assert found.share[2] == 0.001
    assert usage(code, num_codes=8, at_least=0.0).codes_used == 3


def test_one_code_for_everything_is_a_perplexity_of_one() -> None:
    assert usage(np.full((3, 4), 5), num_codes=8).perplexity == pytest.approx(1)


def test_agreement_gives_the_values_of_scikit_learn() -> None:
    """normalized_mutual_info_score and adjusted_mutual_info_score of scikit-learn 1.9 on the same rows."""
    code = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
    action = np.array([0, 0, 1, 1, 1, 2, 2, 2, 2, 0])
    found = agreement(code, action, num_codes=3, action_names=("left", "right", "noop"))
    assert found.counts == ((2, 1, 0), (0, 2, 1), (1, 0, 3))
    assert found.nmi == pytest.approx(0.44270128334605)
    assert found.ami == pytest.approx(0.23728877770134)
    assert found.purity == pytest.approx(0.7)


def test_renaming_codes_changes_nothing_and_one_to_one_is_one() -> None:
    action = np.random.default_rng(0).integers(0, 4, 300)
    found = agreement((action + 2) % 4, action, 4, ("a", "b", "c", "d"))
    assert found.nmi == pytest.approx(1)
    assert found.ami == pytest.approx(1)
    assert found.purity == 1


def test_chance_is_taken_off_only_in_the_adjusted_information() -> None:
    random = np.random.default_rng(0)
    many = [
        agreement(random.integers(0, 8, 60), random.integers(0, 5, 60), 8, tuple("abcde")) for _ in range(40)
    ]
    assert np.mean([each.nmi for each in many]) > 0.1
    assert np.mean([each.ami for each in many]) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("measure", [normalised_information, adjusted_information])
def test_a_constant_code_tells_nothing(measure) -> None:
    assert measure(np.array([[10, 20, 30], [0, 0, 0]])) == pytest.approx(0)
