"""Where the bytes of one video lie: a file, a member of a tar, or a span of time in a file of many episodes."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Place:
    """One video, wherever it lies.

    offset, num_bytes: the part of the file that holds it, as of a member of an uncompressed tar; None: to the end.
    span_s: half-open, in seconds of the file's own clock; None: all of it. An episode that shares its mp4 with
    others is such a span.
    """

    path: Path
    offset: int = 0
    num_bytes: int | None = None
    span_s: tuple[float, float] | None = None

    @property
    def is_whole_file(self) -> bool:
        return not self.offset and self.num_bytes is None and self.span_s is None

    def open(self) -> io.BufferedReader:
        """The bytes, from the first on; those around them cannot be read through it."""
        file = self.path.open("rb")
        if not self.offset and self.num_bytes is None:
            return file
        return io.BufferedReader(_Range(file, self.offset, self.num_bytes))

    def to_json(self) -> dict[str, Any]:
        """A plain form; `from_json` takes it back."""
        return {
            "path": str(self.path),
            "offset": self.offset,
            "num_bytes": self.num_bytes,
            "span_s": self.span_s,
        }

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> "Place":
        span_s = tree["span_s"]
        return cls(Path(tree["path"]), tree["offset"], tree["num_bytes"], span_s and (span_s[0], span_s[1]))


class _Range(io.RawIOBase):
    """A part of a file as a file of its own."""

    def __init__(self, file: io.BufferedReader, offset: int, num_bytes: int | None) -> None:
        self._file, self._offset = file, offset
        end = file.seek(0, io.SEEK_END)
        self._size = max(0, min(end - offset, end if num_bytes is None else num_bytes))
        self.seek(0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self._size}[whence]
        self._file.seek(self._offset + max(0, start + offset))
        return self.tell()

    def tell(self) -> int:
        return self._file.tell() - self._offset

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self._file.read(max(0, min(len(view), self._size - self.tell())))
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
