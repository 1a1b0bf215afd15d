"""Videos inside of tars: where each of them lies, by the headers alone; nothing is unpacked.

    shard-000000.tar   {key}.mp4, {key}.json, {key}.mp4, ...     other members are passed over

A tar may come from anybody. Names are labels here and never paths to write to, so those that lead out of the
folder (`/etc/x.mp4`, `../x.mp4`) lose what leads out of it. Links and sparse members are refused, every size is
compared with the file's, and how much is read for a header, and how many there may be, is bounded.
"""

import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from genie_lite.data.video.codec import SUFFIXES

BLOCK = tarfile.BLOCKSIZE
MAX_EXTENSION_BYTES = 1 << 20  # of one long name, one set of attributes, or one map of holes
MAX_HEADERS = 2_000_000
MAX_PADDING_BLOCKS = 64  # of zeros between one tar and another one that was appended to it

# How the usual compressors begin.
COMPRESSED = (
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ",
    b"\x28\xb5\x2f\xfd",
    b"\x04\x22\x4d\x18",
    b"\x1f\x9d",
    b"LZIP",
)
COMPRESSED_SUFFIXES = frozenset({".gz", ".bz2", ".xz", ".zst", ".lz4", ".lz", ".lzma", ".z"})
TAR_SUFFIXES = frozenset({".tar", ".tgz", ".tbz", ".tbz2", ".txz", ".tzst", ".tlz"})

LINKS = frozenset({tarfile.LNKTYPE, tarfile.SYMTYPE})
DEVICES = frozenset({tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE})
LONG_NAMES = frozenset({tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK})
ATTRIBUTES = frozenset({tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE})


@dataclass(frozen=True)
class Member:
    """A video in a tar.

    name: below the tar, unique in it. offset, size: of its bytes. fault: why it cannot be used.
    """

    name: str
    offset: int
    size: int
    fault: str | None = None


@dataclass(frozen=True)
class Archive:
    """What was found in a tar.

    members: its videos. fault: why it could not be read to its end. is_ended: its end is marked as such, or
    else it may have been cut off between two members.
    """

    members: tuple[Member, ...]
    fault: str | None = None
    is_ended: bool = True


def is_archive(name: str) -> bool:
    """Whether a file of this name is taken for a tar, compressed or not."""
    *_, before, last = ["", "", *(suffix.lower() for suffix in PurePosixPath(name).suffixes)]
    return last in TAR_SUFFIXES or (before == ".tar" and last in COMPRESSED_SUFFIXES)


def read_archive(path: Path) -> Archive:
    """The videos of one tar, in its order; whatever is wrong with it is told in the result."""
    members: list[Member] = []
    times: Counter[str] = Counter()
    try:
        with path.open("rb", buffering=0) as file:
            reader = _Reader(file.fileno())
            for entry in reader.entries():
                if is_video(entry.name) and entry.kind != tarfile.DIRTYPE:
                    times[entry.name] += 1
                    # Unpacking would keep the last of them alone; each may be a video of its own.
                    name = f"{entry.name}#{times[entry.name]}" if times[entry.name] > 1 else entry.name
                    members.append(Member(name, entry.offset, entry.size, entry.fault()))
            return Archive(tuple(members), is_ended=reader.is_ended)
    except _Damage as damage:
        return Archive(tuple(members), str(damage))
    except OSError as error:
        return Archive(tuple(members), f"cannot be read ({error.strerror or error})")


def is_video(name: str) -> bool:
    """Whether a file of this name is taken for a video."""
    return PurePosixPath(name).suffix.lower() in SUFFIXES


class _Damage(ValueError):
    """Why a tar cannot be read any further."""


@dataclass(frozen=True)
class _Entry:
    """One member. offset, size: of its bytes. num_there: how many of them the file holds."""

    name: str
    kind: bytes
    offset: int
    size: int
    num_there: int
    is_sparse: bool

    def fault(self) -> str | None:
        if self.kind in LINKS:
            return "a link in a tar; what it leads to is read where it lies itself"
        if self.kind in DEVICES:
            return "a device or a pipe, not a file"
        if self.is_sparse:
            return "stored with holes (a sparse file); unpack the tar (tar -xf) and name the folder"
        if self.num_there < self.size:
            return f"cut off: {self.num_there} of its {self.size} bytes are there"
        return None


class _Reader:
    """Goes through an open tar from header to header. is_ended: has come to the mark of its end."""

    def __init__(self, file: int) -> None:
        self._file, self._num_bytes = file, os.fstat(file).st_size
        self._at = self._num_headers = 0
        self.is_ended = False

    def entries(self) -> Iterator[_Entry]:
        """All members. The one that the file ends in is the last, if it is a video.

        Raises:
            _Damage: the rest cannot be read.
        """
        if not self._num_bytes:
            raise _Damage("an empty file")
        while (entry := self._entry()) is not None:
            is_cut = entry.num_there < entry.size
            if is_cut and not is_video(entry.name):
                raise _Damage(f"cut off in {entry.name}")
            yield entry
            if is_cut:
                self.is_ended = True  # where it ends is told by that member
                return

    def _entry(self) -> _Entry | None:
        said: dict[str, str] = {}
        while (header := self._header()) is not None:
            if header.type in LONG_NAMES | ATTRIBUTES:
                said |= self._extension(header)
                continue
            begin = self._after_map(header) if header.type == tarfile.GNUTYPE_SPARSE else self._at
            size = int(said.get("size", header.size))
            if header.type in LINKS | DEVICES | {tarfile.DIRTYPE}:
                size = 0  # whatever the header says, no bytes follow
            self._at = begin + _padded(size)
            return _Entry(
                name=_inside(said.get("path", header.name)),
                kind=header.type,
                offset=begin,
                size=size,
                num_there=max(0, min(size, self._num_bytes - begin)),
                is_sparse=header.type == tarfile.GNUTYPE_SPARSE or "sparse" in said,
            )
        return None

    def _header(self) -> tarfile.TarInfo | None:
        """The next header, None where the tar ends. After the mark of an end, another tar may follow."""
        block, num_zero = self._block(), 0
        while block == bytes(BLOCK) and num_zero < MAX_PADDING_BLOCKS:
            self.is_ended, num_zero = True, num_zero + 1
            block = self._block()
        if not block or block == bytes(BLOCK):
            return None
        self._num_headers += 1
        if self._num_headers > MAX_HEADERS:
            raise _Damage(f"more than {MAX_HEADERS} members; split it into several tars")
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            if num_zero:
                return None  # whatever follows the end is no tar
            raise _Damage(self._damage(block)) from error
        if header.size < 0:
            raise _Damage(f"damaged: a member of {header.size} bytes at byte {self._at - BLOCK}")
        self.is_ended = False
        return header

    def _block(self) -> bytes:
        block = os.pread(self._file, BLOCK, self._at)
        self._at += len(block)
        return block

    def _damage(self, block: bytes) -> str:
        """What a block is that is no header."""
        at = self._at - len(block)
        if at:
            return f"damaged or cut off at byte {at}: no header of a member"
        if block.startswith(COMPRESSED):
            return (
                "compressed, so no part of it can be read in place; unpack it (tar -xf) and name the folder"
            )
        return "not a tar"

    def _extension(self, header: tarfile.TarInfo) -> dict[str, str]:
        """What comes before a member and says more of it than its header has room for."""
        if header.size > MAX_EXTENSION_BYTES:
            raise _Damage(f"damaged: a name or attributes of {header.size} bytes at byte {self._at - BLOCK}")
        data = os.pread(self._file, header.size, self._at)
        if len(data) < header.size:
            raise _Damage(f"cut off at byte {self._at + len(data)}, in a name or attributes")
        self._at += _padded(header.size)
        if header.type == tarfile.GNUTYPE_LONGNAME:
            return {"path": os.fsdecode(data.split(b"\0")[0])}
        if header.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
            return _attributes(data)
        return {}

    def _after_map(self, header: tarfile.TarInfo) -> int:
        """Where the bytes of an old sparse member begin: after the blocks that say where its holes are."""
        follows = os.pread(self._file, BLOCK, self._at - BLOCK)[482:483]
        for _ in range(MAX_EXTENSION_BYTES // BLOCK):
            if follows in (b"", b"\0"):
                return self._at
            follows = self._block()[504:505]
        raise _Damage(f"damaged: {header.name} has too many holes")


def _attributes(data: bytes) -> dict[str, str]:
    """Those that matter of `LENGTH NAME=VALUE` lines: path and size, and whether any speaks of holes."""
    found: dict[str, str] = {}
    at = 0
    while at < len(data) and data[at : at + 1] != b"\0":
        digits = data[at : at + 8].partition(b" ")[0]
        end = at + (int(digits) if digits.isdigit() else 0)
        name, equals, value = data[at + len(digits) + 1 : end - 1].partition(b"=")
        if not equals or data[end - 1 : end] != b"\n":
            raise _Damage("damaged: attributes of a member that cannot be read")
        if name == b"path":
            found["path"] = os.fsdecode(value)
        elif name == b"size":
            found["size"] = _digits(value)
        elif name.startswith(b"GNU.sparse"):
            found["sparse"] = ""
        at = end
    return found


def _digits(value: bytes) -> str:
    if not (value.isdigit() and len(value) < 19):
        raise _Damage(f"damaged: a member of {value[:20]!r} bytes")
    return value.decode()


def _inside(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in ("", ".", ".."))


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
