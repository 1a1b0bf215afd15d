"""Files that both versions of LeRobot's layout have."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from genie_lite.files import write_bytes, write_json
from genie_lite.latents.formats.episodes import Clip, Episode
from genie_lite.latents.formats.journal import Journal
from genie_lite.latents.formats.labelled import EPISODES, INFO, Labels
from genie_lite.latents.formats.target import Target, copy_file, fingerprint, stat_of


def finish(target: Target, labels: Labels, info: dict[str, Any]) -> dict[str, Any]:
    """Write what is written last, in either version; returns the label manifest."""
    out = target.out
    lines = "".join(json.dumps(line) + "\n" for line in labels.gathered.episodes)
    write_bytes(out / EPISODES, lines.encode())
    for licence in sorted(Path(labels.episodes.place).glob("LICENSE*")):
        # A link may lead to a file that the dataset does not contain, and that nobody wants to publish.
        if licence.is_file() and not licence.is_symlink():
            copy_file(licence, out / licence.name)
    manifest = target.describe(labels.describe())
    write_json(out / INFO, info)
    return manifest


def tasks_of(episode: Episode, labels: Labels) -> list[str]:
    """What is done in an episode, in the order in which it comes."""
    return [labels.episodes.tasks[index] for index in dict.fromkeys(episode.task_index.tolist())]


def put_clip(clip: Clip, path: Path, journal: Journal) -> None:
    """Write the whole file in which a clip lies, byte for byte, unless it is there already."""
    made_from = made_of(clip)
    if journal.keeps(path, made_from):
        return
    with journal.making(path, made_from):
        if isinstance(clip, bytes):
            write_bytes(path, clip)
        else:
            copy_file(clip.path, path)


def made_of(clip: Clip) -> str:
    """Changes with the file in which a clip lies."""
    return fingerprint(clip) if isinstance(clip, bytes) else fingerprint(str(clip.path), stat_of(clip.path))


def put_table(path: Path, table: pa.Table, journal: Journal) -> None:
    """Write one Parquet file of an episode, which a later run may have no use for."""
    with journal.making(path, ""):
        write_table(path, table)


def put_json(path: Path, tree: Any) -> None:
    """Write plain data as JSON that every reader takes: one with NaN is an error of ours."""
    write_bytes(path, (json.dumps(tree, indent=2, allow_nan=False) + "\n").encode())


def write_table(path: Path, table: pa.Table) -> None:
    """Write one Parquet file, atomically."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="snappy")
    write_bytes(path, buffer.getvalue())
