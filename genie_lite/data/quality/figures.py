"""What plain arithmetic tells of a clip: how much moves in it, how bright and how detailed it is.

All of it is measured on thumbnails, so that clips of different sizes compare.
"""

import cv2
import numpy as np
from jaxtyping import Float, Float64, UInt8

THUMBNAIL_PX = 64
STILL = 0.5  # levels: a transition that changes less on average shows nothing new
EDGE = 16.0  # levels between neighbouring pixels

# The order is part of a trained classifier: see `figures` for what each of them is.
FIGURES = ("motion", "stillness", "jump", "brightness", "contrast", "edges", "grain", "colour")


def figures(frames: UInt8[np.ndarray, "t h w 3"]) -> Float64[np.ndarray, " d"]:
    """One number for each of `FIGURES`.

    motion: log of 1 + the mean change of luma from frame to frame, in levels of 0 to 255. stillness: share of
    the transitions that show nothing new. jump: as motion, of the transition that changes most; a slideshow
    stands still and jumps. brightness: mean luma, 0 to 1. contrast: its deviation within a frame, 0 to 0.5.
    edges: share of the pixels that differ clearly from a neighbour. grain: share of the change that neighbouring
    pixels do not have in common, about 2/3 for noise and 0 where nothing moves. colour: mean distance of the
    strongest channel from the weakest, 0 (grey) to 1.
    """
    small = np.stack([_thumbnail(frame) for frame in frames])
    luma = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in small]).astype(np.float32)
    change = np.diff(luma, axis=0)
    changes = np.abs(change).mean(axis=(1, 2)) if len(change) else np.zeros(1)
    values = {
        "motion": np.log1p(changes.mean()),
        "stillness": (changes < STILL).mean(),
        "jump": np.log1p(changes.max()),
        "brightness": luma.mean() / 255,
        "contrast": luma.std(axis=(1, 2)).mean() / 255,
        "edges": _edges(luma),
        "grain": _grain(change),
        "colour": _colour(small),
    }
    return np.array([values[name] for name in FIGURES], dtype=np.float64)


def _thumbnail(frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "y x 3"]:
    if max(frame.shape) <= THUMBNAIL_PX:
        return frame
    return cv2.resize(frame, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)


def _colour(small: UInt8[np.ndarray, "t h w 3"]) -> float:
    red, green, blue = (np.ascontiguousarray(small[..., channel]) for channel in range(3))
    strongest, weakest = (
        pick(pick(red, green), blue) for pick in (np.maximum, np.minimum)
    )  # 20 times max(axis=-1)
    return float((strongest - weakest).mean()) / 255


def _edges(luma: Float[np.ndarray, "t h w"]) -> float:
    down = np.abs(np.diff(luma, axis=1))[:, :, :-1]
    right = np.abs(np.diff(luma, axis=2))[:, :-1, :]
    return float((np.maximum(down, right) > EDGE).mean())


def _grain(change: Float[np.ndarray, "k h w"]) -> float:
    total = float(np.abs(change).sum())
    if not total:
        return 0.0
    shared = sum(float(np.abs(cv2.blur(each, (3, 3))).sum()) for each in change)
    return max(0.0, 1 - shared / total)
