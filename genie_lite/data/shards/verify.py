"""Whether a folder of shards, or one behind a URL, is whole: every byte, every sample, every source.

Nothing that is remembered is trusted here, neither what `check` noted nor what a cache holds: all is read. A deep
verification decodes every frame too, and finds what was written wrongly in the first place.
"""

import io
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from genie_lite.data.ingest.manifest import read_rows
from genie_lite.data.shards.check import expect_sha256, expect_size
from genie_lite.data.shards.index import ADVICE, INDEX_FILE, MANIFEST_FILE, VIDEO, Index, Shard, load_index
from genie_lite.data.shards.meta import sound
from genie_lite.data.shards.remote import Cache, Remote
from genie_lite.data.shards.shards import Sample
from genie_lite.data.shards.tar import Fault, Record, read_records
from genie_lite.data.shards.transport import path_of
from genie_lite.errors import UserError

Progress = Callable[[int, int], None]
Opening = Callable[[Shard], AbstractContextManager[BufferedReader]]
NUM_NAMED = 3  # faults in one line


@dataclass(frozen=True)
class CheckedShard:
    """One shard, as `shards.json` states it. fault: what is wrong with it, None if nothing is."""

    file: str
    samples: int
    frames: int
    fault: str | None


@dataclass(frozen=True)
class Verification:
    """What was found.

    faults: of the whole: sources that do not add up, samples of the same name. notes: what could not be checked, or
    does not belong here; none of it is wrong. sources: rows of the manifest, None where there is none.
    """

    place: str
    kind: str
    shards: tuple[CheckedShard, ...]
    faults: tuple[str, ...]
    notes: tuple[str, ...]
    sources: int | None

    @property
    def damaged(self) -> tuple[CheckedShard, ...]:
        return tuple(shard for shard in self.shards if shard.fault is not None)

    @property
    def is_whole(self) -> bool:
        return not self.damaged and not self.faults

    @property
    def complaint(self) -> str | None:
        """All that is wrong in one line, with what to do; None if nothing is."""
        if self.is_whole:
            return None
        found = [*(f"{shard.file}: {shard.fault}" for shard in self.damaged), *self.faults]
        named = "; ".join(found[:NUM_NAMED])
        rest = f"; and {len(found) - NUM_NAMED} more" if len(found) > NUM_NAMED else ""
        what = (
            f"{len(self.damaged)} of {len(self.shards)} shards are damaged" if self.damaged else "not whole"
        )
        return f"{self.place}: {what}: {named}{rest}; {ADVICE}"

    def to_json(self) -> dict[str, Any]:
        """A plain form: counts, all that is wrong, notes, and `complaint`."""
        return {
            "kind": self.kind,
            "shards": len(self.shards),
            "samples": sum(shard.samples for shard in self.shards),
            "frames": sum(shard.frames for shard in self.shards),
            "sources": self.sources,
            "damaged": [f"{shard.file}: {shard.fault}" for shard in self.damaged],
            "faults": list(self.faults),
            "notes": list(self.notes),
            "complaint": self.complaint,
        }


def verify(
    place: Path | str, *, deep: bool = False, progress: Progress | None = None, allow_commands: bool = False
) -> Verification:
    """Check all shards of a finished folder, video or tokens, here or behind a URL.

    Args:
        place: as for `ShardSet.open`. What lies behind a URL is fetched, shard by shard, and not kept.
        deep: decode every sample and compare frames, their number and size with what is said of them.
        progress: called with (shards done, shards in all).
        allow_commands: as for `ShardSet.open`.

    Raises:
        UserError: no finished shards here, a damaged `shards.json`, a URL that cannot be reached, or a command that
            is not allowed.
    """
    folder = path_of(place)
    if folder is not None:
        return _Check(str(place), load_index(folder), deep).run(partial(_open_here, folder), folder, progress)
    with tempfile.TemporaryDirectory(prefix="genie_lite-verify-") as temporary:
        remote = Remote(str(place), Cache(Path(temporary)), allow_commands)
        index = remote.index()
        has_manifest = remote.manifest() is not None
        opening = partial(_open_there, remote, index)
        return _Check(remote.url, index, deep).run(opening, remote.folder if has_manifest else None, progress)


@contextmanager
def _open_here(folder: Path, shard: Shard) -> Iterator[BufferedReader]:
    expect_size(folder / shard.file, shard)
    with (folder / shard.file).open("rb") as file:
        yield file


@contextmanager
def _open_there(remote: Remote, index: Index, shard: Shard) -> Iterator[BufferedReader]:
    try:
        with remote.open(shard, index.members) as file:
            yield file
    finally:
        (remote.folder / shard.file).unlink(missing_ok=True)


@dataclass
class _Check:
    """One verification, while it goes on. The counters are of the samples that were found, by their source."""

    place: str
    index: Index
    is_deep: bool
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    file_of: dict[str, str] = field(default_factory=dict)
    clips: Counter[str] = field(default_factory=Counter)
    frames: Counter[str] = field(default_factory=Counter)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def run(self, opening: Opening, folder: Path | None, progress: Progress | None) -> Verification:
        """Read all; `folder` holds the manifest, None if there is none."""
        checked = []
        for number, shard in enumerate(self.index.shards):
            fault = self._fault(opening, shard)
            checked.append(CheckedShard(shard.file, shard.samples, shard.frames, fault))
            if progress is not None:
                progress(number + 1, len(self.index.shards))
        is_all_read = all(shard.fault is None for shard in checked)
        sources = self._check_manifest(folder, is_all_read)
        known = {shard.file for shard in self.index.shards}
        strangers = sorted({path.name for path in folder.glob("*.tar")} - known) if folder is not None else []
        self.notes += [f"{name} is not named in {INDEX_FILE} and is never read" for name in strangers]
        return Verification(
            place=self.place,
            kind=self.index.kind,
            shards=tuple(checked),
            faults=tuple(self.faults),
            notes=tuple(self.notes),
            sources=sources,
        )

    def _fault(self, opening: Opening, shard: Shard) -> str | None:
        try:
            with opening(shard) as file:
                expect_sha256(file, shard)
                for record in read_records(file, self.index.members, shard.lengths):
                    self._count(record, shard)
                    if self.is_deep:
                        self._decode(record)
        except Fault as fault:
            return str(fault)
        except OSError as error:
            return f"cannot be read ({error.strerror or error})"
        return None

    def _count(self, record: Record, shard: Shard) -> None:
        other = self.file_of.setdefault(record.key, shard.file)
        if other != shard.file:
            raise Fault(f"sample {record.key} is in {other} too")
        if record.meta.get("split", shard.split) != shard.split:
            raise Fault(f"sample {record.key} is of {record.meta['split']}, its shard of {shard.split}")
        if self.index.kind == VIDEO:
            try:
                sound(record.meta, shard.split)
            except ValueError as error:
                raise Fault(f"sample {record.key}: {error}") from error
        source = str(record.meta.get("source"))
        self.clips[source] += 1
        self.frames[source] += record.meta["num_frames"]

    def _decode(self, record: Record) -> None:
        for suffix, content in record.members.items():
            if suffix == "mp4":
                self._decode_video(record, content)
            elif suffix.endswith("npy"):
                self._decode_array(record, suffix, content)

    def _decode_video(self, record: Record, mp4: bytes) -> None:
        meta, size_px = record.meta, self.index.config.get("size_px")
        try:
            found = Sample(record.key, mp4, meta).frames().shape[:3]
        except UserError as error:
            raise Fault(f"sample {record.key}: {error}") from error
        expected = (meta["num_frames"], meta.get("height", size_px), meta.get("width", size_px))
        if found != expected:
            raise Fault(f"sample {record.key}: {_size(found)}, its json says {_size(expected)}")

    def _decode_array(self, record: Record, suffix: str, content: bytes) -> None:
        try:
            shape = np.load(io.BytesIO(content), allow_pickle=False).shape
        except (ValueError, EOFError, OSError) as error:
            raise Fault(f"sample {record.key}: its {suffix} is none ({error})") from error
        expected = (record.meta["num_frames"], *self.shapes.setdefault(suffix, shape[1:]))
        if shape != expected:
            raise Fault(f"sample {record.key}: its {suffix} is {shape}, expected {expected}")

    def _check_manifest(self, folder: Path | None, is_all_read: bool) -> int | None:
        """The number of sources. Only where all shards could be read is it known what is in them."""
        if folder is None or not (folder / MANIFEST_FILE).is_file():
            if self.index.kind == VIDEO:
                self.notes.append(f"{MANIFEST_FILE} is missing, so sources were not checked")
            return None
        try:
            rows = read_rows(folder)
            stated = sum(row["clips"] for row in rows)
        except (UserError, TypeError) as error:
            self.faults.append(f"{MANIFEST_FILE} is damaged ({error})")
            return None
        twice = [name for name, count in Counter(row["source"] for row in rows).items() if count > 1]
        self.faults += [f"{MANIFEST_FILE}: {name} has more than one row" for name in twice]
        held = sum(shard.samples for shard in self.index.shards)
        if stated != held:
            self.faults.append(f"{MANIFEST_FILE} accounts for {stated} samples, {INDEX_FILE} for {held}")
        if is_all_read:
            self._compare({row["source"]: row for row in rows})
        return len(rows)

    def _compare(self, rows: dict[str, dict[str, Any]]) -> None:
        for name in sorted(rows.keys() | self.clips.keys()):
            row = rows.get(name, {})
            stated = (row.get("clips", 0), row.get("frames", 0))
            found = (self.clips[name], self.frames[name])
            if stated != found:
                what = (
                    "has no row"
                    if name not in rows
                    else "is said to have {} clips, {} frames".format(*stated)
                )
                self.faults.append(
                    f"{name} {what} in {MANIFEST_FILE}, the shards hold {found[0]}, {found[1]}"
                )
            elif (row["status"] == "ingested") != (found[0] > 0):
                self.faults.append(f"{name} is {row['status']} by {MANIFEST_FILE} and has {found[0]} clips")


def _size(shape: tuple[int | None, ...]) -> str:
    num, height, width = shape
    return f"{num} frames of {width} x {height} pixels"
