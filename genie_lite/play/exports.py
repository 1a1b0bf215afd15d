"""What a player takes home, made in slices between the frames of those who play.

The engine goes through a few frames at a time, so that nobody waits longer for a film of thousands of frames.
"""

from collections.abc import Iterator
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
from genie_lite.steer import Played

SLICE = 16  # frames


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
    end, ride = game.end(branch), game.ride(branch)
    if not len(ride.codes):
        raise UserError("replay: nothing has been played yet; act at least once")
    frames = np.stack(list(_frames(engine, game, end))[1:])
    tokens = game.tree.tokens(end)[: len(ride.codes)].astype(np.int32)
    return record.replay_bytes(ride, offer.world, offer.run, Played(frames[: len(tokens)], tokens))


def _frames(engine: Engine, game: Session, end: Moment) -> Iterator[UInt8[ndarray, "h w c"]]:
    frames = game.film(end)
    while part := engine.do(lambda: list(islice(frames, SLICE))).result():
        yield from part
