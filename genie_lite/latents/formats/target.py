"""The folder that an export writes: claimed by one job, finished by its last file.

A manifest is written first, with `complete: false` and what the export is made from, and once more at the end. So
the same job begun again goes on in its folder, another job and a stranger's files are refused, and a reader that
waits for the last file never sees a part.
"""

import hashlib
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

from genie_lite.errors import UserError
from genie_lite.files import read_json, sha256_of, write_json
from genie_lite.latents.table import MANIFEST_FILE

VERSION = 1  # of what the writers write; another one is another job


def job_of(name: str, folder: Path, source: str) -> dict[str, Any]:
    """What makes an export the same one.

    Args:
        name: of the format.
        folder: finished latents.
        source: a fingerprint of where frames and columns come from.
    """
    return {
        "format": name,
        "version": VERSION,
        "latents": sha256_of(folder / MANIFEST_FILE),
        "source": source,
    }


class Target:
    """A claimed folder.

    Args:
        out: the folder.
        job: what is to be written, see `job_of`.
        manifest: name of the file that says so, below the folder.
        last: name of the file whose presence means finished; the manifest itself by default.

    Raises:
        UserError: the folder holds something else.
    """

    def __init__(
        self, out: Path, job: dict[str, Any], manifest: str = MANIFEST_FILE, last: str | None = None
    ) -> None:
        self.out, self._job = out, job
        self._manifest, self._last = out / manifest, out / (last or manifest)
        self._claim()

    @property
    def done(self) -> dict[str, Any] | None:
        """The manifest, if the job was finished before."""
        if not (self._manifest.is_file() and self._last.is_file()):
            return None
        tree = self._read()
        return tree if tree.get("complete") is True else None

    def describe(self, tree: dict[str, Any]) -> dict[str, Any]:
        """Write the final manifest, and remove what killed runs have left; the last file but `info.json`."""
        for part in self.out.rglob(".*.tmp"):
            shutil.rmtree(part) if part.is_dir() else part.unlink()
        whole = {"complete": True, "job": self._job} | tree
        write_json(self._manifest, whole)
        return self._read()

    def _claim(self) -> None:
        if self._manifest.is_file():
            found = self._read().get("job")
            if found != self._job:
                raise UserError(
                    f"{self.out}: holds another export ({_told(found)}), expected {_told(self._job)} or an empty "
                    "folder; choose another folder or delete it"
                )
            return
        if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise UserError(f"{self.out}: is not empty and holds no export of ours; choose an empty folder")
        write_json(self._manifest, {"complete": False, "job": self._job})

    def _read(self) -> dict[str, Any]:
        return read_json(self._manifest, "the manifest of an export", "delete the folder and export again")


def copy_file(source: Path, path: Path) -> None:
    """Copy a file whole or not at all; one of the same size that is there already is taken for the copy."""
    if path.is_file() and path.stat().st_size == source.stat().st_size:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = unfinished_name(path)
    try:
        shutil.copyfile(source, unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def unfinished_name(path: Path) -> Path:
    """A name beside `path` for what is not complete; `Target.describe` removes what is left under such names."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def fingerprint(*parts: bytes | str) -> str:
    """SHA-256 over parts, in hexadecimal."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def _told(job: Any) -> str:
    if not isinstance(job, dict):
        return "of nobody knows what"
    return f"{job.get('format')} of latents {str(job.get('latents'))[:12]}…"
