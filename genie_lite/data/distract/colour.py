"""Changing light: hue, brightness, contrast and tint of the whole picture drift slowly, each on its own path."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from genie_lite.data.distract.wander import Wander

# The farthest that each drifts, by strength.
HUE_DEGREES = (20.0, 45.0, 90.0)
BRIGHTNESS = (15.0, 30.0, 60.0)  # of 255 levels, added
CONTRAST = (0.1, 0.2, 0.4)  # share, around the middle grey
TINT = (0.08, 0.16, 0.32)  # share, of each of red, green and blue
MIDDLE = 127.5
NUM_PATHS = 6  # hue, brightness, contrast, and the tint of three colours


@dataclass(frozen=True)
class Colour:
    """One play of light. strength: 1 to 3."""

    strength: int
    path: Wander

    @classmethod
    def draw(cls, strength: int, seed: int) -> "Colour":
        """A stronger one of the same seed takes the same path, farther."""
        return cls(strength, Wander.draw(NUM_PATHS, seed))

    def __call__(
        self, frames: UInt8[np.ndarray, "t h w c"], time_s: Float[np.ndarray, " t"]
    ) -> UInt8[np.ndarray, "t h w c"]:
        """The frames as they look at those times."""
        row, paths = self.strength - 1, self.path.at(time_s)
        turn = _turns(HUE_DEGREES[row] * paths[:, 0])
        gain = (1 + CONTRAST[row] * paths[:, 2:3]) * (1 + TINT[row] * paths[:, 3:])
        matrix = gain[:, :, None] * turn
        lift = MIDDLE + BRIGHTNESS[row] * paths[:, 1:2] - MIDDLE * matrix.sum(axis=-1)
        light = np.concatenate([matrix, lift[:, :, None]], axis=-1)
        return np.stack([cv2.transform(frame, each) for frame, each in zip(frames, light, strict=True)])


def _turns(degrees: Float[np.ndarray, " t"]) -> Float[np.ndarray, "t 3 3"]:
    """Rotations of RGB around the axis of the greys: they change the hue and leave every grey as it is."""
    angle = np.radians(degrees)[:, None, None]
    axis = np.full(3, 3**-0.5)
    cross = np.cross(np.eye(3), axis)
    return np.cos(angle) * np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * np.outer(axis, axis)
