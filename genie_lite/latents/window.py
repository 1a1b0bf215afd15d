"""How far a latent action reaches: stated in seconds, counted in frames of the shards."""

import math
import warnings
from dataclasses import dataclass
from typing import Literal

from genie_lite.errors import UserError
from genie_lite.models.lam import LatentActionModel

Every = Literal["step", "frame"]
MAX_MISFIT = 0.1  # share of the wanted window that it may be off without a word


@dataclass(frozen=True)
class Horizon:
    """From the first frame of a transition to the second. frames: of the shards, at `rate_hz`."""

    frames: int
    rate_hz: float

    @property
    def seconds(self) -> float:
        """The same in seconds."""
        return self.frames / self.rate_hz


def horizon_of(
    lam: LatentActionModel, rate_hz: float, window_s: float | None = None, every: Every = "step"
) -> Horizon:
    """The whole number of frames that comes nearest to a window.

    Args:
        lam: whose own window is used where none is given: the middle of `pair_s`, or one frame of shards at the
            rate that it learnt from.
        rate_hz: frames per second of the shards.
        window_s: seconds between the two frames of a transition.
        every: of "frame", shards at their videos' own rate, one frame is no window that a model learnt.

    Raises:
        UserError: no window is known, or it is shorter than half a frame.
    """
    wanted_s = window_s if window_s is not None else _own_window_s(lam)
    if wanted_s is None:
        if every == "frame":
            raise UserError(
                "window_s: the latent action model does not say how far apart its frames were; expected seconds "
                "where every frame of a video is described, such as 0.1 for a model trained at 10 frames per second"
            )
        return Horizon(1, rate_hz)
    if not math.isfinite(wanted_s) or wanted_s <= 0:
        raise UserError(f"window_s: found {wanted_s:g}, expected seconds above 0")
    frames = math.floor(wanted_s * rate_hz + 0.5)
    if frames < 1:
        raise UserError(
            f"window_s: {wanted_s:g} s is less than half a frame at {rate_hz:g} frames per second; expected at least "
            f"{0.5 / rate_hz:g}, or shards at a higher rate"
        )
    horizon = Horizon(frames, rate_hz)
    if abs(horizon.seconds - wanted_s) > MAX_MISFIT * wanted_s:
        warnings.warn(
            f"window of {wanted_s:g} s: the nearest at {rate_hz:g} frames per second is {frames} frames, "
            f"{horizon.seconds:.3g} s",
            stacklevel=3,
        )
    return horizon


def _own_window_s(lam: LatentActionModel) -> float | None:
    pair_s = lam.config.pair_s
    return None if pair_s is None else (pair_s[0] + pair_s[1]) / 2
