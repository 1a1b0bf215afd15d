"""One video file in, continuous segments out: a pure function of the file and the configuration.

    decode -> fit to a square -> shots -> a regular rate -> pieces of bounded length

It knows neither shards nor processes, so that any engine can run it: a child process, a cluster's task.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from pydantic import Field, model_validator

from genie_lite.config import Config
from genie_lite.data.shots import CutDetector, ShotFrame, find_shots
from genie_lite.data.video import PixelFormat, Resize, SquareFitter, decode

# Above this share of repeated frames the source is too slow for the wanted rate, and most transitions
# would say that nothing happened.
MAX_REPEATED = 0.2


class IngestConfig(Config):
    """How videos become samples. All of it is part of the shards' identity.

    size_px: side of the square frames, even. rate_hz: frames per second of the samples. resize: what is
    done with frames that are not square. segment_frames, min_frames: longest and shortest sample.
    gop: frames from key frame to key frame. crf: x264's quality, 0 to 51, lower is better and larger.
    shard_samples: a shard is closed at the first source that reaches this number of samples.
    test_share: share of the sources held out. cuts: whether scene cuts and black end a sample; turn it off
    for games and robots, where one file is one shot. cut_threshold: PySceneDetect's, lower cuts more.
    """

    size_px: int = Field(default=64, ge=16, le=1024, multiple_of=2)
    rate_hz: float = Field(default=10.0, gt=0, le=240)
    resize: Resize = "crop"
    segment_frames: int = Field(default=160, ge=2)
    min_frames: int = Field(default=16, ge=2)
    gop: int = Field(default=10, ge=1)
    crf: int = Field(default=12, ge=0, le=51)
    pixel_format: PixelFormat = "yuv444p"
    shard_samples: int = Field(default=64, ge=1)
    test_share: float = Field(default=0.1, ge=0, lt=1)
    cuts: bool = True
    cut_threshold: float = Field(default=27.0, gt=0)

    @model_validator(mode="after")
    def _lengths_fit(self) -> "IngestConfig":
        if self.min_frames > self.segment_frames:
            raise ValueError(f"min_frames {self.min_frames} exceeds segment_frames {self.segment_frames}")
        return self


@dataclass(frozen=True)
class Segment:
    """Part of one shot at the configured rate and size.

    source_frames, times_s: of each frame, its index in the source and its time there.
    """

    frames: UInt8[np.ndarray, "t h w c"]
    source_frames: list[int]
    times_s: list[float]


@dataclass(frozen=True)
class _Kept:
    """A frame of the sample. The decoded picture is let go: hundreds of them in 4K would fill the memory."""

    pixels: UInt8[np.ndarray, "h w c"]
    index: int
    time_s: float


@dataclass
class Tally:
    """What became of a source's frames; filled while `segments` runs.

    source_frames: decoded. shots: found. kept: written into segments. short: at the wanted rate, but in
    shots below min_frames. black: decoded frames left out as black. repeated: kept again for want of a newer.
    """

    source_frames: int = 0
    seconds: float = 0.0
    shots: int = 0
    kept: int = 0
    short: int = 0
    black: int = 0
    repeated: int = 0

    def complaint(self, config: IngestConfig) -> str | None:
        """Why nothing of this source should be used, None if it is good."""
        if not self.kept:
            black = f", {self.black} of {self.source_frames} frames are black" if self.black else ""
            return f"no shot of at least {config.min_frames} frames at {config.rate_hz:g} Hz{black}"
        total = self.kept + self.short
        if self.repeated > MAX_REPEATED * total:
            return (
                f"too slow for rate_hz {config.rate_hz:g}: {self.repeated} of {total} frames would be repeats"
            )
        return None


def segments(
    path: Path, config: IngestConfig, tally: Tally, on_frame: Callable[[], None] = lambda: None
) -> Iterator[Segment]:
    """The usable segments of one file, in order; `on_frame` is called for each decoded frame.

    Raises:
        BadVideo: at the start or, for a file that breaks off, at the end: then none of it is to be used.
    """
    cuts = CutDetector(config.cut_threshold) if config.cuts else None
    frames = find_shots(decode(path), SquareFitter(config.size_px, config.resize), cuts)
    counted = _counted(frames, tally, on_frame)
    for (_, is_black), shot in groupby(counted, key=lambda frame: (frame.shot, frame.is_black)):
        if is_black:
            continue
        tally.shots += 1
        kept = (_kept(frame) for frame in _resample(shot, config.rate_hz))
        for piece in _pieces(kept, config.segment_frames, config.min_frames):
            indices = [frame.index for frame in piece]
            tally.repeated += sum(a == b for a, b in pairwise(indices))
            if len(piece) < config.min_frames:
                tally.short += len(piece)
                continue
            tally.kept += len(piece)
            yield Segment(
                frames=np.stack([frame.pixels for frame in piece]),
                source_frames=indices,
                times_s=[round(frame.time_s, 6) for frame in piece],
            )


def _kept(frame: ShotFrame) -> _Kept:
    return _Kept(frame.pixels, frame.picture.index, frame.picture.time_s)


def _counted(frames: Iterable[ShotFrame], tally: Tally, on_frame: Callable[[], None]) -> Iterator[ShotFrame]:
    first_s = None
    for frame in frames:
        on_frame()
        first_s = frame.picture.time_s if first_s is None else first_s
        tally.source_frames += 1
        tally.black += frame.is_black
        tally.seconds = round(frame.picture.time_s - first_s, 3)
        yield frame


def _resample(frames: Iterable[ShotFrame], rate_hz: float) -> Iterator[ShotFrame]:
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


def _pieces(frames: Iterable[_Kept], longest: int, shortest: int) -> Iterator[list[_Kept]]:
    """Runs of at most `longest`; the end is shared between the last two rather than cut off too short."""
    piece: list[_Kept] = []
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
