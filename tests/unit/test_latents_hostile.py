"""Exports of datasets that are damaged, or that were made to write where nobody wants it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genie_lite.data.shards.shards import Sample
from genie_lite.data.sources import lerobot
from genie_lite.data.sources.find import find_sources
from genie_lite.errors import UserError
from genie_lite.latents.formats.episodes import LeftOut
from genie_lite.latents.formats.from_shards import _episode
from genie_lite.latents.formats.names import fault_of_name
from genie_lite.latents.formats.registry import FORMATS, write
from tests.footage import write_shards
from tests.latent_fixture import latents_of_shards, latents_of_videos
from tests.lerobot_fixture import CAMERA, write_lerobot, write_lerobot_v3
from tests.lerobot_readers import V3

ACTION = np.zeros((9, 2), np.float32)
LEROBOT = ("lerobot-v3", "lerobot-v3-action", "lerobot-v2.1")
STATE = "observation.state"


@pytest.fixture
def robot(tmp_path: Path) -> Path:
    write_lerobot(tmp_path / "robot")
    return tmp_path / "robot"


@pytest.fixture
def latents(tmp_path: Path) -> Path:
    names = [f"videos/chunk-000/{CAMERA}/episode_{number:06d}.mp4" for number in range(3)]
    return latents_of_videos(tmp_path / "latents", dict.fromkeys(names, 12))


@pytest.mark.parametrize(
    "name", ["/etc/x", "../x", "a/../../x", "C:/x", "a\\..\\x", "", ".", "a\nb", None, 3]
)
def test_names_that_lead_elsewhere(name: object) -> None:
    assert fault_of_name(name) is not None


@pytest.mark.parametrize("name", ["a", "a/b", "observation.images.top", "x..y", "Zürich"])
def test_names_that_do_not(name: str) -> None:
    assert fault_of_name(name) is None


def test_a_key_writes_nothing_outside(tmp_path: Path) -> None:
    """A reader of tars may refuse it first; who writes below a folder does not rely on that."""
    sample = Sample("../../EVIL", b"", {"source": "x.mp4", "split": "train", "source_frames": [0]})
    found = _episode(sample, "train")
    assert isinstance(found, LeftOut)
    assert found.reason == "its name '../../EVIL' leads out of the folder that is written"
    shards = write_shards(tmp_path / "shards", ("train",), lengths=(9,))
    folder = latents_of_shards(tmp_path / "latents", shards)
    path = folder / "train-000000.parquet"
    table = pq.read_table(path)
    evil = pa.array(["../../EVIL"] * len(table))
    pq.write_table(table.set_column(table.column_names.index("key"), "key", evil), path)
    with pytest.raises(UserError, match=r"sample: its name '\.\./\.\./EVIL' leads out of the folder"):
        write("webdataset", folder, shards, tmp_path / "out")


def test_a_split_that_is_not_its_shards_is_left_out() -> None:
    for split, of_shard in (("../../EVIL", "train"), ("test", "train"), ("../../EVIL", "../../EVIL")):
        meta = {"source": "x.mp4", "split": split, "source_frames": [0]}
        found = _episode(Sample("x", b"", meta), of_shard)
        assert isinstance(found, LeftOut)
        assert found.reason.startswith(f"its split is '{split}', expected train or test")


def test_a_split_of_the_latents_writes_nothing_outside(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", ("train",), lengths=(9,))
    folder = latents_of_shards(tmp_path / "latents", shards, action=ACTION)
    path = folder / "train-000000.parquet"
    table = pq.read_table(path)
    evil = pa.array(["../../EVIL"] * len(table))
    pq.write_table(table.set_column(table.column_names.index("split"), "split", evil), path)
    with pytest.raises(UserError, match=r"is of split '\.\./\.\./EVIL', expected train or test"):
        write("lary", folder, shards, tmp_path / "out")


def test_a_feature_writes_nothing_outside(robot: Path, latents: Path, tmp_path: Path) -> None:
    info = json.loads((robot / "meta/info.json").read_text())
    info["video_path"] = "videos/chunk-{episode_chunk:03d}/" + CAMERA + "/episode_{episode_index:06d}.mp4"
    info["features"]["../../../EVILCAM"] = info["features"].pop(CAMERA)
    (robot / "meta/info.json").write_text(json.dumps(info))
    for name in set(FORMATS) - {"webdataset"}:
        with pytest.raises(UserError, match="EVILCAM' leads out of the folder"):
            write(name, latents, robot, tmp_path / "out")


def test_a_task_list_that_is_damaged_is_told(robot: Path, latents: Path, tmp_path: Path) -> None:
    for text, message in (
        ('{"task": "x"}', "task_index is None in one line, expected a whole number"),
        ("[1, 2]", "a line is something else, expected a JSON object per line"),
        ("{", "expected a JSON object per line"),
    ):
        (robot / "meta/tasks.jsonl").write_text(text)
        with pytest.raises(UserError, match=f"tasks.jsonl: {message}"):
            write("lerobot-v3", latents, robot, tmp_path / "out")


def test_a_feature_without_a_type_is_told(robot: Path, latents: Path, tmp_path: Path) -> None:
    info = json.loads((robot / "meta/info.json").read_text())
    for feature in ({"shape": [1]}, {"dtype": "float32"}, {"dtype": "float32", "shape": [0]}):
        info["features"][STATE] = feature
        (robot / "meta/info.json").write_text(json.dumps(info))
        with pytest.raises(UserError, match=r"feature 'observation\.state' has dtype"):
            write("lerobot-v3", latents, robot, tmp_path / "out")


@pytest.mark.parametrize("bad", ["text", [["0.5"]] * 3, None, 3, [[[float("nan")]]] * 3])
def test_damaged_statistics_of_cameras_are_made_anew(
    robot: Path, latents: Path, tmp_path: Path, bad: Any
) -> None:
    each = dict.fromkeys(("min", "max", "mean", "std"), bad) | {"count": [3]}
    lines: list[Any] = [{CAMERA: each}, {CAMERA: "text"}, "text"]
    (robot / "meta/episodes_stats.jsonl").write_text(
        "".join(json.dumps({"episode_index": k, "stats": line}) + "\n" for k, line in enumerate(lines))
    )
    write("lerobot-v3", latents, robot, tmp_path / "out")
    found = V3(tmp_path / "out").stats[CAMERA]
    assert np.shape(found["mean"]) == (3, 1, 1)
    assert 0 < np.ravel(found["mean"])[0] < 1


@pytest.mark.parametrize("name", LEROBOT)
@pytest.mark.parametrize("number", [0, 1])
def test_an_episode_with_another_type_of_column_is_left_out(
    robot: Path, latents: Path, tmp_path: Path, name: str, number: int
) -> None:
    path = robot / f"data/chunk-000/episode_{number:06d}.parquet"
    table = pq.read_table(path)
    texts = pa.array(["left"] * 12)
    pq.write_table(table.set_column(table.column_names.index("action"), "action", texts), path)
    with pytest.warns(
        UserWarning, match=f"episode_{number:06d}: column action holds string, expected numbers"
    ):
        manifest = write(name, latents, robot, tmp_path / "out")
    assert manifest["counts"]["episodes"] == 2


def test_an_episode_of_another_width_is_left_out(robot: Path, latents: Path, tmp_path: Path) -> None:
    path = robot / "data/chunk-000/episode_000001.parquet"
    table = pq.read_table(path)
    wide = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(60, np.float32)), 5)
    pq.write_table(table.set_column(table.column_names.index("action"), "action", wide), path)
    with pytest.warns(UserWarning, match="column action has 60 numbers, expected 48"):
        write("lerobot-v3", latents, robot, tmp_path / "out")


def test_an_episode_that_is_no_table_of_ours_is_left_out(robot: Path, latents: Path, tmp_path: Path) -> None:
    """A text column of another type than before, of which the dataset says nothing but that it is text."""
    info = json.loads((robot / "meta/info.json").read_text())
    info["features"]["note"] = {"dtype": "string", "shape": [1], "names": None}
    (robot / "meta/info.json").write_text(json.dumps(info))
    for number in range(3):
        path = robot / f"data/chunk-000/episode_{number:06d}.parquet"
        note = pa.array([["a"]] * 12) if number == 1 else pa.array(["a"] * 12)
        pq.write_table(pq.read_table(path).append_column("note", note), path)
    with pytest.warns(UserWarning, match="episode_000001: columns of other types than before"):
        manifest = write("lerobot-v3", latents, robot, tmp_path / "out")
    assert manifest["counts"]["episodes"] == 2


@pytest.mark.parametrize("file", ["meta/tasks.parquet", "meta/episodes/chunk-000/file-001.parquet"])
def test_tables_of_v3_that_are_none_are_told(file: str, tmp_path: Path) -> None:
    root = tmp_path / "robot"
    names = list(write_lerobot_v3(root))
    folder = latents_of_videos(tmp_path / "latents", dict.fromkeys(names, 9))
    (root / file).write_bytes(b"no table")
    with pytest.raises(UserError, match=f"{file}: unreadable"):
        write("lerobot-v3", folder, root, tmp_path / "out")


@pytest.mark.parametrize("name", LEROBOT)
def test_a_number_that_is_none_spoils_no_statistics(
    robot: Path, latents: Path, tmp_path: Path, name: str
) -> None:
    info = json.loads((robot / "meta/info.json").read_text())
    info["features"][STATE] = {"dtype": "float32", "shape": [2], "names": None}
    (robot / "meta/info.json").write_text(json.dumps(info))
    for path in (robot / "data/chunk-000").iterdir():
        state = np.stack([np.arange(12), np.full(12, np.nan)], axis=1).astype(np.float32)
        state[3, 0], state[4, 0] = np.nan, np.inf
        column = pa.FixedSizeListArray.from_arrays(pa.array(state.ravel()), 2)
        pq.write_table(pq.read_table(path).append_column(STATE, column), path)
    write(name, latents, robot, tmp_path / "out")

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    for file in (tmp_path / "out/meta").glob("*.json*"):
        for text in [file.read_text()] if file.suffix == ".json" else file.read_text().splitlines():
            json.loads(text, parse_constant=refuse)
    stats = json.loads((tmp_path / "out/meta/stats.json").read_text())[STATE]
    known = [k for k in range(12) if k not in (3, 4)]
    np.testing.assert_allclose(stats["mean"], [float(np.mean(known)), 0.0])
    assert stats["min"] == [0.0, 0.0]
    assert stats["max"] == [11.0, 0.0]
    np.testing.assert_allclose(stats["q99"], [np.quantile(known * 3, 0.99), 0.0])


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_a_dataset_without_actions_has_videos_and_no_labels(version: str, tmp_path: Path) -> None:
    root = tmp_path / "robot"
    names = list((write_lerobot if version == "v2.1" else write_lerobot_v3)(root))
    info = json.loads((root / "meta/info.json").read_text())
    del info["features"]["action"]
    (root / "meta/info.json").write_text(json.dumps(info))
    for path in (root / "data").rglob("*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns(["action"]), path)
    data = lerobot.list_robot(root)
    assert [episode.source for episode in data.episodes] == names
    assert not lerobot.has_actions(root)
    lengths = {episode.source: len(episode.action) for episode in data.episodes}
    assert [source.num_frames for source in find_sources([root], [], 0.0)] == list(lengths.values())
    with pytest.raises(UserError, match=r"no feature 'action'.*videos and no labels"):
        lerobot.read_labels(root)
    folder = latents_of_videos(tmp_path / "latents", lengths)
    for name in LEROBOT:
        write(name, folder, root, tmp_path / name)
    assert V3(tmp_path / "lerobot-v3-action").policy_features()["action"] == "ACTION"
    assert "action" not in V3(tmp_path / "lerobot-v3").features
    with pytest.warns(UserWarning, match="no transition has a known action"):
        write("lary", folder, root, tmp_path / "lary")
