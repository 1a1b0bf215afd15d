"""What `meta` of a LeRobot dataset tells of tasks and episodes, beyond where their files lie.

Of whatever is damaged the file is told; what may be missing, as a list of tasks, is empty then.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from genie_lite.data.sources.lerobot_info import Info
from genie_lite.errors import UserError
from genie_lite.latents.formats.episodes import Stats

NO_TASK = "no task given"


@dataclass(frozen=True)
class Told:
    """What is told of one episode beyond its files. stats: by camera."""

    tasks: tuple[str, ...]
    stats: dict[str, Stats]


def tasks_v2(info: Info) -> dict[int, str]:
    """Tasks by their number; raises a UserError where the list is damaged."""
    path = info.root / "meta" / "tasks.jsonl"
    return {_index(line, "task_index", path): str(line.get("task", NO_TASK)) for line in _json_lines(path)}


def told_v2(info: Info) -> dict[int, Told]:
    """By episode; raises a UserError where a list is damaged."""
    meta = info.root / "meta"
    stats = {
        _index(line, "episode_index", meta / "episodes_stats.jsonl"): line.get("stats")
        for line in _json_lines(meta / "episodes_stats.jsonl")
    }
    told = {}
    for line in _json_lines(meta / "episodes.jsonl"):
        number = _index(line, "episode_index", meta / "episodes.jsonl")
        known = stats.get(number)
        found = known if isinstance(known, dict) else {}
        of_cameras = {name: found[name] for name in info.cameras if isinstance(found.get(name), dict)}
        told[number] = Told(_texts(line.get("tasks")), of_cameras)
    return told


def tasks_v3(info: Info) -> dict[int, str]:
    """As `tasks_v2`."""
    path = info.root / "meta" / "tasks.parquet"
    if not path.is_file():
        return {}
    table = _parquet(path, lambda name: True)
    texts = [name for name in table.column_names if name != "task_index"]
    if "task_index" not in table.column_names or len(texts) != 1:
        raise UserError(f"{path}: columns {table.column_names}, expected task_index and the tasks themselves")
    index = table["task_index"]
    if index.null_count or not pa.types.is_integer(index.type):
        raise UserError(f"{path}: task_index is of type {index.type}, expected a whole number for every task")
    return dict(zip(index.to_pylist(), map(str, table[texts[0]].to_pylist()), strict=True))


def told_v3(info: Info) -> dict[int, Told]:
    """As `told_v2`."""
    told: dict[int, Told] = {}
    prefixes = tuple(f"stats/{camera}/" for camera in info.cameras)
    for path in sorted((info.root / "meta" / "episodes").glob("*/*.parquet")):
        for row in _parquet(
            path, lambda name: name in ("episode_index", "tasks") or name.startswith(prefixes)
        ).to_pylist():
            stats: dict[str, Stats] = {}
            for name in row.keys() - {"episode_index", "tasks"}:
                _, camera, kind = name.split("/")
                stats.setdefault(camera, {})[kind] = row[name]
            told[row["episode_index"]] = Told(_texts(row.get("tasks")), stats)
    return told


def _texts(tasks: Any) -> tuple[str, ...]:
    if isinstance(tasks, str):
        return (tasks,)
    return tuple(map(str, tasks)) if isinstance(tasks, list) else ()


def _index(line: dict[str, Any], name: str, path: Path) -> int:
    index = line.get(name)
    if type(index) is not int:
        raise UserError(f"{path}: {name} is {index!r} in one line, expected a whole number in each")
    return index


def _parquet(path: Path, is_wanted: Callable[[str], bool]) -> pa.Table:
    try:
        with pq.ParquetFile(path) as file:
            return file.read([name for name in file.schema_arrow.names if is_wanted(name)])
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path}: unreadable: {' '.join(str(error).split())}") from error


def _json_lines(path: Path) -> list[dict[str, Any]]:
    """Nothing where there is no such file: not every version has all of them."""
    if not path.is_file():
        return []
    try:
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected a JSON object per line: {error}") from error
    if not all(isinstance(line, dict) for line in lines):
        raise UserError(f"{path}: a line is something else, expected a JSON object per line")
    return lines
