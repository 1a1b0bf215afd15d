"""One video to ingest, and what it is called.

A source's name is its path relative to the folder that the user gave. Labels are joined by it and the split
hangs on it, so it must not change with the machine or with the other files in the folder.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from genie_lite.data.video.place import Place

MAX_FOLDERS = 2048  # in a path: systems allow 4096 letters


@dataclass(frozen=True)
class Source:
    """One video: a file, a member of a tar, or an episode that shares its file with others.

    name: relative to the folder given, with forward slashes; unique. root: that folder. size: in bytes, of the
    file or the member. split: train or test. fault: why it is quarantined before anything is decoded. twin: name
    of the source with the same content that is used in its place. moved_from: the split it was drawn for, where
    it stands in for sources that cannot be used. part: the end of its name, after the file's own: `/key.mp4` of
    a tar, `#episode_000012` of a video of many episodes, nothing for a whole file. num_frames: what its labels
    count; None where nobody has counted.
    """

    place: Place
    root: Path
    name: str
    size: int
    split: str = "train"
    fault: str | None = None
    twin: str | None = None
    moved_from: str | None = None
    part: str = ""
    num_frames: int | None = None

    @property
    def path(self) -> Path:
        """The file that it lies in."""
        return self.place.path

    @property
    def tail(self) -> str:
        """The end of its name that every name of it has, whichever folder was given."""
        return self.path.name + self.part

    @property
    def local_name(self) -> str:
        """Its name before it was told apart from others of the same name."""
        return self.path.relative_to(self.root).as_posix() + self.part

    def misfit(self, num_decoded: int) -> str | None:
        """Why a video of so many frames does not belong to its labels; None if it does, or has none."""
        if self.num_frames in (None, num_decoded):
            return None
        return f"{num_decoded} frames in the video, {self.num_frames} rows in the data file"


@dataclass
class RealPaths:
    """Where files really lie, however they were named. The folders are looked up once."""

    _folders: dict[Path, str] = field(default_factory=dict)

    def __call__(self, path: Path) -> str:
        """The file's path without links."""
        if os.path.islink(path):
            return os.path.realpath(path)
        if path.parent not in self._folders:
            self._folders[path.parent] = os.path.realpath(path.parent)
        return os.path.join(self._folders[path.parent], path.name)


def with_unique_names(sources: Sequence[Source], taken: Collection[str] = ()) -> list[Source]:
    """Where several have one name, or it is taken, put as many of their parents before it as needed.

    A video that was found twice must have been merged into one source before.
    """
    named, depth = list(sources), 0
    while clashes := _clashes(named, taken):
        depth += 1
        assert depth <= MAX_FOLDERS + len(taken), f"{min(clashes)} is one video twice"
        named = [
            replace(after, name=_name_with_parents(before, depth)) if after.name in clashes else after
            for before, after in zip(sources, named, strict=True)
        ]
    return named


def hash_of(name: str) -> str:
    """What the split is drawn by and keys are made unique with: hexadecimal, evenly spread."""
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()


def key_of(source: str, segment: int) -> str:
    """Name of a sample in its shard: readable, unique, and safe (a dot would split it)."""
    stem, _, suffix = source.rpartition(".")
    readable = re.sub(r"[^A-Za-z0-9]+", "_", stem + "".join(suffix.partition("#")[1:]))[-40:].strip("_")
    return f"{readable}-{hash_of(source)[:12]}-{segment:05d}"


def _clashes(sources: Sequence[Source], taken: Collection[str]) -> set[str]:
    return {
        name
        for name, count in Counter(source.name for source in sources).items()
        if count > 1 or name in taken
    }


def _name_with_parents(source: Source, depth: int) -> str:
    """Its local name with `depth` parents; once there are no more, it is told apart by a number."""
    parents = Path(os.path.realpath(source.root)).parts[1:]
    number = [str(depth - len(parents))] if depth > len(parents) else []
    return "/".join([*number, *parents[-depth:], source.local_name])
