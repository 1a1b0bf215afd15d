"""Camera shake: the whole picture wanders and turns, as if filmed by hand; what leaves it comes back mirrored."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from genie_lite.data.distract.wander import Wander

# The farthest that a path takes it, by strength: in a hundredth of a frame's side, and in degrees.
SHIFT_SHARE = (0.04, 0.08, 0.16)
TURN_DEGREES = (2.0, 4.0, 8.0)


@dataclass(frozen=True)
class Shake:
    """One unsteady hand. shift_share, degrees: the farthest it goes; path: right, down, and clockwise."""

    shift_share: float
    degrees: float
    path: Wander

    @classmethod
    def draw(cls, strength: int, seed: int) -> "Shake":
        """A stronger one of the same seed takes the same path, farther."""
        return cls(SHIFT_SHARE[strength - 1], TURN_DEGREES[strength - 1], Wander.draw(3, seed))

    def __call__(
        self, frames: UInt8[np.ndarray, "t h w c"], time_s: Float[np.ndarray, " t"]
    ) -> UInt8[np.ndarray, "t h w c"]:
        """The frames as they look at those times."""
        _, height, width, _ = frames.shape
        moved = np.empty_like(frames)
        for k, (right, down, turn) in enumerate(self.path.at(time_s)):
            matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -turn * self.degrees, 1.0)
            matrix[:, 2] += self.shift_share * width * right, self.shift_share * height * down
            moved[k] = cv2.warpAffine(
                frames[k], matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
            )
        return moved
