"""What a check is made from: a number with its interval, and what stands beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from genie_lite.types import Interval

Value = Interval | float


@dataclass(frozen=True)
class Measure:
    """One measurement.

    value: what was found. wanted: the threshold where it depends on what is measured, such as a number of codes.
    baselines: the same number for something that knows less, or more, by name. decides: the difference that must
    be above zero, where value and threshold alone do not decide. fact: a sentence about this very model.
    """

    value: Value
    baselines: Mapping[str, Value] = field(default_factory=dict)
    wanted: float | None = None
    decides: Interval | None = None
    fact: str = ""


def mean_of(value: Value) -> float:
    """The number itself."""
    return value.mean if isinstance(value, Interval) else value
