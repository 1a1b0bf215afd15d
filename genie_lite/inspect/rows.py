"""A check as rows on one axis: what was found, what stands beside it, and where the threshold lies."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from genie_lite.evals.page import CEILING, OURS, PLAIN, num
from genie_lite.evals.verdict import MINUS

Tree = Mapping[str, Any]

PERCENT = ("share",)  # units of numbers in [0, 1] that are read in percent
BRIEF = ("dB", "bits", "codes")  # units that may stand behind a threshold
# Of what stands beside a value: words, and colour. What knows more than any latent action could is a ceiling.
BESIDE = {
    "random_lam": ("Untrained network", PLAIN),
    "random_lam_embedding": ("Untrained network, embedding", PLAIN),
    "shuffled": ("Shuffled", PLAIN),
    "majority": ("Commonest, or mean", PLAIN),
    "hold_last": ("The action before", PLAIN),
    "frame": ("Frame k alone, all labels", PLAIN),
    "supervised": ("Inverse model, all labels", CEILING),
    "sampling_noise": ("Another sampling noise", PLAIN),
    "copy_last": ("Copy of the last frame", PLAIN),
    "alphabet": ("Size of the alphabet", CEILING),
    "dimensions": ("All dimensions", CEILING),
    "entropy of the action": ("All of the action", CEILING),
    "even": ("All codes alike", PLAIN),
    "nmi": ("NMI", PLAIN),
    "ami": ("AMI", PLAIN),
}
FLOOR = r"≥|>|above|at least|more than|not below"
ROOF = r"≤|<|below|at most|less than|not above"
ASKED = re.compile(rf"^(?:(?P<floor>{FLOOR})|(?P<roof>{ROOF}))\s*(?P<number>[-−]?\d+(?:\.\d+)?)$")
NEAR = 10.0  # lengths of an axis; 0 is put on it if it lies no farther away
# Of a value that lies far from all others the axis shows the edge, or nothing else could be told apart.
FARTHEST = 4.0


def rows_of(check: Tree) -> dict[str, Any]:
    """What the page draws of a check.

    Returns:
        `asks`, the threshold in words; `rows`, the model's own first; `unit`; `num` of episodes; `ends` of the axis
        as text; `limit`, the place of the threshold in percent of the axis' length, or None; `asked`, left end and
        length of the part of the axis that satisfies it, or None; `zero`, the place of 0 inside the axis, or None.
    """
    ours = _interval(check["value"])
    others = {name: _interval(value) for name, value in (check["baselines"] or {}).items()}
    limit, is_floor = asked(check)
    low, high = _axis(ours, list(others.values()), limit)
    in_percent = check["unit"] in PERCENT
    digits = _digits([ours, *others.values()], in_percent=in_percent)

    def place(value: float) -> float:
        return 100 * min(max((value - low) / (high - low), 0.0), 1.0)

    def shown(value: float | int) -> str:
        return num(100 * value if in_percent else value, digits)

    def row(name: str, style: int, each: Tree) -> dict[str, Any]:
        mean, left, right = each["mean"], each["low"], each["high"]
        return {
            "name": name,
            "style": style,
            "mean": "unknown" if mean is None else shown(mean),
            "interval": "" if left is None else f"{shown(left)} to {shown(right)}",
            "dot": None if mean is None else place(mean),
            "is_beyond": mean is not None and not low <= mean <= high,
            "whisker": None if left is None else (place(left), place(right) - place(left)),
        }

    rows = [row("This model", OURS, ours), *(row(*_beside(name), each) for name, each in others.items())]
    return {
        "rows": rows,
        "unit": "%" if in_percent else check["unit"],
        "num": ours["num"],
        "asks": _in_words(check, in_percent=in_percent),
        "ends": tuple(
            f"{round(100 * end if in_percent else end, 9):g}".replace("-", MINUS) for end in (low, high)
        ),
        "limit": None if limit is None else place(limit),
        "asked": None
        if limit is None
        else ((place(limit), 100 - place(limit)) if is_floor else (0.0, place(limit))),
        "zero": place(0.0) if low < 0 < high else None,
    }


def asked(check: Tree) -> tuple[float | None, bool]:
    """The number that a threshold such as "at least 0.2" begins with, None without one; whether it is a least."""
    found = ASKED.match(check["threshold"] or "")
    if found is None:
        return None, True
    return float(found["number"].replace(MINUS, "-")), found["roof"] is None


def _in_words(check: Tree, *, in_percent: bool) -> str:
    """The threshold as the page says it: in percent, or with its unit."""
    text = check["threshold"] or ""
    found = ASKED.match(text)
    if found is None:
        return text
    if in_percent:
        return f"{text[: found.start('number')]}{100 * float(found['number']):g}\N{NO-BREAK SPACE}%"
    return f"{text}\N{NO-BREAK SPACE}{check['unit']}" if check["unit"] in BRIEF else text


def _interval(value: Any) -> dict[str, Any]:
    """An interval of the tree, or a bare number, as mean, low, high and num; what is unknown is None."""
    if isinstance(value, Mapping):
        return {key: value.get(key) for key in ("mean", "low", "high", "num")}
    return {"mean": value, "low": None, "high": None, "num": None}


def _axis(ours: Tree, others: Sequence[Tree], limit: float | None) -> tuple[float, float]:
    """From where to where: round numbers, with room on both sides of a threshold; 0 is on it if it is near."""
    core = _numbers(ours) + ([] if limit is None else [limit]) or [0.0]
    reach = FARTHEST * max(max(core) - min(core), max(abs(value) for value in core) / 2, 1e-9)
    near = [
        min(max(value, min(core) - reach), max(core) + reach) for each in others for value in _numbers(each)
    ]
    low, high = min(core + near), max(core + near)
    if min(abs(low), abs(high)) < NEAR * (high - low) or low == high:
        low, high = min(low, 0.0), max(high, 0.0)
    span = (high - low) or 1.0
    if limit is not None:
        below, above = limit - 0.15 * span, limit + 0.15 * span
        # What is never negative has an axis that is not, either; likewise for what is never positive.
        low, high = (
            min(low, max(below, 0.0) if low >= 0 else below),
            max(high, min(above, 0.0) if high <= 0 < low else above),
        )
    return _rounded(low, -1, span), _rounded(high if high > low else low + span, 1, span)


def _rounded(value: float, side: int, span: float) -> float:
    """The next round number outwards: a multiple of 1, 2 or 5 times a power of ten, of about a tenth of the span."""
    power = 10.0 ** math.floor(math.log10(span / 10))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= span / 10 * (1 - 1e-9))
    return side * math.ceil(side * value / step - 1e-9) * step


def _numbers(interval: Tree) -> list[float]:
    return [interval[key] for key in ("mean", "low", "high") if interval[key] is not None]


def _digits(intervals: Sequence[Tree], *, in_percent: bool) -> int:
    """Digits after the point that three figures of the largest number need; none for whole numbers."""
    values = [(100 if in_percent else 1) * value for each in intervals for value in _numbers(each)]
    if not values or all(value == round(value) for value in values):
        return 0
    largest = max(abs(value) for value in values)
    return max(0, min(2, 2 - math.floor(math.log10(largest))))


def _beside(name: str) -> tuple[str, int]:
    """Words and colour of a baseline; one that this file does not know speaks for itself."""
    words = name.replace("_", " ").replace("-", MINUS)
    return BESIDE.get(name, (words[:1].upper() + words[1:], PLAIN))
