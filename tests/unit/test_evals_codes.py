"""Usage of codes and their agreement with actions."""

import numpy as np
import pytest

from genie_lite.evals.code_table import actions_of, code_table, share_of
from genie_lite.evals.codes import (
    MOST_LISTED,
    adjusted_information,
    agreement,
    normalised_information,
    usage,
)
from genie_lite.evals.tree import to_tree


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


def test_of_a_large_alphabet_the_commonest_codes_are_listed_and_the_rest_is_counted() -> None:
    """A dense list of 65,536 codes made reports of megabytes."""
    code = np.concatenate([np.repeat(np.arange(60_000, 60_100), 3), np.repeat([7, 65_535], 50)])
    action = code % 2
    found = agreement(code, action, 2**16, ("even", "odd"))
    assert len(found.codes) == len(found.counts) == MOST_LISTED
    assert list(found.codes) == sorted(found.codes)
    assert {7, 65_535, 60_000} <= set(found.codes)
    assert found.num_others == 102 - MOST_LISTED
    assert np.sum(found.counts) + sum(found.others) == len(code)
    assert found.purity == 1, "measures are of all codes"
    listing = usage(code, 2**16).listing()
    assert listing["codes"] == list(found.codes)
    assert listing["share"][0] == 50 / 400
    few = usage(code[:9], 2**16).listing()
    assert few == {"codes": [60_000, 60_001, 60_002], "share": [1 / 3] * 3}


def test_the_table_of_a_large_alphabet_says_what_it_leaves_out() -> None:
    code = np.concatenate([np.repeat(np.arange(60_000, 60_100), 3), np.repeat([7], 100)])
    found = to_tree(agreement(code, (code == 7).astype(int), 2**16, ("left", "right")))
    table = code_table(found)
    assert [row["code"] for row in table["rows"]] == [7, *range(60_000, 60_063)]
    assert table["left_out"] == {"num": 37, "share": pytest.approx(3 * 37 / 400)}
    assert table["marginal"] == pytest.approx([0.75, 0.25]), "of all transitions"
    assert share_of(found, 7) == pytest.approx(0.25)
    assert actions_of(found, 7) == [("right", 1.0)]
    assert share_of(found, 60_099) is None
    assert actions_of(found, 60_099) == []
    # Of an earlier version, with a row for every code.
    dense = {"counts": [[code % 3, 0] for code in range(300)], "action_names": ["left", "right"]}
    old = code_table(dense)
    assert len(old["rows"]) == MOST_LISTED
    assert old["left_out"]["num"] == 200 - MOST_LISTED
    small = code_table({"counts": [[3, 1], [0, 0]], "action_names": ["left", "right"]})
    assert [row["count"] for row in small["rows"]] == [4, 0], "of a small alphabet unused codes are told, too"
    assert small["left_out"] is None
