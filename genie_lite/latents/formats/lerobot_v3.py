"""LeRobot v3.0, to read with LeRobot 0.4 or later: latent actions beside the data, or as its action.

    meta/info.json                                    last: its presence means finished
    meta/stats.json, tasks.parquet                    of all episodes; tasks with the pandas index that LeRobot wants
    meta/episodes/chunk-000/file-000.parquet          one row per episode: where everything of it lies, its statistics
    data/chunk-000/file-000.parquet                   many episodes, one row group each
    videos/<camera>/chunk-000/file-000.mp4            files of the source, byte for byte
    meta/label_manifest.json, label_episodes.jsonl    what made the labels, and of which video they are

Of v2.1 and of shards every episode keeps a video of its own, which v3.0 allows: nothing is encoded again. Of v3.0
the shared videos are kept. For what the columns are and what stands where there is no latent action see `columns`.

Source: github.com/huggingface/lerobot, datasets/lerobot_dataset.py, utils.py and v30/convert_dataset_v21_to_v30.py
of release 0.4.4.
"""

import json
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from genie_lite.data.video.place import Place
from genie_lite.latents.formats.columns import Way
from genie_lite.latents.formats.episodes import Episode, Stats
from genie_lite.latents.formats.labelled import (
    CHUNK,
    INFO,
    MANIFEST,
    Labelled,
    Labels,
    Progress,
    Source,
)
from genie_lite.latents.formats.lerobot_files import finish, put_clip, put_json, tasks_of, write_table
from genie_lite.latents.formats.target import Target, job_of, unfinished_name

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA_MB, VIDEO_MB = 100, 200


def write(
    folder: Path,
    source: Source,
    out: Path,
    way: Way,
    title: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the dataset; returns the label manifest.

    Args:
        folder: finished latents.
        source: shards, or the folder of a LeRobot dataset of v2.0, v2.1 or v3.0.
        out: an empty folder, or one in which this was begun before.
        way: the labels beside the action, or in its place.
        title: see `registry.write`.
        progress: called with (episodes done, episodes).

    Raises:
        UserError: they do not belong together, the folder holds something else, nothing can be used.
    """
    labels = Labels(folder, source, way, title)
    name = "lerobot-v3" if way == "beside" else "lerobot-v3-action"
    job = job_of(name, folder, labels.episodes.fingerprint)
    with Target(out, job, MANIFEST, last=INFO) as target:
        return target.done or _write(labels, target, progress)


def _write(labels: Labels, target: Target, progress: Progress | None) -> dict[str, Any]:
    rows = []
    with _DataFiles(target) as data:
        videos = _Videos(target, labels.fps)
        for labelled in labels.written(videos.put, progress):
            rows.append(
                _Row(_told(labelled, labels) | data.add(labelled.table) | labelled.kept, labelled.stats)
            )
    _write_episodes(target.out, rows, labels)
    return finish(target, labels, _info(labels))


@dataclass(frozen=True)
class _Row:
    """One episode in meta/episodes. stats: what is known of it alone."""

    told: dict[str, Any]
    stats: dict[str, Stats]


def _info(labels: Labels) -> dict[str, Any]:
    gathered, episodes = labels.gathered, labels.episodes
    return {
        "codebase_version": "v3.0",
        "robot_type": episodes.robot_type,
        "total_episodes": len(gathered.episodes),
        "total_frames": gathered.frames,
        "total_tasks": len(episodes.tasks),
        "chunks_size": CHUNK,
        "data_files_size_in_mb": DATA_MB,
        "video_files_size_in_mb": VIDEO_MB,
        "fps": labels.fps,
        "splits": labels.splits(),
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH,
        "features": labels.columns.described,
    }


def _told(labelled: Labelled, labels: Labels) -> dict[str, Any]:
    num = len(labelled.episode)
    return {
        "episode_index": labelled.index,
        "tasks": tasks_of(labelled.episode, labels),
        "length": num,
        "dataset_from_index": labelled.first,
        "dataset_to_index": labelled.first + num,
        "meta/episodes/chunk_index": 0,
        "meta/episodes/file_index": 0,
    }


def _write_episodes(out: Path, rows: list[_Row], labels: Labels) -> None:
    """Everything in `meta` that is about all episodes, but for the manifest and `info.json`."""
    totals = labels.gathered.totals.result()
    columns = {name: [row.told[name] for row in rows] for name in rows[0].told}
    stats = [labels.completed(row.stats, totals) for row in rows]
    for name in totals:
        for kind in totals[name]:
            columns[f"stats/{name}/{kind}"] = [each[name].get(kind) for each in stats]
    write_table(out / EPISODES_PATH.format(chunk_index=0, file_index=0), pa.table(columns))
    write_table(out / "meta/tasks.parquet", _tasks(labels.episodes.tasks))
    put_json(out / "meta/stats.json", totals)


def _tasks(tasks: Sequence[str]) -> pa.Table:
    """As pandas writes a table whose index is `task`: LeRobot takes a task's text from the index."""
    table = pa.table(
        {"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())}
    )
    described = [
        {"name": name, "field_name": name, "pandas_type": pandas, "numpy_type": numpy, "metadata": None}
        for name, pandas, numpy in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
    ]
    no_name = {"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object"}
    about = {
        "index_columns": ["task"],
        "column_indexes": [no_name | {"metadata": {"encoding": "UTF-8"}}],
        "columns": described,
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    return table.replace_schema_metadata({"pandas": json.dumps(about)})


class _DataFiles:
    """Tables of episodes, one row group each, in files of about 100 MB that appear when they are whole."""

    def __init__(self, target: Target) -> None:
        self._out, self._journal, self._number, self._bytes = target.out, target.journal, 0, 0
        self._writer: pq.ParquetWriter | None = None
        self._unfinished: Path | None = None

    def __enter__(self) -> "_DataFiles":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is None or self._unfinished is None:
            return
        self._close() if error is None else self._writer.close()
        self._unfinished.unlink(missing_ok=True)

    def add(self, table: pa.Table) -> dict[str, int]:
        """Append an episode; says in which file it is."""
        if self._writer is not None and self._bytes + table.nbytes > DATA_MB * 2**20:
            self._close()
            self._number += 1
        chunk, file = divmod(self._number, CHUNK)
        if self._writer is None:
            self._unfinished = unfinished_name(self._path)
            self._unfinished.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._unfinished, table.schema, compression="snappy")
        self._writer.write_table(table, row_group_size=len(table))
        self._bytes += table.nbytes
        return {"data/chunk_index": chunk, "data/file_index": file}

    @property
    def _path(self) -> Path:
        chunk, file = divmod(self._number, CHUNK)
        return self._out / DATA_PATH.format(chunk_index=chunk, file_index=file)

    def _close(self) -> None:
        assert self._writer is not None
        assert self._unfinished is not None
        self._writer.close()
        with self._journal.making(self._path, ""):
            os.replace(self._unfinished, self._path)
        self._writer, self._bytes = None, 0


class _Videos:
    """The source's video files, each under a number of its own, and where in them an episode lies."""

    def __init__(self, target: Target, fps: int) -> None:
        self._out, self._journal, self._fps = target.out, target.journal, fps
        self._numbers: dict[str, dict[Path | int, int]] = defaultdict(dict)

    def put(self, index: int, episode: Episode) -> dict[str, int | float]:
        """Columns that say where the videos of an episode are."""
        columns: dict[str, int | float] = {}
        for camera, clip in episode.clips.items():
            # A file of the source keeps one number; what is in memory is of this episode alone.
            file = clip.path if isinstance(clip, Place) else index
            numbers = self._numbers[camera]
            chunk, number = divmod(numbers.setdefault(file, len(numbers)), CHUNK)
            path = self._out / VIDEO_PATH.format(video_key=camera, chunk_index=chunk, file_index=number)
            put_clip(clip, path, self._journal)
            begin_s = clip.span_s[0] if isinstance(clip, Place) and clip.span_s else 0.0
            where = {
                "chunk_index": chunk,
                "file_index": number,
                "from_timestamp": begin_s,
                "to_timestamp": begin_s + len(episode) / self._fps,
            }
            columns |= {f"videos/{camera}/{name}": value for name, value in where.items()}
        return columns
