"""The episodes of a LeRobot dataset of version 2.0, 2.1 or 3.0, with all of its cameras and columns.

Columns pass as they are, values and types; only the counters are made anew, which must be contiguous where an
episode is left out. An episode with a missing video, a table that does not fit it or columns that are not there is
left out with the reason.

Source: github.com/huggingface/lerobot, dataset formats v2.1 and v3.0.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genie_lite.data.sources import lerobot_v2, lerobot_v3
from genie_lite.data.sources.lerobot_info import SHARED, Info, Listed, read_info
from genie_lite.errors import UserError
from genie_lite.files import read_json
from genie_lite.latents.formats.episodes import COUNTERS, Episode, Episodes, LeftOut, Stats
from genie_lite.latents.formats.target import fingerprint

NO_TASK = "no task given"


def episodes_of_lerobot(root: Path) -> Episodes:
    """All episodes of the dataset in a folder.

    Raises:
        UserError: not a dataset of a known version, no whole number of frames per second, a damaged list.
    """
    info = read_info(root)
    if info.rate_hz != int(info.rate_hz):
        raise UserError(f"{root}/meta/info.json: fps is {info.rate_hz:g}, LeRobot knows whole numbers only")
    reader = _Reader.open(info)
    if not reader.listed:
        raise UserError(f"{root}/meta: lists no episode; expected a dataset with at least one")
    modality = root / "meta" / "modality.json"
    return Episodes(
        place=str(root.resolve()),
        fps=int(info.rate_hz),
        robot_type=info.tree.get("robot_type"),
        features=reader.features,
        tasks=reader.tasks,
        num=len(reader.listed),
        frames=sum(next(iter(cameras.values())).length for cameras in reader.listed.values()),
        names=frozenset(each.source for cameras in reader.listed.values() for each in cameras.values()),
        modality=read_json(modality, "a modality.json", "mend or delete it") if modality.is_file() else None,
        fingerprint=_fingerprint(info),
        read=reader.read,
    )


@dataclass(frozen=True)
class _Told:
    """What `meta` tells of one episode beyond its files. stats: by camera."""

    tasks: tuple[str, ...]
    stats: dict[str, Stats]


@dataclass(frozen=True)
class _Reader:
    """listed: by episode and camera. told: by episode. index_of_task: by the source's own task_index."""

    info: Info
    listed: dict[int, dict[str, Listed]]
    told: dict[int, _Told]
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
        told = _told_v3(info) if is_shared else _told_v2(info)
        numbered = _tasks_v3(info) if is_shared else _tasks_v2(info)
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
        table: _Table | None = None
        for number, cameras in sorted(self.listed.items()):
            first = next(iter(cameras.values()))
            # Episodes come in the order of their tables; more than one of these would fill the memory.
            if table is None or table.path != first.table:
                table = _Table.read(first.table, self.columns, is_shared=self.info.version in SHARED)
            yield self._episode(number, cameras, table)

    def _episode(self, number: int, cameras: Mapping[str, Listed], table: "_Table") -> Episode | LeftOut:
        name = f"episode_{number:06d}"
        first = next(iter(cameras.values()))
        faults = [f"{camera}: {fault}" for camera, each in cameras.items() if (fault := _fault_of(each))]
        faults += [f"{camera}: not listed" for camera in self.info.cameras if camera not in cameras]
        rows = table.rows_of(number, first.length)
        if faults or isinstance(rows, str):
            return LeftOut(name, faults[0] if faults else str(rows))
        told = self.told.get(number, _Told((), {}))
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

    def _task_index(self, rows: pa.Table, tasks: Sequence[str]) -> np.ndarray | None:
        """Into `tasks` of the source: by the column, or where it or their list is missing by what the episode says."""
        if "task_index" not in rows.column_names or not self.index_of_task:
            return np.full(len(rows), self.tasks.index(tasks[0]) if tasks else 0, dtype=np.int64)
        found, where = np.unique(rows["task_index"].to_numpy(), return_inverse=True)
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
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = "the data file is missing" if not path.is_file() else " ".join(str(error).split())
            return cls(path, None, fault=reason)
        needed = [*columns, "frame_index", *(["episode_index"] if is_shared else [])]
        missing = [name for name in needed if name not in rows.column_names]
        if missing:
            return cls(path, None, fault=f"no column {', '.join(missing)} in the data file")
        return cls(path, rows, _by_episode(rows) if is_shared else None)

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


def _fault_of(listed: Listed) -> str | None:
    return listed.fault or (None if listed.place.path.is_file() else "the video file is missing")


def _fingerprint(info: Info) -> str:
    """Of what the dataset says of itself, not of its videos: hashing these takes as long as copying them."""
    files = [path for path in sorted((info.root / "meta").rglob("*")) if path.is_file()]
    parts = [(path.relative_to(info.root).as_posix(), path.read_bytes()) for path in files]
    return fingerprint(*(part for pair in parts for part in pair))


def _tasks_v2(info: Info) -> dict[int, str]:
    lines = _json_lines(info.root / "meta" / "tasks.jsonl")
    return {int(line["task_index"]): str(line["task"]) for line in lines}


def _told_v2(info: Info) -> dict[int, _Told]:
    told = {
        int(line["episode_index"]): tuple(map(str, line.get("tasks") or ()))
        for line in _json_lines(info.root / "meta" / "episodes.jsonl")
    }
    stats = {
        int(line["episode_index"]): line["stats"]
        for line in _json_lines(info.root / "meta" / "episodes_stats.jsonl")
    }
    return {
        number: _Told(
            tasks, {name: known for name, known in stats.get(number, {}).items() if name in info.cameras}
        )
        for number, tasks in told.items()
    }


def _tasks_v3(info: Info) -> dict[int, str]:
    path = info.root / "meta" / "tasks.parquet"
    if not path.is_file():
        return {}
    table = pq.read_table(path)
    texts = [name for name in table.column_names if name != "task_index"]
    if "task_index" not in table.column_names or len(texts) != 1:
        raise UserError(f"{path}: columns {table.column_names}, expected task_index and the tasks themselves")
    return dict(zip(table["task_index"].to_pylist(), map(str, table[texts[0]].to_pylist()), strict=True))


def _told_v3(info: Info) -> dict[int, _Told]:
    told: dict[int, _Told] = {}
    for path in sorted((info.root / "meta" / "episodes").glob("*/*.parquet")):
        file = pq.ParquetFile(path)
        names = file.schema_arrow.names
        of_cameras = [
            name for name in names if name.startswith("stats/") and name.split("/")[1] in info.cameras
        ]
        wanted = ["episode_index", *(["tasks"] if "tasks" in names else []), *of_cameras]
        for row in file.read(wanted).to_pylist():
            stats: dict[str, Stats] = {}
            for name in of_cameras:
                _, camera, kind = name.split("/")
                stats.setdefault(camera, {})[kind] = row[name]
            told[row["episode_index"]] = _Told(tuple(row.get("tasks") or ()), stats)
    return told


def _json_lines(path: Path) -> list[dict[str, Any]]:
    """Nothing where there is no such file: not every version has all of them."""
    if not path.is_file():
        return []
    try:
        return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected a JSON object per line: {error}") from error
