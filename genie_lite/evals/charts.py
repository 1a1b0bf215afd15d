"""Small line charts as inline SVG: no script, no font, colours from the page's own style sheet.

Lines are drawn in the classes `series-0`, `series-1`, …; text inherits the page's colour. The drawing is as
wide as a telephone, so that its text stays readable there.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 360, 210
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 34
MOST_POINTS = 160  # of one line; more are averaged, no screen shows them

Number = float | int
Point = tuple[Number, Number]
Scale = Callable[[Number], float]


@dataclass(frozen=True)
class Line:
    """points: (x, y) with rising x. style: number of the colour. band: (x, low, high), drawn behind."""

    name: str
    points: Sequence[Point]
    style: int
    band: Sequence[tuple[Number, Number, Number]] = ()
    marked: bool = False


def line_chart(
    lines: Sequence[Line], x_label: str, title: str, x_ticks: Sequence[Number] | None = None
) -> str:
    """An SVG element; `title` is read aloud, the page shows its own heading and legend.

    Args:
        lines: drawn in this order, bands behind.
        x_label: name of the horizontal axis.
        title: of the whole drawing.
        x_ticks: where to label the horizontal axis; round numbers if not given.
    """
    lines = [Line(each.name, thin(each.points), each.style, each.band, each.marked) for each in lines]
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    ys += [y for line in lines for _, low, high in line.band for y in (low, high)]
    x_ticks, y_ticks = x_ticks or ticks(min(xs), max(xs), 5), ticks(min(ys), max(ys), 4)
    to_x = _scale(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    to_y = _scale(min([*ys, y_ticks[0]]), max([*ys, y_ticks[-1]]), HEIGHT - BOTTOM, TOP)
    label = escape(title, quote=True)
    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">']
    parts += [_y_tick(to_y(y), y) for y in y_ticks]
    # A number under the axis' end would be cut off by the edge of the drawing.
    parts += [
        _text(to_x(x), HEIGHT - BOTTOM + 15, number(x), "end" if to_x(x) > WIDTH - 2 * RIGHT else "middle")
        for x in x_ticks
    ]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 3, x_label, "middle"))
    for line in lines:
        if line.band:
            edge = [(x, high) for x, _, high in line.band] + [(x, low) for x, low, _ in reversed(line.band)]
            parts.append(f'<path class="band series-{line.style}" d="{_path(edge, to_x, to_y)} Z"/>')
    for line in lines:
        parts.append(f'<path class="line series-{line.style}" d="{_path(line.points, to_x, to_y)}"/>')
        if line.marked:
            parts += [
                f'<circle class="mark series-{line.style}" cx="{to_x(x):.1f}" cy="{to_y(y):.1f}" r="3.2"/>'
                for x, y in line.points
            ]
    return "".join([*parts, "</svg>"])


def thin(points: Sequence[Point]) -> list[Point]:
    """At most `MOST_POINTS` points: neighbours are averaged, the last one is kept as it is."""
    size = math.ceil(len(points) / MOST_POINTS)
    if size <= 1:
        return list(points)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    averaged = [
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups
    ]
    return [*averaged[:-1], points[-1]]


def ticks(low: Number, high: Number, most: int) -> list[Number]:
    """Round numbers (1, 2 or 5 times a power of ten apart) inside [low, high], at most `most` + 1 of them."""
    if high - low < 1e-9 * max(1.0, abs(high)):
        return [low]
    raw = (high - low) / most
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(place * step, 12) for place in range(first, last + 1)]


def number(value: Number) -> str:
    """A short number for an axis: 12k, 0.25, 3."""
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:.4g}"


def _scale(low: Number, high: Number, start: Number, end: Number) -> Scale:
    span = high - low or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _path(points: Sequence[Point], to_x: Scale, to_y: Scale) -> str:
    return "M" + " L".join(f"{to_x(x):.1f} {to_y(y):.1f}" for x, y in points)


def _y_tick(y: float, value: Number) -> str:
    line = f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return line + _text(LEFT - 6, y + 3.5, number(value), "end")


def _text(x: Number, y: Number, content: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'
