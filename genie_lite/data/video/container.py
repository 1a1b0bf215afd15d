"""Foreign containers: opened within limits, with everything that is wrong in them told as a `BadVideo`.

What a file may ask of the machine is bounded here in pixels and in frames, and what it may open besides itself:
nothing. Memory and time are bounded by `sandbox`.
"""

import io
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import av
from av.codec.codec import UnknownCodecError
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from genie_lite.data.video.place import Place
from genie_lite.errors import UserError

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

Span = tuple[float, float]


class BadVideo(UserError):
    """A file that cannot be used; `reason` is the message without the file's name."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


@dataclass(frozen=True)
class Fault:
    """What could not be decoded. time_s: by its packet, None where that does not say it."""

    what: str
    time_s: float | None = None

    def lies_in(self, span_s: Span | None) -> bool:
        """Another episode of the file may be broken; that is no fault of this one."""
        return span_s is None or self.time_s is None or span_s[0] <= self.time_s < span_s[1]


@contextmanager
def opened(place: Place) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its picture track. Every complaint of FFmpeg inside becomes a BadVideo."""
    path = place.path
    _expect_bytes(place)
    try:
        # An open file instead of a name: a name like `a:b.mp4` would be taken for a protocol.
        with place.open() as file, _container(file) as container:
            stream = _picture_track(container, path)
            stream.codec_context.thread_count = 1  # parallel over files, never inside one
            stream.codec_context.options = _limits()
            # Of a file of many episodes the header counts all of them.
            expect_modest(path, stream.height, stream.width, 0 if place.span_s else stream.frames)
            yield container, stream
    except MemoryError:
        raise  # FFmpeg's is an FFmpegError too; the file may be in order
    except FFmpegError as error:
        raise BadVideo(path, f"not a readable video ({error.strerror or error})") from error
    except OSError as error:
        raise BadVideo(path, f"cannot be opened ({error.strerror or error})") from error


def images_of(container: InputContainer, stream: VideoStream, faults: list[Fault]) -> Iterator[av.VideoFrame]:
    """Decoded frames from where the container stands; what cannot be decoded is noted in `faults`."""
    packets = container.demux(stream)
    decoder = _decoder_of_alpha(stream) or stream.codec_context
    while len(faults) < MAX_FAULTS:
        try:
            packet = next(packets, None)
        except FFmpegError as error:
            faults.append(Fault(f"demuxer: {error.strerror}"))
            packet = None
        except IndexError:
            packet = None  # PyAV 18, after all packets of ours, where another track has turned up in mid-file
        if packet is None:
            return
        time_s = None if packet.pts is None else float(packet.pts * packet.time_base)
        if packet.is_corrupt:
            faults.append(Fault("a packet is cut short", time_s))
        try:
            yield from cast(list[av.VideoFrame], decoder.decode(packet))
        except MemoryError:
            raise  # not the packet's fault
        except FFmpegError as error:
            faults.append(Fault(f"decoder: {error.strerror}", time_s))


def _decoder_of_alpha(stream: VideoStream) -> VideoCodecContext | None:
    """For a WebM with transparency: FFmpeg's own decoders of VP8 and VP9 leave it out."""
    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(stream.codec_context.codec.canonical_name)
    if name is None or stream.metadata.get("alpha_mode") != "1":
        return None
    try:
        decoder = cast(VideoCodecContext, av.CodecContext.create(name, "r"))
    except UnknownCodecError:
        return None  # a build without it
    decoder.thread_count = 1
    decoder.options = _limits()
    return decoder


def told(faults: list[Fault]) -> str:
    """The first fault and how many there are, in parentheses."""
    return f" ({faults[0].what}; {len(faults)} fault{'s' if len(faults) > 1 else ''})" if faults else ""


def seek(container: InputContainer, stream: VideoStream, time_s: float) -> None:
    """Go on at a key frame at or before this time; where that cannot be found, at the beginning."""
    assert stream.time_base is not None
    with suppress(FFmpegError):  # a raw stream has no index; it is then decoded from its first frame
        container.seek(math.floor(time_s / stream.time_base), stream=stream)


def within(span_s: Span, rate_hz: float, images: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Those that lie in the span, with half a frame of tolerance: its bounds are rounded by whoever wrote them.

    Where frames bear no time, as in raw streams, they are counted, and must come from the first on.
    """
    half_s = 0.5 / rate_hz
    for number, image in enumerate(images):
        time_s = number / rate_hz if image.time is None else image.time
        if time_s >= span_s[1] - half_s:
            return
        if time_s >= span_s[0] - half_s:
            yield image


def expect_modest(path: Path, height: int, width: int, num_frames: int) -> None:
    """Refuse what would take too much of the machine.

    Raises:
        BadVideo: too many pixels, too long a frame, or too many frames.
    """
    if height * width > MAX_PIXELS:
        raise BadVideo(path, f"frames of {width} x {height} pixels; expected at most {MAX_PIXELS} pixels")
    if max(height, width) > MAX_ELONGATION * min(height, width):
        raise BadVideo(
            path, f"frames of {width} x {height} pixels; expected sides of at most {MAX_ELONGATION} to 1"
        )
    if num_frames > MAX_FRAMES:
        raise BadVideo(path, f"more than {MAX_FRAMES} frames; cut it into several files")


def rate_of(stream: VideoStream) -> float:
    """Frames per second, on average, as the header has it."""
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    return float(rate) if rate else DEFAULT_RATE_HZ


def pixel_aspect_of(stream: VideoStream) -> float:
    """Width of a stored pixel by its height."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 0.1 < aspect < 10 else 1.0  # beyond that it is a broken header


def seconds_of(container: InputContainer, stream: VideoStream) -> float | None:
    """Length by the header."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def tagged_seconds(stream: VideoStream) -> float | None:
    """Length by Matroska's DURATION tag (hh:mm:ss.fraction); mp4 reports a truncation by itself."""
    parts = stream.metadata.get("DURATION", "").split(":")
    try:
        hours, minutes, seconds = (float(part) for part in parts)
    except ValueError:
        return None
    return 3600 * hours + 60 * minutes + seconds


def _expect_bytes(place: Place) -> None:
    if not place.path.is_file():
        return  # opening it tells more
    rest = place.path.stat().st_size - place.offset
    if place.num_bytes is not None and rest < place.num_bytes:
        raise BadVideo(place.path, f"truncated: {max(0, rest)} of its {place.num_bytes} bytes are there")
    if rest <= 0 or place.num_bytes == 0:
        raise BadVideo(place.path, "an empty file")


def _container(file: io.BufferedReader) -> InputContainer:
    # Opening decodes a little to find out what the header does not say: the limits hold there too.
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": PROTOCOLS} | _limits()
    return cast(InputContainer, av.open(file, "r", options=options, metadata_errors="ignore"))


def _limits() -> dict[str, str]:
    """For FFmpeg's decoders: refuse larger frames before there is memory for them."""
    return {"max_pixels": str(MAX_PIXELS)}


def _picture_track(container: InputContainer, path: Path) -> VideoStream:
    for stream in container.streams.video:
        # Without a decoder there is no codec context; cover art of a song is no moving picture.
        if stream.codec_context and stream.height and not stream.disposition & Disposition.attached_pic:
            return stream
    # FFmpeg leaves the size of a track that breaks its limits at 0.
    raise BadVideo(path, f"no video track that can be decoded, with frames of at most {MAX_PIXELS} pixels")
