"""What a sample says of its own frames, read as if a stranger had written it: shards may come from any address."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeGuard

import numpy as np
from jaxtyping import Float, Int

from genie_lite.data.shards.shards import Sample
from genie_lite.errors import UserError

MAX_INDEX = 2**31 - 1  # two years of video at 30 frames per second; a horizon has 32 bits


@dataclass(frozen=True)
class Shot:
    """Where the frames of one sample come from. native: index of each in its file; times_s: its time there."""

    source: str
    native: Int[np.ndarray, " frames"]
    times_s: Float[np.ndarray, " frames"]

    @classmethod
    def of(cls, sample: Sample, split: str) -> "Shot":
        """What a sample of a split says, checked.

        Raises:
            UserError: an entry that is missing, of another kind or length than it should be, or no order of frames.
        """
        meta = sample.meta
        try:
            source, found = _text(meta, "source"), _text(meta, "split")
            if found != split:
                raise ValueError(f"split: found {_short(found)}, its shard is of {split!r}")
            native = _indices(meta, meta["num_frames"])
            return cls(source, native, _times_s(meta, native))
        except ValueError as error:
            raise UserError(f"sample {sample.key}: {error}") from error


def _text(meta: dict[str, Any], name: str) -> str:
    text = meta.get(name)
    if not isinstance(text, str) or not text:
        raise ValueError(f"{name}: found {_short(text)}, expected a name")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name}: found {_short(text)}, expected text that UTF-8 can write") from error
    return text


def _indices(meta: dict[str, Any], num: int) -> Int[np.ndarray, " frames"]:
    """Rates above that of the file repeat a frame, none goes back."""
    found = _list(meta, "source_frames", num)
    wrong = [value for value in found if type(value) is not int or not 0 <= value <= MAX_INDEX]
    if wrong:
        raise ValueError(f"source_frames: found {_short(wrong[0])}, expected indices from 0 to {MAX_INDEX}")
    _expect_ascending("source_frames", found)
    return np.asarray(found, dtype=np.int64)


def _times_s(meta: dict[str, Any], native: Int[np.ndarray, " frames"]) -> Float[np.ndarray, " frames"]:
    if "times_s" in meta:
        found = _list(meta, "times_s", len(native))
        wrong = [value for value in found if not _is_finite(value)]
        if wrong:
            raise ValueError(f"times_s: found {_short(wrong[0])}, expected seconds")
        _expect_ascending("times_s", found)
        return np.asarray(found, dtype=np.float64)
    rate_hz = meta.get("source_rate_hz")
    if not _is_finite(rate_hz) or rate_hz <= 0:
        raise ValueError(f"source_rate_hz: found {_short(rate_hz)}, expected frames per second, or times_s")
    return native / float(rate_hz)


def _list(meta: dict[str, Any], name: str, num: int) -> list[Any]:
    found = meta.get(name)
    if not isinstance(found, list):
        raise ValueError(f"{name}: found {_short(found)}, expected one entry per frame")
    if len(found) != num:
        raise ValueError(f"{name}: found {len(found)} entries, expected one for each of {num} frames")
    return found


def _expect_ascending(name: str, found: list[Any]) -> None:
    for before, after in pairwise(found):
        if after < before:
            raise ValueError(f"{name}: found {after} after {before}, expected an ascending order")


def _is_finite(value: Any) -> TypeGuard[float]:
    """A whole number may have more digits than a float can hold."""
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:
        return False


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
