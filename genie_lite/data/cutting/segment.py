"""One video file in, continuous segments out: a pure function of the file and the configuration.

    decode -> cut off black bars -> fit to a square -> shots -> a regular rate -> leave out frozen stretches
        -> pieces of bounded length -> leave out those in which too little moves

It knows neither shards nor processes, so that any engine can run it: a child process, a cluster's task.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass, field
from functools import cached_property
from itertools import chain, groupby, pairwise
from operator import itemgetter
from typing import Any

import numpy as np
from jaxtyping import UInt8
from pydantic import Field, model_validator

from genie_lite.config import Config
from genie_lite.data.cutting.letterbox import NUM_PICTURES, find_bars
from genie_lite.data.cutting.motion import brightness_of, find_frozen, luma_of, motion_of
from genie_lite.data.cutting.resample import pieces, resample
from genie_lite.data.cutting.shots import CutDetector, ShotFrame, find_shots
from genie_lite.data.cutting.signature import signature_of
from genie_lite.data.quality.judge import QualityConfig
from genie_lite.data.video.codec import Codec, PixelFormat, decode, encode_mp4, sample
from genie_lite.data.video.picture import Picture, Resize, SquareFitter
from genie_lite.data.video.place import Place

# Above this share of repeated frames the source is too slow for the wanted rate, and most transitions
# would say that nothing happened.
MAX_REPEATED = 0.2
# Of 525 clips of robots and of everyday life (10 Hz, 64 px), the 4 below it show nothing that moves, or something
# in a corner; in those just above it a hand or an arm comes and goes.
MIN_MOTION = 0.3


class IngestConfig(Config):
    """How videos become samples. All of it is part of the shards' identity.

    size_px: side of the square frames, even. rate_hz: frames per second of the samples. resize: what is
    done with frames that are not square. segment_frames, min_frames: longest and shortest sample.
    gop: frames from key frame to key frame. crf: x264's quality, 0 to 51, lower is better and larger.
    shard_samples: a shard is closed at the first source that reaches this number of samples.
    test_share: share of the sources held out. cuts: whether scene cuts, black and frozen stretches end a sample; turn
    it off for games and robots, where one file is one shot. cut_threshold: PySceneDetect's, lower cuts more.
    codec: h264, or mjpeg, whose single frames are read several times as fast and take three times the space.
    jpeg_quality: for mjpeg, 1 to 100, best. letterbox: whether black bars are cut off. min_motion: clips that change
    by less are left out: mean change of luma from frame to frame, 0 to 255, on thumbnails; 0 keeps all.
    near_duplicates: whether clips that show what an earlier one does are left out. quality: a trained judge of clips.
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
    codec: Codec = "h264"
    jpeg_quality: int = Field(default=90, ge=1, le=100)
    letterbox: bool = True
    min_motion: float = Field(default=MIN_MOTION, ge=0, le=255)
    near_duplicates: bool = True
    quality: QualityConfig | None = None

    @model_validator(mode="after")
    def _lengths_fit(self) -> "IngestConfig":
        if self.min_frames > self.segment_frames:
            raise ValueError(f"min_frames {self.min_frames} exceeds segment_frames {self.segment_frames}")
        return self


@dataclass(frozen=True)
class Segment:
    """Part of one shot at the configured rate and size.

    source_frames, times_s: of each frame, its index in the source and its time there. motion, brightness: as `motion`
    defines them. signature: of the clip, None unless near duplicates are looked for.
    """

    frames: UInt8[np.ndarray, "t h w c"]
    source_frames: list[int]
    times_s: list[float]
    motion: float
    brightness: float
    signature: str | None

    def encode(self, config: IngestConfig) -> bytes:
        """The mp4 that goes into a shard."""
        return encode_mp4(
            self.frames,
            config.rate_hz,
            config.gop,
            config.crf,
            config.pixel_format,
            config.codec,
            config.jpeg_quality,
        )

    def about(self) -> dict[str, Any]:
        """What goes with the frames into a shard."""
        about = {
            "source_frames": self.source_frames,
            "times_s": self.times_s,
            "num_frames": len(self.frames),
            "motion": self.motion,
            "brightness": self.brightness,
        }
        return about if self.signature is None else about | {"signature": self.signature}


@dataclass(frozen=True)
class _Kept:
    """A frame of the sample. The decoded picture is let go: hundreds of them in 4K would fill the memory."""

    pixels: UInt8[np.ndarray, "h w c"]
    index: int
    time_s: float

    @cached_property
    def luma(self) -> UInt8[np.ndarray, "y x"]:
        return luma_of(self.pixels)


@dataclass
class Tally:
    """What became of a source's frames; filled while `segments` runs.

    source_frames: decoded. seconds: from the first to the last of them. shots: found. black: decoded frames left out
    as black. At the wanted rate: kept, written into segments; short, in shots below min_frames; dull, in clips in
    which too little moves; frozen, left out because nothing moves at all; repeated, kept again for want of a newer.
    most_motion: of the dull clips. dropped: of clips, by reason. rotation: degrees clockwise that bring the
    pictures upright. letterbox: pixels cut off the upright picture: top, bottom, left, right; None if none are.
    """

    source_frames: int = 0
    seconds: float = 0.0
    shots: int = 0
    kept: int = 0
    short: int = 0
    black: int = 0
    frozen: int = 0
    dull: int = 0
    repeated: int = 0
    most_motion: float = 0.0
    dropped: Counter[str] = field(default_factory=Counter)
    rotation: int = 0
    letterbox: list[int] | None = None

    def figures(self) -> dict[str, Any]:
        """For the manifest."""
        hidden = {"dull", "most_motion"} | ({"letterbox"} if self.letterbox is None else set())
        shown = {name: value for name, value in vars(self).items() if name not in hidden}
        return shown | {"dropped": dict(self.dropped)}

    def complaint(self, config: IngestConfig) -> str | None:
        """Why nothing of this source should be used, None if it is good."""
        total = self.kept + self.short + self.dull
        if not self.kept and self.dull > self.short:
            return (
                f"too little motion: {self.dull} of {total} frames change by {self.most_motion:g} levels at most; "
                f"min_motion is {config.min_motion:g}"
            )
        if not self.kept:
            black = f", {self.black} of {self.source_frames} frames are black" if self.black else ""
            frozen = f", {self.frozen} of {self.frozen + total} frames are frozen" if self.frozen else ""
            return f"no shot of at least {config.min_frames} frames at {config.rate_hz:g} Hz{black}{frozen}"
        if self.repeated > MAX_REPEATED * total:
            return (
                f"too slow for rate_hz {config.rate_hz:g}: {self.repeated} of {total} frames would be repeats"
            )
        return None


def segments(
    place: Place, config: IngestConfig, tally: Tally, on_frame: Callable[[], None] = lambda: None
) -> Iterator[Segment]:
    """The usable segments of one video, in order; `on_frame` is called for each decoded frame.

    Raises:
        BadVideo: at the start or, for a file that breaks off, at the end: then none of it is to be used.
    """
    for shot in _shots(_frames(place, config, tally, on_frame), config, tally):
        for piece in pieces(shot, config.segment_frames, config.min_frames):
            segment = _segment(piece, config, tally)
            if segment is not None:
                yield segment


def _frames(
    place: Place, config: IngestConfig, tally: Tally, on_frame: Callable[[], None]
) -> Iterator[ShotFrame]:
    """All frames of a video, each with the shot that it lies in."""
    pictures = decode(place)
    first = next(pictures)
    tally.rotation = first.orientation.rotation
    bars = None
    if config.letterbox:
        # The picture that is there anyway tells most videos without bars; only the others are opened once more.
        looks = chain([first], _watched(sample(place, NUM_PICTURES), on_frame))
        bars = find_bars(looks)
    if bars is not None:
        tally.letterbox = list(astuple(bars.turned(first.orientation)))
    fitter = SquareFitter(config.size_px, config.resize, bars, (first.image.height, first.image.width))
    cuts = CutDetector(config.cut_threshold) if config.cuts else None
    return _counted(find_shots(chain([first], pictures), fitter, cuts), tally, on_frame)


def _shots(frames: Iterable[ShotFrame], config: IngestConfig, tally: Tally) -> Iterator[Iterator[_Kept]]:
    """Runs of frames at the wanted rate in which time goes on, nothing is black and nothing stands still."""
    for (_, is_black), shot in groupby(frames, key=lambda frame: (frame.shot, frame.is_black)):
        if is_black:
            continue
        tally.shots += 1
        kept = (_kept(frame) for frame in resample(shot, config.rate_hz))
        if not config.cuts:
            yield kept
            continue
        for is_frozen, run in groupby(find_frozen(kept, config.rate_hz), key=itemgetter(1)):
            if is_frozen:
                tally.frozen += sum(1 for _ in run)
            else:
                yield (frame for frame, _ in run)


def _segment(piece: list[_Kept], config: IngestConfig, tally: Tally) -> Segment | None:
    """A run of frames as a sample, unless it is too short or too dull."""
    indices = [frame.index for frame in piece]
    tally.repeated += sum(a == b for a, b in pairwise(indices))
    if len(piece) < config.min_frames:
        tally.short += len(piece)
        tally.dropped["too short"] += 1
        return None
    lumas = np.stack([frame.luma for frame in piece])
    motion = motion_of(lumas)
    if motion < config.min_motion:
        tally.dull += len(piece)
        tally.most_motion = max(motion, tally.most_motion)
        tally.dropped["little motion"] += 1
        return None
    tally.kept += len(piece)
    return Segment(
        frames=np.stack([frame.pixels for frame in piece]),
        source_frames=indices,
        times_s=[round(frame.time_s, 6) for frame in piece],
        motion=motion,
        brightness=brightness_of(lumas),
        signature=signature_of(lumas) if config.near_duplicates else None,
    )


def _kept(frame: ShotFrame) -> _Kept:
    return _Kept(frame.pixels, frame.picture.index, frame.picture.time_s)


def _watched(pictures: Iterable[Picture], on_frame: Callable[[], None]) -> Iterator[Picture]:
    for picture in pictures:
        on_frame()
        yield picture


def _counted(frames: Iterable[ShotFrame], tally: Tally, on_frame: Callable[[], None]) -> Iterator[ShotFrame]:
    first_s = None
    for frame in frames:
        on_frame()
        first_s = frame.picture.time_s if first_s is None else first_s
        tally.source_frames += 1
        tally.black += frame.is_black
        tally.seconds = round(frame.picture.time_s - first_s, 3)
        yield frame
