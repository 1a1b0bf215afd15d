"""The distractor of one clip, drawn from a configuration and the clip's name."""

import numpy as np
from jaxtyping import Float, UInt8

from genie_lite.data.distract.background import Background
from genie_lite.data.distract.backgrounds import Backgrounds
from genie_lite.data.distract.colour import Colour
from genie_lite.data.distract.distractor import DistractConfig, Distractor, seed_of
from genie_lite.data.distract.shake import Shake


def draw_distractor(
    config: DistractConfig,
    name: str,
    split: str,
    frame_hw: tuple[int, int],
    footage: Backgrounds | None = None,
) -> Distractor:
    """What goes over one clip; it never depends on other clips.

    Args:
        config: kind, strength and seed.
        name: of the clip.
        split: of the clip; backgrounds of the test split are never those of the train split.
        frame_hw: height and width of its frames, in pixels.
        footage: kind `background` needs it.
    """
    seed = seed_of(config.seed, name)
    if config.kind == "shake":
        return Shake.draw(config.strength, seed)
    if config.kind == "colour":
        return Colour.draw(config.strength, seed)
    if config.kind == "none":
        return _as_it_is
    assert footage is not None, "backgrounds were asked for"
    return Background.draw(config.strength, seed, footage.draw(split, seed), footage.rate_hz, frame_hw)


def _as_it_is(
    frames: UInt8[np.ndarray, "t h w c"], time_s: Float[np.ndarray, " t"]
) -> UInt8[np.ndarray, "t h w c"]:
    return frames
