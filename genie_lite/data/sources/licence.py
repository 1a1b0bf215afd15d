"""Under which licence a video may be used, where what lies beside it says so.

    name.info.json     yt-dlp's sidecar of `name.mp4`: its `license`
    manifest.jsonl     in the folder that was given: rows with `path` and `licence` (or `license`)

Nothing is guessed: no word of a licence means none is known.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from genie_lite.data.sources.source import Source

MAX_BYTES = 64 << 20  # of a file that is read for it
MAX_LETTERS = 200


class Licences:
    """Looks licences up; every folder's list is read once."""

    def __init__(self) -> None:
        self._listed = cache(_listed)

    def of(self, source: Source) -> str | None:
        """The licence of a source, None where nothing is said."""
        beside = _sidecar(source.place.path.with_suffix(".info.json"))
        return beside or self._listed(source.root).get(source.name)


def _sidecar(path: Path) -> str | None:
    tree = _read(path)
    return _text(tree.get("license")) if isinstance(tree, dict) else None


def _listed(root: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in _lines(root / "manifest.jsonl"):
        row = _parsed(line)
        if isinstance(row, dict) and isinstance(row.get("path"), str):
            licence = _text(row.get("licence")) or _text(row.get("license"))
            if licence:
                found[row["path"]] = licence
    return found


def _read(path: Path) -> Any:
    return _parsed("\n".join(_lines(path)))


def _lines(path: Path) -> list[str]:
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            return []
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []


def _parsed(text: str) -> Any:
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None


def _text(value: Any) -> str | None:
    return value.strip()[:MAX_LETTERS] or None if isinstance(value, str) else None
