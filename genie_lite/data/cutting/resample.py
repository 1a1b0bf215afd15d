"""Frames of any rate brought to a regular one, and long runs of them divided."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from genie_lite.data.cutting.shots import ShotFrame

FrameT = TypeVar("FrameT")


def resample(frames: Iterable[ShotFrame], rate_hz: float) -> Iterator[ShotFrame]:
    """For each time of a regular grid the frame nearest in time; the last one lasts as long as the one before.

    Nearest and not latest: with equal rates, jitter in the time stamps then neither drops nor repeats.
    """
    held: ShotFrame | None = None
    origin_s = end_s = 0.0
    tick = 0
    for frame in frames:
        time_s = frame.picture.time_s
        if held is None:
            origin_s, end_s = time_s, time_s + 0.5 / rate_hz
        elif time_s <= held.picture.time_s:
            continue  # a time stamp that stands still or goes back a little
        else:
            half_s = (time_s - held.picture.time_s) / 2
            # A tie goes to the later frame, whatever the rounding of the container's clock.
            while origin_s + tick / rate_hz < time_s - half_s - 1e-4:
                yield held
                tick += 1
            end_s = time_s + half_s
        held = frame
    while held is not None and origin_s + tick / rate_hz < end_s - 1e-4:
        yield held
        tick += 1


def pieces(frames: Iterable[FrameT], longest: int, shortest: int) -> Iterator[list[FrameT]]:
    """Runs of at most `longest`; the end is shared between the last two rather than cut off too short."""
    piece: list[FrameT] = []
    for frame in frames:
        piece.append(frame)
        if len(piece) == longest + shortest:
            yield piece[:longest]
            piece = piece[longest:]
    if len(piece) > longest:
        half = len(piece) // 2
        yield piece[:half]
        piece = piece[half:]
    if piece:
        yield piece
