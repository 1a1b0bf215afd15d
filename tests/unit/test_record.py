"""Recordings: frames and labels fit together, a killed recording goes on, the same seed gives the same bytes."""

import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from genie_lite.config import parse
from genie_lite.data.labels import read_labels
from genie_lite.data.video.codec import probe, read_frames
from genie_lite.data.video.place import Place
from genie_lite.envs.record import LABELS_FILE, RecordConfig, RecordSummary, record, video_name
from genie_lite.envs.setup import PYTHON_VARIABLE
from genie_lite.envs.toy import CELL_PX, MOVES, PLAYER
from genie_lite.errors import UserError
from tests.forked import run_forked

CONFIG = RecordConfig(game="toy", episodes=6, levels=(10, 20), seed=3, explore=0.4, max_frames=30)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RecordSummary]:
    out = tmp_path_factory.mktemp("toy") / "videos"
    return out, record(CONFIG, out)


def test_one_video_per_level_and_nothing_else(recorded: tuple[Path, RecordSummary]) -> None:
    out, summary = recorded
    assert sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) == [
        *(f"expert_{level:07d}.mp4" for level in range(10, 16)),
        "labels.parquet",
    ]
    assert summary.episodes == 6
    assert summary.frames == summary.transitions + 6
    assert sum(summary.actions.values()) == summary.transitions == len(read_labels(out / LABELS_FILE))
    assert 0 <= summary.solved <= 1


def test_videos_hold_pictures_alone(recorded: tuple[Path, RecordSummary]) -> None:
    path = recorded[0] / video_name(10)
    info = probe(Place(path))
    assert (info.codec, info.height, info.width, info.rate_hz) == ("h264", 32, 32, 10.0)
    with av.open(str(path)) as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_row_k_is_the_action_from_frame_k_to_frame_k_plus_1(recorded: tuple[Path, RecordSummary]) -> None:
    """Wherever the player moved between two frames, the label of the first one says where to."""
    out, _ = recorded
    labels = read_labels(out / LABELS_FILE)
    moved = 0
    for source in labels.episodes:
        rows = labels.of([source])
        frames = read_frames(out / source)
        assert rows.frame_index.tolist() == list(range(len(frames) - 1))
        near = (np.abs(frames.astype(int) - np.array(PLAYER)).sum(-1) < 60).astype(float)
        assert (near.sum((1, 2)) == CELL_PX**2).all()
        height, width = near.shape[1:]
        cells = np.stack([near.sum(2) @ np.arange(height), near.sum(1) @ np.arange(width)], 1) / CELL_PX**3
        for step, action in zip(np.diff(cells, axis=0), rows.action, strict=True):
            if step.any():
                moved += 1
                assert step.tolist() == list(MOVES[labels.names[action]])
    assert moved > 20


def test_a_solved_expert_ends_at_the_goal_and_a_long_one_is_cut(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"explore": 0.0, "max_frames": 8})
    summary = record(config, tmp_path / "out")
    lengths = [len(read_frames(tmp_path / "out" / video_name(level))) for level in range(10, 16)]
    assert max(lengths) == 8
    assert summary.solved < 1
    everything = record(config.model_copy(update={"max_frames": 100}), tmp_path / "whole")
    assert everything.solved == 1


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(
    recorded: tuple[Path, RecordSummary], tmp_path: Path
) -> None:
    assert record(CONFIG, tmp_path / "again") == recorded[1]
    assert bytes_of(tmp_path / "again") == bytes_of(recorded[0])
    record(CONFIG.model_copy(update={"seed": 4}), tmp_path / "other")
    assert bytes_of(tmp_path / "other")[video_name(10)] != bytes_of(recorded[0])[video_name(10)]


def test_an_episode_does_not_depend_on_those_beside_it(
    recorded: tuple[Path, RecordSummary], tmp_path: Path
) -> None:
    record(CONFIG.model_copy(update={"levels": (14, 16), "episodes": 2}), tmp_path / "part")
    assert bytes_of(tmp_path / "part")[video_name(15)] == bytes_of(recorded[0])[video_name(15)]


KILLED = """
import os, signal, sys
from pathlib import Path
from genie_lite.envs.record import RecordConfig, record
config = RecordConfig.model_validate_json(sys.argv[1])
record(config, Path(sys.argv[2]), lambda done, total: done == 3 and os.kill(os.getpid(), signal.SIGKILL))
"""


def test_a_killed_recording_goes_on_and_ends_the_same(
    recorded: tuple[Path, RecordSummary], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    killed = run_forked(["-c", KILLED, CONFIG.model_dump_json(), str(out)], tmp_path)
    assert killed.returncode == -signal.SIGKILL
    assert not (out / LABELS_FILE).exists()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*.mp4")}
    parts = {path.stem for path in (out / ".record" / "parts").glob("*.json")}
    assert len(parts) >= 3
    seen = []
    assert record(CONFIG, out, lambda done, total: seen.append((done, total))) == recorded[1]
    assert seen[0] == (len(parts), 6)
    assert seen[-1] == (6, 6)
    for path, written in kept.items():
        if path.stem.removeprefix("expert_") in parts:
            assert path.stat().st_mtime_ns == written, "a finished episode is recorded once"
    left = {path.name: path.read_bytes() for path in out.iterdir() if path.suffix in (".mp4", ".parquet")}
    assert left == {name: data for name, data in bytes_of(recorded[0]).items() if not name.startswith(".")}


def test_a_finished_recording_is_left_alone_and_a_lost_video_made_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = record(CONFIG, out)
    before, first = bytes_of(out), (out / video_name(10)).stat().st_mtime_ns
    assert record(CONFIG, out) == summary
    assert (out / video_name(10)).stat().st_mtime_ns == first
    (out / video_name(12)).unlink()
    assert record(CONFIG, out) == summary
    assert bytes_of(out) == before


def test_a_folder_with_another_recording_is_refused(recorded: tuple[Path, RecordSummary]) -> None:
    with pytest.raises(UserError, match="holds a recording with seed 3, found seed 5"):
        record(CONFIG.model_copy(update={"seed": 5}), recorded[0])


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="expected an empty or a new folder"):
        record(CONFIG, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"episodes": 11}, "11 episodes need as many levels, 10:20 are 10"),
        ({"levels": [5, 5]}, "levels: expected first:end"),
        ({"explore": 1.5}, "explore"),
        ({"max_frames": 1}, "max_frames"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(change: dict[str, Any], message: str) -> None:
    tree = {"game": "toy", "episodes": 2, "levels": [10, 20]} | change
    with pytest.raises(UserError, match=message) as caught:
        parse(tree, RecordConfig, "record")
    assert "\n" not in str(caught.value)


def test_a_recording_without_its_engine_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PYTHON_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(UserError, match="game engine: no Python"):
        record(CONFIG.model_copy(update={"game": "maze"}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unknown_game_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'coinrun'"):
        record(CONFIG.model_copy(update={"game": "coin_run"}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_wanderers_turn_back_more_often_than_experts(tmp_path: Path) -> None:
    """Who goes for the goal hardly ever undoes a move; a world learnt from that alone could not tell left from on."""
    config = RecordConfig(game="toy", episodes=24, levels=(0, 24), explore=0.0, wander=0.5, max_frames=40)
    record(config, tmp_path / "out")
    labels = read_labels(tmp_path / "out" / LABELS_FILE)
    opposite = {1: 2, 2: 1, 3: 4, 4: 3}  # left and right, up and down

    def turns(manner: str) -> float:
        episodes = [labels.of([name]).action.tolist() for name in labels.episodes if name.startswith(manner)]
        assert 4 <= len(episodes) <= 20
        pairs = [pair for episode in episodes for pair in pairwise(episode)]
        return sum(opposite.get(first) == second for first, second in pairs) / len(pairs)

    assert turns("expert") == 0
    assert turns("wander") > 0.08
