"""What players feel: how soon there is a first frame, how fast frames come, what a long game and a full house cost.

    python benchmarks/play.py RUN [--sessions 1 4 16] [--seconds 20] [--frames 10000] [--held 64] [--held-s 300]
                                  [--threads 2] [--k K] [--together N] [--write]

A server is started as people start it, `genie-lite play RUN`, and played over its socket from this process. Every
player asks for the next frame when the last one has arrived. Rows:

    first frame   seconds from the command to the first drawn frame, imports and loading among them
    play          so many players for --seconds: frames per second of all of them, and from key to picture
    long          one player, --frames frames: resident memory after a tenth of them, and what it grew by since
    held          --held players for --held-s seconds: errors are broken sockets, refusals and frames out of order

`rss_mb` is what the server holds at the end of the row, in MB of 2^20 bytes; `rss_growth_mb` since its first tenth.
--frames 0 and --held-s 0 leave these rows out. On two cores the demo's world takes half an hour for all of it.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from measure import ROOT, Row, command, tell, write_table
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

TABLE = ROOT / "docs" / "play.md"
PATIENCE_S = 120.0  # for one answer, of a server with many players
TENTH = 10


@dataclass
class Told:
    """What players noted. latency_ms: of every frame."""

    latency_ms: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Server:
    """Where it is, and which process; since_s: when its command was given, as time.perf_counter() tells it."""

    address: str
    pid: int
    since_s: float


def main() -> None:
    """Parse the command line, start a server, print a row for each measurement."""
    given = options().parse_args()
    with serving(play_command(given)) as server:
        rows = [tell(row) for row in measure(server, given)]
    if given.write:
        write_table("play" if given.together is None else "together", rows, command(), TABLE)


def play_command(given: argparse.Namespace) -> list[str]:
    """The command that people give, with room for everybody: who has gone may come back, for all it knows."""
    most = 1 + sum(given.sessions) + bool(given.frames) + (given.held if given.held_s else 0)
    words = ["play", str(given.run), "--port", "0", "--sessions", str(most)]
    words += [] if given.threads is None else ["--threads", str(given.threads)]
    words += [] if given.k is None else ["--k", str(given.k)]
    words += [] if given.together is None else ["--together", str(given.together)]
    return [sys.executable, "-m", "genie_lite", *words]


@contextlib.contextmanager
def serving(words: Sequence[str]) -> Iterator[Server]:
    """A server in a process of its own, from the moment that it tells its address."""
    since_s = time.perf_counter()
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            _, there, rest = line.partition("http://")
            if not there:
                raise SystemExit(f"play: the server said {line!r} and no address")
            yield Server(rest.split()[0], process.pid, since_s)
        finally:
            process.terminate()


def measure(server: Server, given: argparse.Namespace) -> Iterator[Row]:
    """One row after the other."""
    yield _row("first frame", 1, asyncio.run(_first_frame_s(server)), Told(), server)
    for num in given.sessions:
        yield _timed("play", server, num, seconds=given.seconds)
    if given.frames:
        yield _timed("long", server, 1, frames=given.frames)
    if given.held_s:
        yield _timed("held", server, given.held, seconds=given.held_s)


def percentile_95(values: Sequence[float]) -> float:
    """The smallest value that at least 95 % do not exceed."""
    return sorted(values)[-(-len(values) * 95 // 100) - 1]


def rss_mb(pid: int) -> float:
    """Resident memory of a process."""
    (line,) = [
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")
    ]
    return int(line.split()[1]) / 1024


async def act(socket: ClientConnection, code: int, seq: int) -> int:
    """Ask for a frame and wait for it; returns its number.

    Raises:
        ValueError: it was refused.
    """
    await socket.send(json.dumps({"type": "act", "action": code, "terms": "code", "seq": seq}))
    while True:
        message = await asyncio.wait_for(socket.recv(), PATIENCE_S)
        if isinstance(message, str):
            if (told := json.loads(message))["type"] in ("refused", "busy"):
                raise ValueError(told["reason"])
        elif (header := header_of(message))["seq"] == seq:
            return header["frame"]


def header_of(message: bytes) -> dict[str, int]:
    """What stands before the pixels."""
    return json.loads(message[4 : 4 + int.from_bytes(message[:4], "little")])


# --- players -------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _player(server: Server, seed: int) -> AsyncIterator[ClientConnection]:
    """A socket with a game that shows its frame 0."""
    async with connect(f"ws://{server.address}/ws", compression=None, ping_interval=None) as socket:
        start = {"kind": "gallery", "index": 0}
        await socket.send(json.dumps({"type": "open", "start": start, "seed": seed}))
        while isinstance(message := await asyncio.wait_for(socket.recv(), PATIENCE_S), str):
            if (told := json.loads(message))["type"] in ("refused", "busy"):
                raise ValueError(told["reason"])
        yield socket


async def _first_frame_s(server: Server) -> float:
    async with _player(server, 0) as socket:
        await act(socket, 0, 1)
    return time.perf_counter() - server.since_s


async def _play(server: Server, seed: int, told: Told, wanted: "_Wanted") -> None:
    """One player, until enough is seen; whatever goes wrong is noted."""
    try:
        async with _player(server, seed) as socket:
            await wanted.arrive()
            number = 0
            while wanted.share(number) < 1:
                number += 1
                since_s = time.perf_counter()
                frame = await act(socket, number % wanted.num_codes, number)
                told.latency_ms.append(1000 * (time.perf_counter() - since_s))
                if frame != number:
                    raise ValueError(f"frame {frame} came for act {number}")
    except (OSError, WebSocketException, ValueError, TimeoutError) as error:
        told.errors.append(f"{type(error).__name__}: {error}")
        await wanted.arrive(stays=False)


class _Wanted:
    """How long players play: frames each, or seconds by the clock since all of them are there."""

    def __init__(self, num: int, frames: int | None, seconds: float | None) -> None:
        self.num_codes = 2  # every world has as many
        self.since_s: float | None = None
        self._missing, self._frames, self._seconds = num, frames, seconds
        self._all_there = asyncio.Event()

    async def arrive(self, *, stays: bool = True) -> None:
        """One player is there, or will not come; wait for the others."""
        self._missing -= 1
        if self._missing <= 0 and self.since_s is None:
            self.since_s = time.perf_counter()
            self._all_there.set()
        if stays:
            await self._all_there.wait()

    def share(self, frames: int) -> float:
        """How much of it is done, when a player has seen so many frames."""
        if self.since_s is None:
            return 0.0
        if self._frames is not None:
            return frames / self._frames
        assert self._seconds is not None
        return (time.perf_counter() - self.since_s) / self._seconds

    def took_s(self) -> float:
        """Since all were there."""
        return time.perf_counter() - (self.since_s or time.perf_counter())


async def _company(
    server: Server, num: int, frames: int | None, seconds: float | None
) -> tuple[Told, float, float]:
    """Many players at once: what they noted, for how long, and how much the server grew after a tenth of it."""
    told, wanted = Told(), _Wanted(num, frames, seconds)
    players = [asyncio.create_task(_play(server, seed, told, wanted)) for seed in range(num)]
    early_mb = rss_mb(server.pid)
    while not all(player.done() for player in players):
        if wanted.share(len(told.latency_ms) // num) < 1 / TENTH:
            early_mb = rss_mb(server.pid)
        await asyncio.wait(players, timeout=0.2)
    return told, wanted.took_s(), rss_mb(server.pid) - early_mb


def _timed(
    what: str, server: Server, num: int, frames: int | None = None, seconds: float | None = None
) -> Row:
    told, took_s, grew_mb = asyncio.run(_company(server, num, frames, seconds))
    for error in told.errors[:5]:
        print(f"{what}: {error}", file=sys.stderr, flush=True)
    return _row(what, num, took_s, told, server, grew_mb)


def _row(what: str, num: int, took_s: float, told: Told, server: Server, grew_mb: float | None = None) -> Row:
    latency = told.latency_ms
    return {
        "what": what,
        "sessions": num,
        "seconds": round(took_s, 2),
        "frames": len(latency) or None,
        "frames_per_s": round(len(latency) / took_s, 2) if latency else None,
        "latency_ms": round(statistics.median(latency), 1) if latency else None,
        "latency_p95_ms": round(percentile_95(latency), 1) if latency else None,
        "rss_mb": round(rss_mb(server.pid)),
        "rss_growth_mb": None if grew_mb is None else round(grew_mb, 1),
        "errors": len(told.errors),
    }


def options() -> argparse.ArgumentParser:
    """Of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--sessions", nargs="+", type=int, default=[1, 4, 16], metavar="N")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each row of `play`")
    parser.add_argument("--frames", type=int, default=10_000, help="of the long game")
    parser.add_argument("--held", type=int, default=64, metavar="N", help="players of a full house")
    parser.add_argument("--held-s", type=float, default=300.0, help="how long they stay")
    parser.add_argument("--threads", type=int, help="of the server; the recipe's, if not given")
    parser.add_argument("--k", type=int, help="passes per frame; the recipe's, if not given")
    parser.add_argument("--together", type=int, help="players computed together; the recipe's, if not given")
    parser.add_argument("--write", action="store_true", help="put the table into docs/play.md")
    return parser


if __name__ == "__main__":
    main()
