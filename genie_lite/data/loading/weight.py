"""How much each pixel of a window counts in a reconstruction, so that little things that move are not drowned.

    flow, or masks of others -> importance of each pixel -> weight: 1 on average over a window, never below `floor`

With a mean of 1 a weighted loss keeps its unit and its size, whatever moves in a clip.

Source: MaskLAM, arXiv:2602.02259 (masks of what acts, against distractors); flow magnitude as the same without masks.
Differs: a floor, so that the background is still drawn, and a bound, so that a few pixels are not the whole loss.
"""

from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float32
from pydantic import Field

from genie_lite.config import Config

MOST = (
    100.0  # times the average; what moves in fewer than a hundredth of all pixels leaves weight to the others
)

Share = Annotated[float, Field(gt=0, lt=1)]


class EvenWeight(Config):
    """Every pixel counts the same."""

    kind: Literal["none"] = "none"


class FlowWeight(Config):
    """A pixel counts by how far what it shows has moved since the frame before.

    floor: weight of what stands still. stabilise: take what the picture moves as a whole, as by a shaking camera, off
    before; turn it off where the camera's motion is what is done, as in a game that scrolls.
    """

    kind: Literal["flow"] = "flow"
    floor: Share = 0.1
    stabilise: bool = True


class MaskWeight(Config):
    """A pixel counts where a mask says so.

    masks: a folder parallel to the sources (`masks.py` says how files are named). floor: weight of the background.
    """

    kind: Literal["mask"] = "mask"
    masks: str
    floor: Share = 0.1


WeightConfig = Annotated[EvenWeight | FlowWeight | MaskWeight, Field(discriminator="kind")]


def balanced(
    importance: Float32[np.ndarray, "k h w"], floor: float, least: float = 0.0
) -> Float32[np.ndarray, "k h w"]:
    """Weights in proportion to importance: 1 on average, at least `floor`, at most `MOST` and a little.

    What the bounds take from some pixels, all get in equal parts; so where nothing is important, or everything, all
    weights are 1, and what hardly is makes them hardly differ.

    Args:
        importance: at least 0.
        floor: above 0, below 1.
        least: mean importance below which weights become more even, down to 1 everywhere at a mean of 0.
    """
    mean = max(float(importance.mean(dtype=np.float64)), least)
    if np.float32(mean) <= 0:  # also of what is too little to be divided by
        return np.ones_like(importance)
    extra = (1 - floor) * np.minimum(importance / np.float32(mean), np.float32(MOST))
    return (extra + (1 - extra.mean(dtype=np.float64))).astype(np.float32)
