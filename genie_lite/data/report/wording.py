"""Figures and names as a page shows them.

Names come from strangers. A template escapes what HTML gives a meaning to; `visible` what has no shape of its own:
line ends, control characters, marks that turn the direction of writing, lone surrogates.
"""

import unicodedata
from typing import Any

MOST_TEXT = 120  # characters

Number = float | int


def visible(value: Any) -> Any:
    """Text with every character that cannot be seen written as an escape; anything else, markup too, as it is."""
    if not isinstance(value, str) or hasattr(value, "__html__") or value.isprintable():
        return value
    return "".join(each if _is_visible(each) else each.encode("unicode_escape").decode() for each in value)


def _is_visible(each: str) -> bool:
    # Spaces of all widths, and the joiners that emoji and some scripts are spelt with.
    return each.isprintable() or unicodedata.category(each) == "Zs" or each in "\u200c\u200d"


def short(value: str, most: int = MOST_TEXT) -> str:
    """A long text without its middle: of a path both ends matter."""
    if len(value) <= most:
        return value
    head = (most - 1) // 3
    return f"{value[:head]}…{value[head + 1 - most :]}"


def count(value: Number) -> str:
    """Whole numbers with thin spaces between thousands."""
    return f"{round(value):,}".replace(",", "\u202f")


def percent(share: Number) -> str:
    """Shares near 0 and 1 keep a digit, so that little is not taken for nothing, nor nearly all for all."""
    if 0 < share < 0.0005:
        return "< 0.1 %"
    if 0.9995 <= share < 1:
        return "> 99.9 %"
    is_extreme = 0 < share < 0.0095 or 0.9905 <= share < 1
    return f"{100 * share:.1f} %" if is_extreme else f"{100 * share:.0f} %"


def duration(seconds: Number) -> str:
    """2.9 s, 42 s, 3 min 20 s, 2 h 5 min, 1 234 h."""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if 0 < seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left} min" if hours < 100 else f"{count(seconds / 3600)} h"


def size(num_bytes: Number) -> str:
    """Bytes with decimal prefixes: 36 kB, 1.2 GB."""
    unit = "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if num_bytes < 999.5:
            break
        num_bytes, unit = num_bytes / 1000, larger
    return f"{num_bytes:.1f} {unit}" if 0 < num_bytes < 9.95 and unit != "B" else f"{num_bytes:.0f} {unit}"


def clock(seconds: Number) -> str:
    """A time in a video: 12.4, 3:05.0, 1:02:03.0."""
    tenths = round(10 * seconds)
    minutes, rest = divmod(tenths, 600)
    hours, left = divmod(minutes, 60)
    if hours:
        return f"{hours}:{left:02d}:{rest / 10:04.1f}"
    return f"{left}:{rest / 10:04.1f}" if left else f"{rest / 10:.1f}"


def edge(seconds: Number) -> str:
    """A length at an axis: 5s, 2m, 1h."""
    if seconds < 60:
        return f"{seconds:.3g}s"
    return f"{seconds / 60:.3g}m" if seconds < 3600 else f"{seconds / 3600:.3g}h"
