"""How far what each pixel shows has moved since the frame before: dense optical flow, on the CPU.

Source: Kroeger et al., DIS, arXiv:1603.03590, as OpenCV has it.
"""

from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from genie_lite.threads import one_cv2_thread

STILL_PX = 0.2  # compression moves what stands still by so much
FLOW_PX = 64  # a pair of frames takes 1.3 ms of CPU, and four times as much at 128
LITTLE_PX = 0.005  # mean of a clip: four pixels by four that jump by three, of 64 by 64, leave 0.1


def magnitudes(pixels: UInt8[np.ndarray, "t h w c"], *, stabilise: bool) -> Float32[np.ndarray, "k h w"]:
    """Pixels moved, one map for each frame but the first, where things are in that frame; 0 where they stand still.

    Large pictures are looked at in small, `FLOW_PX` at most: weights need no finer edges.

    Args:
        pixels: RGB.
        stabilise: take the median motion of each frame off before, which is the camera's where most of the picture
            is background.
    """
    height, width = pixels.shape[1:3]
    scale = min(1.0, FLOW_PX / max(height, width))
    small = max(1, round(width * scale)), max(1, round(height * scale))
    moved = np.zeros((len(pixels) - 1, height, width), np.float32)
    with one_cv2_thread():
        greys = [
            cv2.cvtColor(cv2.resize(frame, small, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
            for frame in pixels
        ]
        for k, (before, after) in enumerate(pairwise(greys)):
            # Backwards, from the later frame: that is the one that is foretold.
            flow = _dis().calc(after, before, np.zeros((*after.shape, 2), np.float32)) / np.float32(scale)
            if stabilise:
                flow = flow - np.median(flow, axis=(0, 1))
            found = np.maximum(np.linalg.norm(flow, axis=-1) - STILL_PX, 0)
            moved[k] = cv2.resize(found, (width, height), interpolation=cv2.INTER_LINEAR)
    return moved


@lru_cache(maxsize=1)
def _dis() -> cv2.DISOpticalFlow:
    """One per process, for it cannot be sent to another.

    The fast preset, because on frames of 64 pixels the slower one finds less: of a square of ten pixels on a textured
    ground half of all motion found lies on the square, a quarter with the slower one and with Farneback's flow.
    """
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
