"""What became of one source, as one file or one message: how engines hand results over, and keep them.

    one line of JSON     fault, complaint, figures, and of each segment its size and what is said about it
    the mp4 of each segment, one after another

A process that reads its share of the sources leaves such files in a folder; a worker of a cluster sends the
same bytes. They are ours alone: nothing here is meant for others to read.
"""

import hashlib
import io
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from genie_lite.data.cutting.sandbox import Encoded, Result, Spool
from genie_lite.errors import UserError


@runtime_checkable
class Sink(Protocol):
    """What is written to."""

    def write(self, data: bytes, /) -> int: ...


@runtime_checkable
class Stored(Spool, Protocol):
    """A spool that knows its lines and its place."""

    def readline(self) -> bytes: ...
    def tell(self) -> int: ...


def write_result(result: Result, file: Sink) -> None:
    """Write a result, segment by segment; it stays open."""
    header = {
        "fault": result.fault,
        "complaint": result.complaint,
        "figures": result.figures,
        "segments": [{"size": segment.size, "about": segment.about} for segment in result.segments],
    }
    file.write(json.dumps(header).encode() + b"\n")
    for segment in result.segments:
        file.write(segment.mp4)


def read_result(file: Stored) -> Result:
    """A result that was written before. Its segments are read from the file when they are wanted.

    Raises:
        ValueError: the file holds something else.
    """
    try:
        header = json.loads(file.readline())
        start, segments = file.tell(), []
        for line in header["segments"]:
            segments.append(Encoded(file, start, line["size"], line["about"]))
            start += line["size"]
        result = Result(header["fault"], header["complaint"], header["figures"], segments)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a result of reading a video ({error!r})") from error
    if file.seek(0, io.SEEK_END) != start:
        raise ValueError(f"{file.tell()} bytes, expected {start}")
    return result


def pack(result: Result) -> bytes:
    """A result as one message; it is closed."""
    buffer = io.BytesIO()
    write_result(result, buffer)
    result.close()
    return buffer.getvalue()


def unpack(message: bytes) -> Result:
    """The result in a message."""
    return read_result(io.BytesIO(message))


@dataclass(frozen=True)
class Spills:
    """A folder of results, one file per source, each complete or not there at all."""

    folder: Path

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._path(name).is_file()

    def put(self, name: str, result: Result) -> None:
        """Keep the result of a source, which is closed."""
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            with unfinished.open("xb") as file:
                write_result(result, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
            result.close()

    def get(self, name: str) -> Result:
        """The result of a source, to be closed by the caller.

        Raises:
            UserError: its file is damaged.
        """
        path = self._path(name)
        file = path.open("rb")
        try:
            result = read_result(file)
        except ValueError as error:
            file.close()
            raise UserError(f"{path}: damaged ({error}); delete it and ingest again") from error
        if not result.segments:
            file.close()
        return result

    def _path(self, name: str) -> Path:
        # Two levels: a folder of a million files is slow on many file systems.
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
        return self.folder / digest[:2] / f"{digest[2:]}.result"
