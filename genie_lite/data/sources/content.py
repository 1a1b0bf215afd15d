"""Which sources hold what another one holds, or what an earlier ingest has read, whatever they are called."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from genie_lite.data.sources.source import RealPaths, Source, with_unique_names
from genie_lite.data.video.place import Place

Row = dict[str, Any]


@dataclass(frozen=True)
class Matched:
    """Found sources beside the rows of a manifest.

    known: have a row, whose name and split they bear. new: have none, and names that no row has. changed: have a
    row that tells of another size; their names are the rows'.
    """

    known: list[Source]
    new: list[Source]
    changed: list[Source]


def find_twins(plan: Sequence[Source], known: Sequence[Row] = ()) -> dict[str, str]:
    """Which sources have the content of another one, and of which: the same video under two names.

    On both sides of the split it would be trained on and tested on; on one, it would count twice. Of several
    the one of an earlier ingest is kept, else a held-out one, for it may have been chosen to be, else the first
    by name. Only videos of one size are read, so that where there are no twins nothing is. Episodes of one file
    are different by what they are.

    Args:
        plan: sources to ingest, with unique names.
        known: rows of sources that are in the shards already.
    """
    by_kind: dict[Any, list[Source]] = defaultdict(list)
    for source in sorted(plan, key=lambda source: (source.split != "test", source.name)):
        if source.fault is None and source.size:
            by_kind[source.size, source.place.span_s].append(source)
    earlier: dict[Any, dict[str, str]] = defaultdict(dict)
    for row in known:
        if row.get("sha256") and row.get("status") == "ingested" and not _is_episode(row):
            earlier[row["bytes"], None].setdefault(row["sha256"], row["source"])
    hashes = _Hashes()
    twins: dict[str, str] = {}
    for kind, alike in by_kind.items():
        kept = earlier[kind]
        for source in alike if len(alike) > 1 or kept else []:
            try:
                name = kept.setdefault(hashes.of(source.place), source.name)
            except OSError:
                continue  # it is quarantined when its turn comes
            if name != source.name:
                twins[source.name] = name
    return twins


def match_known(found: Sequence[Source], known_rows: Sequence[Row]) -> Matched:
    """Tell sources that a manifest knows from new ones. Nothing is decoded.

    The same place is the same source: known if its size is, and changed if not. A source that cannot be read any
    more is known, for its clips are there. In another place it is the same if name, size and SHA-256 are, so
    that a folder may be moved. A new source whose name has a row gets parents before it.
    """
    rows = {row["source"]: row for row in known_rows}
    matched = Matched([], [], [])
    left: list[Source] = []
    real_path = RealPaths()
    by_place = _by_place(known_rows, real_path)
    for source in found:
        name = by_place.get((real_path(source.path), source.tail))
        if name is None:
            left.append(source)
        else:
            is_same = source.fault is not None or _is_same_size(source, rows[name])
            (matched.known if is_same else matched.changed).append(_as_in(rows[name], source))
    taken = {source.name for source in (*matched.known, *matched.changed)}
    hashes, new = _Hashes(), []
    for source in left:
        row = next((row for row in _namesakes(source, rows) if hashes.are_of(row, source)), None)
        if row is None or row["source"] in taken:
            new.append(source)
        else:
            matched.known.append(_as_in(row, source))
            taken.add(row["source"])
    matched.new.extend(with_unique_names(new, rows.keys()))
    return matched


def _as_in(row: Row, source: Source) -> Source:
    split = row.get("moved_from", row.get("split", source.split))
    return replace(source, name=row["source"], split=split)


def _is_same_size(source: Source, row: Row) -> bool:
    """A file of many episodes grows with each that is recorded; of one in it, the frames are counted instead."""
    if source.place.span_s is not None and row.get("source_frames") == source.num_frames:
        return True
    return row.get("bytes") == source.size


def _namesakes(source: Source, rows: dict[str, Row]) -> Iterator[Row]:
    for name in dict.fromkeys((source.name, source.local_name)):
        if name in rows and rows[name].get("bytes") == source.size and source.fault is None:
            yield rows[name]


def _by_place(rows: Sequence[Row], real_path: RealPaths) -> dict[tuple[str, str], str]:
    """Names of rows by where their videos lie: the file, and the end of the name, which is a `Source.tail`.

    In `x.tar/x.tar/a.mp4` it may begin at either place. The longer end is taken, but where it is another row's.
    """
    ends = [(row, tail) for row in rows for tail in _tails(row)]
    found: dict[tuple[str, str], str] = {}
    for row, tail in sorted(ends, key=lambda end: len(end[0]["source"]) - len(end[1])):
        found.setdefault((real_path(Path(row["path"])), tail), row["source"])
    return found


def _tails(row: Row) -> list[str]:
    """The ends of a row's name that begin with its file's name."""
    file = os.path.basename(row["path"])
    parts = row["source"].split("/")
    begins = [k for k, part in enumerate(parts) if part == file or part.startswith(f"{file}#")]
    return ["/".join(parts[k:]) for k in begins]


def _is_episode(row: Row) -> bool:
    """Whether it tells of one of many episodes in a file, whose hash is that of the whole."""
    return row["source"].rpartition("/")[2].startswith(f"{os.path.basename(row['path'])}#episode_")


@dataclass
class _Hashes:
    """SHA-256 of videos. That of an episode is its file's, which is read once for all of them."""

    _of_files: dict[tuple[Path, int, int | None], str] = field(default_factory=dict)

    def of(self, place: Place) -> str:
        key = (place.path, place.offset, place.num_bytes)
        if key not in self._of_files:
            with place.open() as file:
                self._of_files[key] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._of_files[key]

    def are_of(self, row: Row, source: Source) -> bool:
        """Whether a row tells of the same content; without a hash in it, nobody knows."""
        try:
            return bool(row.get("sha256")) and self.of(source.place) == row["sha256"]
        except OSError:
            return False
