"""The verdict on latent action models that are right, or wrong in one way: four breakages, each with its sentence."""

import json
from typing import Any

import numpy as np
import pytest

from genie_lite.adapt.idm import IDMConfig
from genie_lite.data.labels import Labels
from genie_lite.data.shards.shards import ShardSet
from genie_lite.errors import UserError
from genie_lite.inspect.config import InspectConfig, Thresholds
from genie_lite.inspect.inspect import frames_apart, inspect_lam
from genie_lite.inspect.measure import mean_of
from genie_lite.models.lam import LAMConfig, LatentActionModel
from genie_lite.nn.quantize import ResidualVQConfig, VAEConfig
from tests import models
from tests.latent_oracles import STEPS, Blind, Collapsed, Late, Leaking, Oracle, OracleWorld, toy_shards

OPTIONS = InspectConfig(clips=36, world_clips=12, batch=12, points=50, inverse=IDMConfig(steps=6, batch=16))
Toy = tuple[ShardSet, Labels]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return toy_shards(tmp_path_factory.mktemp("toy") / "shards")


def test_a_model_that_names_and_makes_every_move_is_good_for_both(toy: Toy) -> None:
    shards, labels = toy
    lam = Oracle()
    found = inspect_lam(lam, shards, labels, OPTIONS, world=OracleWorld(lam))
    assert found.verdict.answer == "good for play and for policy pre-training", found.verdict
    assert not [check.name for check in found.checks if check.outcome == "fails"]
    assert all(check.remedy == "" for check in found.checks if check.outcome == "holds")
    assert not found.tree["about"]["left_out"]
    assert "shift" in {check["name"] for check in found.tree["checks"]}
    check_tree(found.tree)
    assert found.tree["code_action"]["action_names"] == list(labels.names)
    assert found.tree["projection"]["names"] == list(labels.names)
    assert len(found.tree["projection"]["points"]) == 50


KEYS = {
    "name",
    "group",
    "title",
    "value",
    "unit",
    "baselines",
    "threshold",
    "outcome",
    "meaning",
    "remedy",
}


def check_tree(tree: dict[str, Any]) -> None:
    """It is plain JSON, and every check says what the page asks of it."""
    assert json.loads(json.dumps(tree, allow_nan=False)) == tree
    for check in tree["checks"]:
        assert check.keys() == KEYS
        assert check["outcome"] in ("holds", "unclear", "fails", "told")
        assert check["meaning"]
        assert check["threshold"] or check["outcome"] == "told"


def test_a_collapsed_model_is_caught(toy: Toy) -> None:
    found = inspect_lam(Collapsed(), toy[0], None, OPTIONS)
    assert found.verdict.answer == "not yet"
    assert "the codes have collapsed" in found.verdict.sentence
    assert found.check("perplexity").outcome == "fails"


def test_a_model_that_leaks_the_future_is_caught(toy: Toy) -> None:
    found = inspect_lam(Leaking(), toy[0], None, OPTIONS)
    assert found.verdict.answer == "not yet"
    assert "leaks the future" in found.verdict.sentence
    cut, likeness = found.check("scene_cut"), found.check("future_similarity")
    assert (cut.outcome, likeness.outcome) == ("fails", "fails")


def test_a_model_whose_decoder_ignores_the_code_is_caught(toy: Toy) -> None:
    found = inspect_lam(Blind(), toy[0], None, OPTIONS)
    assert found.verdict.answer == "not yet"
    assert "The decoder ignores the code" in found.verdict.sentence


def test_rows_that_are_off_by_one_are_caught_without_labels(toy: Toy) -> None:
    found = inspect_lam(Late(), toy[0], None, OPTIONS)
    assert found.verdict.answer == "not yet"
    assert "off by one" in found.verdict.sentence
    assert "row k describes k + 1 → k + 2" in found.check("row").meaning
    # What follows from that is not counted a second time.
    assert found.check("code_gap").outcome == "unclear"


def test_what_cannot_be_measured_is_left_out_with_a_sentence(toy: Toy) -> None:
    shards, labels = toy
    elsewhere = labels.renamed({name: f"other/{name}" for name in labels.episodes})
    found = inspect_lam(Collapsed(), shards, elsewhere, OPTIONS)
    check_tree(found.tree)
    world, actions = found.tree["about"]["left_out"]
    assert "no dynamics model" in world
    assert "no transition of either split has one" in actions
    assert found.tree["code_action"] is None
    assert found.tree["projection"]["names"] == ["code 0"]


def test_the_same_seed_gives_the_same_tree(toy: Toy) -> None:
    first, second = (inspect_lam(Blind(), toy[0], None, OPTIONS).tree for _ in range(2))
    assert first == second


def test_a_threshold_of_ones_own_is_used_and_shown(toy: Toy) -> None:
    strict = OPTIONS.model_copy(update={"thresholds": Thresholds(code_gap_db=99.0)})
    check = inspect_lam(Oracle(), toy[0], None, strict).check("code_gap")
    assert (check.outcome, check.threshold) == ("fails", "at least 99")


def test_frames_of_another_size_are_refused(toy: Toy) -> None:
    with pytest.raises(UserError, match="frames of 32x32 pixels, the latent action model reads 16x16"):
        inspect_lam(models.lam(), toy[0], None, OPTIONS)


def test_a_model_of_wider_pairs_is_measured_on_wider_pairs(toy: Toy) -> None:
    oracle = Oracle()
    oracle.config = oracle.config.model_copy(update={"pair_s": (0.1, 0.3)})
    assert frames_apart(oracle, toy[0]) == 2
    found = inspect_lam(oracle, *toy, OPTIONS)
    assert found.tree["about"]["pair_s"] == 0.2
    assert found.check("row").outcome == "holds"
    assert found.check("shift").outcome == "holds"


def test_rows_that_are_off_by_one_are_caught_by_labels(toy: Toy) -> None:
    found = inspect_lam(Late(), *toy, OPTIONS)
    shift = found.check("shift")
    assert shift.outcome == "fails"
    assert "Labels lag by one: row k tells the action of row k + 1" in shift.meaning


def test_continuous_actions_are_read_by_their_variance(toy: Toy) -> None:
    shards, labels = toy
    noise = 0.01 * np.random.default_rng(0).normal(size=(len(labels), 2))
    action = (STEPS.numpy()[labels.action] + noise).astype(np.float32)
    moves = Labels(labels.sources, labels.frame_index, action, "continuous", ("down", "right"))
    found = inspect_lam(Oracle(), shards, moves, OPTIONS)
    check_tree(found.tree)
    assert found.verdict.answer == "good for play and for policy pre-training", found.verdict
    assert 0.5 < mean_of(found.check("probe_linear").value) < 1  # walls stop some moves
    assert mean_of(found.check("probe_linear").baselines["majority"]) == pytest.approx(0, abs=1e-6)
    assert found.tree["code_action"] is None
    assert "ami" not in {check.name for check in found.checks}
    assert found.tree["projection"]["names"][0].startswith("code ")


@pytest.mark.parametrize("code", [VAEConfig(dim=4), ResidualVQConfig(num_codes=8, depth=2, dim=4)])
def test_untrained_models_of_every_kind_are_good_for_nothing(
    toy: Toy, code: VAEConfig | ResidualVQConfig
) -> None:
    config = LAMConfig(frame_hw=(32, 32), patch=16, width=8, depth=1, heads=2, code=code)
    found = inspect_lam(LatentActionModel(config).eval(), toy[0], None, OPTIONS)
    check_tree(found.tree)
    assert found.verdict.answer == "not yet"
    assert ("active_units" in {check.name for check in found.checks}) == (code.kind == "vae")
