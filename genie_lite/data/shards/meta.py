"""What a sample says of its own frames, read as if a stranger had written it: shards may come from any address.

`ShardSet.read` asks for all of it, so whoever reads video finds these entries sound and may take them as they are:

    source          the video it was cut from, a name
    split           that of its shard; where nothing is said, it is
    source_frames   index of each frame in that video, ascending
    times_s         their times there, ascending; or source_rate_hz, from which they follow; or neither
"""

import math
from itertools import pairwise
from typing import Any, TypeGuard

import numpy as np
from jaxtyping import Float, Int

MAX_INDEX = 2**31 - 1  # two years of video at 30 frames per second; a horizon has 32 bits


def sound(meta: dict[str, Any], split: str) -> dict[str, Any]:
    """The entries of a sample of a split, once those above are checked; `num_frames` was, against the index.

    Raises:
        ValueError: one is missing, of another kind or length than it should be, or no order of frames.
    """
    meta = {"split": split} | meta
    source_of(meta)
    expect_split(meta, split)
    native = indices_of(meta)
    if "times_s" in meta:
        times_of(meta, native)
    if "source_rate_hz" in meta:
        _rate_of(meta)
    return meta


def source_of(meta: dict[str, Any]) -> str:
    """The video. Raises as `sound`; so do the others."""
    return _text(meta, "source")


def expect_split(meta: dict[str, Any], split: str) -> None:
    """Whether a sample is where it says it is."""
    if (found := _text(meta, "split")) != split:
        raise ValueError(f"split: found {_short(found)}, its shard is of {split!r}")


def _text(meta: dict[str, Any], name: str) -> str:
    text = meta.get(name)
    if not isinstance(text, str) or not text:
        raise ValueError(f"{name}: found {_short(text)}, expected a name")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name}: found {_short(text)}, expected text that UTF-8 can write") from error
    return text


def indices_of(meta: dict[str, Any]) -> Int[np.ndarray, " frames"]:
    """Of each frame, in its video: rates above that of the file repeat a frame, none goes back."""
    found = _list(meta, "source_frames", meta["num_frames"])
    wrong = [value for value in found if type(value) is not int or not 0 <= value <= MAX_INDEX]
    if wrong:
        raise ValueError(f"source_frames: found {_short(wrong[0])}, expected indices from 0 to {MAX_INDEX}")
    _expect_ascending("source_frames", found)
    return np.asarray(found, dtype=np.int64)


def times_of(meta: dict[str, Any], native: Int[np.ndarray, " frames"]) -> Float[np.ndarray, " frames"]:
    """Of each frame, in seconds of its video."""
    if "times_s" in meta:
        found = _list(meta, "times_s", len(native))
        wrong = [value for value in found if not _is_finite(value)]
        if wrong:
            raise ValueError(f"times_s: found {_short(wrong[0])}, expected seconds")
        _expect_ascending("times_s", found)
        return np.asarray(found, dtype=np.float64)
    return native / _rate_of(meta)


def _rate_of(meta: dict[str, Any]) -> float:
    rate_hz = meta.get("source_rate_hz")
    if not _is_finite(rate_hz) or rate_hz <= 0:
        raise ValueError(f"source_rate_hz: found {_short(rate_hz)}, expected frames per second, or times_s")
    return float(rate_hz)


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
