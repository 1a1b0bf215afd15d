"""Which videos there are, what each is called, and which of them are held out.

A source's name is its path relative to the folder that the user gave. Labels are joined by it and the split
hangs on it, so it must not change with the machine or with the other files in the folder.
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from genie_lite.data import lerobot
from genie_lite.data.video import SUFFIXES
from genie_lite.errors import UserError
from genie_lite.files import sha256_of


@dataclass(frozen=True)
class Source:
    """One video file.

    name: relative to the folder given, with forward slashes; unique. root: that folder. size: in bytes.
    split: train or test. fault: why it is quarantined before anything is decoded. twin: name of the source
    with the same content that is used in its place. moved_from: the split it was drawn for, where it stands in
    for sources that cannot be used.
    """

    path: Path
    root: Path
    name: str
    size: int
    split: str = "train"
    fault: str | None = None
    twin: str | None = None
    moved_from: str | None = None


def find_sources(sources: Sequence[Path], test_sources: Sequence[Path], test_share: float) -> list[Source]:
    """All videos under `sources` (train and test by `test_share`) and `test_sources` (all test), by name.

    With `test_sources` nothing of `sources` is held out.

    Raises:
        UserError: a path that does not exist, no video, or a video on both sides.
    """
    found, held_out = _find_all(sources), _find_all(test_sources)
    if leaked := found.keys() & held_out.keys():
        raise UserError(
            f"{min(leaked)}: is among the sources and among the test sources ({len(leaked)} such files); "
            "what is tested must not be trained on: take it out of one of them"
        )
    both = _with_unique_names([*found.values(), *held_out.values()])
    train, test = both[: len(found)], both[len(found) :]
    held = [replace(source, split="test") for source in test]
    all_sources = [*train, *held] if held else _hold_out(train, test_share)
    return sorted(all_sources, key=lambda source: source.name)


def find_twins(plan: Sequence[Source]) -> dict[str, str]:
    """Which sources have the content of another one, and of which: the same video under two names.

    On both sides of the split it would be trained on and tested on; on one, it would count twice. Of several
    a held-out one is kept, for it may have been chosen to be, and else the first by name. Only files of one
    size are read, so that where there are no twins nothing is.
    """
    by_size: dict[int, list[Source]] = defaultdict(list)
    for source in sorted(plan, key=lambda source: (source.split != "test", source.name)):
        if source.fault is None and source.size:
            by_size[source.size].append(source)
    twins: dict[str, str] = {}
    for alike in by_size.values():
        kept: dict[str, str] = {}
        for source in alike if len(alike) > 1 else []:
            try:
                name = kept.setdefault(sha256_of(source.path), source.name)
            except OSError:
                continue  # it is quarantined when its turn comes
            if name != source.name:
                twins[source.name] = name
    return twins


def find_moves(plan: Sequence[Source], is_usable: Callable[[Source], bool]) -> dict[str, str]:
    """Which sources change sides (name to split) so that broken files leave neither side empty.

    Asks for as few sources as it can. A side with a usable source keeps all it has; for one without, the
    nearest usable source of the other side stands in; a single usable source is trained on.
    """
    order = sorted(plan, key=lambda source: _hash(source.name))  # as `_hold_out` drew: test, then train
    first, last = (next(filter(is_usable, ordered), None) for ordered in (order, reversed(order)))
    moves: dict[str, str] = {}
    if last is not None and last.split == "test":
        moves[last.name] = "train"
    if first is not None and first is not last and first.split == "train":
        moves[first.name] = "test"
    return moves


def key_of(source: str, segment: int) -> str:
    """Name of a sample in its shard: readable, unique, and safe (a dot would split it)."""
    readable = re.sub(r"[^A-Za-z0-9]+", "_", source.rpartition(".")[0])[-40:].strip("_")
    return f"{readable}-{_hash(source)[:12]}-{segment:05d}"


def _find_all(paths: Sequence[Path]) -> dict[Path, Source]:
    """By resolved path, so that a file that is named twice counts once."""
    found: dict[Path, Source] = {}
    for path in paths:
        videos = _find(path)
        if not videos:
            known = ", ".join(sorted(SUFFIXES))
            raise UserError(f"{path}: no video in this folder; expected files that end in {known}")
        for video in videos:
            found.setdefault(video.path.resolve(), video)
    return found


def _find(path: Path) -> list[Source]:
    if path.is_file():
        return [_source(path, path.parent)]
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder; expected a video or a folder of videos")
    if lerobot.is_lerobot(path):
        return _find_episodes(path)
    files = [file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file()]
    return [_source(file, path) for file in files]


def _find_episodes(root: Path) -> list[Source]:
    """A robot's episodes, seen by one camera."""
    data = lerobot.read(root)
    bad = [Source(root / name, root, name, 0, fault=reason) for name, reason in data.quarantined]
    return [*(_source(episode.path, root) for episode in data.episodes), *bad]


def _source(path: Path, root: Path) -> Source:
    return Source(path, root, path.relative_to(root).as_posix(), path.stat().st_size)


def _with_unique_names(sources: list[Source]) -> list[Source]:
    """Where two folders hold the same relative name, put as many of their parents before it as needed."""
    named, depth = sources, 0
    while clashes := {name for name, count in Counter(source.name for source in named).items() if count > 1}:
        depth += 1
        named = [
            replace(after, name=_name_with_parents(before, depth)) if after.name in clashes else after
            for before, after in zip(sources, named, strict=True)
        ]
    return named


def _name_with_parents(source: Source, depth: int) -> str:
    parents = source.root.resolve().parts[1:][-depth:]
    return "/".join([*parents, source.name])


def _hold_out(sources: list[Source], test_share: float) -> list[Source]:
    """Sources whose hash falls below the share; at least one, and never all, where there are two or more.

    A source's side depends on its own name alone (but for that bound), so new files move no old ones.
    """
    order = sorted(sources, key=lambda source: _hash(source.name))
    num_test = sum(int(_hash(source.name)[:8], 16) < test_share * 2**32 for source in order)
    if test_share > 0 and len(order) > 1:
        num_test = min(max(num_test, 1), len(order) - 1)
    return [*(replace(source, split="test") for source in order[:num_test]), *order[num_test:]]


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
