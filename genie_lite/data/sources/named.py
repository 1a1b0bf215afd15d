"""What a user names as sources: files, folders, patterns and lists, told apart here.

    clip.mp4   footage/        a file or a folder that is there, whatever letters are in its name
    'footage/**/*.mp4'         a pattern, quoted so that the shell leaves it to us
    clips.txt  clips.lst       a list, one path per line; by its suffix, and because no byte in it is zero
    @clips                     a list, whatever it is called

In a list, paths are relative to its own folder, a line that begins with `#` is a comment, and empty lines are
nothing. A line may name a file, a folder or a pattern, but no other list. A line that leads nowhere is
quarantined; what a user has named directly must be there.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from genie_lite.data.sources.tree import is_pattern, matches
from genie_lite.errors import UserError

LIST_SUFFIXES = frozenset({".txt", ".lst"})
PEEK_BYTES = 1 << 16

Origin = Literal["argument", "pattern", "list"]


@dataclass(frozen=True)
class Named:
    """One file or folder.

    path: of it. root: its name is relative to this folder. origin: who named it. is_meant: a file counts as a
    video whatever its suffix, for that was spelled out. fault: why it cannot be used.
    """

    path: Path
    root: Path
    origin: Origin = "argument"
    is_meant: bool = True
    fault: str | None = None


def expand(source: str | Path) -> list[Named]:
    """The files and folders that one source stands for.

    Raises:
        UserError: it is not there, it matches nothing, or it is a list without a line.
    """
    path, list_file = Path(source), _list_file(source)
    if source == "":
        raise UserError("a source without a name; expected a video or a folder of videos")
    if os.path.exists(path):
        return _listed(path) if _is_list(path) else [Named(path, path if path.is_dir() else path.parent)]
    if list_file is not None:
        return _listed(list_file)
    if "://" in str(source):
        raise UserError(f"{source}: is an address; download it and name the file or its folder")
    if not is_pattern(str(path)):
        raise UserError(f"{path}: no such file or folder; expected a video or a folder of videos")
    found = _matched(path)
    if not found:
        raise UserError(f"{path}: no file matches this pattern; ** stands for any number of folders")
    return found


def absolute(source: str) -> str:
    """The same source for a reader in another folder; the `@` of a list stays in front."""
    list_file = _list_file(source)
    if list_file is None or os.path.lexists(source):
        return os.path.abspath(source)
    return f"@{os.path.abspath(list_file)}"


def _list_file(source: str | Path) -> Path | None:
    text = str(source)
    return Path(text[1:]) if text.startswith("@") and len(text) > 1 else None


def _is_list(path: Path) -> bool:
    if path.suffix.lower() not in LIST_SUFFIXES or not os.path.isfile(path):
        return False
    try:
        with path.open("rb") as file:
            return b"\0" not in file.read(PEEK_BYTES)
    except OSError:
        return True  # by its name; reading it tells what is wrong


def _matched(pattern: Path) -> list[Named]:
    begin, paths = matches(pattern)
    is_meant = bool(pattern.suffix) and not is_pattern(pattern.suffix)
    found: list[Named] = []
    for path in paths:
        found += _listed(path) if is_meant and _is_list(path) else [Named(path, begin, "pattern", is_meant)]
    return found


def _listed(file: Path) -> list[Named]:
    found: list[Named] = []
    for number, line in enumerate(_lines(file), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            found += _of_line(file, line, number)
    if not found:
        raise UserError(f"{file}: an empty list; expected one path of a video per line")
    return found


def _lines(file: Path) -> list[str]:
    """Names are bytes to the system, and so they are here: a list need not be valid Unicode."""
    try:
        with file.open("rb") as opened:
            data = opened.read(PEEK_BYTES)
            data += b"" if b"\0" in data else opened.read()
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{file}: cannot be read ({reason}); expected a list of videos") from error
    if b"\0" in data:
        raise UserError(f"{file}: is no text; expected a list of videos, one path per line")
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return [os.fsdecode(line.removesuffix(b"\r")) for line in lines]


def _of_line(file: Path, line: str, number: int) -> list[Named]:
    """What one line of a list names. Spaces around it belong to a name only where there is such a file."""
    folder = file.parent
    text = line if os.path.exists(folder / line) else line.strip()
    path = folder / text
    if os.path.exists(path):
        fault = "a list in a list: name it on the command line" if _is_list(path) else None
        return [Named(path, _root(path, folder), "list", fault=fault)]
    if is_pattern(text):
        _, found = matches(path)
        is_meant = bool(path.suffix) and not is_pattern(path.suffix)
        if found:
            return [Named(match, _root(match, folder), "list", is_meant) for match in found]
    what = "no file matches this pattern" if is_pattern(text) else "no such file"
    return [Named(path, _root(path, folder), "list", fault=f"{what} (line {number} of {file.name})")]


def _root(path: Path, folder: Path) -> Path:
    """The list's folder. What lies elsewhere is called by its own: others have other folders on their way to it."""
    for base in (folder, Path(os.path.abspath(folder))):
        if path.is_relative_to(base) and ".." not in path.relative_to(base).parts:
            return base
    return path if os.path.isdir(path) else path.parent
