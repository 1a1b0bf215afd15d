"""Video files in and out: the only file that knows decoders and encoders.

Foreign files are read with PyAV (`decode`): it opens nearly everything, AV1 too, and says
what it could not decode. Files that we wrote ourselves are read with decord (`read_frames`): fast and
exact to the frame, but not to be trusted with what others made.

Pixels are uint8 RGB here, `h w c` for one frame and `t h w c` for several.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, cast

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import UInt8

from genie_lite.errors import UserError
from genie_lite.files import write_bytes

Resize = Literal["crop", "pad", "stretch"]
PixelFormat = Literal["yuv444p", "yuv420p"]

SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"}
    | {".ogv", ".ts", ".webm", ".wmv"}
)
# A playlist or a subtitle named .mp4 must not make the library open other files: only real containers.
CONTAINERS = "asf,avi,flv,gif,h264,hevc,matroska,mov,mpeg,mpegts,mpegvideo,obu,ogg,ivf,webm"
# And should one of these refer to another file or address, there is no protocol to open it with.
PROTOCOLS = "none"
# What a file may ask of the machine: twice the pixels of 8K, two days at 30 Hz.
MAX_PIXELS = 8192 * 8192
MAX_ELONGATION = 32  # longer side by shorter side; beyond that, fitting it into a square takes gigabytes
MAX_FRAMES = 5_000_000
MAX_FAULTS = 1000  # a file with so many is not read to its end
DEFAULT_RATE_HZ = 25.0  # what FFmpeg assumes of raw streams that state no rate


class BadVideo(UserError):
    """A file that cannot be used; `reason` is the message without the file's name."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


class BadPicture(UserError):
    """A decoded frame that cannot be brought to RGB."""


@dataclass(frozen=True)
class VideoInfo:
    """What a file says about itself, before anything is decoded.

    height, width: as stored, before rotation. rate_hz: frames per second, on average.
    num_frames, seconds: None where the container does not state them.
    """

    height: int
    width: int
    rate_hz: float
    codec: str
    num_frames: int | None
    seconds: float | None


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


def probe(path: Path) -> VideoInfo:
    """Read a file's header.

    Raises:
        BadVideo: not a video, a video without a picture track, or too large by its header.
    """
    with _opened(path) as (container, stream):
        seconds = stream.duration * stream.time_base if stream.duration and stream.time_base else None
        if seconds is None and container.duration:
            seconds = container.duration / av.time_base
        return VideoInfo(
            height=stream.height,
            width=stream.width,
            rate_hz=_rate_hz(stream),
            codec=stream.codec_context.codec.canonical_name,
            num_frames=stream.frames or None,
            seconds=None if seconds is None else float(seconds),
        )


def decode(path: Path) -> Iterator[Picture]:
    """All frames of a foreign file in order of presentation.

    The file is judged as a whole: pictures come as they are decoded, and where something was missing or
    broken the *end* of the iteration raises, so that a caller keeps all of a file or nothing.

    Raises:
        BadVideo: not a video, no frame at all, broken packets, an end that comes too early, too many frames
            or too large ones.
    """
    with _opened(path) as (container, stream):
        stream.codec_context.thread_count = 1  # parallel over files, never inside one
        stream.codec_context.options = _limits()
        rate_hz, aspect = _rate_hz(stream), _pixel_aspect(stream)
        faults: list[str] = []
        first_s = last_s = 0.0
        index = -1
        for index, image in enumerate(_images(container, stream, faults)):
            last_s = index / rate_hz if image.time is None else image.time
            first_s = first_s if index else last_s
            _expect_modest(path, image.height, image.width, index + 1)
            yield Picture(image, index, last_s, aspect)
        if index < 0:
            raise BadVideo(path, f"no frame could be decoded{_first(faults)}")
        if faults:
            raise BadVideo(path, f"broken or truncated after {index + 1} frames{_first(faults)}")
        expected_s, found_s = _tagged_seconds(stream), last_s - first_s + 1 / rate_hz
        # The tag may count the sound track's tail: only a clear gap is a fault.
        if expected_s is not None and found_s < 0.9 * expected_s - 0.5:
            raise BadVideo(path, f"truncated: {found_s:.1f} s decoded of {expected_s:.1f} s")


class SquareFitter:
    """Brings pictures to `size_px` x `size_px` RGB, upright.

    crop: the shorter side fits, the middle of the longer one is kept. pad: the longer side fits, the rest
    is black. stretch: both sides fit, the aspect ratio is lost.

    Raises:
        BadPicture: when called with pixels that FFmpeg cannot convert.
    """

    def __init__(self, size_px: int, resize: Resize) -> None:
        self.size_px, self.resize = size_px, resize
        self._reformatter = VideoReformatter()  # keeps the scaler's tables between frames

    def __call__(self, picture: Picture) -> UInt8[np.ndarray, "h w c"]:
        image = picture.image
        height, width = self._scaled(image.height, image.width * picture.pixel_aspect)
        try:
            scaled = self._reformatter.reformat(image, width, height, "rgb24", interpolation="AREA")
        except MemoryError:
            raise
        except FFmpegError as error:
            raise BadPicture(f"{image.format.name} cannot be converted to RGB ({error.strerror})") from error
        return _upright(self._square(scaled.to_ndarray()), image)

    def _scaled(self, height: int, width: float) -> tuple[int, int]:
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


def encode_mp4(
    frames: UInt8[np.ndarray, "t h w c"],
    rate_hz: float,
    gop: int = 10,
    crf: int = 12,
    pixel_format: PixelFormat = "yuv444p",
) -> bytes:
    """H.264 in mp4 without frames that need a later one. The same frames give the same bytes.

    Args:
        frames: RGB.
        rate_hz: frames per second.
        gop: frames from one key frame to the next.
        crf: x264's quality, 0 (best, large) to 51; 12 is hard to tell from the original.
        pixel_format: yuv444p keeps the colour of single pixels; yuv420p plays in every browser, averages
            colour over 2 x 2 pixels and wants even sides.
    """
    assert len(frames), "a video needs a frame"
    assert pixel_format == "yuv444p" or not any(side % 2 for side in frames.shape[1:3]), frames.shape
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(rate_hz).limit_denominator(1001))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixel_format
        stream.codec_context.thread_count = 1
        stream.options = {
            "crf": str(crf),
            "g": str(gop),
            "keyint_min": str(gop),
            "sc_threshold": "0",
            "bf": "0",
            # On small frames x264's macroblock tree reads past its data: the same frames, other bytes, now and then.
            "mbtree": "0",
        }
        for pixels in frames:
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            container.mux(stream.encode(image))
        container.mux(stream.encode())
    return buffer.getvalue()


def write_mp4(
    path: Path,
    frames: UInt8[np.ndarray, "t h w c"],
    rate_hz: float,
    gop: int = 10,
    crf: int = 12,
    pixel_format: PixelFormat = "yuv420p",
) -> None:
    """Write `encode_mp4` to a file, atomically; plays everywhere by default."""
    write_bytes(path, encode_mp4(frames, rate_hz, gop, crf, pixel_format))


def read_frames(mp4: bytes | Path, indices: Sequence[int] | None = None) -> UInt8[np.ndarray, "t h w c"]:
    """Frames of a file that *we* wrote: all of them, or those at `indices` in that order.

    Never hand it foreign bytes: decord can take the process down with it.

    Raises:
        UserError: not decodable, or an index beyond the end.
    """
    import decord  # here: reading foreign video and encoding do without it

    name = "mp4 in memory" if isinstance(mp4, bytes) else str(mp4)
    try:
        reader = decord.VideoReader(io.BytesIO(mp4) if isinstance(mp4, bytes) else name, num_threads=1)
        wanted = list(range(len(reader)) if indices is None else indices)
        try:
            return reader.get_batch(wanted).asnumpy()
        except decord.DECORDError:
            # decord 0.6 takes the padding of rows of 16, 24, 48 or 72 pixels for more channels and then
            # cannot make a batch of such frames; one by one they come, padding included.
            return np.stack([_without_padding(reader[index].asnumpy()) for index in wanted])
    except (decord.DECORDError, IndexError, RuntimeError) as error:
        message = " ".join(str(error).split())[:200]
        raise UserError(f"{name}: cannot be decoded ({message}); expected a video of ours") from error


def _without_padding(frame: np.ndarray) -> np.ndarray:
    height, width, _ = frame.shape
    return np.ascontiguousarray(frame.reshape(height, -1)[:, : 3 * width].reshape(height, width, 3))


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its picture track. Every complaint of FFmpeg inside becomes a BadVideo."""
    if path.is_file() and not path.stat().st_size:
        raise BadVideo(path, "an empty file")
    try:
        # An open file instead of a name: a name like `a:b.mp4` would be taken for a protocol.
        with path.open("rb") as file, _container(file) as container:
            stream = _picture_track(container, path)
            _expect_modest(path, stream.height, stream.width, stream.frames)
            yield container, stream
    except MemoryError:
        raise  # FFmpeg's is an FFmpegError too; the file may be in order
    except FFmpegError as error:
        raise BadVideo(path, f"not a readable video ({error.strerror or error})") from error
    except OSError as error:
        raise BadVideo(path, f"cannot be opened ({error.strerror or error})") from error


def _container(file: io.BufferedReader) -> InputContainer:
    # Opening decodes a little to find out what the header does not say: the limits hold there too.
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": PROTOCOLS} | _limits()
    return cast(InputContainer, av.open(file, "r", options=options, metadata_errors="ignore"))


def _limits() -> dict[str, str]:
    """For FFmpeg's decoders: refuse larger frames before there is memory for them."""
    return {"max_pixels": str(MAX_PIXELS)}


def _expect_modest(path: Path, height: int, width: int, num_frames: int) -> None:
    if height * width > MAX_PIXELS:
        raise BadVideo(path, f"frames of {width} x {height} pixels; expected at most {MAX_PIXELS} pixels")
    if max(height, width) > MAX_ELONGATION * min(height, width):
        raise BadVideo(
            path, f"frames of {width} x {height} pixels; expected sides of at most {MAX_ELONGATION} to 1"
        )
    if num_frames > MAX_FRAMES:
        raise BadVideo(path, f"more than {MAX_FRAMES} frames; cut it into several files")


def _picture_track(container: InputContainer, path: Path) -> VideoStream:
    for stream in container.streams.video:
        # Without a decoder there is no codec context; cover art of a song is no moving picture.
        if stream.codec_context and stream.height and not stream.disposition & Disposition.attached_pic:
            return stream
    # FFmpeg leaves the size of a track that breaks its limits at 0.
    raise BadVideo(path, f"no video track that can be decoded, with frames of at most {MAX_PIXELS} pixels")


def _images(container: InputContainer, stream: VideoStream, faults: list[str]) -> Iterator[av.VideoFrame]:
    """Decoded frames; what could not be decoded is noted in `faults`, one line each."""
    packets = container.demux(stream)
    while len(faults) < MAX_FAULTS:
        try:
            packet = next(packets, None)
        except FFmpegError as error:
            faults.append(f"demuxer: {error.strerror}")
            packet = None
        if packet is None:
            return
        if packet.is_corrupt:
            faults.append("a packet is cut short")
        try:
            yield from packet.decode()
        except MemoryError:
            raise  # not the packet's fault
        except FFmpegError as error:
            faults.append(f"decoder: {error.strerror}")


def _first(faults: list[str]) -> str:
    return f" ({faults[0]}; {len(faults)} fault{'s' if len(faults) > 1 else ''})" if faults else ""


def _rate_hz(stream: VideoStream) -> float:
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    return float(rate) if rate else DEFAULT_RATE_HZ


def _pixel_aspect(stream: VideoStream) -> float:
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 0.1 < aspect < 10 else 1.0  # beyond that it is a broken header


def _tagged_seconds(stream: VideoStream) -> float | None:
    """Length by Matroska's DURATION tag (hh:mm:ss.fraction); mp4 reports a truncation by itself."""
    parts = stream.metadata.get("DURATION", "").split(":")
    try:
        hours, minutes, seconds = (float(part) for part in parts)
    except ValueError:
        return None
    return 3600 * hours + 60 * minutes + seconds


def _upright(pixels: np.ndarray, image: av.VideoFrame) -> np.ndarray:
    """Undo a phone's rotation, stated in degrees counterclockwise."""
    turns = round(image.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns))
