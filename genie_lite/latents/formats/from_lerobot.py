"""The episodes of a LeRobot dataset of version 2.0, 2.1 or 3.0, with all of its cameras and columns.

Columns pass as they are, values and types; only the counters are made anew, which must be contiguous where an
episode is left out. An episode whose video is missing, cannot be opened or is of another length, whose table does not
fit it, or whose columns are not there or not what the dataset says, is left out with the reason.

Source: github.com/huggingface/lerobot, dataset formats v2.1 and v3.0.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genie_lite.data.sources import lerobot_v2, lerobot_v3
from genie_lite.data.sources.lerobot_info import SHARED, Info, Listed, read_info
from genie_lite.data.video.codec import VideoInfo, probe
from genie_lite.data.video.container import BadVideo
from genie_lite.data.video.place import Place
from genie_lite.errors import UserError
from genie_lite.files import read_json
from genie_lite.latents.formats.columns import fault_of_column
from genie_lite.latents.formats.episodes import COUNTERS, Episode, Episodes, LeftOut
from genie_lite.latents.formats.lerobot_meta import NO_TASK, Told, tasks_v2, tasks_v3, told_v2, told_v3
from genie_lite.latents.formats.names import expect_name
from genie_lite.latents.formats.target import fingerprint, stat_of


def episodes_of_lerobot(root: Path) -> Episodes:
    """All episodes of the dataset in a folder.

    Raises:
        UserError: not a dataset of a known version, a damaged list, or names that lead out of a folder.
    """
    info = read_info(root)
    _expect_features(info)
    reader = _Reader.open(info)
    if not reader.listed:
        raise UserError(f"{root}/meta: lists no episode; expected a dataset with at least one")
    modality = root / "meta" / "modality.json"
    return Episodes(
        place=str(root.resolve()),
        rate_hz=info.rate_hz,
        robot_type=info.tree.get("robot_type"),
        features=reader.features,
        tasks=reader.tasks,
        num=len(reader.listed),
        frames=sum(next(iter(cameras.values())).length for cameras in reader.listed.values()),
        names=frozenset(each.source for cameras in reader.listed.values() for each in cameras.values()),
        modality=read_json(modality, "a modality.json", "mend or delete it") if modality.is_file() else None,
        fingerprint=_fingerprint(info, reader.listed),
        read=reader.read,
    )


@dataclass(frozen=True)
class _Reader:
    """listed: by episode and camera. told: by episode. index_of_task: by the source's own task_index."""

    info: Info
    listed: dict[int, dict[str, Listed]]
    told: dict[int, Told]
    tasks: tuple[str, ...]
    index_of_task: dict[int, int]

    @classmethod
    def open(cls, info: Info) -> "_Reader":
        is_shared = info.version in SHARED
        listing = lerobot_v3 if is_shared else lerobot_v2
        listed: dict[int, dict[str, Listed]] = {}
        for camera in info.cameras:
            for each in listing.list_episodes(info, camera):
                listed.setdefault(each.index, {})[camera] = each
        told = told_v3(info) if is_shared else told_v2(info)
        numbered = tasks_v3(info) if is_shared else tasks_v2(info)
        named = {task for each in told.values() for task in each.tasks} - set(numbered.values())
        tasks = (*(numbered[index] for index in sorted(numbered)), *sorted(named)) or (NO_TASK,)
        return cls(info, listed, told, tasks, {index: k for k, index in enumerate(sorted(numbered))})

    @property
    def features(self) -> dict[str, dict[str, Any]]:
        return {name: feature for name, feature in self.info.tree["features"].items() if name not in COUNTERS}

    @property
    def columns(self) -> list[str]:
        return [name for name, feature in self.features.items() if feature["dtype"] != "video"]

    def read(self) -> Iterator[Episode | LeftOut]:
        headers = _Headers(self.info.rate_hz)
        table: _Table | None = None
        for number, cameras in sorted(self.listed.items()):
            first = next(iter(cameras.values()))
            # Episodes come in the order of their tables; more than one of these would fill the memory.
            if table is None or table.path != first.table:
                table = _Table.read(first.table, self.columns, is_shared=self.info.version in SHARED)
            yield self._episode(number, cameras, table, headers)

    def _episode(
        self, number: int, cameras: Mapping[str, Listed], table: "_Table", headers: "_Headers"
    ) -> Episode | LeftOut:
        name = f"episode_{number:06d}"
        first = next(iter(cameras.values()))
        faults = [
            f"{camera}: {fault}" for camera, each in cameras.items() if (fault := headers.fault_of(each))
        ]
        faults += [f"{camera}: not listed" for camera in self.info.cameras if camera not in cameras]
        rows = table.rows_of(number, first.length)
        if faults or isinstance(rows, str):
            return LeftOut(name, faults[0] if faults else str(rows))
        if (fault := self._fault_of_columns(rows)) is not None:
            return LeftOut(name, fault)
        told = self.told.get(number, Told((), {}))
        task_index = self._task_index(rows, told.tasks)
        if task_index is None:
            return LeftOut(name, "task_index of a task that meta/tasks does not have")
        return Episode(
            name=name,
            split="train",
            names={camera: each.source for camera, each in cameras.items()},
            key=None,
            table=rows.select(self.columns),
            frames=np.arange(first.length, dtype=np.int64),
            task_index=task_index,
            clips={camera: each.place for camera, each in cameras.items()},
            stats=told.stats,
        )

    def _fault_of_columns(self, rows: pa.Table) -> str | None:
        for name in self.columns:
            if (fault := fault_of_column(rows[name], self.features[name])) is not None:
                return f"column {name} {fault}"
        return None

    def _task_index(self, rows: pa.Table, tasks: Sequence[str]) -> np.ndarray | None:
        """Into `tasks` of the source: by the column, or where it or their list is missing by what the episode says."""
        if "task_index" not in rows.column_names or not self.index_of_task:
            return np.full(len(rows), self.tasks.index(tasks[0]) if tasks else 0, dtype=np.int64)
        column = rows["task_index"]
        if column.null_count or not pa.types.is_integer(column.type):
            return None
        found, where = np.unique(column.to_numpy(), return_inverse=True)
        if not all(int(index) in self.index_of_task for index in found):
            return None
        return np.asarray([self.index_of_task[int(index)] for index in found], dtype=np.int64)[where]


@dataclass(frozen=True)
class _Table:
    """One data file. which: rows of each episode, None if all are of one."""

    path: Path
    rows: pa.Table | None
    which: dict[int, np.ndarray] | None = None
    fault: str = ""

    @classmethod
    def read(cls, path: Path, columns: Sequence[str], *, is_shared: bool) -> "_Table":
        try:
            with pq.ParquetFile(path) as file:
                rows = file.read()
            which = _by_episode(rows) if is_shared and "episode_index" in rows.column_names else None
        except (pa.ArrowException, OSError, ValueError, TypeError) as error:
            reason = "the data file is missing" if not path.is_file() else " ".join(str(error).split())
            return cls(path, None, fault=reason)
        needed = [*columns, "frame_index", *(["episode_index"] if is_shared else [])]
        missing = [name for name in needed if name not in rows.column_names]
        if missing:
            return cls(path, None, fault=f"no column {', '.join(missing)} in the data file")
        return cls(path, rows, which)

    def rows_of(self, number: int, length: int) -> pa.Table | str:
        """The rows of one episode, or why they cannot be used."""
        if self.rows is None:
            return self.fault
        which = None if self.which is None else self.which.get(number, np.empty(0, np.int64))
        rows = self.rows if which is None else self.rows.take(which)
        if len(rows) != length or not length:
            return f"{len(rows)} rows in the data file, meta says {length}"
        if not np.array_equal(rows["frame_index"].to_numpy(), np.arange(length)):
            return "frame_index does not count 0, 1, 2, ..."
        return rows


def _by_episode(rows: pa.Table) -> dict[int, np.ndarray]:
    index = rows["episode_index"].to_numpy()
    order = np.argsort(index, kind="stable")
    numbers, starts = np.unique(index[order], return_index=True)
    return dict(zip(numbers.tolist(), np.split(order, starts[1:]), strict=True))


class _Headers:
    """What the videos say of themselves; one that episodes share is asked once."""

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._last: tuple[Path, VideoInfo | str] | None = None

    def fault_of(self, listed: Listed) -> str | None:
        """Why the video of an episode cannot be used, as far as its header tells."""
        if listed.fault:
            return listed.fault
        path = listed.place.path
        if not path.is_file():
            return "the video file is missing"
        if self._last is None or self._last[0] != path:
            self._last = path, _header(path)
        header = self._last[1]
        return header if isinstance(header, str) else _misfit(header, listed, self._rate_hz)


def _header(path: Path) -> VideoInfo | str:
    try:
        return probe(Place(path))
    except BadVideo as error:
        return error.reason


def _misfit(header: VideoInfo, listed: Listed, rate_hz: float) -> str | None:
    """Why a video is not as long as the episode that lies in it; None where its header does not count."""
    num, span_s = header.num_frames, listed.place.span_s
    if num is None:
        return None
    if span_s is None:
        return None if num == listed.length else f"{num} frames in the video, meta says {listed.length}"
    # A header's rate is an average and off by a little, so both its frames and its seconds must say so.
    end = span_s[1] * rate_hz
    is_over = header.seconds is None or span_s[1] > header.seconds + 0.5 / rate_hz
    return f"ends at frame {end:.0f} of a video that has {num}" if end > num + 0.5 and is_over else None


def _expect_features(info: Info) -> None:
    """Refuse features whose description lacks what every writer needs, or whose name leads out of a folder."""
    where = f"{info.root}/meta/info.json"
    for name, feature in info.tree["features"].items():
        expect_name(name, f"{where}: feature")
        shape = feature.get("shape")
        is_shaped = (
            isinstance(shape, list) and shape and all(type(side) is int and side > 0 for side in shape)
        )
        if not (isinstance(feature.get("dtype"), str) and is_shaped):
            raise UserError(
                f"{where}: feature '{name}' has dtype {feature.get('dtype')!r} and shape {shape!r}; expected a name "
                "of a type and a list of whole numbers"
            )


def _fingerprint(info: Info, listed: Mapping[int, Mapping[str, Listed]]) -> str:
    """Of what the dataset says of itself, and of size and time of its tables and videos: these are not read."""
    meta = [path for path in sorted((info.root / "meta").rglob("*")) if path.is_file()]
    parts = [(path.relative_to(info.root).as_posix(), path.read_bytes()) for path in meta]
    files = sorted(
        {
            path
            for cameras in listed.values()
            for each in cameras.values()
            for path in (each.table, each.place.path)
        }
    )
    stats = [(path.relative_to(info.root).as_posix(), stat_of(path)) for path in files]
    return fingerprint(*(part for pair in (*parts, *stats) for part in pair))
