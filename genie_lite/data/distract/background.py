"""Moving backgrounds: other footage plays behind what a clip shows, or shines through it.

There is no segmentation, so where the background is has to be seen from the clip alone:

- Where most of a clip stands still, its background is its median picture. Whatever equals that picture gives way
  to the other footage, whatever differs (an arm, what it holds) stays in front untouched, with a pixel around it.
  An object that never moves, or a robot's foot, counts as background; so it never gives way altogether.
- Where the whole picture scrolls, as in most games, nothing is background: the footage shines through all of it
  alike, weakly enough that the player stays the clearest thing in sight.

Source: the videos of DAVIS behind the robots of the Distracting Control Suite, arXiv:2101.02722.
Differs: without a simulator that knows what is in front; weights instead of a share of the frames.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

# Weight of the other footage, by strength.
BEHIND = (0.3, 0.5, 0.7)  # where the background is known
THROUGH = (0.15, 0.3, 0.45)  # where it is not
ALIKE_LEVELS = 16  # of 255: compression noise of a pixel that shows the same
EDGE_LEVELS = 24  # difference between the two neighbours of a pixel, from which on it is an edge
STILL_FRAMES = 0.6  # share of the frames of a clip in which an edge is found where it stands still
# Edges that stand still over edges of a frame. Of clips of Maze and CoinRun nine in ten are below 0.24, of a robot
# whose camera is its head all are above 0.28, of filmed video nine in ten above 0.45.
STILL_EDGES = 0.25
FEWEST_FRAMES = 8  # of a clip, for a median picture to mean something


@dataclass(frozen=True)
class Background:
    """Other footage. It plays to its end and back again, without a jump.

    footage: of the size of the frames. rate_hz: of the footage. start_s: where in it the clip begins.
    """

    strength: int
    footage: UInt8[np.ndarray, "n h w c"]
    rate_hz: float
    start_s: float

    @classmethod
    def draw(
        cls,
        strength: int,
        seed: int,
        footage: UInt8[np.ndarray, "n y x c"],
        rate_hz: float,
        frame_hw: tuple[int, int],
    ) -> "Background":
        """Footage of any size, from a random frame on, mirrored or not; the same for the same seed."""
        random = np.random.default_rng(seed)
        start_s = float(random.uniform(0, len(footage) / rate_hz))
        pictures = np.stack([_fitted(picture, frame_hw) for picture in footage])
        return cls(strength, pictures[:, :, ::-1] if random.random() < 0.5 else pictures, rate_hz, start_s)

    def __call__(
        self, frames: UInt8[np.ndarray, "t h w c"], time_s: Float[np.ndarray, " t"]
    ) -> UInt8[np.ndarray, "t h w c"]:
        """The frames before what the footage shows at those times."""
        mask = standing(frames)
        weight = THROUGH[self.strength - 1] if mask is None else BEHIND[self.strength - 1] * mask[..., None]
        mixed = frames + weight * (self.at(time_s).astype(np.float32) - frames)
        return mixed.round().astype(np.uint8)

    def at(self, time_s: Float[np.ndarray, " t"]) -> UInt8[np.ndarray, "t h w c"]:
        """The footage at some times of the clip."""
        last = len(self.footage) - 1
        place = np.round((time_s + self.start_s) * self.rate_hz).astype(np.int64) % max(2 * last, 1)
        return self.footage[np.minimum(place, 2 * last - place) if last else place]


def standing(frames: UInt8[np.ndarray, "t h w c"]) -> Float[np.ndarray, "t h w"] | None:
    """Where every frame shows the background of its clip, 0 to 1 with soft edges; None where there is none."""
    if len(frames) < FEWEST_FRAMES:
        return None
    median = np.median(frames, axis=0).astype(np.uint8)
    alike = np.stack([cv2.absdiff(frame, median).max(axis=-1) for frame in frames]) <= ALIKE_LEVELS
    # Of flat areas nobody can tell whether they move.
    edges = np.stack([_is_edge(frame) for frame in frames])
    still = (alike & edges).mean(axis=0) >= STILL_FRAMES
    if still.sum() < STILL_EDGES * edges.mean(axis=0).sum() or not still.any():
        return None
    return np.stack([_softened(each) for each in alike.astype(np.uint8)])


def _is_edge(frame: UInt8[np.ndarray, "h w c"]) -> Bool[np.ndarray, "h w"]:
    right, down = (cv2.Sobel(frame, cv2.CV_32F, *axis, ksize=1) for axis in ((1, 0), (0, 1)))
    return np.maximum(np.abs(right), np.abs(down)).max(axis=-1) >= EDGE_LEVELS


def _softened(alike: UInt8[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Without specks of noise, and with a pixel around what is in front."""
    whole = cv2.medianBlur(alike, 3)
    return cv2.blur(cv2.erode(whole, np.ones((3, 3), np.uint8)).astype(np.float32), (3, 3))


def _fitted(picture: np.ndarray, frame_hw: tuple[int, int]) -> np.ndarray:
    if picture.shape[:2] == frame_hw:
        return picture
    return cv2.resize(picture, frame_hw[::-1], interpolation=cv2.INTER_AREA)
