"""What a player takes home: a film, and a replay that gives the same frames again.

Both are made of frames that were seen, and the replay is the same file that `genie-lite rollout --replay` writes of
the same ride.
"""

from collections.abc import Iterable
from pathlib import Path

from jaxtyping import UInt8
from numpy import ndarray

from genie_lite import replay
from genie_lite.data.video.codec import encode_stream
from genie_lite.models.world import World
from genie_lite.replay import Proof
from genie_lite.steer import Played, Ride

LEAST_PX = 256  # shorter side of a film, about; smaller frames are enlarged, pixel by pixel
CRF = 18  # of x264: no difference is seen, at half the size of what shards are stored with


def film(frames: Iterable[UInt8[ndarray, "h w c"]], rate_hz: float) -> bytes:
    """An mp4 that plays everywhere. Frames come one by one, all of one size with even sides; at least one."""
    return encode_stream(map(_enlarged, frames), rate_hz, crf=CRF)


def replay_bytes(ride: Ride, world: World, run: Path, played: Played | Proof) -> bytes:
    """A replay, to be verified with `genie-lite replay FILE`; see `replay.write_replay`."""
    return replay.replay_bytes(replay.record(ride, world, run, played))


def _enlarged(frame: UInt8[ndarray, "h w c"]) -> UInt8[ndarray, "y x c"]:
    # Films store colour at half the resolution, so that single pixels of it are lost at their own size.
    zoom = max(1, round(LEAST_PX / min(frame.shape[:2])))
    return frame.repeat(zoom, axis=0).repeat(zoom, axis=1)
