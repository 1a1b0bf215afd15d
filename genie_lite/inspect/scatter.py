"""A projection as inline SVG: one path per colour, so that thousands of points weigh little; colours from the page.

Points of a category are drawn in the classes `point hue-0`, `hue-1`, …, so that a page can colour them for a light
and a dark background, and hide each by a box beside the drawing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

WIDTH, HEIGHT, MARGIN = 480, 400, 10
HUES = 7  # colours that can be told apart; further categories share grey
OTHERS = 7
STEPS = 7  # shades of a continuous label

Point = Sequence[float | int]


def scatter(projection: Mapping[str, Any]) -> dict[str, Any]:
    """The drawing and its legend.

    Args:
        projection: of the tree, with at least one point. Without `names`, the third number of a point is a quantity
            and not a place in them, and the points are shaded by it.

    Returns:
        `svg`; `legend`, of entries with `name`, `hue` and `num` of points, the most frequent category first, or in
        the order of the shades; `is_ramp`, whether they are shades; `is_code`, whether categories are codes.
    """
    points = projection["points"]
    where = _placed(np.array([point[:2] for point in points], dtype=np.float64))
    is_ramp = not projection["names"]
    legend, hue = _shades(points) if is_ramp else _categories(points, projection["names"])
    # The largest category first, or it would cover the others.
    paths = [
        f'<path class="point {"shade" if is_ramp else "hue"}-{each}" d="{_dots(where[hue == each])}"/>'
        for each in sorted(set(hue.tolist()), key=lambda each: -int((hue == each).sum()))
    ]
    label = escape(f"{len(points)} transitions on a plane, coloured by {_by(projection)}", quote=True)
    head = f'<svg class="scatter" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
    svg = head + "".join(paths) + "</svg>"
    return {"svg": svg, "legend": legend, "is_ramp": is_ramp, "is_code": is_code(projection)}


def is_code(projection: Mapping[str, Any]) -> bool:
    """Whether the points are coloured by code, as they are without labels."""
    return bool(projection["names"]) and all(name.startswith("code ") for name in projection["names"])


def _by(projection: Mapping[str, Any]) -> str:
    if is_code(projection):
        return "code"
    return "true action" if projection["names"] else "the main component of the true action"


def _placed(points: np.ndarray) -> np.ndarray:
    """Coordinates in the drawing: one scale for both axes, the middle 99 % inside, the rest at the edge."""
    low, high = np.quantile(points, 0.005, axis=0), np.quantile(points, 0.995, axis=0)
    room = np.array([WIDTH, HEIGHT]) - 2 * MARGIN
    scale = float(np.min(room / np.maximum(high - low, 1e-9)))
    placed = (points - (low + high) / 2) * scale * np.array([1, -1]) + np.array([WIDTH, HEIGHT]) / 2
    return np.clip(placed, MARGIN / 2, np.array([WIDTH, HEIGHT]) - MARGIN / 2)


def _dots(points: np.ndarray) -> str:
    """Lines of no length; round ends make dots of them."""
    return "".join(f"M{x:.1f} {y:.1f}h0" for x, y in points.tolist())


def _categories(points: Sequence[Point], names: Sequence[str]) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Legend, and the number of the colour of every point."""
    label = [int(point[2]) for point in points]
    count = Counter(label)
    ranked = sorted(count, key=lambda each: (-count[each], each))
    # With one category too many, grey is a colour like the others.
    own = ranked if len(ranked) <= HUES + 1 else ranked[:HUES]
    hue_of = {each: hue for hue, each in enumerate(own)}
    legend = [{"name": names[each], "hue": hue_of[each], "num": count[each]} for each in own]
    if rest := [each for each in ranked if each not in hue_of]:
        legend.append(
            {"name": f"{len(rest)} others", "hue": OTHERS, "num": sum(count[each] for each in rest)}
        )
    return legend, np.array([hue_of.get(each, OTHERS) for each in label])


def _shades(points: Sequence[Point]) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Likewise for a continuous label: equally many points in each shade."""
    value = np.array([point[2] for point in points], dtype=np.float64)
    edges = np.quantile(value, np.linspace(0, 1, STEPS + 1)[1:-1])
    shade = np.searchsorted(edges, value)
    legend = [
        {"name": f"{value[shade == each].mean():.2f}", "hue": each, "num": int((shade == each).sum())}
        for each in range(STEPS)
        if (shade == each).any()
    ]
    return legend, shade
