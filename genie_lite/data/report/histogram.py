"""How values are spread: round bins, and a small drawing of them as inline SVG.

The drawing takes its colours from the page's style sheet and is as wide as a telephone, so that its text stays
readable there.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import numpy as np

WIDTH, HEIGHT = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 42, 10, 18, 34
NUM_BINS = 24  # at most, and one for the end
MOST_LABELS = 8  # so many numbers fit side by side
# Lengths range from a second to hours: these edges are round on a clock.
CLOCK_S = (0, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 18_000, 36_000, 86_400)
MOST_ELONGATED = 20  # beyond this ratio of long to short, equal bins would show one bar

Number = float | int


@dataclass(frozen=True)
class Histogram:
    """How values are spread.

    counts[k]: values in [edges[k], edges[k + 1]). is_open: the last bin holds all that lies above, too. num: all
    values. p5, p95: 5 % of them are lower than the one, 5 % higher than the other.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    is_open: bool
    num: int
    lowest: float
    p5: float
    median: float
    mean: float
    p95: float
    highest: float


def histogram(values: Iterable[Number]) -> Histogram | None:
    """Bins of equal width from the lowest value on; far-off high values share the last. None without values."""
    array = _finite(values)
    if not array.size:
        return None
    low, high = float(array.min()), _end(array)
    step = round_step((high - low) / NUM_BINS) if high > low else 1.0
    first = math.floor(low / step + 1e-9)
    last = max(math.floor(high / step + 1e-9) + 1, first + 1)
    return _fill(array, [round(place * step, 9) for place in range(first, last + 1)])


def histogram_of_seconds(values: Iterable[Number]) -> Histogram | None:
    """As `histogram`, with the edges of a clock where the lengths differ very much."""
    array = _finite(values)
    if not array.size:
        return None
    low, high = np.quantile(array, (0.05, 0.95))
    if high <= MOST_ELONGATED * low:
        return histogram(array)
    first = bisect_right(CLOCK_S, float(array.min())) - 1
    last = min(bisect_right(CLOCK_S, float(array.max())), len(CLOCK_S) - 1)
    return _fill(array, CLOCK_S[first : last + 1])


def round_step(least: Number) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is at least so large."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))


def histogram_svg(
    drawn: Histogram,
    title: str,
    x_label: str,
    *,
    show: Callable[[Number], str] = "{:.4g}".format,
    mark: tuple[Number, str] | None = None,
) -> str:
    """An SVG element.

    Args:
        drawn: what to draw; each bar says its bounds and its count when it is pointed at.
        title: read aloud.
        x_label: name of the horizontal axis.
        show: an edge as text.
        mark: a value, and what stands beside its line.
    """
    num, top = len(drawn.counts), max(*drawn.counts, 1)
    step = max(1, round(round_step(top / 4)))
    ceiling = step * math.ceil(top / step)
    width = (WIDTH - LEFT - RIGHT) / num
    label = escape(f"{title}: median {show(drawn.median)}, {drawn.num} values", quote=True)
    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">']
    for value in range(0, ceiling + 1, step):
        y = _y(value / ceiling)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(LEFT - 6, y + 3.5, f"{value / 1000:g}k" if value >= 10_000 else str(value), "end"))
    for k, count in enumerate(drawn.counts):
        bounds = _bounds(drawn, k, show)
        height = (HEIGHT - BOTTOM - TOP) * count / ceiling
        parts.append(
            f'<rect class="bar" x="{LEFT + k * width + 0.5:.1f}" y="{_y(count / ceiling):.1f}" '
            f'width="{max(width - 1, 0.5):.1f}" height="{height:.1f}"><title>{escape(bounds)}: {count}</title></rect>'
        )
    for k in _labelled(drawn.edges):
        if not (drawn.is_open and k > num - 3):
            # A number under the axis' end would be cut off by the edge of the drawing.
            anchor = "middle" if k < num else "end"
            parts.append(_text(LEFT + k * width, HEIGHT - BOTTOM + 15, show(drawn.edges[k]), anchor))
    if drawn.is_open:
        parts.append(_text(WIDTH - RIGHT, HEIGHT - BOTTOM + 15, f"{show(drawn.edges[-2])} +", "end"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 3, x_label, "middle"))
    for value, name, kind in [(drawn.median, "median", "median"), *([(*mark, "mark")] if mark else [])]:
        parts += _line(_x(drawn, value, width), f"{name} {show(value)}", kind)
    return "".join([*parts, "</svg>"])


def _finite(values: Iterable[Number]) -> np.ndarray:
    array = np.fromiter(values, dtype=np.float64)
    return array[np.isfinite(array)]


def _end(array: np.ndarray) -> float:
    """Where the bins end: at the highest value, if it is not far off from nearly all others."""
    low, most, high = (float(each) for each in (array.min(), np.quantile(array, 0.99), array.max()))
    return high if high - low <= 1.5 * (most - low) else most


def _fill(array: np.ndarray, edges: Sequence[Number]) -> Histogram:
    inner = np.clip(array, edges[0], np.nextafter(edges[-1], -np.inf))
    counts, _ = np.histogram(inner, edges)
    return Histogram(
        edges=tuple(float(edge) for edge in edges),
        counts=tuple(int(count) for count in counts),
        is_open=bool(array.max() >= edges[-1]),
        num=int(array.size),
        lowest=_rounded(array.min()),
        p5=_rounded(np.quantile(array, 0.05)),
        median=_rounded(np.median(array)),
        mean=_rounded(array.mean()),
        p95=_rounded(np.quantile(array, 0.95)),
        highest=_rounded(array.max()),
    )


def _rounded(value: np.floating) -> float:
    return round(float(value), 4)


def _labelled(edges: Sequence[float]) -> list[int]:
    """Which edges have a number: as many as fit, round ones where the bins are equally wide."""
    step, num = edges[1] - edges[0], len(edges)
    is_even = all(abs(b - a - step) < 1e-6 * step for a, b in pairwise(edges))
    if not is_even:
        return list(range(0, num, math.ceil(num / MOST_LABELS)))
    for every in (1, 2, 5, 10, 20, 50, 100):
        found = [k for k, edge in enumerate(edges) if round(edge / step) % every == 0]
        if len(found) <= MOST_LABELS:
            break
    return found


def _bounds(drawn: Histogram, k: int, show: Callable[[Number], str]) -> str:
    if drawn.is_open and k == len(drawn.counts) - 1:
        return f"{show(drawn.edges[k])} and above"
    return f"{show(drawn.edges[k])} to {show(drawn.edges[k + 1])}"


def _x(drawn: Histogram, value: Number, width: float) -> float:
    """Place of a value, also where the bins are not equally wide."""
    value = min(max(value, drawn.edges[0]), drawn.edges[-1])
    k = min(bisect_right(drawn.edges, value) - 1, len(drawn.counts) - 1)
    return LEFT + width * (k + (value - drawn.edges[k]) / (drawn.edges[k + 1] - drawn.edges[k]))


def _y(share: Number) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)


def _line(x: Number, text: str, kind: str) -> Sequence[str]:
    # Beside the line, on the side where there is room.
    place, anchor = (x + 4, "start") if x < WIDTH / 2 else (x - 4, "end")
    y = TOP - 6 if kind == "median" else TOP + 8
    return (
        f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 8}" y2="{HEIGHT - BOTTOM}"/>',
        _text(place, y, text, anchor),
    )


def _text(x: Number, y: Number, content: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'
