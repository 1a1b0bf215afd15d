"""Whether the tar of a shard is what `shards.json` says, and which tars are known to be.

To hash a terabyte at the start of every stage would take a quarter of an hour. So a folder of more than
`REMEMBER_BYTES` gets a `.verified.json`: the tars that were found whole, each with what the file system tells
of it. Whatever changes a file through the file system changes its ctime, which no program can set; and a tar
that had changed moments before it was read is not noted, for it could have changed again without a trace.
"""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from io import BufferedReader
from pathlib import Path

from genie_lite.data.shards.index import INDEX_FILE, Index, Shard
from genie_lite.data.shards.tar import Fault, read_records
from genie_lite.files import write_bytes

VERIFIED_FILE = ".verified.json"
REMEMBER_BYTES = 2**28  # less than this is hashed in a fraction of a second
NUM_THREADS = 8
SETTLED_NS = (
    10 * 10**9
)  # far beyond the resolution of any file system's clock, and of most clocks' disagreement


def faults_of(folder: Path, index: Index, *, verify: bool) -> list[str | None]:
    """What is wrong with each shard of a folder, if anything; without `verify` as far as its size tells."""
    verified = Verified.read(folder) if verify else None
    with ThreadPoolExecutor(min(NUM_THREADS, os.cpu_count() or 1)) as threads:
        faults = list(threads.map(partial(_fault, folder, index.members, verified), index.shards))
    if verified is not None:
        verified.write(folder, sum(shard.bytes for shard in index.shards))
    return faults


def _fault(folder: Path, members: Sequence[str], verified: "Verified | None", shard: Shard) -> str | None:
    try:
        if verified is None:
            expect_size(folder / shard.file, shard)
        else:
            verified.expect(folder / shard.file, shard, members)
    except Fault as fault:
        return str(fault)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    return None


def expect_size(path: Path, shard: Shard) -> None:
    """The cheap half of `expect_whole`.

    Raises:
        Fault: missing, or of another size.
    """
    if not path.is_file():
        raise Fault("missing")
    size = path.stat().st_size
    if size != shard.bytes:
        raise Fault(f"{size} bytes, {INDEX_FILE} says {shard.bytes}")


def expect_whole(file: BufferedReader, shard: Shard, members: Sequence[str]) -> None:
    """Compare all of an open tar with its line in `shards.json`: sha256, members of every sample, counts, split.

    Raises:
        Fault: they differ.
        OSError: it cannot be read.
    """
    expect_sha256(file, shard)
    for _ in read_records(file, members, shard.lengths, shard.split):
        pass


def expect_sha256(file: BufferedReader, shard: Shard) -> None:
    """Raises a `Fault` where the content of an open tar is not what its line in `shards.json` says."""
    file.seek(0)
    if hashlib.file_digest(file, "sha256").hexdigest() != shard.sha256:
        raise Fault(f"does not match its sha256 in {INDEX_FILE}")


@dataclass
class Verified:
    """The tars of a folder that were found whole and have not changed since, by name."""

    seals: dict[str, list[int | str]] = field(default_factory=dict)
    has_news: bool = False

    @classmethod
    def read(cls, folder: Path) -> "Verified":
        """What was noted beside the shards; nothing where that is missing or unreadable."""
        with suppress(OSError, ValueError, RecursionError, AttributeError):
            tree = json.loads((folder / VERIFIED_FILE).read_bytes())
            return cls({name: seal for name, seal in tree.items() if isinstance(seal, list)})
        return cls()

    def write(self, folder: Path, num_bytes: int) -> None:
        """Note it beside the shards, if `num_bytes` in all take long to hash and the folder can be written to."""
        if self.has_news and num_bytes >= REMEMBER_BYTES:
            with suppress(OSError):
                write_bytes(folder / VERIFIED_FILE, json.dumps(self.seals).encode())

    def expect(self, path: Path, shard: Shard, members: Sequence[str]) -> None:
        """As `expect_whole`, but a tar that is known is not read again.

        Raises:
            Fault: missing or altered.
            OSError: it cannot be read.
        """
        expect_size(path, shard)
        with path.open("rb") as file:
            began_ns, seal = time.time_ns(), _seal(file, shard, members)
            if self.seals.get(shard.file) == seal:
                return
            self.seals.pop(shard.file, None)
            expect_whole(file, shard, members)
            stat = os.fstat(file.fileno())
            is_settled = max(stat.st_mtime_ns, stat.st_ctime_ns) + SETTLED_NS < began_ns
            if is_settled and _seal(file, shard, members) == seal:
                self.seals[shard.file], self.has_news = seal, True


def _seal(file: BufferedReader, shard: Shard, members: Sequence[str]) -> list[int | str]:
    """What an unchanged file keeps, and what it was compared with."""
    stat = os.fstat(file.fileno())
    line = hashlib.sha256(repr((shard, list(members))).encode()).hexdigest()
    return [stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, line]
