"""The folder that an export writes: claimed by one job, finished by its last file.

A manifest is written first, with `complete: false` and what the export is made from, and once more at the end. So
the same job begun again goes on in its folder, another job and a stranger's files are refused, and a reader that
waits for the last file never sees a part. An export that is not finished, or that had to leave episodes out, is taken
up by the same format even where its source has changed since: of its files those stay that were made from what is
there now, see `journal`.
"""

import fcntl
import hashlib
import os
import re
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from genie_lite.errors import UserError
from genie_lite.files import read_json, sha256_of, write_json
from genie_lite.latents.formats.journal import Journal
from genie_lite.latents.table import MANIFEST_FILE

VERSION = 2  # of what the writers write; another one is another job
UNFINISHED = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")


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
    """A claimed folder, this job's alone while it is entered.

    Args:
        out: the folder.
        job: what is to be written, see `job_of`.
        manifest: name of the file that says so, below the folder.
        last: name of the file whose presence means finished; the manifest itself by default.

    Raises:
        UserError: on entering, the folder holds something else, another process writes to it, or it cannot be made.
    """

    def __init__(
        self, out: Path, job: dict[str, Any], manifest: str = MANIFEST_FILE, last: str | None = None
    ) -> None:
        self.out, self._job = out, job
        self._manifest, self._last = out / manifest, out / (last or manifest)
        self._lock: int | None = None

    def __enter__(self) -> "Target":
        expect_free(self.out, self._job["format"], self._manifest)
        self._take_lock()
        try:
            self._claim()
            self.journal = Journal(self.out)
        except BaseException:
            self._let_go()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._let_go()

    @property
    def done(self) -> dict[str, Any] | None:
        """The manifest, if the job was finished before."""
        if not (self._manifest.is_file() and self._last.is_file()):
            return None
        tree = self._read()
        return tree if tree.get("complete") is True else None

    def describe(self, tree: dict[str, Any]) -> dict[str, Any]:
        """Write the final manifest, and remove what earlier runs have left; the last file but `info.json`."""
        for part in [path for path in self.out.rglob(".*.tmp") if UNFINISHED.fullmatch(path.name)]:
            shutil.rmtree(part) if part.is_dir() else part.unlink()
        self.journal.drop_stale()
        if not tree.get("left_out"):
            self.journal.close()  # else it is needed: what was left out is tried again
        whole = {"complete": True, "job": self._job} | tree
        write_json(self._manifest, whole)
        return self._read()

    def _take_lock(self) -> None:
        """Keep others from writing to the folder meanwhile; a process that is killed lets go of it."""
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.out, os.O_RDONLY)
        except OSError as error:
            raise UserError(
                f"{self.out}: cannot be written to ({error.strerror}); allow it or give another folder"
            ) from error
        try:
            # The folder itself is the lock: nothing of it is left in what is published.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._let_go()
            raise UserError(
                f"{self.out}: another export is being written here; wait for it or give another folder"
            ) from error
        except OSError:
            pass  # a file system without locks

    def _let_go(self) -> None:
        if self._lock is not None:
            with suppress(OSError):
                os.close(self._lock)
            self._lock = None

    def _claim(self) -> None:
        expect_free(self.out, self._job["format"], self._manifest)
        if self._manifest.is_file():
            tree = self._read()
            is_whole = tree.get("complete") is True and self._last.is_file()
            has_all = is_whole and not tree.get("left_out")
            if tree.get("job") == self._job and has_all:
                return
            self._expect_to_be_taken_up(tree, is_whole=is_whole)
        if self._last != self._manifest:
            self._last.unlink(missing_ok=True)
        write_json(self._manifest, {"complete": False, "job": self._job})

    def _expect_to_be_taken_up(self, tree: dict[str, Any], *, is_whole: bool) -> None:
        """Go on with what is not finished or can become more; never write over another finished export."""
        found = tree["job"]
        is_same = found.get("latents") == self._job["latents"] or not is_whole
        if not is_same or found.get("version") != self._job["version"]:
            raise UserError(
                f"{self.out}: holds another export ({_told(found)}), expected {_told(self._job)} or an empty "
                "folder; choose another folder or delete it"
            )
        if is_whole and found != self._job and not tree.get("left_out"):
            raise UserError(
                f"{self.out}: holds a finished export ({_told(found)}) of the source as it was before, which has "
                "changed since; choose another folder, or delete this one to write it anew"
            )

    def _read(self) -> dict[str, Any]:
        return _read(self._manifest)


def expect_free(out: Path, name: str, manifest: Path) -> None:
    """Refuse a folder that holds a stranger's files, or an export in another format.

    Args:
        out: the folder, which need not be there.
        name: of the format.
        manifest: of such an export.

    Raises:
        UserError: it does, or it is no folder.
    """
    if manifest.is_file():
        found = _read(manifest).get("job")
        if not isinstance(found, dict) or found.get("format") != name:
            raise UserError(
                f"{out}: holds another export ({_told(found)}), expected {name} or an empty folder; choose another "
                "folder or delete it"
            )
        return
    if not out.exists() and not out.is_symlink():
        return
    try:
        # A run that was killed at its very first file leaves that under another name.
        is_taken = not out.is_dir() or any(not UNFINISHED.fullmatch(path.name) for path in out.iterdir())
    except OSError as error:
        raise UserError(
            f"{out}: cannot be read ({error.strerror}); allow it or give another folder"
        ) from error
    if is_taken:
        raise UserError(f"{out}: is not empty and holds no export of ours; choose an empty folder")


def copy_file(source: Path, path: Path) -> None:
    """Copy a file whole or not at all."""
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


def stat_of(path: Path) -> str:
    """Size and time of the last change of a file, which tell that it was changed without reading it."""
    try:
        stat = path.stat()
    except OSError:
        return "missing"
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _read(manifest: Path) -> dict[str, Any]:
    return read_json(manifest, "the manifest of an export", "delete the folder and export again")


def _told(job: Any) -> str:
    if not isinstance(job, dict):
        return "of nobody knows what"
    return f"{job.get('format')} of latents {str(job.get('latents'))[:12]}…"
