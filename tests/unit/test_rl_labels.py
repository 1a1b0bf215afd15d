"""Rewards and ends among the labels: kept where they are known, and nothing changes where they are not."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genie_lite.data.labels import (
    Labels,
    fingerprint,
    join_labels,
    outcome_fingerprint,
    read_labels,
    write_labels,
)
from genie_lite.data.sources import lerobot
from genie_lite.data.sources.robot_labels import keep_labels
from genie_lite.data.video.codec import read_frames
from genie_lite.envs.games import game_of
from genie_lite.envs.protocol import Env, Step
from genie_lite.envs.record import LABELS_FILE, RecordConfig, play, record
from genie_lite.envs.toy import GOAL, ToyEnv
from genie_lite.errors import UserError
from tests.lerobot_fixture import write_lerobot, write_lerobot_v3

SOURCES, INDEX, ACTION = ["b", "a", "a"], [7, 1, 0], [2, 0, 1]
NAMES = ("x", "y", "z")


def write(path: Path, **outcomes: list) -> Labels:
    write_labels(path, SOURCES, INDEX, ACTION, kind="discrete", names=NAMES, **outcomes)
    return read_labels(path)


def outcomes(labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    """Rewards and ends of labels that have both."""
    assert labels.reward is not None
    assert labels.ended is not None
    return labels.reward, labels.ended


def test_outcomes_stay_with_their_rows(tmp_path: Path) -> None:
    """Rows are sorted by source and frame; every reader's way to choose some takes the outcomes along."""
    found = write(tmp_path / "l.parquet", reward=[0.5, -1.0, 2.0], ended=[True, False, False])
    assert found.sources.tolist() == ["a", "a", "b"]
    reward, ended = outcomes(found)
    assert reward.tolist() == [2, -1, 0.5]
    assert reward.dtype == np.float32
    assert ended.tolist() == [False, False, True]
    for some in (found.of(["b"]), found.select(np.array([2])), found.renamed({"a": "c", "b": "d"}).of(["d"])):
        assert [column.tolist() for column in outcomes(some)] == [[0.5], [True]]
    assert outcomes(found.budget_episodes(2, seed=0))[1].sum() == 1


def test_a_file_without_outcomes_is_the_same_as_ever(tmp_path: Path) -> None:
    plain = write(tmp_path / "l.parquet")
    assert plain.reward is plain.ended is None
    assert plain.of(["a"]).reward is None
    assert pq.read_table(tmp_path / "l.parquet").column_names == ["source", "frame_index", "action"]
    digest = hashlib.sha256(repr((plain.kind, plain.names, plain.action.shape)).encode())
    for column in (plain.frame_index, plain.action):
        digest.update(column.tobytes())
    digest.update(b"a\na\nb")
    assert fingerprint(plain) == digest.hexdigest()


def test_outcomes_do_not_change_what_was_learnt_from_actions(tmp_path: Path) -> None:
    plain = write(tmp_path / "a.parquet")
    known = write(tmp_path / "b.parquet", ended=[True, False, False])
    other = write(tmp_path / "c.parquet", ended=[False, True, False])
    assert fingerprint(plain) == fingerprint(known) == fingerprint(other)
    assert len({outcome_fingerprint(each) for each in (plain, known, other)}) == 3


def test_places_are_joined_with_what_all_of_them_know(tmp_path: Path) -> None:
    known = write(tmp_path / "a.parquet", reward=[1.0, 2.0, 3.0], ended=[True, False, False])
    other = dataclasses.replace(known.renamed({"a": "c", "b": "d"}), reward=None)
    both = join_labels([known, other])
    assert both.reward is None
    assert both.ended is not None
    assert both.ended.tolist() == [False, False, True] * 2


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("reward", pa.array(["a", "b", "c"]), "reward is string"),
        ("reward", pa.array([1.0, None, 2.0]), "reward is double with 1 rows empty; expected float32"),
        ("reward", pa.array([1.0, np.inf, 2.0]), "the reward of row 1 is infinite"),
        ("ended", pa.array([1, 0, 0]), "ended is int64 with 0 rows empty; expected bool"),
        ("ended", pa.array([True, None, False]), "ended is bool with 1 rows empty"),
    ],
)
def test_columns_of_another_kind_are_told(
    tmp_path: Path, column: str, values: pa.Array, message: str
) -> None:
    path = tmp_path / "l.parquet"
    write(path)
    pq.write_table(pq.read_table(path).append_column(column, values), path)
    with pytest.raises(UserError, match=message):
        read_labels(path)


def test_as_many_outcomes_as_actions_are_expected(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="3 actions, but 2 rewards or ends"):
        write(tmp_path / "l.parquet", reward=[1.0, 2.0])


# --- recordings ------------------------------------------------------------------------------------------------


def test_a_recording_keeps_rewards_and_ends(tmp_path: Path) -> None:
    """The goal is reached where the last frame shows the player on it, which hides its colour."""
    config = RecordConfig(game="toy", episodes=8, levels=(10, 18), seed=3, explore=0.4, max_frames=14)
    summary = record(config, tmp_path)
    labels = read_labels(tmp_path / LABELS_FILE)
    reward, ended = outcomes(labels)
    assert 0 < ended.sum() < 8
    assert ended.sum() == round(summary.solved * 8)
    assert reward.tolist() == ended.astype(float).tolist()
    for source in labels.episodes:
        rows = labels.of([source])
        last = read_frames(tmp_path / source)[-1].astype(int)
        shows_goal = (np.abs(last - np.array(GOAL)).sum(-1) < 60).any()
        assert outcomes(rows)[1].tolist() == [False] * (len(rows) - 1) + [not shows_goal]


class Hidden(ToyEnv):
    """A game that does not show how an episode ends: the last frame is repeated."""

    shows_end = False

    def step(self, action: np.ndarray) -> Step:
        before, step = self._frames(), super().step(action)
        return dataclasses.replace(step, frames=np.where(step.done[:, None, None, None], before, step.frames))


def test_an_end_that_is_not_shown_belongs_to_the_action_before() -> None:
    plan = np.array([1, 3, 3, 2, 2, 4, 4, 1])
    shown, hidden = (next(iter(play(env, [0], [_solution(env)]))) for env in (ToyEnv(1), Hidden(1)))
    assert shown.ended
    assert hidden.ended
    assert shown.rewards.tolist() == [0] * (len(shown.actions) - 1) + [1]
    assert hidden.rewards.tolist() == shown.rewards.tolist()[1:]
    assert len(hidden.actions) == len(hidden.frames) - 1 == len(shown.actions) - 1
    cut = next(iter(play(ToyEnv(1), [0], [plan[:2]])))
    assert not cut.ended
    assert cut.rewards.tolist() == [0, 0]


def _solution(env: Env) -> np.ndarray:
    return game_of("toy").plan(env, [0], 0, 0.0, 50)[0]


def test_a_recording_begun_by_a_version_without_outcomes_is_finished_without(tmp_path: Path) -> None:
    config = RecordConfig(game="toy", episodes=2, levels=(0, 2))
    record(config, tmp_path / "whole")
    old = read_labels(tmp_path / "whole" / LABELS_FILE)
    again = tmp_path / "again"
    record(config, again)
    (again / LABELS_FILE).unlink()
    (again / ".record" / "summary.json").unlink()
    for level in (0, 1):
        rows = old.of([f"expert_{level:07d}.mp4"])
        part = {"actions": rows.action.tolist(), "success": True}
        (again / ".record" / "parts").mkdir(exist_ok=True)
        (again / ".record" / "parts" / f"{level:07d}.json").write_text(json.dumps(part))
    record(config, again)
    found = read_labels(again / LABELS_FILE)
    assert found.reward is found.ended is None
    assert found.action.tolist() == old.action.tolist()


# --- robots ----------------------------------------------------------------------------------------------------


def add_columns(root: Path, **columns: Callable[[int], object]) -> None:
    """Columns `next.<name>` in every data file, as a function of the frame's index in its episode."""
    for path in sorted(root.glob("data/*/*.parquet")):
        table = pq.read_table(path)
        for name, function in columns.items():
            cells = [function(index) for index in table["frame_index"].to_pylist()]
            table = table.append_column(f"next.{name}", pa.array(cells))
        pq.write_table(table, path)


@pytest.mark.parametrize("version", [2, 3])
def test_a_robots_rewards_and_ends_are_read(tmp_path: Path, version: int) -> None:
    if version == 2:
        write_lerobot(tmp_path, num_episodes=2)
    else:
        write_lerobot_v3(tmp_path, lengths=(12, 12))
    assert lerobot.read_labels(tmp_path).reward is lerobot.read_labels(tmp_path).ended is None
    add_columns(tmp_path, reward=lambda frame: frame / 2, done=lambda frame: frame == 11)
    labels = lerobot.read_labels(tmp_path)
    reward, ended = outcomes(labels)
    assert reward.tolist() == [frame / 2 for frame in range(12)] * 2
    assert np.flatnonzero(ended).tolist() == [11, 23]
    keep_labels(tmp_path / "shards", [labels])
    kept_reward, kept_ended = outcomes(read_labels(tmp_path / "shards" / "labels.parquet"))
    assert np.array_equal(kept_ended, ended)
    assert np.array_equal(kept_reward, reward)


def test_success_says_more_than_done_and_holes_say_nothing(tmp_path: Path) -> None:
    """A robot that is stopped is done, too."""
    write_lerobot(tmp_path, num_episodes=1)
    add_columns(
        tmp_path,
        success=lambda frame: [frame == 5],
        done=lambda frame: frame == 11,
        reward=lambda frame: None if frame == 3 else 1.0,
    )
    labels = lerobot.read_labels(tmp_path)
    assert labels.ended is not None
    assert np.flatnonzero(labels.ended).tolist() == [5]
    assert labels.reward is None
    assert len(labels) == 12
