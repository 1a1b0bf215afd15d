"""Black bars around a picture: found in a few pictures of a video, so that they can be cut off all of them.

    brightest luma seen at each pixel -> black rows and columns at the rim -> a sharp and bright edge behind them?

Source: FFmpeg's cropdetect, which takes rows and columns with a mean below a limit, frame by frame.
Differs: a bar must be black in all pictures, and end within three pixels at a line that is bright for the most part
in most of them. A night sky, a stage and the dark around a moon end raggedly, roundly or in a gradient, and stay whole.
Doubt keeps the bar; a subtitle keeps the rows from it inwards.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, UInt8

from genie_lite.data.video.picture import Bars, Picture, luma_at_full_size

NUM_PICTURES = 16  # a bar that is black in so many places is black everywhere
BLACK_LUMA = 12  # bars are pure black, 0, but for what compression adds
MAX_SPECKS = 0.01  # share of a row that noise may brighten
DARK = 0.05  # share of pixels that are not black, below which a picture says nothing of where it ends
MIN_LIT = 0.5  # share of the edge that is not black, on average
BLUR_PX = 3  # compression softens the edge
MAX_BLACK = 0.15  # mean of a bar, by that of the rows behind its edge
INSIDE_PX = 8  # a block behind the first row that is not black there is nothing but content
MIN_BAR = 0.01  # of the side; two pixels at least
MAX_BAR = 0.5  # of the side, each of the two bars
MIN_CONTENT = 0.25  # of the side; a telephone's video between bars fills 0.32 of the width


def find_bars(pictures: Iterable[Picture]) -> Bars | None:
    """The bars of a video by pictures from all over it, None if it has none.

    No more pictures are taken than it needs to see that there are none: mostly one.

    Raises:
        BadPicture: pixels that FFmpeg cannot convert.
    """
    seen: _Seen | None = None
    for picture in pictures:
        luma = luma_at_full_size(picture)
        if seen is None:
            seen = _Seen.nothing(*luma.shape)
        elif seen.brightest.shape != luma.shape:
            return None
        seen.add(luma)
        if not seen.has_black_rim():
            return None
    return None if seen is None else seen.bars()


@dataclass
class _Seen:
    """What pictures have in common.

    brightest: luma at each pixel. lit_rows, lit_columns: sum over the pictures that are not dark of how many pixels of
    each row and column are not black. num_lit: how many pictures these are.
    """

    brightest: UInt8[np.ndarray, "h w"]
    lit_rows: Float64[np.ndarray, " h"]
    lit_columns: Float64[np.ndarray, " w"]
    num_lit: int = 0

    @classmethod
    def nothing(cls, height: int, width: int) -> "_Seen":
        return cls(np.zeros((height, width), np.uint8), np.zeros(height), np.zeros(width))

    def add(self, luma: UInt8[np.ndarray, "h w"]) -> None:
        np.maximum(self.brightest, luma, out=self.brightest)
        lit = luma > BLACK_LUMA
        if lit.mean() > DARK:
            self.lit_rows += np.count_nonzero(lit, axis=1)
            self.lit_columns += np.count_nonzero(lit, axis=0)
            self.num_lit += 1

    def has_black_rim(self) -> bool:
        """Whether a bar is still possible on any side."""
        rim = (self.brightest[:1], self.brightest[-1:], self.brightest[:, :1].T, self.brightest[:, -1:].T)
        return any(_is_black(line).all() for line in rim)

    def bars(self) -> Bars | None:
        height, width = self.brightest.shape
        rows, columns = _content(self.brightest), _content(self.brightest.T)
        if rows is None or columns is None or not self.num_lit:
            return None  # black all over
        # Where there are bars on all sides, an edge is bright only between the other two.
        across, along = self.brightest[:, slice(*columns)], self.brightest[slice(*rows)].T
        lit_rows = self.lit_rows / (self.num_lit * (columns[1] - columns[0]))
        lit_columns = self.lit_columns / (self.num_lit * (rows[1] - rows[0]))
        bars = Bars(*_pair(across, lit_rows), *_pair(along, lit_columns))
        is_large = (
            height - bars.top - bars.bottom >= MIN_CONTENT * height
            and width - bars.left - bars.right >= MIN_CONTENT * width
        )
        return bars if bars and is_large else None


def _is_black(rows: UInt8[np.ndarray, "n m"]) -> np.ndarray:
    return np.count_nonzero(rows > BLACK_LUMA, axis=1) <= MAX_SPECKS * rows.shape[1]


def _content(rows: UInt8[np.ndarray, "n m"]) -> tuple[int, int] | None:
    """First and last but one of the rows that are not black; None if all are."""
    found = np.flatnonzero(~_is_black(rows))
    return (int(found[0]), int(found[-1]) + 1) if len(found) else None


def _pair(rows: UInt8[np.ndarray, "n m"], lit: Float64[np.ndarray, " n"]) -> tuple[int, int]:
    """The bars before the first and behind the last row.

    Where there is one, so much that is black on the other side is the other one, however dark its edge: bars mostly
    come in pairs.
    """
    first, last = _bar(rows, lit), _bar(rows[::-1], lit[::-1])
    if last and not first and _is_black(rows[: max(1, last - BLUR_PX)]).all():
        first = last
    if first and not last and _is_black(rows[min(-1, BLUR_PX - first) :]).all():
        last = first
    return first, last


def _bar(rows: UInt8[np.ndarray, "n m"], lit: Float64[np.ndarray, " n"]) -> int:
    """How many of the first rows are a bar, an even number; 0 where there is none.

    rows: the brightest luma. lit: share of each row that is not black, on average over the pictures.
    """
    num_black = int(np.argmin(_is_black(rows)))
    means = rows[: num_black + INSIDE_PX + 1].mean(axis=1)
    edge = int(np.argmax(means >= means[-1] / 2))
    if not max(2, MIN_BAR * len(rows)) <= edge <= MAX_BAR * len(rows):
        return 0
    if means[max(0, edge - BLUR_PX)] > MAX_BLACK * means[-1] or lit[edge] < MIN_LIT:
        return 0
    return edge + edge % 2  # colour is stored for two rows at a time
