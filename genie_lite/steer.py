"""Rollouts for people and scripts: a start frame and codes in, an mp4 of what the world shows out."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
from jaxtyping import Int, UInt8
from numpy import ndarray
from PIL import ExifTags, Image, UnidentifiedImageError

from genie_lite.data.cutting.segment import IngestConfig, Tally, segments
from genie_lite.data.loading.clip import to_pixels
from genie_lite.data.loading.loader import to_frames
from genie_lite.data.sources.find import find_sources
from genie_lite.data.video.picture import Picture, SquareFitter
from genie_lite.errors import UserError
from genie_lite.models.world import World

# Pictures that people have. The library reads many more, some with parsers that few have looked at.
PICTURES = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
UPRIGHT = {  # by EXIF's number for the orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Ride:
    """What leads through a world: frames to begin from, codes to take, and the seed of all sampling."""

    start: UInt8[ndarray, "t h w c"]
    codes: Int[ndarray, " k"]
    seed: int


@dataclass(frozen=True)
class Played:
    """What a ride showed."""

    frames: UInt8[ndarray, "k h w c"]
    tokens: Int[ndarray, "k n"]

    @property
    def sha256(self) -> str:
        """Of the bytes of all frames, row by row, red first."""
        return hashlib.sha256(self.frames.tobytes()).hexdigest()

    @property
    def tokens_sha256(self) -> str:
        """Of all tokens, as little-endian 32-bit numbers."""
        return hashlib.sha256(self.tokens.astype("<i4").tobytes()).hexdigest()


def play(
    world: World, ride: Ride, batch: int = 1, progress: Callable[[int, int], None] | None = None
) -> tuple[Played, float]:
    """Take a ride.

    Args:
        world: to play in.
        ride: where from, and what to do.
        batch: streams that take it side by side, each with its own noise; the first one is shown.
        progress: called with (frames, of how many).

    Returns:
        What the first stream showed, and the frames per second of all of them. The first frame does not count, for
        which a compiled world has to be compiled, unless it is the only one.
    """
    start = to_frames(ride.start)[None].expand(batch, -1, -1, -1, -1).to(world.device)
    state = world.reset(start, ride.seed)
    frames, tokens = [], []
    ends = [time.perf_counter()]
    for number, code in enumerate(ride.codes.tolist()):
        state, frame = world.step(state, torch.full((batch,), code, device=world.device))
        frames.append(to_pixels(frame[0]))
        tokens.append(state.tokens[0, -1].cpu())
        ends.append(time.perf_counter())
        if progress is not None:
            progress(number + 1, len(ride.codes))
    counted = ends[1:] if len(frames) > 1 else ends
    played = Played(np.stack(frames), torch.stack(tokens).int().numpy())
    return played, batch * (len(counted) - 1) / (counted[-1] - counted[0])


def first_frames(source: Path, config: IngestConfig, num: int) -> UInt8[ndarray, "t h w c"]:
    """The first `num` frames of a video at a run's size and rate; an image gives one.

    Raises:
        UserError: not there, not readable, or too short.
    """
    image = _image(source) if source.is_file() else None
    if image is not None:
        picture = Picture(image=av.VideoFrame.from_image(image), index=0, time_s=0.0, pixel_aspect=1.0)
        return SquareFitter(config.size_px, config.resize)(picture)[None]
    place = find_sources([source], [], 0.0)[0].place
    shortest = max(2, num)
    whole = config.model_copy(
        update={"min_frames": shortest, "segment_frames": shortest, "cuts": False, "min_motion": 0.0}
    )
    first = next(segments(place, whole, Tally()), None)
    if first is None:
        raise UserError(
            f"{place.path}: too short; expected at least {shortest} frames at {config.rate_hz:g} Hz"
        )
    return first.frames[:num]


def _image(path: Path) -> Image.Image | None:
    try:
        with Image.open(path, formats=PICTURES) as image:
            return _opaque(image.transpose(turn) if (turn := _turn_of(image)) is not None else image)
    except UnidentifiedImageError:
        return None
    # A parser of files from anywhere fails in many ways: SyntaxError, ValueError, struct.error, zlib.error …
    except Exception as error:
        raise UserError(f"{path}: an image that cannot be read ({error}); give another start") from error


def _turn_of(image: Image.Image) -> Image.Transpose | None:
    """How a photograph is brought upright: a camera stores it as its sensor lies, and says how it was held."""
    return UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))


def _opaque(image: Image.Image) -> Image.Image:
    """The picture on black, as that of a video is."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    shown = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", shown.size, "black"), shown).convert("RGB")
