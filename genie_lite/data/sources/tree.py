"""What lies below a folder: every file once, whatever links lead around in it, and what a pattern matches.

Links to folders are followed, after all that is there without them, so that a link takes no file's name away.
One that leads to a folder above itself, or to a folder that was seen already, is passed over.
"""

import fnmatch
import os
import re
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from genie_lite.errors import UserError

Folder = tuple[Path, list[os.DirEntry[str]]]


def folders_below(top: Path, is_closed: Callable[[Path], bool] = lambda path: False) -> Iterator[Folder]:
    """Each folder once, `top` first, with its entries in the order of their names.

    A folder that cannot be listed is left out, and a warning says so at the end.

    Args:
        top: where to begin.
        is_closed: whether a folder below `top` is not to be looked into; asked where it is not known yet.

    Raises:
        UserError: `top` itself cannot be listed.
    """
    waiting, linked = [(top, os.path.realpath(top))], deque[tuple[Path, str]]()
    seen: set[str] = set()
    unreadable: list[str] = []
    while waiting or linked:
        folder, real = waiting.pop() if waiting else linked.popleft()
        if real in seen or (folder is not top and is_closed(folder)):
            continue
        seen.add(real)
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            if folder is top:
                raise UserError(
                    f"{top}: cannot be listed ({error.strerror}); expected a folder that can be read"
                ) from error
            unreadable.append(f"{folder} ({error.strerror})")
            continue
        yield folder, entries
        folders = [entry for entry in entries if is_folder(entry)]
        for entry in reversed(folders):
            if not entry.is_symlink():
                waiting.append((folder / entry.name, os.path.join(real, entry.name)))
        for entry in folders:
            if entry.is_symlink() and not _is_above(target := os.path.realpath(entry.path), real):
                linked.append((folder / entry.name, target))
    if unreadable:
        count = f"{len(unreadable)} folders" if len(unreadable) > 1 else "a folder"
        warnings.warn(
            f"{top}: {count} in it cannot be listed: {unreadable[0]}; what is in there is left out",
            stacklevel=2,
        )


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or leads to one; a link that leads in circles does not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_pattern(text: str) -> bool:
    """Whether it has a letter that stands for others."""
    return re.search(r"[*?[]", text) is not None


def matches(pattern: Path) -> tuple[Path, list[Path]]:
    """The folder that a pattern begins from, and the files and folders that it matches, in order.

    `*`, `?` and `[...]` stand for letters of one name, `**` for any number of folders. As in a shell they match
    no leading dot; and a folder that is really called so is meant itself.
    """
    parts = list(pattern.parts)
    begin = Path()
    while parts and (not is_pattern(parts[0]) or os.path.lexists(begin / parts[0])):
        begin /= parts.pop(0)
    found = _matches(begin, tuple(parts)) if os.path.lexists(begin) else ()
    return begin, list(dict.fromkeys(found))


def _matches(folder: Path, parts: tuple[str, ...]) -> Iterator[Path]:
    if not parts:
        yield folder
    elif parts[0] == "**":
        rest = parts[1:]
        while rest[:1] == ("**",):
            rest = rest[1:]
        if not rest:
            yield folder
        else:
            for below, _ in folders_below(folder, _is_hidden) if folder.is_dir() else ():
                yield from _matches(below, rest)
    elif not is_pattern(parts[0]) or os.path.lexists(folder / parts[0]):
        if os.path.lexists(folder / parts[0]):
            yield from _matches(folder / parts[0], parts[1:])
    else:
        for name in fnmatch.filter(_names(folder), parts[0]):
            if not name.startswith(".") or parts[0].startswith("."):
                yield from _matches(folder / name, parts[1:])


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        warnings.warn(
            f"{folder}: cannot be listed ({error.strerror}); what is in there is left out", stacklevel=2
        )
        return []


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".")


def _is_above(path: str, below: str) -> bool:
    return os.path.commonpath([path, below]) == path
