"""What each file of an unfinished export was made from, so that the next run takes it over only where that is the same.

Files are numbered by the episodes that can be used, and these change: a video that was missing is there again, and
every later episode moves by one. Neither the name of a file nor its size says of which episode it is.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from genie_lite.latents.formats.names import fault_of_name

JOURNAL = ".made.jsonl"


class Journal:
    """Lines of `.made.jsonl`: a file or folder, what it was made from, and its size; the last line of each counts.

    Args:
        out: the folder of the export.
    """

    def __init__(self, out: Path) -> None:
        self._out, self._path = out, out / JOURNAL
        self._known = _read(self._path)
        self._used: set[str] = set()

    def keeps(self, path: Path, of: str) -> bool:
        """Whether a file is there whole and was made from this; it stays then."""
        name = self._name(path)
        known = self._known.get(name)
        is_kept = known is not None and known["of"] == of and _size(path) == known["size"]
        if is_kept:
            self._used.add(name)
        return is_kept

    @contextmanager
    def making(self, path: Path, of: str) -> Iterator[None]:
        """Write a file inside this; until it is whole it is of nobody."""
        name = self._name(path)
        self._note(name, None, None)
        yield
        self._used.add(name)
        self._note(name, of, _size(path))

    def drop_stale(self) -> None:
        """Remove what earlier runs made and this one did not."""
        for name in self._known.keys() - self._used:
            path = self._out / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            with_none_left(path.parent, self._out)

    def close(self) -> None:
        """Nothing is left to be made."""
        self._path.unlink(missing_ok=True)

    def _name(self, path: Path) -> str:
        return path.relative_to(self._out).as_posix()

    def _note(self, name: str, of: str | None, size: int | None) -> None:
        line = {"file": name, "of": of, "size": size}
        self._known[name] = line
        self._out.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def with_none_left(folder: Path, top: Path) -> None:
    """Remove a folder below `top`, and those above it, as far as they are empty."""
    while folder != top and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _size(path: Path) -> int | None:
    """Bytes of a file; of a folder, which is moved into its place whole, the number of its files."""
    if path.is_dir():
        return sum(1 for _ in path.iterdir())
    return path.stat().st_size if path.is_file() else None


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """A line that was cut short by a killed run is passed over."""
    known: dict[str, dict[str, Any]] = {}
    if not path.is_file():
        return known
    for text in path.read_text("utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if (
            isinstance(line, dict)
            and {"file", "of", "size"} <= line.keys()
            and not fault_of_name(line["file"])
        ):
            known[line["file"]] = line
    return known
