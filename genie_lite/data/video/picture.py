"""One decoded frame of a foreign video, and how it becomes the pixels of a sample.

    as stored -> bars cut off -> scaled -> upright -> square

Pixels are uint8 RGB, `h w c`. Full size is touched by FFmpeg's scaler alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Literal

import av
import cv2
import numpy as np
from av.error import FFmpegError
from av.video.format import VideoFormat
from av.video.reformatter import VideoReformatter
from einops import repeat
from jaxtyping import UInt8

from genie_lite.data.video.filtering import Filter
from genie_lite.errors import UserError

Resize = Literal["crop", "pad", "stretch"]


# Parallel over files, never inside one: since version 17 PyAV scales in as many threads as there are cores.
ONE_THREAD = {"threads": 1} if int(av.__version__.partition(".")[0]) >= 17 else {}


class BadPicture(UserError):
    """A decoded frame that cannot be brought to RGB."""


@dataclass(frozen=True)
class Orientation:
    """How a stored picture is brought upright: transposed first, if so, and then mirrored.

    A quarter turn clockwise is a transposition mirrored left to right; a phone's front camera mirrors only.
    """

    is_transposed: bool = False
    is_mirrored: bool = False  # left to right
    is_flipped: bool = False  # top to bottom

    def __call__(self, pixels: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "y x c"]:
        upright = pixels.transpose(1, 0, 2) if self.is_transposed else pixels
        upright = upright[:, ::-1] if self.is_mirrored else upright
        return np.ascontiguousarray(upright[::-1] if self.is_flipped else upright)

    @property
    def rotation(self) -> int:
        """Degrees clockwise, 0 to 270; a mirror image apart."""
        if self.is_transposed:
            return 90 if self.is_mirrored else 270
        return 180 if self.is_flipped else 0


UPRIGHT = Orientation()


@dataclass(frozen=True)
class Bars:
    """Black margins of a stored picture, in pixels."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    def __bool__(self) -> bool:
        return any((self.top, self.bottom, self.left, self.right))

    def turned(self, orientation: Orientation) -> "Bars":
        """The margins of the upright picture."""
        top, bottom, left, right = self.top, self.bottom, self.left, self.right
        if orientation.is_transposed:
            top, bottom, left, right = left, right, top, bottom
        if orientation.is_mirrored:
            left, right = right, left
        if orientation.is_flipped:
            top, bottom = bottom, top
        return Bars(top, bottom, left, right)


@dataclass(frozen=True)
class Picture:
    """One decoded frame, not yet converted to RGB.

    index: counts the decoded frames from 0. time_s: presentation time.
    pixel_aspect: width of a stored pixel divided by its height, 1 for square pixels.
    """

    image: av.VideoFrame
    index: int
    time_s: float
    pixel_aspect: float
    orientation: Orientation = UPRIGHT


def orientation_of(image: av.VideoFrame) -> Orientation:
    """What the display matrix says, to the nearest quarter turn.

    Source: the matrix as FFmpeg documents it (libavutil/display.h): (x, y) goes to (a x + c y, b x + d y).
    """
    found = image.side_data.get("DISPLAYMATRIX")
    if found is None:
        return UPRIGHT
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(found), "<i4")[:5])
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, a < 0, d < 0)
    return Orientation(True, c < 0, b < 0)


def opaque(image: av.VideoFrame) -> av.VideoFrame:
    """The picture on black. Most that could be transparent are not, and stay what they are.

    Black, because that is what a player without a page behind it shows.
    """
    if not _has_alpha(image.format.name):
        return image
    pixels = _converted(image, "rgba")
    alpha = pixels[..., 3]
    if alpha.min() == 255:
        return image
    colour = np.asarray(cv2.multiply(pixels[..., :3], repeat(alpha, "h w -> h w 3"), scale=1 / 255), np.uint8)
    shown = av.VideoFrame.from_ndarray(colour, format="rgb24")
    shown.pts, shown.time_base = image.pts, image.time_base
    return shown


def luma_at_full_size(picture: Picture) -> UInt8[np.ndarray, "h w"]:
    """The luma of a picture as stored: 0 black to 255, whatever range it is stored in.

    Raises:
        BadPicture: pixels that FFmpeg cannot convert.
    """
    with _convertible(picture.image):
        return _converted(picture.image, "gray")


def _converted(image: av.VideoFrame, pixel_format: str) -> np.ndarray:
    return VideoReformatter().reformat(image, format=pixel_format, **ONE_THREAD).to_ndarray()


@contextmanager
def _convertible(image: av.VideoFrame) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise  # FFmpeg's is an FFmpegError too
    except FFmpegError as error:
        raise BadPicture(f"{image.format.name} cannot be converted ({error.strerror})") from error


@cache
def _has_alpha(pixel_format: str) -> bool:
    found = VideoFormat(pixel_format)
    return found.has_palette or any(component.is_alpha for component in found.components)


class SquareFitter:
    """Brings pictures to `size_px` x `size_px` RGB, upright.

    crop: the shorter side fits, the middle of the longer one is kept. pad: the longer side fits, the rest
    is black. stretch: both sides fit, the aspect ratio is lost. bars: of pictures of this size (height, width) as
    stored, these margins are cut off first.

    Raises:
        BadPicture: when called with pixels that FFmpeg cannot convert.
    """

    def __init__(
        self, size_px: int, resize: Resize, bars: Bars | None = None, bars_hw: tuple[int, int] = (0, 0)
    ) -> None:
        self.size_px: int = size_px
        self.resize: Resize = resize
        self._reformatter = VideoReformatter()  # keeps the scaler's tables between frames
        self._bars, self._bars_hw = bars, bars_hw
        self._crop = _crop(bars, *bars_hw) if bars else None

    def __call__(self, picture: Picture) -> UInt8[np.ndarray, "h w c"]:
        with _convertible(picture.image):
            scaled = self._scaled(self._cropped(picture.image), picture.pixel_aspect)
        return picture.orientation(self._square(scaled))

    def smaller(self, size_px: int) -> "SquareFitter":
        """One that shows the same part of pictures at no more than this size; itself where it does."""
        return (
            self if self.size_px <= size_px else SquareFitter(size_px, self.resize, self._bars, self._bars_hw)
        )

    def _cropped(self, image: av.VideoFrame) -> av.VideoFrame:
        if self._crop is None or (image.height, image.width) != self._bars_hw:
            return image
        return next(self._crop(image))

    def _scaled(self, image: av.VideoFrame, pixel_aspect: float) -> UInt8[np.ndarray, "h w c"]:
        height, width = self._size(image.height, image.width * pixel_aspect)
        scaled = self._reformatter.reformat(image, width, height, "rgb24", interpolation="AREA", **ONE_THREAD)
        return scaled.to_ndarray()

    def _size(self, height: int, width: float) -> tuple[int, int]:
        if self.resize == "stretch":
            return self.size_px, self.size_px
        side = min(height, width) if self.resize == "crop" else max(height, width)
        scale = self.size_px / side
        return max(1, round(height * scale)), max(1, round(width * scale))

    def _square(self, pixels: np.ndarray) -> np.ndarray:
        height, width, _ = pixels.shape
        size = self.size_px
        if height > size or width > size:
            top, left = (height - size) // 2, (width - size) // 2
            return pixels[top : top + size, left : left + size]
        if height == width == size:
            return pixels
        square = np.zeros((size, size, 3), np.uint8)
        top, left = (size - height) // 2, (size - width) // 2
        square[top : top + height, left : left + width] = pixels
        return square


def _crop(bars: Bars, height: int, width: int) -> Filter:
    """FFmpeg's crop moves pointers and copies nothing."""
    kept_h, kept_w = height - bars.top - bars.bottom, width - bars.left - bars.right
    return Filter("crop", f"{kept_w}:{kept_h}:{bars.left}:{bars.top}:exact=1")


def fit_pixels(
    frames: UInt8[np.ndarray, "t y x c"], size_px: int, resize: Resize
) -> UInt8[np.ndarray, "t h w c"]:
    """RGB frames of any size as squares; those that have the size already stay as they are, bit for bit."""
    if frames.shape[1:3] == (size_px, size_px):
        return np.ascontiguousarray(frames)
    fitter = SquareFitter(size_px, resize)
    pictures = [av.VideoFrame.from_ndarray(np.ascontiguousarray(each), format="rgb24") for each in frames]
    return np.stack([fitter(Picture(each, 0, 0.0, 1.0)) for each in pictures])
