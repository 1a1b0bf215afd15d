"""Where one continuous shot ends and the next begins.

A shot ends at a scene cut, at black, and at a hole in time; a clip must never hold such a jump, for no
action explains it. Pictures carry their pixels lazily: without cut detection only those that are kept
are ever converted.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from jaxtyping import UInt8

from genie_lite.data.cutting.motion import THUMBNAIL_PX, is_black, luma_of
from genie_lite.data.video.picture import Picture, SquareFitter

MAX_HOLE_S = 1.0  # no picture for longer than this: recording stopped, or the clock was reset


@dataclass
class ShotFrame:
    """A picture, the number of the shot it lies in, and whether it is black (then it belongs to no clip)."""

    picture: Picture
    fitter: SquareFitter
    shot: int = 0
    is_black: bool = False

    @cached_property
    def pixels(self) -> np.ndarray:
        """Square uint8 RGB, `h w c`."""
        return self.fitter(self.picture)


class CutDetector:
    """PySceneDetect's content detector, and a rule for the cuts from and to black that it misses.

    Source: scenedetect.com, ContentDetector: the mean change of hue, saturation and value, 0 to 255. Its score is
    computed here in one call, which takes a tenth of the time; a test holds the two together.
    Differs: no minimum length of a scene, so that a flash of a few frames ends a shot twice.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._previous: np.ndarray | None = None
        self._was_black = False

    def push(self, thumbnail: UInt8[np.ndarray, "h w c"]) -> tuple[bool, bool]:
        """Whether a new shot begins with this frame, and whether the frame is black."""
        colours = cv2.cvtColor(thumbnail, cv2.COLOR_RGB2HSV)
        previous, self._previous = self._previous, colours
        was_black, self._was_black = self._was_black, is_black(luma_of(thumbnail))
        if previous is None:
            return False, self._was_black
        score = cv2.norm(colours, previous, cv2.NORM_L1) / colours.size
        return score >= self._threshold or was_black != self._was_black, self._was_black


def find_shots(
    pictures: Iterable[Picture], fitter: SquareFitter, cuts: CutDetector | None
) -> Iterator[ShotFrame]:
    """Number the shots from 0. Without a detector only holes in time separate them."""
    looker = fitter.smaller(THUMBNAIL_PX)  # a cut is as visible at this size, and detection costs a tenth
    shot, previous_s = 0, None
    for picture in pictures:
        if previous_s is not None and abs(picture.time_s - previous_s) > MAX_HOLE_S:
            shot += 1
        previous_s = picture.time_s
        frame = ShotFrame(picture, fitter)
        if cuts is not None:
            is_cut, frame.is_black = cuts.push(frame.pixels if looker is fitter else looker(picture))
            shot += is_cut
        frame.shot = shot
        yield frame
