"""What is put over footage, by kind, strength and seed: pure functions of frames and of their times.

    none        nothing
    background  other footage behind what is shown, or through it   background.py
    shake       an unsteady camera                                  shake.py
    colour      changing light                                      colour.py

All of them go on smoothly from frame to frame and know nothing of actions: a latent action that names what they do
names nothing that anybody chose. A seed draws a course; a strength of 1 to 3 says how far it goes.
"""

import hashlib
from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8
from pydantic import Field

from genie_lite.config import Config
from genie_lite.data.distract.background import Background
from genie_lite.data.distract.colour import Colour
from genie_lite.data.distract.shake import Shake

Kind = Literal["none", "background", "shake", "colour"]
RATE_HZ = 10.0

# frames `t h w c` and the time of each in its clip, in seconds -> the frames with the distractor
Distractor = Callable[[UInt8[np.ndarray, "t h w c"], Float[np.ndarray, " t"]], UInt8[np.ndarray, "t h w c"]]


class DistractConfig(Config):
    """Which distractor. strength: 1, 2 or 3; each kind says what that means. seed: of every clip's course."""

    kind: Kind
    strength: int = Field(default=2, ge=1, le=3)
    seed: int = Field(default=0, ge=0)

    @property
    def name(self) -> str:
        """Such as `shake-2`."""
        return self.kind if self.kind == "none" else f"{self.kind}-{self.strength}"


def background(
    frames: UInt8[np.ndarray, "t h w c"],
    strength: int,
    seed: int,
    footage: UInt8[np.ndarray, "n y x c"],
    rate_hz: float = RATE_HZ,
) -> UInt8[np.ndarray, "t h w c"]:
    """The frames before other footage of the same rate; see `background.py`."""
    drawn = Background.draw(strength, seed, footage, rate_hz, frames.shape[1:3])
    return drawn(frames, times(len(frames), rate_hz))


def shake(
    frames: UInt8[np.ndarray, "t h w c"], strength: int, seed: int, rate_hz: float = RATE_HZ
) -> UInt8[np.ndarray, "t h w c"]:
    """The frames as an unsteady camera sees them; see `shake.py`."""
    return Shake.draw(strength, seed)(frames, times(len(frames), rate_hz))


def colour(
    frames: UInt8[np.ndarray, "t h w c"], strength: int, seed: int, rate_hz: float = RATE_HZ
) -> UInt8[np.ndarray, "t h w c"]:
    """The frames under changing light; see `colour.py`."""
    return Colour.draw(strength, seed)(frames, times(len(frames), rate_hz))


def times(num_frames: int, rate_hz: float) -> Float[np.ndarray, " t"]:
    """When each frame of a clip is shown, in seconds."""
    return np.arange(num_frames) / rate_hz


def seed_of(seed: int, name: str) -> int:
    """The seed of a clip: another for every name, and never dependent on the clips beside it."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big")
