"""Files that both versions of LeRobot's layout have."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from genie_lite.files import write_bytes, write_json
from genie_lite.latents.formats.episodes import Clip, Episode
from genie_lite.latents.formats.labelled import EPISODES, INFO, Labels
from genie_lite.latents.formats.target import Target, copy_file


def finish(target: Target, labels: Labels, info: dict[str, Any]) -> dict[str, Any]:
    """Write what is written last, in either version; returns the label manifest."""
    out = target.out
    lines = "".join(json.dumps(line) + "\n" for line in labels.gathered.episodes)
    write_bytes(out / EPISODES, lines.encode())
    for licence in sorted(Path(labels.episodes.place).glob("LICENSE*")):
        copy_file(licence, out / licence.name)
    manifest = target.describe(labels.describe())
    write_json(out / INFO, info)
    return manifest


def tasks_of(episode: Episode, labels: Labels) -> list[str]:
    """What is done in an episode, in the order in which it comes."""
    return [labels.episodes.tasks[index] for index in dict.fromkeys(episode.task_index.tolist())]


def put_clip(clip: Clip, path: Path) -> None:
    """Write the whole file in which a clip lies, byte for byte."""
    if isinstance(clip, bytes):
        write_bytes(path, clip)
    else:
        copy_file(clip.path, path)


def write_table(path: Path, table: pa.Table) -> None:
    """Write one Parquet file, atomically."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="snappy")
    write_bytes(path, buffer.getvalue())
