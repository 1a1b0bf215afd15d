"""Shards: tar files of samples, and `shards.json` beside them, which is written last and says what is there.

    {split}-000000.tar   {key}.mp4, {key}.json, {key}.mp4, ...     one sample is one continuous shot
    shards.json          format, config, fingerprint, and per shard its sha256 and counts
    manifest.jsonl       one row per source

The layout is WebDataset's. Its readers do not notice a truncated or altered tar, therefore `ShardSet.open`
compares every shard with `shards.json`: one that is missing or not as it says is named in a warning, left out
and counted, and `strict` stops there. From then on a set does not change: a position in it, its fingerprint and
its counts hold for as long as it lives. The fingerprint is that of the shards that are used, the same as that of
a whole set of just these; so a run that was trained on less is never taken for one that was trained on all.

What shows only when a shard is read (a file that changed since, one that was opened with `verify=False`, one
that lies behind a URL) is a `ShardDamage`. A reader that can go on without the shard decides so by `damage.file`
alone and puts nothing in its place that depends on when it was found, so that all ranks, all workers and a
resumed run do the same; others let it stop them.
"""

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import UInt8

from genie_lite.data.shards.check import expect_size, faults_of
from genie_lite.data.shards.index import (
    ADVICE,
    MANIFEST_FILE,
    VIDEO,
    VIDEO_MEMBERS,
    Index,
    Shard,
    fingerprint_of,
    load_index,
)
from genie_lite.data.shards.meta import sound
from genie_lite.data.shards.remote import Cache, Remote
from genie_lite.data.shards.tar import Fault, Record, RecordWriter, read_records
from genie_lite.data.shards.transport import path_of
from genie_lite.data.video.codec import read_frames
from genie_lite.errors import UserError

NUM_NAMED = 5  # of the shards that are left out, in the warning


class ShardDamage(UserError):
    """A shard that cannot be used, found when it was read. file: its name; reason: a few words."""

    def __init__(self, message: str, file: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.file, self.reason = file, reason


@dataclass(frozen=True)
class Sample:
    """One continuous shot. `meta`: see `ingest`; `num_frames` and `source_frames` describe its frames."""

    key: str
    mp4: bytes
    meta: dict[str, Any]

    def frames(self, indices: list[int] | None = None) -> UInt8[np.ndarray, "t h w c"]:
        """All frames, or those at `indices`."""
        return read_frames(self.mp4, indices)

    def whole(self) -> UInt8[np.ndarray, "t h w c"]:
        """All frames, for whoever puts them beside what `meta` says of each.

        Raises:
            UserError: they cannot be decoded, or there are more or fewer than the sample says; it names the sample.
        """
        try:
            frames = self.frames()
            if len(frames) != self.meta["num_frames"]:
                raise UserError(f"{len(frames)} frames, its json says {self.meta['num_frames']}")
        except UserError as error:
            raise UserError(f"sample {self.key}: {error}; {ADVICE}") from error
        return frames


class ShardWriter:
    """Writes one shard; see `RecordWriter` for what holds when it fails."""

    def __init__(self, folder: Path, split: str, number: int) -> None:
        self._split, self._file = split, f"{split}-{number:06d}.tar"
        self._records = RecordWriter(folder / self._file)
        self._lengths: list[int] = []

    def __len__(self) -> int:
        """Samples written so far."""
        return len(self._lengths)

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop what was not completed."""
        self._records.drop()

    def add(self, sample: Sample) -> None:
        """Append one sample of video.

        Raises:
            UserError: it cannot be written.
        """
        meta = json.dumps(sample.meta, sort_keys=True).encode()
        self.add_members(sample.key, {"mp4": sample.mp4, "json": meta}, sample.meta["num_frames"])

    def add_members(self, key: str, members: Mapping[str, bytes], num_frames: int) -> None:
        """Append one sample of any kind: its files by suffix, `json` (which states `num_frames`) among them.

        Raises:
            UserError: it cannot be written.
        """
        self._records.add(key, members)
        self._lengths.append(num_frames)

    def close(self) -> Shard | None:
        """Complete the shard; None, and no file, when nothing was added.

        Raises:
            UserError: it cannot be written.
        """
        done = self._records.close()
        if done is None:
            return None
        sha256, size = done
        lengths = tuple(self._lengths)
        return Shard(self._file, self._split, sha256, len(lengths), sum(lengths), size, lengths)


@dataclass(frozen=True)
class ShardSet:
    """Finished shards, here or behind a URL.

    folder: where they are; of a URL, where they come to be. config: of what made them. fingerprint: changes with
    any byte of any of `shards`, and with their number. skipped: (file, reason) of the shards that cannot be used.
    kind, members: `video`, or what else the index states. remote: where they are fetched from.
    """

    folder: Path
    config: dict[str, Any]
    fingerprint: str
    shards: tuple[Shard, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    kind: str = VIDEO
    members: tuple[str, ...] = VIDEO_MEMBERS
    remote: Remote | None = None

    @classmethod
    def open(
        cls,
        place: Path | str,
        *,
        verify: bool = True,
        strict: bool = False,
        kind: str | None = VIDEO,
        cache: Cache | None = None,
        allow_commands: bool = False,
    ) -> "ShardSet":
        """Read `shards.json` and compare every shard with it.

        Args:
            place: a folder as written by `ingest`, or where one lies: a URL that fsspec knows, or `pipe:` and a
                command (see `transport`).
            verify: read every shard, two seconds of CPU per gigabyte the first time (see `check`); behind a URL ask
                for its size. False compares the sizes of files only, and behind a URL nothing.
            strict: stop at a shard that cannot be used, instead of a warning.
            kind: of the samples wanted, None for any.
            cache: where shards behind a URL are kept.
            allow_commands: take `pipe:`, now and whenever a shard is read. Only for a place that the user wrote on
                the command line or in the recipe of this run, never for one out of a folder or a recipe that was
                kept: those may come from anybody.

        Raises:
            UserError: no finished shards here, another format or kind, no shard that can be used, or any that
                cannot in `strict`; a URL that cannot be reached; a command that is not allowed.
        """
        folder, remote = path_of(place), None
        if folder is None:
            remote = Remote(str(place), cache or Cache.default(), allow_commands)
            folder, index = remote.folder, remote.index()
        else:
            index = load_index(folder)
        if kind is not None and index.kind != kind:
            raise UserError(f"{place}: holds {index.kind}, expected {kind}")
        if remote is not None:
            faults = remote.faults(index.shards, index.members) if verify else [None] * len(index.shards)
        else:
            faults = faults_of(folder, index, verify=verify)
        found = list(zip(index.shards, faults, strict=True))
        whole = tuple(shard for shard, fault in found if fault is None)
        skipped = tuple((shard.file, fault) for shard, fault in found if fault is not None)
        if skipped:
            _tell(str(place), index, skipped, len(whole), strict)
        return cls(
            folder, index.config, fingerprint_of(whole), whole, skipped, index.kind, index.members, remote
        )

    @property
    def frame_hw(self) -> tuple[int, int]:
        """Height and width of every frame, in pixels."""
        return self.config["size_px"], self.config["size_px"]

    @property
    def rate_hz(self) -> float:
        """Frames per second of every sample."""
        return float(self.config["rate_hz"])

    @property
    def place(self) -> str:
        """Folder or URL, as it is shown."""
        return str(self.folder) if self.remote is None else self.remote.url

    def of(self, split: str) -> tuple[Shard, ...]:
        """The shards of one split."""
        return tuple(shard for shard in self.shards if shard.split == split)

    def num_samples(self, split: str) -> int:
        """Continuous shots in a split."""
        return sum(shard.samples for shard in self.of(split))

    def num_frames(self, split: str) -> int:
        """Frames in a split."""
        return sum(shard.frames for shard in self.of(split))

    def num_transitions(self, split: str) -> int:
        """Pairs of adjacent frames in a split; none across the ends of a sample."""
        return self.num_frames(split) - self.num_samples(split)

    def num_windows(self, split: str, clip_frames: int, stride: int = 1) -> int:
        """Different windows of `clip_frames` frames, `stride` apart, that a split offers."""
        span = (clip_frames - 1) * stride + 1
        return sum(max(0, length - span + 1) for shard in self.of(split) for length in shard.lengths)

    def samples(self, split: str) -> Iterator[Sample]:
        """All samples of a split in the order of writing; one shard at a time is in memory. Raises as `read`."""
        for shard in self.of(split):
            yield from self.read(shard)

    def spread(self, split: str, most: int) -> Iterator[Sample]:
        """At most `most` samples of a split, evenly spaced. Raises as `read`."""
        every = -(-self.num_samples(split) // most) or 1
        return islice(self.samples(split), 0, None, every)

    def read(self, shard: Shard) -> list[Sample]:
        """The samples of one shard of video.

        Raises:
            ShardDamage: it is not what `shards.json` says, as far as members and counts tell; behind a URL, or
                where it comes from there, in any byte; or a sample says of its frames what cannot be (`meta.py`).
            UserError: it cannot be fetched.
        """
        records = self.records(shard)
        with self._reading(shard):
            return [
                Sample(record.key, record.members["mp4"], _sound(record, shard.split)) for record in records
            ]

    def records(self, shard: Shard) -> list[Record]:
        """The samples of one shard of any kind; raises as `read`."""
        with self.open_shard(shard) as file, self._reading(shard):
            return list(read_records(file, self.members, shard.lengths, shard.split))

    def open_shard(self, shard: Shard) -> BufferedReader:
        """The tar of one shard, fetched if need be, to read or to map into memory; raises as `read`.

        An open file stays whole when a full cache lets go of it.
        """
        with self._reading(shard):
            if self.remote is not None:
                return self.remote.open(shard, self.members)
            expect_size(self.folder / shard.file, shard)
            return (self.folder / shard.file).open("rb")

    def manifest(self) -> Path | None:
        """The manifest, fetched if need be; None where the shards came without."""
        if self.remote is not None:
            return self.remote.manifest()
        path = self.folder / MANIFEST_FILE
        return path if path.is_file() else None

    @contextmanager
    def _reading(self, shard: Shard) -> Iterator[None]:
        try:
            yield
        except (Fault, OSError) as error:
            where = self.folder / shard.file if self.remote is None else f"{self.place}: {shard.file}"
            message = f"{where}: cannot be used ({error}); {ADVICE}"
            raise ShardDamage(message, shard.file, str(error)) from error


def _sound(record: Record, split: str) -> dict[str, Any]:
    try:
        return sound(record.meta, split)
    except ValueError as error:
        raise Fault(f"sample {record.key}: {error}") from error


def _tell(
    place: str, index: Index, skipped: tuple[tuple[str, str], ...], num_whole: int, strict: bool
) -> None:
    named = "; ".join(f"{file}: {reason}" for file, reason in skipped[:NUM_NAMED])
    rest = f"; and {len(skipped) - NUM_NAMED} more" if len(skipped) > NUM_NAMED else ""
    what = f"{place}: {len(skipped)} of {len(index.shards)} shards cannot be used ({named}{rest})"
    if strict or not num_whole:
        raise UserError(f"{what}; {ADVICE}")
    gone = {file for file, _ in skipped}
    lost = sum(shard.samples for shard in index.shards if shard.file in gone)
    total = sum(shard.samples for shard in index.shards)
    warnings.warn(
        f"{what} and are left out: {lost} of {total} samples; to have them back, copy those shards again",
        stacklevel=3,
    )
