"""Files written whole or not at all, and what identifies their content."""

import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

from genie_lite.errors import UserError

HOME_VARIABLE = "GENIE_LITE_HOME"


def home() -> Path:
    """Where downloads and the game engine live."""
    return Path(os.environ.get(HOME_VARIABLE) or Path.home() / ".cache" / "genie_lite")


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with unfinished.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_json(path: Path, tree: Any) -> None:
    """Write plain data as indented JSON, atomically."""
    write_bytes(path, (json.dumps(tree, indent=2) + "\n").encode())


def read_json(path: Path, what: str, advice: str) -> dict[str, Any]:
    """The JSON object that a file holds.

    Args:
        path: of a file that is there.
        what: it should be, such as "a list of pictures".
        advice: what to do if it is not.

    Raises:
        UserError: it holds something else, or is damaged.
    """
    try:
        tree = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not {what}, no valid JSON ({error}); {advice}") from error
    if not isinstance(tree, dict):
        raise UserError(f"{path}: not {what}, expected an object, found {type(tree).__name__}; {advice}")
    return tree


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
