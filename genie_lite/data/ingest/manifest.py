"""`manifest.jsonl`: one row per source, saying what became of it.

path, source           where it was found; its name, unique in the folder of shards
status                 ingested, filtered (readable, but nothing of it is wanted) or quarantined (broken)
reason                 why nothing of it was taken; null where something was
clips, frames, split   what was taken, and for which side
bytes, sha256, codec, height, width, source_rate_hz, seconds, source_frames      of the file
shots, short, black, frozen, repeated, letterbox, rotation                       how it was cut
dropped                {reason: clips} that were cut and then left out
duplicates             {number of the clip: key of the sample that it repeats}
moved_from             the side it was drawn for, where it stands in for others
licence                where its folder says so
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genie_lite.data.cutting.sandbox import Result
from genie_lite.data.shards.index import MANIFEST_FILE
from genie_lite.data.sources.source import Source
from genie_lite.errors import UserError
from genie_lite.files import write_bytes

Row = dict[str, Any]


@dataclass(frozen=True)
class IngestSummary:
    """Counts over a whole folder of shards: of sources by what became of them, of samples and of their frames.

    waiting: sources that other processes of a shared ingest have not read yet; then there are no shards so far.
    """

    sources: int
    ingested: int
    filtered: int
    quarantined: int
    samples: int
    frames: int
    waiting: int = 0


@dataclass
class Taken:
    """What was taken of one source, and what was left out once it was known."""

    clips: int = 0
    frames: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    duplicates: dict[str, str] = field(default_factory=dict)


def row_of(source: Source, result: Result, taken: Taken, licence: str | None) -> Row:
    """The row of a source."""
    complaint = result.complaint or (None if taken.clips or result.fault else _nothing_left(taken))
    row: Row = {
        "path": str(source.place.path),
        "source": source.name,
        "status": "quarantined" if result.fault else "filtered" if complaint else "ingested",
        "reason": result.fault or complaint,
        "clips": taken.clips,
        "frames": taken.frames,
        "split": source.split,
        "bytes": source.size,
    }
    if source.moved_from is not None:
        row["moved_from"] = source.moved_from
    row |= {name: value for name, value in result.figures.items() if name != "kept"}
    dropped = Counter(result.figures.get("dropped", {})) + taken.dropped
    extra = {"dropped": dict(dropped), "duplicates": taken.duplicates, "licence": licence}
    return row | {name: value for name, value in extra.items() if value}


def read_rows(folder: Path) -> list[Row]:
    """The manifest of a folder of shards.

    Raises:
        UserError: it is missing or damaged.
    """
    path = folder / MANIFEST_FILE
    try:
        rows = [json.loads(line) for line in path.read_bytes().splitlines()]
        for row in rows:
            _ = row["source"], row["status"], row["clips"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: cannot be read ({error!r}); copy it again, or delete the folder and ingest again"
        ) from error
    return rows


def write_rows(folder: Path, rows: Iterable[Row]) -> None:
    """Write the manifest, in the order of the names."""
    lines = [json.dumps(row) + "\n" for row in sorted(rows, key=lambda row: row["source"])]
    write_bytes(folder / MANIFEST_FILE, "".join(lines).encode())


def summary_of(rows: Iterable[Row]) -> IngestSummary:
    """The counts of a manifest."""
    rows = list(rows)
    count = Counter(row["status"] for row in rows)
    return IngestSummary(
        sources=len(rows),
        ingested=count["ingested"],
        filtered=count["filtered"],
        quarantined=count["quarantined"],
        samples=sum(row["clips"] for row in rows),
        frames=sum(row["frames"] for row in rows),
    )


def _nothing_left(taken: Taken) -> str:
    told = ", ".join(f"{count} {reason}" for reason, count in taken.dropped.most_common())
    return f"no clip is left: {told}"
