"""Shards that lie elsewhere, fetched one at a time into a folder of this machine when they are read.

    $GENIE_LITE_HOME/shards/host-shards-3f2a.../    the cache of one URL: itself a folder of shards, as yet incomplete
        train-000003.tar            whole: it got its name after its sha256 was compared
        .train-000003.tar.part      on its way; a broken connection, or the next process, goes on at its end

A connection that breaks is resumed where it broke and given up only after several attempts that brought nothing
new; then a `UserError` stops the work, because data that is there must not be left out for a bad network. What
is gone or altered for good is a `Fault`, as it is on a disk.
"""

import fcntl
import hashlib
import math
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from io import BufferedRandom, BufferedReader, BufferedWriter
from pathlib import Path
from time import sleep

from genie_lite.data.shards.check import Verified, expect_whole
from genie_lite.data.shards.index import INDEX_FILE, MANIFEST_FILE, Index, Shard, parse_index
from genie_lite.data.shards.tar import Fault
from genie_lite.data.shards.transport import Absent, Origin, Trouble, origin_of
from genie_lite.errors import UserError
from genie_lite.files import HOME_VARIABLE, home, write_bytes

LIMIT_VARIABLE = "GENIE_LITE_CACHE_GB"
RETRY_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # before each further attempt that follows one without progress
CHUNK_BYTES = 2**18
MAX_TEXT_BYTES = 2**32  # of an index or a manifest: no server shall fill a disk
NUM_QUESTIONS = 16  # asked at a time


@dataclass(frozen=True)
class Cache:
    """Where fetched shards are kept, over all URLs, and how much of them, in units of 2^30 bytes; None for no limit.

    Beyond the limit those go that were not used for the longest time; the shard in use stays in any case.
    """

    folder: Path
    max_gb: float | None = None

    @classmethod
    def default(cls) -> "Cache":
        """As the environment says: $GENIE_LITE_HOME/shards, no larger than $GENIE_LITE_CACHE_GB.

        Raises:
            UserError: the limit is not a number from 0 on.
        """
        return cls(home() / "shards", _limit_gb(os.environ.get(LIMIT_VARIABLE, "")))


@dataclass(frozen=True)
class Remote:
    """A folder of shards behind a URL. It may be pickled, forked, and used by several processes at once."""

    url: str
    cache: Cache
    allow_commands: bool = False  # see `transport.origin_of`
    _verified: Verified = field(default_factory=Verified, compare=False, repr=False)
    _faults: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def folder(self) -> Path:
        """What was fetched."""
        name = re.sub(r"[^A-Za-z0-9]+", "-", self.url.removeprefix("https://").removeprefix("http://"))
        digest = hashlib.sha256(self.url.encode()).hexdigest()[:12]
        return self.cache.folder / f"{name.strip('-')[:60]}-{digest}"

    def index(self) -> Index:
        """The index as it is now; it is fetched anew every time.

        Raises:
            UserError: there is none, it is damaged, or it cannot be reached.
        """
        text = self.text(INDEX_FILE)
        if text is None:
            raise UserError(f"{self.url}: no finished shards here ({INDEX_FILE} is missing)")
        return parse_index(text, f"{self.url}: {INDEX_FILE}")

    def manifest(self) -> Path | None:
        """The manifest, fetched anew; None where there is none."""
        return None if self.text(MANIFEST_FILE) is None else self.folder / MANIFEST_FILE

    def text(self, file: str) -> bytes | None:
        """A small file, None where there is none.

        Raises:
            UserError: it cannot be reached.
        """
        part = self._new_part(file)
        with self._keeping():
            try:
                self._download(file, part, None)
                text = part.read_bytes()
                write_bytes(self.folder / file, text)  # as it is in the folder that this one stands for
                return text
            except Absent:
                return None
            except Fault as fault:
                raise UserError(f"{self.url}: {file}: {fault}") from fault
            finally:
                part.unlink(missing_ok=True)

    def open(self, shard: Shard, members: Sequence[str]) -> BufferedReader:
        """A whole shard, open for reading; fetched if it is not in the cache, or no longer as it was.

        Raises:
            Fault: it is gone or altered at its origin.
            UserError: it cannot be reached, or the cache cannot be written to.
        """
        path = self.folder / shard.file
        while True:
            self._make_sure(path, shard, members)
            with suppress(FileNotFoundError):  # another process has just made room
                return path.open("rb")

    def faults(self, shards: Sequence[Shard], members: Sequence[str]) -> list[str | None]:
        """What is wrong with each shard, as far as its origin tells without sending it: gone, or another size."""
        with ThreadPoolExecutor(NUM_QUESTIONS) as threads:
            return list(threads.map(partial(self._fault, members=members), shards))

    def _fault(self, shard: Shard, members: Sequence[str]) -> str | None:
        try:
            size = self._origin.size(shard.file)
            if size is not None and size != shard.bytes:
                self._make_sure(self.folder / shard.file, shard, members)  # the server may be wrong about it
        except Absent as absent:
            return f"missing ({absent})"
        except Fault as fault:
            return str(fault)
        return None

    @property
    def _origin(self) -> Origin:
        return origin_of(self.url, allow_commands=self.allow_commands)

    def _make_sure(self, path: Path, shard: Shard, members: Sequence[str]) -> None:
        """Leave a whole shard at `path`. A fault is remembered: this process does not ask for it again."""
        if shard.file in self._faults:
            raise Fault(self._faults[shard.file])
        with self._keeping():
            if not self._is_whole(path, shard, members):
                with self._locked(shard.file) as is_alone:
                    if not self._is_whole(path, shard, members):  # nobody has fetched it meanwhile
                        part = path.with_name(f".{path.name}.part") if is_alone else self._new_part(path.name)
                        self._fetch(shard, members, part)
                        os.replace(part, path)
                        self._make_room(path)
            self._mark(path).touch()

    def _is_whole(self, path: Path, shard: Shard, members: Sequence[str]) -> bool:
        try:
            self._verified.expect(path, shard, members)
        except (Fault, OSError):
            return False
        return True

    @contextmanager
    def _keeping(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self.folder}: what is fetched cannot be kept here ({error.strerror or error}); "
                f"free some space or set {HOME_VARIABLE} to another place"
            ) from error

    def _fetch(self, shard: Shard, members: Sequence[str], part: Path) -> None:
        """Twice, before it is called altered: the first time may have gone on with what was begun long ago."""
        try:
            for is_last in (False, True):
                try:
                    self._download(shard.file, part, shard.bytes)
                    with part.open("rb") as file:
                        expect_whole(file, shard, members)
                        os.fsync(file.fileno())
                    return
                except Fault:
                    part.unlink(missing_ok=True)
                    if is_last:
                        raise
        except Absent as absent:
            self._faults[shard.file] = f"missing ({absent})"
            raise Fault(self._faults[shard.file]) from absent
        except Fault as fault:
            self._faults[shard.file] = str(fault)
            raise

    def _download(self, file: str, part: Path, num_bytes: int | None) -> None:
        """Lengthen `part` until it is complete; see the top of this file.

        Args:
            file: its name at the origin.
            part: what there is of it so far, if anything.
            num_bytes: it must have, None for as many as come.

        Raises:
            Fault: it has more or fewer.
            Absent: see there.
            UserError: it cannot be reached.
        """
        best, num_failures = 0, 0
        while True:
            trouble = self._pull(file, part, num_bytes)
            have = _size(part)
            if have == num_bytes or (num_bytes is None and trouble is None):
                return
            if have > (MAX_TEXT_BYTES if num_bytes is None else num_bytes):
                raise Fault(f"more than {have - 1} bytes, which is all that there should be")
            if trouble is None and have <= best:
                raise Fault(f"{have} bytes, {INDEX_FILE} says {num_bytes}")
            num_failures = 0 if have > best else num_failures + 1
            best = max(best, have)
            if num_failures == len(RETRY_S):
                raise UserError(
                    f"{self.url}: {file} cannot be fetched: {trouble} ({num_failures} attempts in a row at "
                    f"byte {have}); see to the connection and start again"
                )
            if trouble is not None:
                sleep(RETRY_S[num_failures])

    def _pull(self, file: str, part: Path, num_bytes: int | None) -> Trouble | None:
        """One attempt. None if it came to an end by itself, which need not be the right one."""
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            stream = self._origin.open(file, _size(part))
            try:
                with part.open("r+b") if stream.offset else part.open("wb") as target:
                    target.seek(stream.offset)
                    _copy(stream.read, target, MAX_TEXT_BYTES if num_bytes is None else num_bytes)
            finally:
                stream.close()
        except Trouble as trouble:
            return trouble
        is_sure = stream.knows_end or num_bytes is None
        return None if is_sure else Trouble(f"it ended at byte {_size(part)} of {num_bytes}")

    def _new_part(self, file: str) -> Path:
        return self.folder / f".{file}.{secrets.token_hex(4)}.part"

    def _mark(self, path: Path) -> Path:
        """Tells by its time when a shard was used; a change of the shard's own times would make it suspect."""
        return path.with_name(f".{path.name}.used")

    def _make_room(self, newest: Path) -> None:
        if self.cache.max_gb is None:
            return
        files = [path for path in self.cache.folder.glob("*/*.tar") if path != newest]
        files.sort(key=lambda path: _time_ns(self._mark(path)))
        excess = _size(newest) + sum(map(_size, files)) - int(self.cache.max_gb * 2**30)
        for path in files:
            if excess <= 0:
                return
            excess -= _size(path)
            path.unlink(missing_ok=True)
            self._mark(path).unlink(missing_ok=True)

    @contextmanager
    def _locked(self, file: str) -> Iterator[bool]:
        """One process at a time sees to a shard; False where the file system cannot lock, and several may."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f".{file}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError:
                yield False
            else:
                yield True


def _limit_gb(text: str) -> float | None:
    if not text:
        return None
    with suppress(ValueError):
        limit_gb = float(text)
        if limit_gb >= 0 and math.isfinite(limit_gb):
            return limit_gb
    raise UserError(f"{LIMIT_VARIABLE}: '{text}' is not a number of gigabytes; unset it for no limit")


def _copy(read: Callable[[int], bytes], target: BufferedWriter | BufferedRandom, max_bytes: int) -> None:
    """At most one byte more than there may be, which tells that there are more."""
    while (room := max_bytes + 1 - target.tell()) > 0 and (data := read(min(CHUNK_BYTES, room))):
        target.write(data)


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _time_ns(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_mtime_ns
    return 0
