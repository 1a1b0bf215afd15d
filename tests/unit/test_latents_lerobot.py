"""Latent actions in LeRobot v3.0: read back as LeRobot reads them, from v2.1, from v3.0 and from shards."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genie_lite.data.sources import lerobot
from genie_lite.data.video.codec import encode_mp4
from genie_lite.errors import UserError
from genie_lite.latents.formats import lerobot_v3
from genie_lite.latents.formats.registry import write
from tests.footage import write_shards
from tests.latent_fixture import HORIZON, latents_of_shards, latents_of_videos
from tests.lerobot_fixture import CAMERA, square_frames, write_lerobot, write_lerobot_v3
from tests.lerobot_readers import V3, frames_of

OTHER = "observation.images.wrist"


@pytest.fixture
def robot(tmp_path: Path) -> Path:
    """Three episodes of 12 frames, v2.1."""
    write_lerobot(tmp_path / "robot")
    return tmp_path / "robot"


def latents_of(root: Path, out: Path, **how: Any) -> Path:
    lengths = {episode.source: len(episode.action) for episode in lerobot.read(root, CAMERA).episodes}
    return latents_of_videos(out, lengths, **how)


def check_rows(data: V3, episode: int, length: int) -> None:
    """Row k holds the latent of frame k, and the last rows none."""
    rows = data.rows[data.rows["episode_index"] == episode]
    assert rows["latent_labels.valid"].tolist() == [1] * (length - HORIZON) + [0] * HORIZON
    embedding = np.stack(rows["latent_labels.embedding"])
    valid = rows["latent_labels.valid"].to_numpy() == 1
    assert embedding[valid, 0].tolist() == list(range(length - HORIZON))
    assert not embedding[~valid].any(), (
        "finite where there is none: a loss over NaN is NaN even where it is masked"
    )
    assert (rows["latent_labels.code_id"][~valid] == -1).all()
    assert (np.stack(rows["latent_labels.code"])[~valid] == -1).all()
    assert rows["latent_labels.horizon"].tolist() == [HORIZON] * (length - HORIZON) + [0] * HORIZON


def test_v21_becomes_v3_with_labels_beside_its_own_columns(robot: Path, tmp_path: Path) -> None:
    folder = latents_of(robot, tmp_path / "latents")
    write("lerobot-v3", folder, robot, tmp_path / "out")
    data = V3(tmp_path / "out")
    assert len(data) == 36
    for episode in range(3):
        check_rows(data, episode, 12)
        told = data.episodes[episode]
        assert (told["dataset_from_index"], told["dataset_to_index"], told["length"]) == (
            12 * episode,
            12 * episode + 12,
            12,
        )
        original = pq.read_table(robot / f"data/chunk-000/episode_{episode:06d}.parquet")
        own = data.rows[data.rows["episode_index"] == episode]
        np.testing.assert_array_equal(
            np.stack(own["action"]), np.array(original["action"].to_pylist(), np.float32)
        )
    assert data.rows["index"].tolist() == list(range(36))
    assert data.policy_features() == {"action": "ACTION", CAMERA: "VISUAL"}, "labels are seen by no policy"
    assert data.info["splits"] == {"train": "0:3"}


def test_pictures_and_tasks_are_those_of_the_row(robot: Path, tmp_path: Path) -> None:
    write("lerobot-v3", latents_of(robot, tmp_path / "latents"), robot, tmp_path / "out")
    data = V3(tmp_path / "out", action_chunk=3)
    item = data[12 + 10]
    assert item["frame_index"] == 10
    assert np.abs(item[CAMERA].astype(int) - square_frames(1, 12)[10]).mean() < 3
    assert item["task"] == "move the square"
    assert data.tasks.index.name == "task"
    assert int(data.tasks.loc["move the square"].task_index) == 0
    assert item["action_is_pad"].tolist() == [False, False, True]
    np.testing.assert_array_equal(item["actions"][1], item["actions"][2])


def test_videos_are_the_same_bytes(robot: Path, tmp_path: Path) -> None:
    write("lerobot-v3", latents_of(robot, tmp_path / "latents"), robot, tmp_path / "out")
    for episode in range(3):
        old = robot / f"videos/chunk-000/{CAMERA}/episode_{episode:06d}.mp4"
        new = tmp_path / f"out/videos/{CAMERA}/chunk-000/file-{episode:03d}.mp4"
        assert old.read_bytes() == new.read_bytes()


def test_each_episode_is_a_row_group(robot: Path, tmp_path: Path) -> None:
    write("lerobot-v3", latents_of(robot, tmp_path / "latents"), robot, tmp_path / "out")
    file = pq.ParquetFile(tmp_path / "out/data/chunk-000/file-000.parquet")
    assert file.num_row_groups == 3
    assert file.metadata.row_group(0).column(0).compression == "SNAPPY"


def test_statistics_of_labels_are_of_valid_rows(robot: Path, tmp_path: Path) -> None:
    write("lerobot-v3", latents_of(robot, tmp_path / "latents"), robot, tmp_path / "out")
    data = V3(tmp_path / "out")
    assert set(data.stats) == set(data.features), "a camera without statistics stops LeRobot's make_dataset"
    rows = data.rows[data.rows["latent_labels.valid"] == 1]
    values = np.stack(rows["latent_labels.embedding"]).astype(np.float64)
    stats = data.stats["latent_labels.embedding"]
    assert stats["count"] == [len(values)] == [3 * (12 - HORIZON)]
    np.testing.assert_allclose(stats["mean"], values.mean(0))
    np.testing.assert_allclose(stats["std"], values.std(0), atol=1e-9)
    np.testing.assert_array_equal(stats["min"], values.min(0))
    for name, at in (("q01", 0.01), ("q10", 0.1), ("q50", 0.5), ("q90", 0.9), ("q99", 0.99)):
        np.testing.assert_allclose(stats[name], np.quantile(values, at, axis=0))
    assert data.stats["latent_labels.code_id"]["min"][0] >= 0
    actions = np.stack(data.rows["action"]).astype(np.float64)
    np.testing.assert_allclose(data.stats["action"]["mean"], actions.mean(0))
    assert np.shape(data.stats[CAMERA]["mean"]) == (3, 1, 1)
    told = data.episodes[1]
    np.testing.assert_allclose(told["stats/latent_labels.embedding/max"][0], 12 - HORIZON - 1)


def test_known_statistics_of_cameras_are_kept(robot: Path, tmp_path: Path) -> None:
    write_stats(robot, [stats_of_pictures(mean, 10 + k) for k, mean in enumerate((0.2, 0.4, 0.6))])
    write("lerobot-v3", latents_of(robot, tmp_path / "latents"), robot, tmp_path / "out")
    found = V3(tmp_path / "out").stats[CAMERA]
    mean = (0.2 * 10 + 0.4 * 11 + 0.6 * 12) / 33
    assert found["count"] == [33]
    np.testing.assert_allclose(np.ravel(found["mean"]), mean)
    spread = (10 * (0.2 - mean) ** 2 + 11 * (0.4 - mean) ** 2 + 12 * (0.6 - mean) ** 2) / 33
    np.testing.assert_allclose(np.ravel(found["std"]), np.sqrt(spread))


def test_the_action_is_the_latent(robot: Path, tmp_path: Path) -> None:
    write("lerobot-v3-action", latents_of(robot, tmp_path / "latents"), robot, tmp_path / "out")
    data = V3(tmp_path / "out", action_chunk=2)
    assert data.policy_features() == {"action": "ACTION", CAMERA: "VISUAL"}
    assert data.features["action"]["shape"] == [3]
    valid = data.rows["latent_labels.valid"].to_numpy() == 1
    actions = np.stack(data.rows["action"])
    assert actions[:10, 0].tolist() == list(range(10))
    mean = actions[valid].mean(axis=0)
    np.testing.assert_allclose(actions[~valid], np.broadcast_to(mean, (6, 3)), rtol=1e-6)
    np.testing.assert_allclose(data.stats["action"]["mean"], mean, rtol=1e-6)
    assert data.stats["action"]["count"] == [30]
    np.testing.assert_allclose(data[3]["actions"][:, 0], [3, 4])
    robot_action = np.stack(data.rows["robot_action"])
    original = pq.read_table(robot / "data/chunk-000/episode_000000.parquet")["action"].to_pylist()
    np.testing.assert_array_equal(robot_action[:12], np.array(original, np.float32))
    manifest = json.loads((tmp_path / "out/meta/label_manifest.json").read_text())
    assert manifest["renamed"] == {"action": "robot_action"}
    assert manifest["invalid_rows"]["embedding"] == "the mean of the valid ones"


def test_every_other_action_gets_out_of_the_way(tmp_path: Path) -> None:
    root = tmp_path / "robot"
    write_lerobot(root, num_episodes=1)
    info = json.loads((root / "meta/info.json").read_text())
    info["features"]["action.is_human"] = {"dtype": "int64", "shape": [1], "names": None}
    (root / "meta/info.json").write_text(json.dumps(info))
    path = root / "data/chunk-000/episode_000000.parquet"
    table = pq.read_table(path)
    pq.write_table(table.append_column("action.is_human", pa.array(np.arange(12))), path)
    write("lerobot-v3-action", latents_of(root, tmp_path / "latents"), root, tmp_path / "out")
    data = V3(tmp_path / "out")
    assert data.policy_features() == {"action": "ACTION", CAMERA: "VISUAL"}
    assert data.rows["robot_action.is_human"].tolist() == list(range(12))


def test_a_wide_action_is_warned_of(robot: Path, tmp_path: Path) -> None:
    folder = latents_of(robot, tmp_path / "latents", width=33)
    with pytest.warns(UserWarning, match="33 components"):
        write("lerobot-v3-action", folder, robot, tmp_path / "out")


def test_v3_keeps_its_shared_videos(tmp_path: Path) -> None:
    root = tmp_path / "robot"
    write_lerobot_v3(root, cameras=(CAMERA, OTHER))
    write("lerobot-v3", latents_of(root, tmp_path / "latents"), root, tmp_path / "out")
    data = V3(tmp_path / "out")
    for episode, length in enumerate((12, 9, 15, 12)):
        check_rows(data, episode, length)
    for camera in (CAMERA, OTHER):
        for file in ("file-000.mp4", "file-001.mp4"):
            path = f"videos/{camera}/chunk-000/{file}"
            assert (root / path).read_bytes() == (tmp_path / "out" / path).read_bytes()
    item = data[12 + 9 + 4]
    assert (item["episode_index"], item["frame_index"]) == (2, 4)
    for camera in (CAMERA, OTHER):
        assert np.abs(item[camera].astype(int) - square_frames(2, 15)[4]).mean() < 3


def test_shots_become_episodes(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", ("test", "train"))
    write("lerobot-v3-action", latents_of_shards(tmp_path / "latents", shards), shards, tmp_path / "out")
    data = V3(tmp_path / "out")
    assert data.info["robot_type"] is None
    assert data.info["fps"] == 10
    assert data.info["splits"] == {"train": "0:2", "test": "2:4"}
    assert [told["length"] for told in data.episodes] == [9, 7, 9, 7]
    assert data[0]["task"] == "unlabelled video"
    samples = [sample for split in ("train", "test") for sample in shards.samples(split)]
    for number, sample in enumerate(samples):
        path = tmp_path / f"out/videos/observation.images.video/chunk-000/file-{number:03d}.mp4"
        assert path.read_bytes() == sample.mp4
    lines = (tmp_path / "out/meta/label_episodes.jsonl").read_text().splitlines()
    assert [json.loads(line)["latents_of"] for line in lines] == [sample.meta["source"] for sample in samples]
    assert data.rows["latent_labels.horizon"].iloc[0] == HORIZON, (
        "in frames of the episode, not of the source"
    )
    actions = np.stack(data.rows["action"])
    assert actions[: 9 - HORIZON, 0].tolist() == list(range(9 - HORIZON))


def test_our_own_reader_reads_what_we_write(robot: Path, tmp_path: Path) -> None:
    folder = latents_of(robot, tmp_path / "latents")
    for name in ("lerobot-v3", "lerobot-v3-action", "lerobot-v2.1"):
        write(name, folder, robot, tmp_path / name)
        again = lerobot.read(tmp_path / name)
        assert len(again.episodes) == 3
        assert not again.faulty
        pictures, _ = frames_of(again.episodes[2].place.path)
        assert len(pictures) == 12


def test_frames_per_second_must_be_whole(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", ("train",))
    index = json.loads((tmp_path / "shards/shards.json").read_text())
    index["config"]["rate_hz"] = 7.5
    (tmp_path / "shards/shards.json").write_text(json.dumps(index))
    folder = latents_of_shards(tmp_path / "latents", shards)
    with pytest.raises(UserError, match=r"7\.5 frames per second.*--rate 8"):
        write("lerobot-v3", folder, type(shards).open(tmp_path / "shards"), tmp_path / "out")


def stats_of_pictures(mean: float, count: int) -> dict[str, Any]:
    each = {
        name: [[[value]]] * 3 for name, value in (("min", 0.0), ("max", 1.0), ("mean", mean), ("std", 0.0))
    }
    return {CAMERA: each | {"count": [count]}}


def write_stats(robot: Path, stats: Sequence[Any]) -> None:
    lines = [{"episode_index": number, "stats": each} for number, each in enumerate(stats)]
    (robot / "meta/episodes_stats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize("has_stats", [False, True])
def test_broken_episodes_are_left_out_without_a_gap(robot: Path, tmp_path: Path, has_stats: bool) -> None:
    """Also where the source tells what the camera saw, so that no picture is looked at."""
    folder = latents_of(robot, tmp_path / "latents")
    if has_stats:
        write_stats(robot, [stats_of_pictures(0.2, 10)] * 3)
    (robot / f"videos/chunk-000/{CAMERA}/episode_000001.mp4").write_bytes(b"no video")
    with pytest.warns(UserWarning, match=r"1 episode is left out \(episode_000001: .*not a readable video"):
        manifest = write("lerobot-v3", folder, robot, tmp_path / "out")
    data = V3(tmp_path / "out")
    assert data.info["total_episodes"] == 2
    assert data.rows["index"].tolist() == list(range(24))
    assert data.rows["episode_index"].unique().tolist() == [0, 1]
    assert np.abs(data[23][CAMERA].astype(int) - square_frames(2, 12)[11]).mean() < 3
    assert [each["episode"] for each in manifest["left_out"]] == ["episode_000001"]
    assert manifest["counts"]["left_out"] == 1


def test_a_video_of_another_length_is_left_out(robot: Path, tmp_path: Path) -> None:
    folder = latents_of(robot, tmp_path / "latents")
    write_stats(robot, [stats_of_pictures(0.2, 10)] * 3)
    path = robot / f"videos/chunk-000/{CAMERA}/episode_000001.mp4"
    path.write_bytes(encode_mp4(square_frames(1, 7), 10.0))
    with pytest.warns(UserWarning, match="7 frames in the video, meta says 12"):
        write("lerobot-v3", folder, robot, tmp_path / "out")


def test_a_shared_video_that_ends_too_early_is_told(tmp_path: Path) -> None:
    root = tmp_path / "robot"
    write_lerobot_v3(root)
    folder = latents_of(root, tmp_path / "latents")
    path = root / f"videos/{CAMERA}/chunk-000/file-000.mp4"
    path.write_bytes(encode_mp4(np.concatenate([square_frames(0, 12), square_frames(1, 9)]), 10.0))
    with pytest.warns(UserWarning, match="episode_000002: .*ends at frame 36 of a video that has 21"):
        manifest = write("lerobot-v3", folder, root, tmp_path / "out")
    assert [each["episode"] for each in manifest["left_out"]] == ["episode_000002"]


def test_an_action_needs_one_valid_row(robot: Path, tmp_path: Path) -> None:
    """An episode whose every action is the mean of others teaches a policy to do nothing."""
    names = [episode.source for episode in lerobot.read(robot).episodes]
    folder = latents_of_videos(tmp_path / "latents", dict.fromkeys(names[:2], 12))
    for name in ("lerobot-v3-action", "lerobot-v2.1"):
        with pytest.warns(UserWarning, match="episode_000002: no valid latent action"):
            manifest = write(name, folder, robot, tmp_path / name)
        assert manifest["counts"]["episodes"] == 2


def test_an_episode_without_latents_is_kept_and_says_so(robot: Path, tmp_path: Path) -> None:
    names = [episode.source for episode in lerobot.read(robot).episodes]
    folder = latents_of_videos(tmp_path / "latents", dict.fromkeys(names[:2], 12))
    write("lerobot-v3", folder, robot, tmp_path / "out")
    data = V3(tmp_path / "out")
    assert not data.rows[data.rows["episode_index"] == 2]["latent_labels.valid"].any()
    told = data.episodes[2]
    assert told["stats/latent_labels.embedding/count"] == [0]
    assert data.stats["latent_labels.embedding"]["count"] == [20]
    assert np.isfinite(told["stats/latent_labels.embedding/min"]).all()


def test_an_action_for_few_frames_is_refused(robot: Path, tmp_path: Path) -> None:
    """Of an extraction at a lower rate most frames have no latent: a policy would learn the mean."""
    names = [episode.source for episode in lerobot.read(robot).episodes]
    folder = latents_of_videos(tmp_path / "latents", dict.fromkeys(names, 4), stride=3, horizon=1)
    with pytest.raises(UserError, match=r"9 of 36 frames have a latent action.*leave out --rate"):
        write("lerobot-v3-action", folder, robot, tmp_path / "out")
    assert not (tmp_path / "out/meta/info.json").exists()
    with pytest.warns(UserWarning, match="9 of 36 frames"):
        write("lerobot-v3", folder, robot, tmp_path / "beside")
    rows = V3(tmp_path / "beside").rows[:12]
    assert np.flatnonzero(rows["latent_labels.valid"]).tolist() == [0, 3, 6]
    assert rows["latent_labels.horizon"].iloc[3] == 3


def test_large_tables_and_many_files_go_to_further_ones(
    robot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lerobot_v3, "DATA_MB", 0)
    monkeypatch.setattr(lerobot_v3, "CHUNK", 2)
    write("lerobot-v3", latents_of(robot, tmp_path / "latents"), robot, tmp_path / "out")
    files = sorted(
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").glob("*/chunk-*/*")
    )
    assert files == [f"data/chunk-{k // 2:03d}/file-{k % 2:03d}.parquet" for k in range(3)]
    data = V3(tmp_path / "out")
    assert data.info["chunks_size"] == 2
    places = [(told["data/chunk_index"], told["data/file_index"]) for told in data.episodes]
    assert places == [(0, 0), (0, 1), (1, 0)]
    assert data.rows["index"].tolist() == list(range(36))
    assert np.abs(data[30][CAMERA].astype(int) - square_frames(2, 12)[6]).mean() < 3


def test_tasks_are_numbered_as_their_rows_stand(robot: Path, tmp_path: Path) -> None:
    """LeRobot takes a task by its place in the table, whatever number it had; this one is a v2.0 besides."""
    info = json.loads((robot / "meta/info.json").read_text())
    info["features"]["task_index"] = {"dtype": "int64", "shape": [1], "names": None}
    (robot / "meta/info.json").write_text(json.dumps(info | {"codebase_version": "v2.0"}))
    tasks = [{"task_index": 7, "task": "push it"}, {"task_index": 2, "task": "pull it"}]
    (robot / "meta/tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))
    for number in range(3):
        path = robot / f"data/chunk-000/episode_{number:06d}.parquet"
        own = np.where(np.arange(12) < 6, 7, 2) if number == 1 else np.full(12, 2 if number else 7)
        pq.write_table(pq.read_table(path).append_column("task_index", pa.array(own)), path)
    write("lerobot-v3", latents_of(robot, tmp_path / "latents"), robot, tmp_path / "out")
    data = V3(tmp_path / "out")
    assert [data[row]["task"] for row in (0, 12, 18, 24)] == ["push it", "push it", "pull it", "pull it"]
    assert data.tasks["task_index"].tolist() == list(range(len(data.tasks)))
    assert [list(told["tasks"]) for told in data.episodes] == [
        ["push it"],
        ["push it", "pull it"],
        ["pull it"],
    ]


def test_a_missing_list_of_tasks_is_made_from_the_episodes(robot: Path, tmp_path: Path) -> None:
    for path in (robot / "data/chunk-000").iterdir():
        pq.write_table(
            pq.read_table(path).append_column("task_index", pa.array(np.zeros(12, np.int64))), path
        )
    write("lerobot-v3", latents_of(robot, tmp_path / "latents"), robot, tmp_path / "out")
    data = V3(tmp_path / "out")
    assert data[35]["task"] == "move the square"
    assert data.info["total_tasks"] == 1


def test_a_dataset_without_an_episode_is_told(robot: Path, tmp_path: Path) -> None:
    folder = latents_of(robot, tmp_path / "latents")
    (robot / "meta/episodes.jsonl").write_text("")
    with pytest.raises(UserError, match="lists no episode"):
        write("lerobot-v3", folder, robot, tmp_path / "out")


def test_an_export_is_not_exported_again(robot: Path, tmp_path: Path) -> None:
    folder = latents_of(robot, tmp_path / "latents")
    write("lerobot-v3", folder, robot, tmp_path / "out")
    again = latents_of(tmp_path / "out", tmp_path / "latents of it")
    with pytest.raises(
        UserError, match=r"'latent_labels\.code' is in the dataset already.*from the original"
    ):
        write("lerobot-v3", again, tmp_path / "out", tmp_path / "more")


def test_the_licence_goes_along(robot: Path, tmp_path: Path) -> None:
    (robot / "LICENSE").write_text("MIT")
    (tmp_path / "private").write_text("mine")
    (robot / "LICENSE_x").symlink_to(tmp_path / "private")
    (robot / "LICENSES").mkdir()
    write("lerobot-v3", latents_of(robot, tmp_path / "latents"), robot, tmp_path / "out")
    assert (tmp_path / "out/LICENSE").read_text() == "MIT"
    assert [path.name for path in (tmp_path / "out").glob("LICENSE*")] == ["LICENSE"]
