"""What one can do in a world: codes, and true actions of an adapted run."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from genie_lite.adapt.adapt import adapt_shards
from genie_lite.adapt.reverse import load_reverse
from genie_lite.artifact import write_artifact
from genie_lite.config import dump
from genie_lite.controls import action_controls, code_controls
from genie_lite.data.labels import Labels, read_labels, write_labels
from genie_lite.data.shards.shards import ShardSet
from genie_lite.errors import UserError
from genie_lite.latents.extract import extract
from genie_lite.models.world import World
from genie_lite.recipe import Recipe, load_recipe
from tests import models
from tests.footage import write_shards
from tests.unit.test_adapt import CONFIG, robot_labels
from tests.unit.test_condition import NAMES as LED
from tests.unit.test_condition import world as led_world
from tests.unit.test_folder import TOY

NAMES = ("left", "right")


def game_labels(shards: ShardSet) -> Labels:
    """A choice for every frame, of every video."""
    source, index = [], []
    for split in ("train", "test"):
        for sample in shards.samples(split):
            source += [sample.meta["source"]] * len(sample.meta["source_frames"])
            index += sample.meta["source_frames"]
    order = np.lexsort((index, source))
    columns = np.asarray(source)[order], np.asarray(index)[order]
    return Labels(*columns, columns[1] % 2, "discrete", NAMES)


def adapted_run(place: Path, *, is_robot: bool = False) -> Path:
    """A run that has a latent action model, shards and labels, and what adapt made of them."""
    run, given = place / "runs" / "toy-demo", place / "shards"
    shards = write_shards(
        given, ("train", "train", "train", "test"), lengths=(9, 9), every=3 if is_robot else 1
    )
    labels = robot_labels(shards) if is_robot else game_labels(shards)
    write_labels(
        place / "labels.parquet",
        labels.sources,
        labels.frame_index,
        labels.action,
        kind=labels.kind,
        names=labels.names,
    )
    labels, lam = read_labels(place / "labels.parquet"), models.lam().eval()
    artifact = write_artifact(run / "lam", "lam", lam, lam.config, "", {}, {}, {}, 0.0)
    recipe = recipe_for(place, run)
    run.joinpath("recipe.yaml").write_text(dump(recipe))
    extract(lam, shards, run / "latents", lam_sha=artifact.sha256, window_s=1 / shards.rate_hz)
    adapt_shards(shards, run / "latents", labels, run / "adapt", CONFIG, seed=0)
    return run


def recipe_for(place: Path, run: Path) -> Recipe:
    changes = [
        "record=null",
        f"data.source={place / 'shards'}",
        f"labels.source={place / 'labels.parquet'}",
        f"out={run.parent}",
        "evaluate.levels=null",
    ]
    return load_recipe(TOY, changes)


@pytest.fixture
def game(tmp_path: Path) -> Path:
    return adapted_run(tmp_path)


def test_every_code_is_a_control() -> None:
    controls = code_controls(World(models.tokenizer(), models.lam(), models.dynamics()))
    assert (controls.kind, controls.names, controls.num_codes) == ("code", ("0", "1", "2", "3"), 4)
    assert controls.codes_of(torch.tensor([3, 0])).tolist() == [3, 0]
    with pytest.raises(UserError, match=r"action: found \[4\], expected integers from 0 to 3"):
        controls.codes_of(torch.tensor([4]))
    with pytest.raises(UserError, match="expected integers"):
        controls.codes_of(torch.tensor([[0.5]]))


def test_in_a_world_of_true_actions_these_are_the_controls() -> None:
    controls = code_controls(led_world())
    assert (controls.kind, controls.names, controls.num_codes) == ("discrete", LED, 3)
    assert controls.codes_of(torch.tensor([2, 1])).tolist() == [2, 1]


def test_a_run_that_was_not_adapted_has_no_actions(tmp_path: Path) -> None:
    assert action_controls(tmp_path) is None


def test_adapt_leaves_the_controls_of_a_game(game: Path) -> None:
    controls = action_controls(game)
    assert controls is not None
    assert (controls.kind, controls.names, controls.num_codes) == ("discrete", NAMES, 4)
    assert controls.low == controls.high == ()
    reverse = load_reverse(game / "adapt")
    asked = torch.tensor([0, 1])
    assert torch.equal(controls.codes_of(asked), reverse.codes_of(asked))
    score = json.loads((game / "adapt" / "adapt.json").read_text())["reverse"]
    assert score["transitions"] == CONFIG.labels_budget


def test_a_run_adapted_before_gets_the_same_map_on_demand(game: Path) -> None:
    files = [game / "adapt" / name for name in ("reverse.safetensors", "reverse.json")]
    written = [path.read_bytes() for path in files]
    for path in files:
        path.unlink()
    assert action_controls(game) is not None
    assert [path.read_bytes() for path in files] == written


def test_a_map_of_another_adaptation_is_made_again(game: Path) -> None:
    path = game / "adapt" / "reverse.json"
    card = json.loads(path.read_text())
    path.write_text(json.dumps(card | {"parents": {"lam": "other"}}))
    assert action_controls(game) is not None
    assert json.loads(path.read_text()) == card


def test_where_it_cannot_be_kept_it_is_used_all_the_same(game: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (game / "adapt" / "reverse.json").unlink()

    def refuse(*_: object) -> None:
        raise PermissionError("read-only file system")

    monkeypatch.setattr("genie_lite.controls.save_reverse", refuse)
    with pytest.warns(UserWarning, match=r"is not kept \(read-only file system\)"):
        assert action_controls(game) is not None


def test_labels_that_are_gone_are_a_reason(game: Path, tmp_path: Path) -> None:
    (game / "adapt" / "reverse.json").unlink()
    os.unlink(tmp_path / "labels.parquet")
    with pytest.warns(UserWarning, match=r"there are codes only: .*labels.parquet"):
        assert action_controls(game) is None


def test_codes_of_another_model_are_a_reason(game: Path) -> None:
    other = models.lam(seed=1)
    write_artifact(game / "lam", "lam", other, other.config, "", {}, {}, {}, 0.0)
    with pytest.warns(UserWarning, match="was adapted to another latent action model"):
        assert action_controls(game) is None


def test_a_robots_controls_have_the_range_of_its_labels(tmp_path: Path) -> None:
    run = adapted_run(tmp_path, is_robot=True)
    written = (run / "adapt" / "reverse.json").read_bytes()
    controls = action_controls(run)
    assert controls is not None
    assert (controls.kind, len(controls.low), len(controls.high)) == ("continuous", 2, 2)
    assert all(low < high for low, high in zip(controls.low, controls.high, strict=True))
    codes = controls.codes_of(torch.tensor([controls.low, controls.high]))
    assert codes.shape == (2,)
    (run / "adapt" / "reverse.json").unlink()
    action_controls(run)
    assert (run / "adapt" / "reverse.json").read_bytes() == written
