"""Samples into a tar and out of it, strictly: WebDataset's layout and grouping, none of its leniency.

WebDataset's own reader takes a truncated tar for a short one, passes over links, and gives what is left of a
sample without a word. Here everything that is not exactly as `shards.json` says is a `Fault`.

A tar may come from anybody, and what is made of a sample is named by its key and its split: a key is a relative path
that leads nowhere but down, and a sample is of its shard's split.
"""

import io
import json
import os
import secrets
import tarfile
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webdataset.tariterators import base_plus_ext, group_by_keys

from genie_lite.errors import UserError
from genie_lite.files import sha256_of

UNPRINTABLE = ("Cc", "Cs")  # control characters, and what is left of bytes that are not UTF-8
PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)


class Fault(ValueError):
    """What is wrong with a shard, in a few words that go behind its name."""


@dataclass(frozen=True)
class Record:
    """One sample. members: the bytes of its files by suffix, `json` left out; meta: what that one says."""

    key: str
    members: dict[str, bytes]
    meta: dict[str, Any]


def read_records(
    file: io.BufferedReader, members: Sequence[str], lengths: Sequence[int], split: str | None = None
) -> Iterator[Record]:
    """The samples of an open tar, one at a time in memory.

    Args:
        file: at its beginning.
        members: suffixes of the files that every sample must have; others are passed over.
        lengths: frames of each sample that there must be, in order.
        split: that samples are of, if they say of which; None for any.

    Raises:
        Fault: anything else is found, at the latest after the last sample.
        OSError: the file cannot be read.
    """
    num = 0
    for key, files in _samples(file):
        lacking = [member for member in members if member not in files]
        if lacking:
            raise Fault(f"sample {key} lacks its {' and its '.join(lacking)}")
        if num == len(lengths):
            raise Fault(f"more than the expected {len(lengths)} samples")
        meta = _meta(key, files["json"])
        _expect_length(key, meta, lengths[num])
        if split is not None and meta.get("split", split) != split:
            raise Fault(f"sample {key} is of split {str(meta['split'])[:40]!r}, its shard of {split}")
        yield Record(key, {member: files[member] for member in members if member != "json"}, meta)
        num += 1
    if num < len(lengths):
        raise Fault(f"{num} whole samples, expected {len(lengths)}")


class RecordWriter:
    """Writes one tar, which appears under its name only when it is complete.

    The same samples give the same bytes: no times, no owners. Whatever fails, a full disk too, leaves nothing. Until
    then it has a name of its own, so that two processes that write the same shard do not write into one file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        self._file: io.BufferedWriter | None = None
        self._tar: tarfile.TarFile | None = None

    def add(self, key: str, members: Mapping[str, bytes]) -> None:
        """Append one sample: its files by suffix.

        Raises:
            UserError: it cannot be written.
        """
        assert "." not in key.rpartition("/")[2], f"{key}: what follows a dot would be taken for the suffix"
        with self._writing():
            if self._tar is None:
                self._file = self._unfinished.open("xb")
                self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
            for suffix, data in members.items():
                entry = tarfile.TarInfo(f"{key}.{suffix}")
                entry.size = len(data)
                self._tar.addfile(entry, io.BytesIO(data))

    def close(self) -> tuple[str, int] | None:
        """Complete it; gives its sha256 and its size in bytes. None, and no file, when nothing was added.

        Raises:
            UserError: it cannot be written.
        """
        if self._tar is None or self._file is None:
            return None
        with self._writing():
            self._tar.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            about = sha256_of(self._unfinished), self._unfinished.stat().st_size
            os.replace(self._unfinished, self._path)
            _sync_folder(self._path.parent)
        return about

    def drop(self) -> None:
        """Leave nothing of what was not completed."""
        if self._file is not None:
            with suppress(OSError):  # it may try once more to write what did not fit
                self._file.close()
        with suppress(OSError):
            self._unfinished.unlink(missing_ok=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self._path}: cannot be written ({error.strerror or error}); make room or choose another "
                "folder, and start again: what is finished is kept"
            ) from error


def _sync_folder(folder: Path) -> None:
    """A new name too outlives a loss of power; not every file system knows how."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _samples(file: io.BufferedReader) -> Iterator[tuple[str, dict[str, Any]]]:
    seen: set[str] = set()
    for sample in group_by_keys(_files(file)):
        key = sample["__key__"]
        _expect_safe(key)
        if key in seen:
            raise Fault(f"sample {key} comes twice")
        seen.add(key)
        yield key, sample


def _files(file: io.BufferedReader) -> Iterator[dict[str, Any]]:
    """The members in the form that webdataset groups."""
    names: set[str] = set()
    num_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    while (member := _header(file)) is not None:
        _expect_plain(member, num_bytes - file.tell())
        if member.name.lower() in names:  # suffixes are compared in lower case
            raise Fault(f"{member.name} comes twice")
        names.add(member.name.lower())
        yield {"fname": member.name, "data": file.read(member.size), "__url__": ""}
        file.seek(-member.size % tarfile.BLOCKSIZE, os.SEEK_CUR)


def _header(file: io.BufferedReader) -> tarfile.TarInfo | None:
    """The next member, None at the end. No extension of the format is followed: `ShardWriter` needs none."""
    block = file.read(tarfile.BLOCKSIZE)
    if block == bytes(tarfile.BLOCKSIZE):
        return None
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError) as error:
        raise Fault(f"the tar breaks off at byte {file.tell() - len(block)} ({error})") from error


def _expect_plain(member: tarfile.TarInfo, bytes_left: int) -> None:
    """A link may lead anywhere, a sparse file may unfold to any size, a wrong size may ask for any memory."""
    if member.islnk() or member.issym():
        raise Fault(f"{member.name} is a link, expected plain files alone")
    if member.type not in PLAIN:
        raise Fault(f"{member.name} is no plain file")
    if not 0 <= member.size <= bytes_left:
        raise Fault(f"{member.name} claims {member.size} bytes, {bytes_left} are left")
    if base_plus_ext(member.name)[0] is None:
        raise Fault(f"{member.name} has no suffix, so it belongs to no sample")


def _expect_safe(key: str) -> None:
    """Whoever unpacks samples, or makes files of them, names these by the key."""
    if any(part in ("", ".", "..") for part in key.split("/")):
        raise Fault(f"sample {key!r}: its key is no plain relative path")
    if any(unicodedata.category(letter) in UNPRINTABLE for letter in key):
        raise Fault(f"sample {key!r}: its key has characters that cannot be printed")


def _expect_length(key: str, meta: dict[str, Any], length: int) -> None:
    num_frames = meta.get("num_frames")
    if type(num_frames) is not int or num_frames != length:  # true is 1, and 5.0 is 5, but neither is a count
        raise Fault(f"sample {key} has {str(num_frames)[:40]} frames, expected {length}")


def _meta(key: str, text: bytes) -> dict[str, Any]:
    try:
        meta = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Fault(f"sample {key}: its json is none ({error})") from error
    if not isinstance(meta, dict):
        raise Fault(f"sample {key}: its json is a {type(meta).__name__}, expected an object")
    return meta
