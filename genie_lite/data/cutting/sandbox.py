"""Foreign video is decoded in a child process, which may crash or hang without harm to the rest.

A `Sandbox` keeps one child over many files and starts another when it has died. Parent and child speak
over a socket in messages of JSON and of plain bytes:

    parent  {"place", "config"}                     or {"place"} alone, for what the header says
    child   {"kind": "alive"}                       about once a second while it decodes
            {"kind": "segment", ...} then the mp4   once per segment
            {"kind": "done", "fault", "complaint", "figures"}    null and null, or why the file cannot be used

However long a video is, neither holds more of it in memory than a segment and `SPOOL_BYTES`. How much a
hostile one can take is bounded here in memory and in time, and in `video` in pixels and in frames.
"""

import dataclasses
import hashlib
import json
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, cast, runtime_checkable

from genie_lite.data.cutting.motion import FROZEN_S
from genie_lite.data.cutting.segment import IngestConfig, Tally, segments
from genie_lite.data.video.codec import probe
from genie_lite.data.video.container import BadVideo
from genie_lite.data.video.picture import BadPicture
from genie_lite.data.video.place import Place

SILENCE_S = 60.0
ALIVE_EVERY_S = 1.0
PATIENCE_S = 12 * 3600.0  # ten hours of 4K take about half of it on one core
MEMORY_BYTES = 4 << 30  # for the decoder: enough for 8K with all the frames that H.264 may refer to
SPOOL_BYTES = 16 << 20


@runtime_checkable
class Spool(Protocol):
    """A file, in memory or not, that is read here and there."""

    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def read(self, size: int = -1, /) -> bytes: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Encoded:
    """One segment as it goes into a shard; `about` is what `Segment.about` says of it.

    The mp4 lies in `spool`, together with those of the other segments of its file.
    """

    spool: Spool
    start: int
    size: int
    about: dict[str, Any]

    @property
    def mp4(self) -> bytes:
        self.spool.seek(self.start)
        return self.spool.read(self.size)


@dataclass(frozen=True)
class Result:
    """What became of one file.

    fault: why the file is quarantined, None if it could be read. complaint: why it is filtered, None if
    it is good. figures: for the manifest. segments: empty unless the file is good.
    """

    fault: str | None
    complaint: str | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    segments: list[Encoded] = field(default_factory=list)

    def close(self) -> None:
        """Let go of the encoded video; from then on only the figures can be read."""
        for segment in self.segments:
            segment.spool.close()


class Sandbox:
    """A child process that reads videos, one after another. Not to be shared between threads.

    folder: where encoded video waits for its shard, as a file without a name; None for the system's own.
    silence_s: a child that says nothing for so long is taken to hang and is ended. patience_s: as is one that
    is not done with one file after so long. memory_bytes: what the child may take beside its libraries and
    the segment that it works on.
    """

    def __init__(self, config: IngestConfig, folder: Path | None = None) -> None:
        self._config, self._folder = config, folder
        self.silence_s, self.patience_s, self.memory_bytes = SILENCE_S, PATIENCE_S, MEMORY_BYTES
        self._child: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self, place: Place) -> Result:
        """Read one video; whatever is wrong with it is told in the result, which the caller closes."""
        spool = tempfile.SpooledTemporaryFile(SPOOL_BYTES, dir=self._folder and str(self._folder))  # noqa: SIM115
        request = {"place": place.to_json(), "config": self._config.model_dump(mode="json")}
        result = self._ask(request, cast(IO[bytes], spool))
        if not result.segments:
            spool.close()
        return result

    def read_header(self, place: Place) -> Result:
        """What one video says of itself, without decoding a frame; the figures are those of `VideoInfo`."""
        with tempfile.SpooledTemporaryFile() as nothing:
            return self._ask({"place": place.to_json()}, cast(IO[bytes], nothing))

    def _ask(self, request: dict[str, Any], spool: IO[bytes]) -> Result:
        connection = self._connected()
        end_s = time.monotonic() + self.patience_s
        found: list[Encoded] = []
        try:
            connection.send_bytes(_pack(request))
            while True:
                message = json.loads(self._receive(connection, end_s))
                if message["kind"] == "segment":
                    start, size = spool.tell(), spool.write(self._receive(connection, end_s))
                    found.append(Encoded(spool, start, size, message["about"]))
                elif message["kind"] == "done":
                    is_good = message["fault"] is None and message["complaint"] is None
                    return Result(
                        message["fault"], message["complaint"], message["figures"], found if is_good else []
                    )
        except TimeoutError:
            self.close()
            if time.monotonic() >= end_s:
                return Result(f"decoding took more than {self.patience_s:g} s; cut it into several files")
            return Result(f"decoding hung: no sign of life for {self.silence_s:g} s")
        except (EOFError, ConnectionError):
            return Result(f"decoding crashed ({self._cause_of_death()})")

    def kill(self) -> None:
        """End the child at once. Safe from another thread: a `read` under way returns with a fault."""
        if self._child is not None:
            self._child.kill()

    def close(self) -> None:
        """End the child and let go of what belonged to it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def _connected(self) -> Connection:
        if self._connection is None:
            ours, theirs = cast(tuple[Connection, Connection], Pipe())
            self._connection = ours
            with theirs:
                handle = theirs.fileno()
                self._child = subprocess.Popen(
                    # -P: a file av.py in the user's folder must not be taken for the library
                    [
                        sys.executable,
                        "-P",
                        "-m",
                        "genie_lite.data.cutting.sandbox",
                        str(handle),
                        str(self._allowance()),
                    ],
                    pass_fds=[handle],
                    stdin=subprocess.DEVNULL,
                    process_group=0,  # Ctrl-C is ours to handle, from the child's first moment on
                    # Parallel over files, never inside one; and threads reserve address space by the gigabyte.
                    env=os.environ
                    | {"PYTHONPATH": _python_path(), "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
                )
        return self._connection

    def _allowance(self) -> int:
        """Bytes for the decoder and for the longest piece: as a list, as an array and in the encoder."""
        held = math.ceil(FROZEN_S * self._config.rate_hz)  # until it is known whether they are frozen
        num_frames = self._config.segment_frames + self._config.min_frames + held
        return self.memory_bytes + 3 * num_frames * 3 * self._config.size_px**2

    def _receive(self, connection: Connection, end_s: float) -> bytes:
        left_s = end_s - time.monotonic()  # a child that always has an answer ready is given up no later
        if left_s <= 0 or not connection.poll(min(self.silence_s, left_s)):
            raise TimeoutError
        return connection.recv_bytes()

    def _cause_of_death(self) -> str:
        assert self._child is not None
        try:
            code = self._child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = 0  # it closed the socket and lives on
        self.close()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _python_path() -> str:
    """The parent's module path, so that the child finds the same package."""
    return os.pathsep.join(entry or os.getcwd() for entry in sys.path)


def _pack(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode()  # plain ASCII: names that are no valid Unicode survive


def _serve(connection: Connection) -> None:
    """The child's life: answer requests until the parent is gone."""
    while True:
        request = json.loads(connection.recv_bytes())
        place, figures, complaint, fault = Place.from_json(request["place"]), {}, None, None
        try:
            if "config" in request:
                config = IngestConfig.model_validate(request["config"])
                complaint = _send_segments(place, config, connection, figures)
            else:
                figures = dataclasses.asdict(probe(place))
        except BadVideo as error:
            fault = error.reason
        except BadPicture as error:
            fault = str(error)
        except MemoryError:
            fault = "not enough memory to decode it"
        except ConnectionError:
            raise  # the parent is gone
        except OSError as error:
            fault = f"cannot be read ({error.strerror or error})"
        done = {"kind": "done", "fault": fault, "complaint": complaint, "figures": figures}
        connection.send_bytes(_pack(done))


def _send_segments(
    place: Place, config: IngestConfig, connection: Connection, figures: dict[str, Any]
) -> str | None:
    """Send the segments of a file and fill in its figures, as far as it can be read; returns the complaint."""
    tally, pulse = Tally(), _Pulse(connection)
    try:
        figures.update(_figures(place, pulse))
        for segment in segments(place, config, tally, on_frame=pulse):
            mp4 = segment.encode(config)
            connection.send_bytes(_pack({"kind": "segment", "about": segment.about()}))
            connection.send_bytes(mp4)
    finally:
        figures.update(tally.figures())
    return tally.complaint(config)


def _figures(place: Place, pulse: "_Pulse") -> dict[str, Any]:
    info = probe(place)
    return {
        "sha256": _sha256_of(place, pulse),
        "codec": info.codec,
        "height": info.height,
        "width": info.width,
        "source_rate_hz": round(info.rate_hz, 4),
    }


def _sha256_of(place: Place, pulse: "_Pulse") -> str:
    """Of all bytes that hold the video; those of the last one are remembered, for episodes share files."""
    state = place.path.stat()
    key = (place.path, place.offset, place.num_bytes, state.st_size, state.st_mtime_ns)
    if key not in _LAST_SHA256:
        digest = hashlib.sha256()
        with place.open() as file:
            while block := file.read(1 << 20):
                digest.update(block)
                pulse()
        _LAST_SHA256.clear()
        _LAST_SHA256[key] = digest.hexdigest()
    return _LAST_SHA256[key]


_LAST_SHA256: dict[tuple[object, ...], str] = {}


class _Pulse:
    """Called for every piece of work; tells the parent now and then that the child is alive."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._last_s = connection, time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._last_s > ALIVE_EVERY_S:
            self._connection.send_bytes(_pack({"kind": "alive"}))
            self._last_s = time.monotonic()


def _limit_memory(num_bytes: int) -> None:
    """Let this process grow by so much and no more; beyond that, allocations fail."""
    statm = Path("/proc/self/statm")
    if not statm.is_file():
        return  # elsewhere the address space says little about the memory that is used
    limit = int(statm.read_text().split()[0]) * resource.getpagesize() + num_bytes
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash leaves no dump of it on the disk


def _main() -> None:
    _limit_memory(int(sys.argv[2]))
    try:
        _serve(Connection(int(sys.argv[1])))
    except (EOFError, ConnectionError):
        return  # the parent is gone


if __name__ == "__main__":
    _main()
