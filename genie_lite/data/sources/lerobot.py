"""Robots in LeRobot's layout, v2.0, v2.1 and v3.0: which videos there are, and which actions belong to their frames.

`read` gives the videos to ingest and `read_labels` their actions. A label's source is the path of the video
below the dataset's folder, which is the name that ingest gives it, and where episodes share a video, which of
them it is: `videos/<camera>/chunk-000/file-000.mp4#episode_000012`. An episode whose files are missing or do
not fit together is quarantined with a reason; the rest is used. A dataset without actions has videos and no labels.

No video is opened here. Whether one has as many frames as its table has rows is seen once it is decoded
(`Source.misfit`): asking thousands of headers takes minutes and tells no more.
Source: github.com/huggingface/lerobot, dataset formats v2.1 and v3.0.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genie_lite.data.labels import Labels, join_labels
from genie_lite.data.sources import lerobot_v2, lerobot_v3
from genie_lite.data.sources.lerobot_info import SHARED, Listed, is_lerobot, read_info, says_lerobot
from genie_lite.data.video.place import Place
from genie_lite.errors import UserError

__all__ = [
    "Episode",
    "RobotData",
    "has_actions",
    "is_lerobot",
    "labels_of",
    "list_robot",
    "read",
    "read_labels",
    "says_lerobot",
]


OUTCOMES = ("next.reward", "next.success", "next.done")  # columns of a table that may be there, too


@dataclass(frozen=True)
class Episode:
    """One usable episode.

    Args:
        source: path of its video below the dataset's folder, with forward slashes, and which part of it.
        place: the video itself.
        part: the end of `source`, where several episodes share a video.
        action: (frames, num_actions) float32, row k belongs to frame k; of a dataset without actions (frames, 0).
        reward: (frames,) float32, what the action of frame k brought; None where the dataset does not say.
        ended: (frames,) bool, whether the task was solved by it, or where only that is told, whether the episode was
            done; None where the dataset says neither.
    """

    source: str
    place: Place
    part: str
    action: np.ndarray
    reward: np.ndarray | None = None
    ended: np.ndarray | None = None


@dataclass(frozen=True)
class RobotData:
    """A dataset as read: what can be used, and what cannot with the reason.

    Args:
        episodes: in the order of their index.
        faulty: every episode that was left out; its `fault` says why.
        names: one name per action component; none in a dataset without actions.
        rate_hz: frames and actions per second.
        camera: the video feature that was read, such as "observation.images.cam_high".
        root: the dataset's folder.
    """

    episodes: tuple[Episode, ...]
    faulty: tuple[Listed, ...]
    names: tuple[str, ...]
    rate_hz: float
    camera: str
    root: Path

    @property
    def quarantined(self) -> tuple[tuple[str, str], ...]:
        """(source, reason) of every episode that was left out."""
        return tuple((listed.source, str(listed.fault)) for listed in self.faulty)


def read_labels(root: Path, camera: str | None = None) -> Labels:
    """The actions of every usable episode as continuous labels.

    Args:
        root: the folder that holds `meta/info.json`.
        camera: whose videos they are labels of, as in `read`; None for those of every camera, for an episode's actions
            are the same whoever films it.

    Raises:
        UserError: see `read` and `labels_of`.
    """
    cameras = read_info(root).cameras if camera is None else (camera,)
    seen = [list_robot(root, each) for each in cameras]
    usable = [labels_of(data) for data in seen if data.episodes]
    return join_labels(usable) if usable else labels_of(read(root, cameras[0]))


def labels_of(data: RobotData) -> Labels:
    """The actions of a dataset that was read, as continuous labels.

    Raises:
        UserError: it has none.
    """
    if not data.names:
        raise UserError(
            f"{data.root}: no feature 'action' in meta/info.json, so it has videos and no labels; give labels of its "
            "videos, or a dataset that has actions"
        )
    lengths = [len(episode.action) for episode in data.episodes]
    return Labels(
        sources=np.repeat(np.asarray([episode.source for episode in data.episodes], dtype=str), lengths),
        frame_index=np.concatenate([np.arange(length, dtype=np.int64) for length in lengths]),
        action=np.concatenate([episode.action for episode in data.episodes]),
        kind="continuous",
        names=data.names,
        reward=_together([episode.reward for episode in data.episodes]),
        ended=_together([episode.ended for episode in data.episodes]),
    )


def has_actions(root: Path) -> bool:
    """Whether a folder is a dataset that says it has actions, which are labels of its videos.

    Raises:
        UserError: a dataset of no known version, or a damaged one.
    """
    return is_lerobot(root) and bool(read_info(root).names)


def read(root: Path, camera: str | None = None) -> RobotData:
    """Read a dataset's episodes without opening a video.

    Args:
        root: the folder that holds `meta/info.json`.
        camera: a video feature or the end of its name ("cam_high"); None takes the only one, or the first
            with a warning.

    Raises:
        UserError: not a dataset of a known version, no such camera, no usable episode.
    """
    data = list_robot(root, camera)
    if not data.episodes:
        first = "; the first: {}: {}".format(*data.quarantined[0]) if data.faulty else ""
        raise UserError(f"{root}: no usable episode among {len(data.faulty)}{first}")
    return data


def list_robot(root: Path, camera: str | None = None) -> RobotData:
    """As `read`, but a dataset of which nothing can be used is no error."""
    info = read_info(root)
    camera_name = info.camera(camera)
    if camera is None and len(info.cameras) > 1:
        warnings.warn(
            f"{root}: {len(info.cameras)} cameras, using {camera_name} of {', '.join(info.cameras)}",
            stacklevel=3,
        )
    is_shared = info.version in SHARED
    listed = (lerobot_v3 if is_shared else lerobot_v2).list_episodes(info, camera_name)
    good, bad = _judged(listed, len(info.names), is_shared=is_shared)
    return RobotData(tuple(good), tuple(bad), info.names, info.rate_hz, camera_name, root)


def _judged(episodes: Sequence[Listed], width: int, *, is_shared: bool) -> tuple[list[Episode], list[Listed]]:
    good: list[Episode] = []
    bad: list[Listed] = []
    table: _Table | None = None
    for listed in episodes:
        fault = listed.fault or _missing(listed)
        if fault is None:
            # Episodes come in the order of their files; more than one table at a time would fill the memory.
            if table is None or table.path != listed.table:
                table = _Table.read(listed.table, is_shared=is_shared, has_actions=width > 0)
            action = table.action(listed, width)
            if isinstance(action, str):
                fault = action
            else:
                outcome = table.reward(listed), table.ended(listed)
                good.append(Episode(listed.source, listed.place, listed.part, action, *outcome))
        if fault is not None:
            bad.append(replace(listed, fault=fault))
    return good, bad


def _together(columns: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """One after another, where every episode has the column."""
    there = [column for column in columns if column is not None]
    return np.concatenate(there) if len(there) == len(columns) else None


def _missing(listed: Listed) -> str | None:
    if not listed.place.path.is_file():
        return "the video file is missing"
    return None if listed.table.is_file() else "the data file is missing"


@dataclass(frozen=True)
class _Table:
    """One data file. rows: its frame_index and action; which: rows of each episode, None if all are of one."""

    path: Path
    rows: pa.Table | None
    which: dict[int, np.ndarray] | None
    fault: str | None = None

    @classmethod
    def read(cls, path: Path, *, is_shared: bool, has_actions: bool) -> "_Table":
        columns = [
            "frame_index",
            *(["action"] if has_actions else []),
            *(["episode_index"] if is_shared else []),
        ]
        try:
            with pq.ParquetFile(path) as file:
                missing = [name for name in columns if name not in file.schema_arrow.names]
                if missing:
                    return cls(path, None, None, f"no column {', '.join(missing)} in the data file")
                there = [name for name in OUTCOMES if name in file.schema_arrow.names]
                rows = file.read([*columns, *there])
            return cls(path, rows, _rows_by_episode(rows) if is_shared else None)
        except (pa.ArrowException, OSError, ValueError) as error:
            return cls(path, None, None, f"unreadable: {' '.join(str(error).split())}")

    def action(self, listed: Listed, width: int) -> np.ndarray | str:
        """The actions of one episode, or why it cannot be used."""
        if self.rows is None:
            return str(self.fault)
        rows = self._of(listed, self.rows)
        if len(rows) != listed.length:
            return f"{len(rows)} rows in the data file, meta/episodes says {listed.length}"
        if not listed.length:
            return "an episode without a frame"
        if not np.array_equal(rows["frame_index"].to_numpy(), np.arange(listed.length)):
            return "frame_index does not count 0, 1, 2, ..."
        if not width:
            return np.zeros((listed.length, 0), dtype=np.float32)
        return _numbers(rows["action"], listed.length, width)

    def reward(self, listed: Listed) -> np.ndarray | None:
        """What each frame's action brought, if the file says so."""
        return self._outcome(listed, "next.reward")

    def ended(self, listed: Listed) -> np.ndarray | None:
        """Whether it solved the task; where the file does not say that, whether the episode was done."""
        solved = self._outcome(listed, "next.success")
        found = self._outcome(listed, "next.done") if solved is None else solved
        return None if found is None else found > 0

    def _outcome(self, listed: Listed, name: str) -> np.ndarray | None:
        """A column that may be missing, or empty in places; then it is as good as missing."""
        if self.rows is None or name not in self.rows.column_names:
            return None
        column = self._of(listed, self.rows.select([name]))[name]
        is_list = pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type)
        cells = column.combine_chunks().flatten() if is_list else column
        flat = cells.cast(pa.uint8()) if pa.types.is_boolean(cells.type) else cells
        numbers = _numbers(pa.chunked_array([flat]) if is_list else flat, listed.length, 1)
        return None if isinstance(numbers, str) else numbers[:, 0]

    def _of(self, listed: Listed, rows: pa.Table) -> pa.Table:
        if self.which is None:
            return rows
        return rows.take(self.which.get(listed.index, np.empty(0, np.int64)))


def _rows_by_episode(rows: pa.Table) -> dict[int, np.ndarray]:
    index = rows["episode_index"].to_numpy()
    order = np.argsort(index, kind="stable")
    episodes, starts = np.unique(index[order], return_index=True)
    return dict(zip(episodes.tolist(), np.split(order, starts[1:]), strict=True))


def _numbers(column: pa.ChunkedArray, length: int, width: int) -> np.ndarray | str:
    """`length x width` finite numbers, or what is there instead. A single component is stored without a list."""
    cells = column.combine_chunks()
    flat = (
        cells.flatten()
        if isinstance(cells, pa.ListArray | pa.FixedSizeListArray | pa.LargeListArray)
        else cells
    )
    if not (pa.types.is_integer(flat.type) or pa.types.is_floating(flat.type)):
        return f"actions are of type {column.type}, expected numbers"
    if len(flat) != length * width:
        return f"{len(flat)} action numbers, expected {length} x {width}"
    with np.errstate(over="ignore"):  # a number too large for float32 becomes infinite, and is told below
        numbers = flat.to_numpy(zero_copy_only=False).astype(np.float32)
    if not np.isfinite(numbers).all():
        return "an action is infinite or missing"
    return numbers.reshape(length, width)
