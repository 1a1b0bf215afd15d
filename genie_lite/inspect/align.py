"""Does row k describe frame k -> frame k + 1, and not a neighbour? Without labels: by what the decoder makes of it.

    rows      frame k with the code of row k - 1, k, k + 1    which one foretells frame k + 1 best?
    frames    the prediction from frame k and row k           which frame is it closest to: k, k + 1, k + 2?

A code that is one row off still tells actions, only the wrong ones, and every loss looks fine.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from genie_lite.evals.fidelity import gain_db
from genie_lite.inspect.clips import Told
from genie_lite.inspect.held_out import each_time, error, in_rows
from genie_lite.inspect.measure import Measure

FIRST, LAST = 1, 3  # transitions of a clip of five frames that have one on either side
# Which row fits best in place of row k, and what row k then describes.
ABOUT_ROW = {
    -1: "Frame k + 1 is foretold best with row k \N{MINUS SIGN} 1: row k describes k + 1 \N{RIGHTWARDS ARROW} k + 2.",
    1: "Frame k + 1 is foretold best with row k + 1: row k describes k \N{MINUS SIGN} 1 \N{RIGHTWARDS ARROW} k.",
}
ABOUT_FRAME = {
    -1: "Predictions are closer to frame k itself: they are copies, whatever the code.",
    1: "Predictions are closer to frame k + 2: the model foretells one transition too far.",
}


def measure_alignment(told: Told) -> Iterator[tuple[str, Measure]]:
    """The two questions above, each by its closest rival, in dB."""
    names, inner = each_time(told.held_out.source, LAST - FIRST), slice(FIRST, LAST)
    prediction = in_rows(told.foretell(told.vector)[:, inner])

    def from_frame(shift: int) -> np.ndarray:
        """Distance to frame k + 1 + shift."""
        return error(prediction, in_rows(told.held_out.frames[:, FIRST + 1 + shift : LAST + 1 + shift]))

    own = from_frame(0)
    target = in_rows(told.held_out.frames[:, FIRST + 1 : LAST + 1])
    moved = {shift: told.foretell(told.vector.roll(-shift, dims=1))[:, inner] for shift in (-1, 1)}
    rows = {shift: error(in_rows(frames), target) for shift, frames in moved.items()}
    yield "row", _closest(own, rows, names, ABOUT_ROW)
    yield "frame", _closest(own, {shift: from_frame(shift) for shift in (-1, 1)}, names, ABOUT_FRAME)


def _closest(
    own: np.ndarray, others: Mapping[int, np.ndarray], names: np.ndarray, about: Mapping[int, str]
) -> Measure:
    gains = {shift: gain_db(own, other, names) for shift, other in others.items()}
    worst = min(gains, key=lambda shift: gains[shift].mean)
    beside = {f"over {shift:+d}": gain for shift, gain in gains.items()}
    return Measure(gains[worst], beside, fact=about[worst] if gains[worst].high < 0 else "")
