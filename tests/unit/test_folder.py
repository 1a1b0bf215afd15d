"""What belongs to a run: its recipe wherever it is, all of its labels, and what its stages were made from."""

import json
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from genie_lite.artifact import write_artifact
from genie_lite.data.labels import Labels, fingerprint
from genie_lite.data.shards.index import index_of
from genie_lite.data.shards.shards import ShardSet
from genie_lite.data.sources.find import find_sources
from genie_lite.errors import UserError
from genie_lite.files import write_json
from genie_lite.folder import (
    change_since_adapt,
    count_sources,
    has_labels,
    keep_recipe,
    labels_of,
    recipe_of,
    seconds_of,
    shards_of,
    sources_of,
    stage,
)
from genie_lite.recipe import Recipe, load_recipe
from genie_lite.train.fit import check_trained, origin_of
from tests.lerobot_fixture import write_lerobot

TOY = Path(__file__).parents[2] / "recipes" / "toy" / "demo.yaml"
LABELS = Labels(np.array(["a.mp4"]), np.array([0]), np.array([1]), "discrete", ("left", "right"))


def robot(*changes: str) -> Recipe:
    """A recipe of given data instead of a recording."""
    return load_recipe(TOY, ["record=null", *changes])


def test_robots_that_are_held_out_bring_their_labels(tmp_path: Path) -> None:
    """Both datasets call their videos the same: each label must find its own, by the name ingest gives it."""
    learnt = write_lerobot(tmp_path / "learnt", num_episodes=2)
    write_lerobot(tmp_path / "tested", num_episodes=1, num_frames=9)
    recipe = robot(f"data.source={tmp_path / 'learnt'}", f"data.test_source={tmp_path / 'tested'}")
    labels = labels_of(recipe)
    assert set(labels.episodes) == {source.name for source in find_sources(*sources_of(recipe), 0.0)}
    lengths = {name: len(labels.of([name])) for name in labels.episodes}
    assert sorted(lengths.values()) == [9, 12, 12]
    assert {name.split("/")[0] for name, length in lengths.items() if length == 9} == {"tested"}
    second = sorted(learnt)[1]
    assert (labels.of([second]).action == learnt[second]).all()


def test_labels_are_found_from_any_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lerobot(tmp_path / "here" / "learnt", num_episodes=2)
    write_lerobot(tmp_path / "tested", num_episodes=1)
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    keep_recipe(robot("data.source=[learnt]", "data.test_source=../tested"))
    monkeypatch.chdir(tmp_path / "there")
    recipe = recipe_of(Path("..") / "here" / "runs" / "toy-demo")
    assert has_labels(recipe)
    assert len(labels_of(recipe).episodes) == 3


def test_a_run_can_be_moved_with_the_sources_inside_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_lerobot(Path("runs") / "toy-demo" / "robot", num_episodes=2)
    keep_recipe(robot("data.source=runs/toy-demo/robot", "labels.source=runs/toy-demo/robot"))
    (tmp_path / "runs" / "toy-demo").rename(tmp_path / "my run")
    recipe = recipe_of(tmp_path / "my run")
    assert recipe.folder == tmp_path / "my run"
    assert sources_of(recipe) == ([str(tmp_path / "my run" / "robot")], [])
    assert len(labels_of(recipe).episodes) == 2


def test_labels_that_a_run_has_used_must_be_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "robot"
    write_lerobot(root, num_episodes=2)
    recipe = robot(f"data.source={root}")
    assert has_labels(recipe)
    root.rename(tmp_path / "elsewhere")
    assert not has_labels(recipe), "videos may be deleted once they are shards"
    write_json(recipe.folder / "adapt" / "adapt.json", {})
    for ask in (has_labels, shards_of):
        with pytest.raises(UserError, match=r"robot: no such file or folder; .* data\.source=PLACE"):
            ask(recipe)
    named = robot(f"data.source={tmp_path / 'elsewhere'}", f"labels.source={root}")
    with pytest.raises(UserError, match="robot: no such label file"):
        labels_of(named)


def begin(folder: Path, recipe: Recipe, shards: ShardSet, last: str) -> None:
    """Leave what a training stage leaves, up to the file `last`."""
    origin = json.loads(recipe.tokenizer.model_dump_json()) | {"seed": recipe.seed, "parents": {"lam": "old"}}
    write_json(folder / "stage.json", origin | {"shards": shards.fingerprint})
    (folder / last).touch()


@pytest.mark.parametrize("last", ["artifact.json", "last.ckpt"])
def test_a_recipe_that_a_stage_was_not_trained_from_is_refused(tmp_path: Path, last: str) -> None:
    recipe, shards = load_recipe(TOY), ShardSet(tmp_path, {}, "these", ())
    begin(tmp_path / "tokenizer", recipe, shards, last)
    check_trained(tmp_path / "tokenizer", origin_of(recipe.tokenizer, shards, recipe.seed))
    unimportant = load_recipe(TOY, ["tokenizer.train.val_every=7"]).tokenizer
    check_trained(tmp_path / "tokenizer", origin_of(unimportant, shards, recipe.seed))
    wide = load_recipe(TOY, ["tokenizer.model.width=32"]).tokenizer
    with pytest.raises(UserError, match=r"tokenizer: was trained with model\.width=64, now it is 32"):
        check_trained(tmp_path / "tokenizer", origin_of(wide, shards, recipe.seed))
    with pytest.raises(UserError, match="seed=0, now it is 1"):
        check_trained(tmp_path / "tokenizer", origin_of(recipe.tokenizer, shards, 1))
    with pytest.raises(UserError, match="shards=these, now it is others"):
        check_trained(
            tmp_path / "tokenizer", origin_of(recipe.tokenizer, ShardSet(tmp_path, {}, "others", ()), 0)
        )


def test_a_stage_of_a_version_with_fewer_settings_goes_on_with_their_defaults(tmp_path: Path) -> None:
    recipe, shards = load_recipe(TOY), ShardSet(tmp_path, {}, "these", ())
    begin(tmp_path / "tokenizer", recipe, shards, "last.ckpt")
    path = tmp_path / "tokenizer" / "stage.json"
    before = json.loads(path.read_text())
    del before["train"]["compile"]
    write_json(path, before)
    assert check_trained(tmp_path / "tokenizer", origin_of(recipe.tokenizer, shards, recipe.seed))
    compiled = load_recipe(TOY, ["tokenizer.train.compile=true"]).tokenizer
    with pytest.raises(UserError, match=r"train\.compile=False, now it is True"):
        check_trained(tmp_path / "tokenizer", origin_of(compiled, shards, recipe.seed))


def test_an_attempt_that_left_no_checkpoint_claims_nothing(tmp_path: Path) -> None:
    recipe, shards = load_recipe(TOY), ShardSet(tmp_path, {}, "these", ())
    begin(tmp_path, recipe, shards, "metrics.jsonl")
    check_trained(tmp_path, origin_of(recipe.lam, shards, 1))


def test_what_has_changed_since_the_policies_were_made_is_told(tmp_path: Path) -> None:
    recipe = load_recipe(TOY, [f"out={json.dumps(str(tmp_path))}"])
    write_json(recipe.folder / "shards" / "shards.json", index_of([], {}))
    lam = write_artifact(recipe.folder / "lam", "lam", nn.Linear(1, 1), recipe.lam.model, "", {}, {}, {}, 1.0)
    assert change_since_adapt(recipe, LABELS) is None
    parents = {"lam": lam.sha256, "shards": shards_of(recipe).fingerprint, "labels": fingerprint(LABELS)}
    made = {"config": recipe.adapt.model_dump(), "parents": parents, "seed": recipe.seed}
    about = {"format": 1, "kind": "discrete", "labels": {}, "arms": {}, "inputs": {}, "seconds": 1.0}
    changes = {
        "": {},
        "config.labels_budget=50, now it is 100": {"config": made["config"] | {"labels_budget": 50}},
        "parents.lam=old": {"parents": parents | {"lam": "old"}},
        "parents.shards=old": {"parents": parents | {"shards": "old"}},
        "parents.labels=old": {"parents": parents | {"labels": "old"}},
        "seed=7, now it is 0": {"seed": 7},
    }
    for told, change in changes.items():
        write_json(recipe.folder / "adapt" / "adapt.json", about | made | change)
        assert (change_since_adapt(recipe, LABELS) or "").startswith(told)
        assert (change_since_adapt(recipe, LABELS) is None) == (told == "")


def test_a_stage_that_found_all_done_says_so_and_took_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(tmp_path / "seconds.json", {"extract": 7.0})
    write_json(tmp_path / "manifest.json", {})
    with stage(tmp_path, "extract", tmp_path / "manifest.json"):
        pass
    assert capsys.readouterr().err == "extract: finished before\n"
    assert seconds_of(tmp_path) == {"extract": 7.0}


def test_a_stage_that_is_made_again_says_so_and_counts_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its files were there, but made from something else: only the stage itself sees that."""
    write_json(tmp_path / "seconds.json", {"extract": 7000.0, "adapt": 5.0})
    write_json(tmp_path / "manifest.json", {})
    with stage(tmp_path, "extract", tmp_path / "manifest.json"):
        write_json(tmp_path / "manifest.json", {})
    assert "made again" in capsys.readouterr().err
    assert seconds_of(tmp_path)["extract"] < 7000
    assert seconds_of(tmp_path)["adapt"] == 5


def test_a_stage_that_goes_on_adds_to_what_it_took(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(tmp_path / "seconds.json", {"record": 7000.0})
    (tmp_path / "train").touch()
    with (
        pytest.raises(KeyboardInterrupt),
        stage(tmp_path, "record", tmp_path / "train", tmp_path / "test"),
    ):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "record: running\n"
    assert seconds_of(tmp_path)["record"] >= 7000


def test_sources_are_counted_by_what_became_of_them(tmp_path: Path) -> None:
    shards = ShardSet(tmp_path, {}, "these", ())
    assert count_sources(shards) == {}
    rows = [{"status": status} for status in ("ingested", "quarantined", "ingested")]
    (tmp_path / "manifest.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert count_sources(shards) == {"ingested": 2, "filtered": 0, "quarantined": 1}
    (tmp_path / "manifest.jsonl").write_text('{"status": "inge')
    with pytest.raises(UserError, match=r"manifest\.jsonl: damaged"):
        count_sources(shards)
