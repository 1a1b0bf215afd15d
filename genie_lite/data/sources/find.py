"""Which videos there are, what each is called, and which of them are held out.

    what the user names ── named ──▶ files and folders ── tree, archive, lerobot ──▶ sources

A folder is searched to the bottom, for videos, tars of videos and robots' datasets; what else lies in it is
passed over. Nothing is decoded here: of a file its name and size are asked, of a tar its headers, of a robot's
dataset its tables.
"""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from genie_lite.data.shards.index import INDEX_FILE
from genie_lite.data.sources import lerobot
from genie_lite.data.sources.archive import is_archive, is_video, read_archive
from genie_lite.data.sources.lerobot import RobotData
from genie_lite.data.sources.named import Named, expand
from genie_lite.data.sources.source import RealPaths, Source, hash_of, with_unique_names
from genie_lite.data.sources.tree import folders_below, is_folder
from genie_lite.data.video.codec import SUFFIXES
from genie_lite.data.video.place import Place
from genie_lite.errors import UserError

WORK_FOLDER = ".ingest"  # in a folder of shards that is not finished

_Found = dict[tuple[str, str], Source]  # by the real path of its file, and which part of it


def find_sources(
    sources: Sequence[str | Path],
    test_sources: Sequence[str | Path],
    test_share: float,
    *,
    camera: str | None = None,
) -> list[Source]:
    """All videos under `sources` (train and test by `test_share`) and `test_sources` (all test), by name.

    With `test_sources` nothing of `sources` is held out.

    Args:
        sources: files, folders, patterns and lists; see `named`.
        test_sources: likewise.
        test_share: share of the sources that are held out.
        camera: of robots' datasets; see `lerobot.read`.

    Raises:
        UserError: a path that does not exist, no video, shards instead of videos, or a video on both sides.
    """
    found, held_out = _find_all(sources, camera), _find_all(test_sources, camera)
    if leaked := _overlap(found, held_out):
        raise UserError(
            f"{min(leaked)}: is among the sources and among the test sources ({len(leaked)} such files); "
            "what is tested must not be trained on: take it out of one of them"
        )
    both = with_unique_names([*found.values(), *held_out.values()])
    if camera is not None and all(source.num_frames is None for source in both):
        warnings.warn(f"camera '{camera}': no robot's dataset is among the sources", stacklevel=2)
    train, test = both[: len(found)], both[len(found) :]
    held = [replace(source, split="test") for source in test]
    all_sources = [*train, *held] if held else _hold_out(train, test_share)
    return sorted(all_sources, key=lambda source: source.name)


def find_moves(plan: Sequence[Source], is_usable: Callable[[Source], bool]) -> dict[str, str]:
    """Which sources change sides (name to split) so that broken files leave neither side empty.

    Asks for as few sources as it can. A side with a usable source keeps all it has; for one without, the
    nearest usable source of the other side stands in; a single usable source is trained on.
    """
    order = sorted(plan, key=lambda source: hash_of(source.name))  # as `_hold_out` drew: test, then train
    first, last = (next(filter(is_usable, ordered), None) for ordered in (order, reversed(order)))
    moves: dict[str, str] = {}
    if last is not None and last.split == "test":
        moves[last.name] = "train"
    if first is not None and first is not last and first.split == "train":
        moves[first.name] = "test"
    return moves


def robots_among(found: Sequence[Source]) -> list[Path]:
    """The folders of the robots' datasets that sources come from: those that have labels."""
    root_of: dict[Path, Path] = {}
    for source in found:
        folder = source.path.parent
        if source.num_frames is not None and folder not in root_of:
            root_of[folder] = next(above for above in folder.parents if lerobot.is_lerobot(above))
    return sorted(set(root_of.values()))


def names_of_episodes(found: Sequence[Source], robot: RobotData) -> dict[str, str]:
    """What the episodes of a dataset are called among the sources found, by the names that its labels bear.

    The two differ where its folder is not the one that the user gave, or where several datasets call an
    episode the same.
    """
    real_path = RealPaths()
    names = {(real_path(source.path), source.part): source.name for source in found}
    return {episode.source: names[real_path(episode.place.path), episode.part] for episode in robot.episodes}


def _find_all(sources: Sequence[str | Path], camera: str | None) -> _Found:
    """By its real place, so that a video that is named twice counts once."""
    found: _Found = {}
    real_path = RealPaths()
    for source in sources:
        videos = [video for named in expand(source) for video in _find(named, camera)]
        if not videos:
            known = ", ".join(sorted(SUFFIXES))
            raise UserError(
                f"{source}: no video in there; expected files that end in {known}, or tars of them"
            )
        for video in videos:
            found.setdefault((real_path(video.path), video.part), video)
    shared = {path for path, part in found if part.startswith("#")}
    for twice in [(path, part) for path, part in found if path in shared and not part]:
        warnings.warn(
            f"{found.pop(twice).path}: its episodes are used, and not all of it as one", stacklevel=3
        )
    return found


def _overlap(found: _Found, held_out: _Found) -> list[Path]:
    """Files of which something is on both sides; a whole one is on both with any of its parts."""
    whole = {path for path, part in (*found, *held_out) if not part}
    both = {path for path, _ in found} & {path for path, _ in held_out}
    same = {path for path, _ in found.keys() & held_out.keys()} | (both & whole)
    return [source.path for (path, _), source in found.items() if path in same]


def _find(named: Named, camera: str | None) -> Iterator[Source]:
    """The sources of one file or folder. What a user has not named directly is never fatal to the rest."""
    try:
        found = [_broken(named, named.fault)] if named.fault else list(_sources(named, camera))
    except UserError as error:
        if named.origin == "argument":
            raise
        found = [_broken(named, str(error))]
    if not found and named.origin == "list":
        found = [_broken(named, "no video in this folder")]
    yield from found


def _sources(named: Named, camera: str | None) -> Iterator[Source]:
    path, root = named.path, named.root
    if _is_shards(path if path.is_dir() else path.parent) and (path.is_dir() or is_archive(path.name)):
        if named.origin == "pattern":
            _warn_of_shards(path)
            return
        raise UserError(
            f"{path}: holds shards that genie-lite made, not videos; train from them as they are, or name the "
            "videos that they were made from"
        )
    if not path.is_dir():
        if is_archive(path.name) or is_video(path.name) or named.is_meant:
            yield from _of_file(path, root)
    elif lerobot.is_lerobot(path) if named.origin == "argument" else lerobot.says_lerobot(path):
        yield from _of_robot(path, root, camera)
    else:
        yield from _below(path, root, camera)


def _below(top: Path, root: Path, camera: str | None) -> Iterator[Source]:
    """All videos below a folder: in files, in tars, and of robots."""
    robots: list[Path] = []

    def is_closed(folder: Path) -> bool:
        if _is_shards(folder):
            _warn_of_shards(folder)
        elif lerobot.says_lerobot(folder):
            robots.append(folder)
        else:
            return False
        return True

    for folder, entries in folders_below(top, is_closed):
        for entry in entries:
            if (is_video(entry.name) or is_archive(entry.name)) and not is_folder(entry):
                yield from _of_file(folder / entry.name, root)
    for folder in robots:
        named = Named(folder, root, "pattern")
        yield from _find(named, camera)


def _of_file(path: Path, root: Path) -> Iterator[Source]:
    if os.path.lexists(path) and not os.path.isfile(path):
        yield _source(path, root, fault="not a file" if path.exists() else "a link that leads nowhere")
    elif is_archive(path.name):
        yield from _of_tar(path, root)
    else:
        yield _source(path, root)


def _of_tar(path: Path, root: Path) -> Iterator[Source]:
    archive = read_archive(path)
    whole = _source(path, root)
    for member in archive.members:
        part = f"/{member.name}"
        place = Place(path, member.offset, member.size)
        yield replace(
            whole, place=place, name=whole.name + part, size=member.size, part=part, fault=member.fault
        )
    if archive.fault is not None:
        rest = "; the videos before that are used" if archive.members else ""
        yield replace(whole, fault=archive.fault + rest)
    elif archive.members and not archive.is_ended:
        message = "a tar without a mark at its end; it may have been cut off after its last member"
        warnings.warn(f"{path}: {message}", stacklevel=2)


def _of_robot(folder: Path, root: Path, camera: str | None) -> Iterator[Source]:
    """A robot's episodes, seen by one camera."""
    data = lerobot.list_robot(folder, camera)
    for episode in data.episodes:
        source = _source(episode.place.path, root)
        yield replace(
            source,
            place=episode.place,
            name=source.name + episode.part,
            part=episode.part,
            num_frames=len(episode.action),
        )
    for listed in data.faulty:
        name = _name(listed.place.path, root) + listed.part
        yield Source(listed.place, root, name, 0, fault=listed.fault, part=listed.part)


def _source(path: Path, root: Path, fault: str | None = None) -> Source:
    try:
        size = path.stat().st_size if fault is None else 0
    except OSError as error:
        size, fault = 0, f"cannot be opened ({error.strerror})"
    return Source(Place(path), root, _name(path, root), size, fault=fault)


def _broken(named: Named, fault: str | None) -> Source:
    return _source(named.path, named.root, fault=fault)


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _is_shards(folder: Path) -> bool:
    return (folder / INDEX_FILE).is_file() or (folder / WORK_FOLDER).is_dir()


def _warn_of_shards(path: Path) -> None:
    warnings.warn(f"{path}: holds shards that genie-lite made, not videos; left out", stacklevel=2)


def _hold_out(sources: list[Source], test_share: float) -> list[Source]:
    """Sources whose hash falls below the share; at least one, and never all, where there are two or more.

    A source's side depends on its own name alone (but for that bound), so new files move no old ones.
    """
    order = sorted(sources, key=lambda source: hash_of(source.name))
    num_test = sum(int(hash_of(source.name)[:8], 16) < test_share * 2**32 for source in order)
    if test_share > 0 and len(order) > 1:
        num_test = min(max(num_test, 1), len(order) - 1)
    return [*(replace(source, split="test") for source in order[:num_test]), *order[num_test:]]
