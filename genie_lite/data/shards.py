"""Shards: tar files of samples, and `shards.json` beside them, which is written last and says what is there.

    {split}-000000.tar   {key}.mp4, {key}.json, {key}.mp4, ...     one sample is one continuous shot
    shards.json          format, config, fingerprint, and per shard its sha256 and counts
    manifest.jsonl       one row per source

The layout is WebDataset's, and so is the reader. It does not notice a truncated or altered tar, therefore
`ShardSet.open` checks every shard against `shards.json`.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import UInt8
from webdataset.tariterators import group_by_keys, tar_file_expander

from genie_lite.data.video import read_frames
from genie_lite.errors import UserError
from genie_lite.files import sha256_of

FORMAT = 1
INDEX_FILE = "shards.json"
MANIFEST_FILE = "manifest.jsonl"


@dataclass(frozen=True)
class Sample:
    """One continuous shot. `meta`: see `ingest`; `num_frames` and `source_frames` describe its frames."""

    key: str
    mp4: bytes
    meta: dict[str, Any]

    def frames(self, indices: list[int] | None = None) -> UInt8[np.ndarray, "t h w c"]:
        """All frames, or those at `indices`."""
        return read_frames(self.mp4, indices)


@dataclass(frozen=True)
class Shard:
    """An entry of `shards.json`. lengths: frames of each sample, in the order of the tar."""

    file: str
    split: str
    sha256: str
    samples: int
    frames: int
    bytes: int
    lengths: tuple[int, ...]


class ShardWriter:
    """Writes one shard; the file appears under its name only when it is complete.

    The same samples give the same bytes: no times, no owners.
    """

    def __init__(self, folder: Path, split: str, number: int) -> None:
        self._split = split
        self._path = folder / f"{split}-{number:06d}.tar"
        self._unfinished = folder / f".{self._path.name}.tmp"
        self._lengths: list[int] = []
        self._tar: tarfile.TarFile | None = None

    def __len__(self) -> int:
        """Samples written so far."""
        return len(self._lengths)

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop what was not completed."""
        if self._tar is not None:
            self._tar.close()
        self._unfinished.unlink(missing_ok=True)

    def add(self, sample: Sample) -> None:
        """Append one sample."""
        if self._tar is None:
            self._tar = tarfile.open(self._unfinished, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        self._add_file(self._tar, f"{sample.key}.mp4", sample.mp4)
        self._add_file(self._tar, f"{sample.key}.json", json.dumps(sample.meta, sort_keys=True).encode())
        self._lengths.append(sample.meta["num_frames"])

    def close(self) -> Shard | None:
        """Complete the shard; None, and no file, when nothing was added."""
        if self._tar is None:
            return None
        self._tar.close()
        sha256 = sha256_of(self._unfinished)
        size = self._unfinished.stat().st_size
        with self._unfinished.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(self._unfinished, self._path)
        return Shard(
            file=self._path.name,
            split=self._split,
            sha256=sha256,
            samples=len(self._lengths),
            frames=sum(self._lengths),
            bytes=size,
            lengths=tuple(self._lengths),
        )

    @staticmethod
    def _add_file(tar: tarfile.TarFile, name: str, data: bytes) -> None:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))


def index_of(shards: list[Shard], config: dict[str, Any]) -> dict[str, Any]:
    """The content of `shards.json`."""
    return {
        "format": FORMAT,
        "config": config,
        "fingerprint": _fingerprint(shards),
        "shards": [asdict(shard) for shard in shards],
    }


@dataclass(frozen=True)
class ShardSet:
    """A finished folder of shards.

    config: of the ingest that made it. fingerprint: changes with any byte of any shard.
    """

    folder: Path
    config: dict[str, Any]
    fingerprint: str
    shards: tuple[Shard, ...]

    @classmethod
    def open(cls, folder: Path, *, verify: bool = True) -> "ShardSet":
        """Read `shards.json` and compare every shard with it.

        Args:
            folder: as written by `ingest`.
            verify: hash every shard (about a second per gigabyte); False compares sizes only.

        Raises:
            UserError: no finished shards here, another format, or a shard that is missing or altered.
        """
        config, shards = read_index(folder)
        for shard in shards:
            _check(folder / shard.file, shard, verify)
        return cls(folder, config, _fingerprint(shards), tuple(shards))

    @property
    def frame_hw(self) -> tuple[int, int]:
        """Height and width of every frame, in pixels."""
        return self.config["size_px"], self.config["size_px"]

    @property
    def rate_hz(self) -> float:
        """Frames per second of every sample."""
        return float(self.config["rate_hz"])

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
        """All samples of a split in the order of writing; one shard at a time is in memory."""
        for shard in self.of(split):
            yield from self.read(shard)

    def read(self, shard: Shard) -> list[Sample]:
        """The samples of one shard.

        Raises:
            UserError: it no longer holds what `shards.json` says.
        """
        path = self.folder / shard.file
        try:
            found = list(_read_tar(path))
        except (OSError, tarfile.TarError, ValueError) as error:
            raise UserError(f"{path}: cannot be read ({error}); {ADVICE}") from error
        if tuple(sample.meta.get("num_frames") for sample in found) != shard.lengths:
            raise UserError(f"{path}: {len(found)} whole samples, expected {shard.samples}; {ADVICE}")
        return found


ADVICE = "copy the shards again, or delete the folder and ingest again"


def read_index(folder: Path) -> tuple[dict[str, Any], list[Shard]]:
    """Configuration and shards as `shards.json` states them, unchecked.

    Raises:
        UserError: no finished shards here, or another format.
    """
    path = folder / INDEX_FILE
    if not path.is_file():
        raise UserError(f"{folder}: no finished shards here ({INDEX_FILE} is missing); run genie-lite ingest")
    try:
        tree = json.loads(path.read_text())
        if tree["format"] != FORMAT:
            raise UserError(f"{path}: format {tree['format']}, this version reads {FORMAT}; ingest again")
        shards = [parse_shard(line) for line in tree["shards"]]
        config = dict(tree["config"])
    except UserError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not an index of shards ({error!r}); {ADVICE}") from error
    return config, shards


def parse_shard(line: dict[str, Any]) -> Shard:
    """A shard from its plain form, `dataclasses.asdict`."""
    return Shard(**dict(line, lengths=tuple(line["lengths"])))


def _read_tar(path: Path) -> Iterator[Sample]:
    with path.open("rb") as file:
        files = tar_file_expander([{"url": str(path), "stream": file}])
        for sample in group_by_keys(files):
            if not {"mp4", "json"} <= sample.keys():
                raise ValueError(f"sample {sample['__key__']} lacks its mp4 or its json")
            yield Sample(sample["__key__"], sample["mp4"], json.loads(sample["json"]))


def _check(path: Path, shard: Shard, verify: bool) -> None:
    if not path.is_file():
        raise UserError(f"{path}: missing; {ADVICE}")
    size = path.stat().st_size
    if size != shard.bytes:
        raise UserError(f"{path}: {size} bytes, {INDEX_FILE} says {shard.bytes}; {ADVICE}")
    if verify and sha256_of(path) != shard.sha256:
        raise UserError(f"{path}: does not match its sha256 in {INDEX_FILE}; {ADVICE}")


def _fingerprint(shards: list[Shard]) -> str:
    return hashlib.sha256("".join(shard.sha256 for shard in shards).encode()).hexdigest()
