"""What a tiny world of random weights offers to players, and a page's side of the socket."""

import contextlib
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from genie_lite.controls import Controls, code_controls
from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.models.sampling import SamplingConfig
from genie_lite.models.world import World
from genie_lite.play.config import PlayConfig
from genie_lite.play.drive import Driver, chance
from genie_lite.play.names import Names
from genie_lite.play.offer import Offer
from genie_lite.play.own_start import OwnStarts
from genie_lite.play.previews import Previews
from genie_lite.play.serve import address_of, listen, server_of
from genie_lite.play.server import create_app
from genie_lite.play.shelf import Shelf
from genie_lite.play.starts import Start, Starts
from genie_lite.play.twin import Twins
from tests import models

SIZE_PX = models.FRAME_HW[0]
MOVES = ("noop", "left", "right", "up", "down")  # of the toy game
NUM_STARTS = 3
PATIENCE_S = 30


@dataclass(frozen=True)
class ToyControls(Controls):
    """Five actions of the toy game on four codes."""

    def codes_of(
        self,
        action: torch.Tensor,
        before: torch.Tensor | None = None,
        frames: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The last two actions share a code."""
        return action.clamp_max(self.num_codes - 1)


@dataclass(frozen=True)
class SeeingControls(Controls):
    """The code of an action is told by the corner of the frame that it is taken at."""

    @property
    def reads_frames(self) -> bool:
        """Always."""
        return True

    def codes_of(
        self,
        action: torch.Tensor,
        before: torch.Tensor | None = None,
        frames: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The corner's red, in so many parts."""
        assert frames is not None
        return (255 * frames[:, 0, 0, 0]).round().long() % self.num_codes


@dataclass(frozen=True)
class ArmControls(Controls):
    """A vector of two components; the code is told by the first, and by whether the second has grown."""

    def codes_of(
        self,
        action: torch.Tensor,
        before: torch.Tensor | None = None,
        frames: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """One of four."""
        has_grown = torch.zeros(len(action)) if before is None else (action[:, 1] > before[:, 1]).float()
        return (2 * (action[:, 0] > 0) + has_grown).long()


def prompt(seed: int = 0, num: int = 1) -> np.ndarray:
    """Frames to begin from."""
    return np.random.default_rng(seed).integers(0, 256, (num, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)


def world(micro_batch: int = 1, window: int = 3) -> World:
    """A tiny world, the same each time."""
    sampling = SamplingConfig(refinements=2, micro_batch=micro_batch)
    return World(models.tokenizer(window=window), models.lam(), models.dynamics(), sampling)


def offer(run: Path, *, micro_batch: int = 1, game: bool = False, arm: bool = False) -> Offer:
    """A tiny world with three starts of one, two and three frames; `run` need not hold anything.

    Args:
        run: its folder; names and previews go there.
        micro_batch: of the world.
        game: offer the toy game's actions and the real game; then every start is of one frame.
        arm: actions are vectors.
    """
    tiny = world(micro_batch)
    codes = controls = code_controls(tiny)
    if game:
        controls = ToyControls("discrete", MOVES, (), (), tiny.num_codes)
    if arm:
        controls = ArmControls("continuous", ("x", "y"), (-1.0, 0.0), (1.0, 2.0), tiny.num_codes)
    starts = Starts(lambda: [_start(number, game=game) for number in range(NUM_STARTS)])
    shelf = Shelf(run, "tiny")
    config = IngestConfig(size_px=SIZE_PX, rate_hz=10.0)
    policies = {} if arm else {each.name: each for each in (chance(len(controls.names)), _brightest())}
    return Offer(
        run=run,
        title="tiny",
        rate_hz=10.0,
        frame_hw=models.FRAME_HW,
        world=tiny,
        controls=controls,
        code_controls=codes,
        starts=starts,
        own_starts=OwnStarts(config, 1),
        names=Names(shelf, "0" * 64, tiny.num_codes),
        previews=Previews(tiny, Starts(lambda: [_start(0, game=game)]), shelf, "0" * 64, 10.0),
        policies=policies,
        twins=Twins("toy", MOVES, models.FRAME_HW, config.resize, 2) if game else None,
        no_twin=None if game else "no game",
    )


def _start(number: int, *, game: bool) -> Start:
    frames = prompt(number, 1 if game else number + 1)
    return Start(f"start {number}", lambda: frames, number if game else None)


def _brightest() -> Driver:
    """Tells by its choices which frames it is shown."""

    def choose(frames: np.ndarray, _: torch.Generator) -> np.ndarray:
        return brightness(frames)

    return Driver("brightest", 3, choose)


def brightness(frames: np.ndarray) -> np.ndarray:
    """A number from 0 to 3 for each stream of frames, which depends on every one of them."""
    totals = frames.sum(axis=(2, 3, 4), dtype=np.int64)
    return (totals * np.arange(1, 1 + totals.shape[1])).sum(axis=1) // 7 % 4


def png_of(frame: np.ndarray) -> bytes:
    """A frame as a PNG."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "PNG")
    return file.getvalue()


# --- a server in a thread ------------------------------------------------------------------------------------


@contextlib.contextmanager
def served(given: Offer, config: PlayConfig | None = None, port: int = 0) -> Iterator[str]:
    """A real server of an offer; gives its address, such as 127.0.0.1:43211."""
    config = config or PlayConfig()
    with contextlib.closing(listen("127.0.0.1", port)) as listening:
        server = server_of(create_app(given, config), config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield address_of(listening).removeprefix("http://")
        finally:
            server.should_exit = True
            thread.join()


@dataclass(frozen=True)
class Frame:
    """A picture that arrived."""

    header: dict[str, Any]
    picture: np.ndarray
    twin: np.ndarray | None

    @property
    def moment(self) -> tuple[int, int]:
        return self.header["branch"], self.header["frame"]


def frame_of(data: bytes) -> Frame:
    """Take a binary message apart."""
    length = int.from_bytes(data[:4], "little")
    header = json.loads(data[4 : 4 + length])
    pixels = np.frombuffer(data[4 + length :], np.uint8).reshape(-1, header["h"], header["w"], 3)
    assert len(pixels) == 1 + header["twin"]
    return Frame(header, pixels[0], pixels[1] if header["twin"] else None)


class Page:
    """What a page does with its socket."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.token = ""

    def send(self, kind: str, **rest: Any) -> None:
        self.socket.send(json.dumps({"type": kind, **rest}))

    def next(self) -> dict[str, Any] | Frame:
        """The next message, whatever it is."""
        received = self.socket.recv(PATIENCE_S)
        return json.loads(received) if isinstance(received, str) else frame_of(received)

    def until(self, kind: str) -> Any:
        """The next message of a type; others are passed over, but not complaints."""
        while True:
            found = self.next()
            name = found.header["type"] if isinstance(found, Frame) else found["type"]
            if name == kind:
                return found
            assert name not in ("refused", "busy"), found

    def open(self, index: int = 0, seed: int = 7, **rest: Any) -> Frame:
        """Begin a game from one of the run's starts; returns frame 0."""
        self.send("open", start={"kind": "gallery", "index": index}, seed=seed, **rest)
        self.token = self.until("session")["token"]
        return self.until("frame")

    def act(self, action: Any, **rest: Any) -> Frame:
        """One frame on."""
        self.send("act", action=action, **rest)
        return self.until("frame")

    def seek(self, branch: int, frame: int) -> Frame:
        self.send("seek", branch=branch, frame=frame)
        return self.until("frame")

    def look(self, branch: int, frame: int) -> Frame:
        self.send("look", branch=branch, frame=frame)
        return self.until("look")

    def until_refused(self) -> str:
        """Why the next message that is refused is; whatever comes before is passed over."""
        while True:
            found = self.next()
            if isinstance(found, dict) and found["type"] == "refused":
                return found["reason"]

    def until_closed(self) -> int:
        """Why the server closes the socket: its code; whatever comes before is passed over."""
        try:
            while True:
                self.next()
        except ConnectionClosed as closed:
            return 1006 if closed.rcvd is None else closed.rcvd.code

    def refused(self, kind: str, **rest: Any) -> str:
        """Send what must be refused; returns the reason."""
        self.send(kind, **rest)
        return self.until_refused()


@contextlib.contextmanager
def page(address: str, **rest: Any) -> Iterator[Page]:
    """A page at a server."""
    with connect(f"ws://{address}/ws", compression=None, close_timeout=1, **rest) as socket:
        yield Page(socket)
