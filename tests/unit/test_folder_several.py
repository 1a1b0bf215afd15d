"""Runs with more than one robot, and with footage of more than one rate."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genie_lite.errors import UserError
from genie_lite.folder import corpora_of, has_labels, keep_recipe, labels_in_training, labels_of, recipe_of
from genie_lite.pipeline import run
from genie_lite.recipe import Recipe, load_recipe
from genie_lite.train.fit import origin_of
from tests.footage import write_shards
from tests.lerobot_fixture import write_lerobot

SMALL = [f"{stage}.model.frame_hw=[16, 16]" for stage in ("tokenizer", "lam")] + ["data.ingest.size_px=16"]
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
    assert {name: each.num_actions for name, each in found.items()} == {"arm": 4, "hand": 3}
    assert not set(found["arm"].episodes) & set(found["hand"].episodes)


def test_two_robots_alike_are_two_robots(tmp_path: Path) -> None:
    for side in ("left", "right"):
        write_lerobot(tmp_path / side / "arm", num_episodes=1)
    recipe = recipe_with(f"data.source=[{tmp_path / 'left' / 'arm'}, {tmp_path / 'right' / 'arm'}]")
    assert list(labels_in_training(recipe)) == ["arm-0", "arm-1"]


def test_only_demonstrations_are_shown(robots: tuple[Path, Path]) -> None:
    """So that the same budget buys the same labels as policies are made from."""
    recipe = recipe_with(f"data.source={robots[0]}", "adapt.demonstrations='*000001.mp4'")
    assert len(labels_in_training(recipe)["arm"].episodes) == 1


def test_labels_that_cannot_be_had_are_told_before_anything_is_trained(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", ("train", "test"))
    recipe = recipe_with(f"data.source={shards.folder}", f"out={tmp_path}", "lam.labels={budget: 50}", *SMALL)
    with pytest.raises(UserError, match=r"lam.labels: is set, but there are no labels"):
        run(recipe)
    assert not (tmp_path / "toy-demo" / "tokenizer").exists()


def test_more_labels_in_training_than_for_policies_are_warned_of() -> None:
    with pytest.warns(UserWarning, match="lam.labels.budget is 200, adapt.labels_budget 100"):
        recipe_with("lam.labels={}")


def test_masks_count_by_what_they_are(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", ("train",))
    origins = []
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(b"mask")
        recipe = recipe_with(f"lam.pixel_weight={{kind: mask, masks: {tmp_path / name}}}")
        origins.append(origin_of(recipe.lam, shards, 0))
    assert origins[0] == origins[1]
    (tmp_path / "there" / "b.png").write_bytes(b"mask")
    assert origin_of(recipe.lam, shards, 0) != origins[1]


def test_a_policy_is_made_for_one_of_them(robots: tuple[Path, Path]) -> None:
    both = f"data.source=[{robots[0]}, {robots[1]}]"
    with pytest.warns(
        UserWarning, match=r"2 robots are among the sources \(arm, hand\).* labels.source=DATASET"
    ):
        assert not has_labels(recipe_with(both))
    one = recipe_with(both, f"labels.source={robots[1]}")
    assert has_labels(one)
    # Under the names that ingest gives its videos beside those of the other.
    assert set(labels_of(one).episodes) == set(labels_in_training(one)["hand"].episodes)


def test_joints_of_the_same_names_do_not_make_two_robots_one(tmp_path: Path) -> None:
    """As in training, where each has a head of its own."""
    left, right = tmp_path / "left" / "arm", tmp_path / "right" / "arm"
    for root in (left, right):
        write_lerobot(root, num_episodes=1)
    both = f"data.source=[{left}, {right}]"
    with pytest.warns(
        UserWarning, match=r"2 robots are among the sources \(arm-0, arm-1\), so no policy is made"
    ):
        assert not has_labels(recipe_with(both))
    assert has_labels(recipe_with(both, f"labels.source={left}"))
    assert has_labels(recipe_with(f"data.source={left}", f"data.test_source={right}")), (
        "held out, of the same"
    )


def test_what_is_held_out_must_be_of_the_same_robot(robots: tuple[Path, Path]) -> None:
    apart = recipe_with(f"data.source={robots[0]}", f"data.test_source={robots[1]}")
    with pytest.warns(UserWarning, match="2 robots with different actions"):
        assert not has_labels(apart)


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
