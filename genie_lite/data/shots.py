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
from scenedetect import FrameTimecode
from scenedetect.detectors import ContentDetector

from genie_lite.data.video import Picture, SquareFitter

THUMBNAIL_PX = 64  # a cut is as visible at this size, and detection costs a tenth
# 99 % of a black frame's pixels lie below this luma: video black is 16 of 255 before range expansion and
# noisy after compression. A mean would call a night scene, or a game on a black ground, black.
BLACK_LUMA = 24
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

    Source: scenedetect.com (ContentDetector: mean change of hue, saturation and value, 0 to 255).
    Differs: no minimum length of a scene, so that a flash of a few frames ends a shot twice.
    """

    def __init__(self, threshold: float) -> None:
        self._detector = ContentDetector(threshold=threshold, min_scene_len=0)
        self._was_black: bool | None = None
        self._count = 0

    def push(self, pixels: np.ndarray) -> tuple[bool, bool]:
        """Whether a new shot begins with this frame, and whether the frame is black."""
        thumbnail = _thumbnail(pixels)
        timecode = FrameTimecode(self._count, fps=25.0)  # without a minimum length the rate has no effect
        has_changed = bool(self._detector.process_frame(timecode, cv2.cvtColor(thumbnail, cv2.COLOR_RGB2BGR)))
        is_black = _is_black(thumbnail)
        is_cut = self._was_black is not None and (has_changed or is_black != self._was_black)
        self._was_black = is_black
        self._count += 1
        return is_cut, is_black


def find_shots(
    pictures: Iterable[Picture], fitter: SquareFitter, cuts: CutDetector | None
) -> Iterator[ShotFrame]:
    """Number the shots from 0. Without a detector only holes in time separate them."""
    shot, previous_s = 0, None
    for picture in pictures:
        if previous_s is not None and abs(picture.time_s - previous_s) > MAX_HOLE_S:
            shot += 1
        previous_s = picture.time_s
        frame = ShotFrame(picture, fitter)
        if cuts is not None:
            is_cut, frame.is_black = cuts.push(frame.pixels)
            shot += is_cut
        frame.shot = shot
        yield frame


def _is_black(pixels: np.ndarray) -> bool:
    luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return bool(np.count_nonzero(luma >= BLACK_LUMA) <= 0.01 * luma.size)


def _thumbnail(pixels: np.ndarray) -> np.ndarray:
    if len(pixels) <= THUMBNAIL_PX:
        return pixels
    return cv2.resize(pixels, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
