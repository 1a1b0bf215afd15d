"""What a player takes home, made in slices between the frames of those who play.

The engine goes through a few frames at a time, so that nobody waits longer for a film of thousands of frames.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from genie_lite.errors import UserError
from genie_lite.play import record
from genie_lite.play.batcher import Engine
from genie_lite.play.offer import Offer
from genie_lite.play.session import Session
from genie_lite.play.tree import Moment
from genie_lite.replay import proof_of

SLICE = 16  # frames
MOST_WAITING = 8  # downloads of all games that are being made or wait for it


class Full(UserError):
    """A download that is not made now; status: of HTTP."""

    status = 503


class Queue:
    """Who waits for a download: each game once, and not too many games. To be used on the server's loop."""

    def __init__(self, most: int = MOST_WAITING) -> None:
        self._most = most
        self._games: set[str] = set()

    @contextmanager
    def place(self, game: Session) -> Iterator[None]:
        """Hold a place as long as a download is made.

        Raises:
            Full: this game has one, or there is none.
        """
        if game.token in self._games:
            raise Full("a film or a replay of this game is being made already; wait until it is there")
        if len(self._games) >= self._most:
            raise Full(f"{self._most} downloads are being made, as many as may wait; try again in a moment")
        self._games.add(game.token)
        try:
            yield
        finally:
            self._games.discard(game.token)


def film(offer: Offer, engine: Engine, game: Session, branch: int) -> bytes:
    """An mp4 of a branch, frame 0 first. Not to be called on the engine's thread or the server's loop.

    Raises:
        UserError: no such branch.
    """
    return record.film(_frames(engine, game, game.end(branch)), offer.rate_hz)


def replay(offer: Offer, engine: Engine, game: Session, branch: int) -> bytes:
    """A replay of a branch, that `genie-lite replay` verifies. Likewise.

    Raises:
        UserError: no such branch, or one without a frame of its own.
    """
    end = game.end(branch)  # once: acts go on meanwhile
    ride = game.ride_to(end)
    if not len(ride.codes):
        raise UserError("replay: nothing has been played yet; act at least once")
    frames = islice(_frames(engine, game, end), 1, None)
    tokens = game.tree.tokens(end).astype(np.int32)
    return record.replay_bytes(ride, offer.world, offer.run, proof_of(frames, tokens))


def _frames(engine: Engine, game: Session, end: Moment) -> Iterator[UInt8[ndarray, "h w c"]]:
    frames = game.film(end)
    while part := engine.do(lambda: list(islice(frames, SLICE))).result():
        yield from part
