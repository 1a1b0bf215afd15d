"""From results to plain JSON: what `evaluate.json` and `report.json` are written from."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def to_tree(value: Any) -> Any:
    """Dataclasses and mappings to objects, arrays and tuples to lists, NaN and infinity to null.

    Keys become text (`{4: ...}` to `{"4": ...}`), as JSON wants them.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_tree(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_tree(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return to_tree(value.tolist())
    if isinstance(value, list | tuple):
        return [to_tree(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
