"""From true actions to codes: learnt, scored, saved; the controls of a run."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genie_lite.adapt.mapping import MappingConfig
from genie_lite.adapt.reverse import (
    ChoiceToCode,
    Pairs,
    VectorToCode,
    fit_reverse,
    load_reverse,
    rests_on,
    save_reverse,
)
from genie_lite.adapt.supervised import ActionSpace
from genie_lite.errors import UserError

NAMES = ("noop", "left", "right")
QUICK = MappingConfig(hidden=16, depth=1, steps=40, lr=0.05, folds=2)


def choices(action: list[int], code: list[int], num_codes: int = 8) -> Pairs:
    one_hot = F.one_hot(torch.tensor(action), len(NAMES)).float()
    episodes = np.asarray([f"e{row // 4}" for row in range(len(action))])
    before = torch.full_like(one_hot, torch.nan)
    return Pairs(one_hot, before, torch.tensor(code), episodes, ActionSpace("discrete", NAMES), num_codes)


def vectors(reads: str, rows: int = 80) -> Pairs:
    """The code is the sign of the first component of what is to be read; 12 episodes."""
    generator = torch.Generator().manual_seed(0)
    action, before = (3 * torch.randn(rows, 2, generator=generator) + 5 for _ in range(2))
    deciding = {"action": action - 5, "change": action - before}[reads][:, 0]
    code = torch.where(deciding > 0, 3, 6)
    episodes = np.asarray([f"e{row // 10}" for row in range(rows)])
    return Pairs(action, before, code, episodes, ActionSpace("continuous", ("x", "y")), 8)


def test_a_choice_becomes_the_code_that_it_led_to_most_often() -> None:
    fitted = fit_reverse(choices([0, 0, 1, 1, 2, 2] * 4, [5, 5, 7, 7, 2, 2] * 4), MappingConfig(), seed=0)
    assert fitted.reverse.codes_of(torch.arange(3)).tolist() == [5, 7, 2]
    probability = fitted.reverse.probabilities(torch.arange(3))
    assert probability.shape == (3, 8)
    assert torch.allclose(probability.sum(dim=1), torch.ones(3))
    assert fitted.score.accuracy == 1.0
    assert fitted.score.commonest_accuracy < 0.5
    assert fitted.score.loss_nats < fitted.score.commonest_loss_nats


def test_codes_that_tell_nothing_score_no_better_than_the_commonest_one() -> None:
    code = torch.randint(4, (400,), generator=torch.Generator().manual_seed(1)).tolist()
    score = fit_reverse(choices([0, 1, 2, 1] * 100, code), MappingConfig(), seed=0).score
    assert abs(score.accuracy - score.commonest_accuracy) < 0.1
    assert score.loss_nats > score.commonest_loss_nats - 0.05


def test_a_choice_without_labels_is_the_commonest_code() -> None:
    reverse = fit_reverse(choices([0, 0, 0, 1] * 3, [4, 4, 4, 1] * 3), MappingConfig(), seed=0).reverse
    assert reverse.codes_of(torch.tensor([2])).tolist() == [4]


def test_two_choices_that_share_a_code_are_told_apart_where_counts_hardly_decide() -> None:
    """By counts alone both would be code 6, and a player could not go left."""
    left, right = [1] * 50, [2] * 50
    codes = [6] * 26 + [5] * 24 + [6] * 26 + [4] * 24
    reverse = fit_reverse(choices(left + right, codes), MappingConfig(), seed=0).reverse
    assert reverse.codes_of(torch.tensor([1, 2])).tolist() == [5, 4]
    assert reverse.probabilities(torch.tensor([1])).argmax() == 6


def test_a_code_seen_once_is_not_taken_for_being_rare() -> None:
    reverse = fit_reverse(
        choices([1] * 10 + [2] * 30, [5] * 9 + [0] + [5] * 30), MappingConfig(), seed=0
    ).reverse
    assert reverse.codes_of(torch.tensor([1])).tolist() == [5]


@pytest.mark.parametrize("reads", ["action", "change"])
def test_of_a_vector_is_read_what_the_codes_tell_of(reads: str) -> None:
    fitted = fit_reverse(vectors(reads), QUICK, seed=0)
    assert fitted.reverse.spec.reads in (reads, "both")
    assert fitted.score.accuracy > 0.85
    assert fitted.score.commonest_accuracy < 0.65
    assert set(fitted.score.tried) == {"action", "change", "both"}


def test_without_an_action_before_the_change_is_counted_from_the_mean() -> None:
    reverse = fit_reverse(vectors("change"), QUICK, seed=0).reverse
    far = torch.tensor([[15.0, 5.0], [-5.0, 5.0]])
    assert reverse.codes_of(far).tolist() == [3, 6]
    assert reverse.codes_of(far, torch.full_like(far, torch.nan)).tolist() == [3, 6]
    assert reverse.codes_of(far, torch.tensor([[25.0, 5.0], [-15.0, 5.0]])).tolist() == [6, 3]


@pytest.mark.parametrize("pairs", [choices([0, 1, 2, 1] * 3, [5, 7, 2, 7] * 3), vectors("action", 40)])
def test_what_is_saved_is_what_is_loaded(tmp_path: Path, pairs: Pairs) -> None:
    fitted = fit_reverse(pairs, MappingConfig(hidden=8, depth=1, steps=10), seed=0)
    save_reverse(tmp_path, fitted, {"lam": "abc"})
    loaded = load_reverse(tmp_path)
    assert type(loaded) is (ChoiceToCode if pairs.actions.kind == "discrete" else VectorToCode)
    asked: Tensor = torch.arange(3) if pairs.actions.kind == "discrete" else pairs.action
    assert torch.equal(loaded.probabilities(asked), fitted.reverse.probabilities(asked))
    assert torch.equal(loaded.codes_of(asked), fitted.reverse.codes_of(asked))
    assert rests_on(tmp_path) == {"lam": "abc"}
    assert loaded.low.tolist() == pairs.action.amin(dim=0).tolist()


def test_a_damaged_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"reverse.json is missing\); run adapt"):
        load_reverse(tmp_path)
    save_reverse(tmp_path, fit_reverse(choices([0, 1] * 4, [0, 1] * 4), MappingConfig(), seed=0), {})
    whole = (tmp_path / "reverse.safetensors").read_bytes()
    (tmp_path / "reverse.safetensors").write_bytes(whole[:-1])
    with pytest.raises(UserError, match=r"reverse.safetensors: missing, or not the file"):
        load_reverse(tmp_path)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (torch.tensor([0, 3]), r"found \[0, 3\], expected integers from 0 to 2 \(noop, left, right\)"),
        (torch.tensor([-1]), "found"),
        (torch.zeros(1, 3), "found"),
    ],
)
def test_what_is_no_choice_is_refused(action: Tensor, words: str) -> None:
    reverse = fit_reverse(choices([0, 1] * 4, [0, 1] * 4), MappingConfig(), seed=0).reverse
    with pytest.raises(UserError, match=f"action: {words}"):
        reverse.codes_of(action)


@pytest.mark.parametrize("action", [torch.zeros(1, 3), torch.full((1, 2), torch.nan), torch.tensor([1])])
def test_what_is_no_vector_is_refused(action: Tensor) -> None:
    reverse = fit_reverse(vectors("action", 20), MappingConfig(hidden=4, depth=0, steps=2), seed=0).reverse
    with pytest.raises(UserError, match=r"expected finite floats \[batch, 2\] \(x, y\)"):
        reverse.codes_of(action)


def test_copy_is_whole(tmp_path: Path) -> None:
    """Two files, and nothing beside them, are the map."""
    save_reverse(tmp_path / "a", fit_reverse(choices([0, 1] * 4, [0, 1] * 4), MappingConfig(), seed=0), {})
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert load_reverse(tmp_path / "b").codes_of(torch.tensor([1])).tolist() == [1]
