"""Runs with more than one robot, and with footage of more than one rate."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genie_lite.errors import UserError
from genie_lite.folder import corpora_of, has_labels, keep_recipe, labels_in_training, labels_of, recipe_of
from genie_lite.recipe import Recipe, load_recipe
from tests.footage import write_shards
from tests.lerobot_fixture import write_lerobot

TOY = Path(__file__).parents[2] / "recipes" / "toy" / "demo.yaml"


def recipe_with(*changes: str) -> Recipe:
    """A recipe of given data instead of a recording."""
    return load_recipe(TOY, ["record=null", *changes])


@pytest.fixture
def robots(tmp_path: Path) -> tuple[Path, Path]:
    """Two robots, of four joints and of three."""
    first, second = tmp_path / "arm", tmp_path / "hand"
    write_lerobot(first, num_episodes=2)
    write_lerobot(second, num_episodes=2)
    info = json.loads((second / "meta" / "info.json").read_text())
    info["features"]["action"] |= {"shape": [3], "names": ["a", "b", "c"]}
    (second / "meta" / "info.json").write_text(json.dumps(info))
    for path in second.rglob("*.parquet"):
        table = pq.read_table(path)
        short = pa.array([row[:3] for row in table["action"].to_pylist()], pa.list_(pa.float32(), 3))
        pq.write_table(table.set_column(table.column_names.index("action"), "action", short), path)
    return first, second


def test_the_latent_action_model_may_be_shown_the_actions_of_all_robots(robots: tuple[Path, Path]) -> None:
    recipe = recipe_with(f"data.source=[{robots[0]}, {robots[1]}]")
    found = labels_in_training(recipe)
    assert [each.num_actions for each in found] == [4, 3]
    assert not set(found[0].episodes) & set(found[1].episodes)


def test_a_policy_is_made_for_one_of_them(robots: tuple[Path, Path]) -> None:
    both = f"data.source=[{robots[0]}, {robots[1]}]"
    with pytest.warns(UserWarning, match="2 robots with different actions .* labels.source=DATASET"):
        assert not has_labels(recipe_with(both))
    one = recipe_with(both, f"labels.source={robots[1]}")
    assert has_labels(one)
    # Under the names that ingest gives its videos beside those of the other.
    assert set(labels_of(one).episodes) == set(labels_in_training(one)[1].episodes)


def test_only_the_latent_action_model_mixes_rates(tmp_path: Path) -> None:
    fast, slow = (write_shards(tmp_path / f"{rate}", ("train",), rate_hz=rate) for rate in (10.0, 5.0))
    mixed = (f"data.source={fast.folder}", f"data.mix=[{{source: {slow.folder}}}]")
    recipe = recipe_with(*mixed, "lam.model.pair_s=[0.1, 0.4]")
    assert [each.shards.rate_hz for each in corpora_of(recipe, "lam").parts] == [10.0, 5.0]
    with pytest.warns(UserWarning, match="tokenizer: trained without .* other than 10 frames per second"):
        assert len(corpora_of(recipe, "tokenizer").parts) == 1
    with pytest.raises(UserError, match="5 frames per second, but"):
        corpora_of(recipe_with(*mixed), "lam").expect_one_rate()


def test_a_world_steps_as_its_codes_reach() -> None:
    with pytest.raises(UserError, match=r"pair_s is \[0.2, 0.4\], but a step of the world is 0.1 s"):
        recipe_with("lam.model.pair_s=[0.2, 0.4]")
    recipe_with("lam.model.pair_s=[0.1, 0.4]")


def test_masks_are_found_from_any_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = recipe_with("data.source=videos", "lam.pixel_weight={kind: mask, masks: masks}")
    keep_recipe(recipe)
    monkeypatch.chdir("/")
    kept = recipe_of(tmp_path / "runs" / "toy-demo")
    assert kept.lam.pixel_weight.model_dump()["masks"] == str(tmp_path / "masks")
