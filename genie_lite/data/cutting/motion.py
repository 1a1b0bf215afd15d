"""How much moves in a clip, how bright it is, and where nothing happens at all.

Everything is measured on the luma of thumbnails: as telling as the full picture, and compression noise averages out.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeVar, runtime_checkable

import cv2
import numpy as np
from jaxtyping import UInt8

THUMBNAIL_PX = 64
# Video black is 16 of 255 before range expansion and noisy after compression.
BLACK_LUMA = 24
FROZEN_S = 1.0  # for so long nothing may stand still
# A frozen picture is repeated by the encoder, which renews it at key frames: a level or two. The smallest thing
# that moves over a thumbnail changes one pixel by more.
FROZEN_LUMA = 5


@runtime_checkable
class HasLuma(Protocol):
    """A frame whose thumbnail is known."""

    @property
    def luma(self) -> Any: ...


FrameT = TypeVar("FrameT", bound=HasLuma)


def thumbnail(pixels: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "y x c"]:
    """At most 64 pixels high and wide."""
    if len(pixels) <= THUMBNAIL_PX:
        return pixels
    return cv2.resize(pixels, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)


def luma_of(pixels: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "y x"]:
    """The luma of a frame's thumbnail, 0 to 255."""
    return cv2.cvtColor(thumbnail(pixels), cv2.COLOR_RGB2GRAY)


def motion_of(lumas: UInt8[np.ndarray, "t y x"]) -> float:
    """Mean absolute change from frame to frame, 0 where nothing moves to 255."""
    return round(float(cv2.absdiff(lumas[1:], lumas[:-1]).mean()), 3) if len(lumas) > 1 else 0.0


def brightness_of(lumas: UInt8[np.ndarray, "t y x"]) -> float:
    """Mean luma, 0 to 255."""
    return round(float(lumas.mean()), 1)


def is_black(luma: UInt8[np.ndarray, "y x"]) -> bool:
    """Whether 99 % of the pixels are. A mean would call a night scene, or a game on a black ground, black."""
    _, bright = cv2.threshold(luma, BLACK_LUMA - 1, 1, cv2.THRESH_BINARY)
    return cv2.countNonZero(bright) <= 0.01 * luma.size


def find_frozen(frames: Iterable[FrameT], rate_hz: float) -> Iterator[tuple[FrameT, bool]]:
    """Each frame, and whether it belongs to a stretch of `FROZEN_S` or more that repeats the frame before it.

    As many frames are held back as it takes to tell.

    Source: FFmpeg's freezedetect, which compares with the frame that a stretch begins with too. Differs: by the pixel
    of a thumbnail that changes most, not by the mean, in which a small thing that moves is lost.
    """
    shortest = max(2, round(FROZEN_S * rate_hz))
    held: list[FrameT] = []
    shown: np.ndarray | None = None
    num_alike = 0
    for frame in frames:
        if shown is not None and cv2.absdiff(frame.luma, shown).max() <= FROZEN_LUMA:
            num_alike += 1
            held.append(frame)
            if num_alike < shortest:
                continue
            yield from ((each, True) for each in held)
        else:
            yield from ((each, False) for each in held)
            yield frame, False
            shown, num_alike = frame.luma, 0
        held = []
    yield from ((each, False) for each in held)
