"""Video files in and out: the only file that knows decoders and encoders.

Foreign files are read with PyAV (`decode`): it opens nearly everything, AV1 too, and says
what it could not decode. Files that we wrote ourselves are read with decord (`read_frames`): fast and
exact to the frame, but not to be trusted with what others made.

Pixels are uint8 RGB here, `h w c` for one frame and `t h w c` for several.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Literal

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from jaxtyping import UInt8

from genie_lite.data.video import container as containers
from genie_lite.data.video.container import BadVideo, Fault, Span
from genie_lite.data.video.filtering import deinterlaced
from genie_lite.data.video.mjpeg import decode_jpegs, encode_mjpeg, find_jpegs
from genie_lite.data.video.picture import Picture, opaque, orientation_of
from genie_lite.data.video.place import Place
from genie_lite.errors import UserError
from genie_lite.files import write_bytes

PixelFormat = Literal["yuv444p", "yuv420p"]
Codec = Literal["h264", "mjpeg"]

SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"}
    | {".ogv", ".ts", ".webm", ".wmv"}
)
# H.264 shows a key frame some frames after it decodes it, and some containers seek by the time of decoding.
SEEK_MARGIN_FRAMES = 4
SAMPLE_FRAMES = 300  # of a video with few key frames, so many are decoded for a look at it


@dataclass(frozen=True)
class VideoInfo:
    """What a file says about itself, before anything is decoded.

    height, width: as stored, before rotation. rate_hz: frames per second, on average.
    num_frames, seconds: None where the container does not state them; of a span only its length is known.
    """

    height: int
    width: int
    rate_hz: float
    codec: str
    num_frames: int | None
    seconds: float | None


def probe(place: Place) -> VideoInfo:
    """Read a file's header.

    Raises:
        BadVideo: not a video, a video without a picture track, or too large by its header.
    """
    span_s = place.span_s
    with containers.opened(place) as (container, stream):
        return VideoInfo(
            height=stream.height,
            width=stream.width,
            rate_hz=containers.rate_of(stream),
            codec=stream.codec_context.codec.canonical_name,
            num_frames=None if span_s else stream.frames or None,
            seconds=span_s[1] - span_s[0] if span_s else containers.seconds_of(container, stream),
        )


def decode(place: Place) -> Iterator[Picture]:
    """All frames of a foreign video in order of presentation: deinterlaced, and what is transparent is black.

    Of a span these are the frames that lie in it, give or take half a frame; their index counts from the first of
    them, their time from its begin. The video is judged as a whole: pictures come as they are decoded, and where
    something was missing or broken the *end* of the iteration raises, so that a caller keeps all of it or nothing.

    Known limits: nothing is mapped from HDR to SDR, so that colours of PQ and HLG look flat. Deinterlacing trusts the
    decoder's flags. What an mp4's edit list leaves out is left out. Of several picture tracks the first is taken. Where
    time stamps go back by more than a second a shot ends; by less, frames are passed over until they have caught up.

    Raises:
        BadVideo: not a video, no frame at all, broken packets, an end that comes too early, too many frames
            or too large ones.
    """
    path, span_s = place.path, place.span_s
    with containers.opened(place) as (container, stream):
        rate_hz, aspect = containers.rate_of(stream), containers.pixel_aspect_of(stream)
        begin_s = span_s[0] if span_s else 0.0
        faults: list[Fault] = []
        last_s = found_s = 0.0
        index = -1
        for index, image in enumerate(deinterlaced(_images(place, container, stream, faults))):
            time_s = index / rate_hz if image.time is None else image.time - begin_s
            # Summed up, not last minus first: where time stamps begin anew, nothing is missing.
            found_s += max(0.0, time_s - last_s) if index else 1 / rate_hz
            last_s = time_s
            containers.expect_modest(path, image.height, image.width, index + 1)
            yield Picture(opaque(image), index, time_s, aspect, orientation_of(image))
        faults = [fault for fault in faults if fault.lies_in(span_s)]
        if index < 0:
            where = f" between {span_s[0]:g} s and {span_s[1]:g} s" if span_s else ""
            raise BadVideo(path, f"no frame could be decoded{where}{containers.told(faults)}")
        if faults:
            raise BadVideo(path, f"broken or truncated after {index + 1} frames{containers.told(faults)}")
        expected_s = span_s[1] - span_s[0] if span_s else containers.tagged_seconds(stream)
        # The tag may count the sound track's tail: only a clear gap is a fault.
        if expected_s is not None and found_s < 0.9 * expected_s - 0.5:
            raise BadVideo(path, f"truncated: {found_s:.1f} s decoded of {expected_s:.1f} s")


def sample(place: Place, num: int) -> Iterator[Picture]:
    """A few pictures from all over a video, for a look at it before it is decoded; those of the middle first.

    Key frames near `num` places are sought. Where there are fewer, pictures from among the first `SAMPLE_FRAMES`
    frames come too, four times as many. Nothing is judged: a video that breaks off ends the iteration.
    """
    seen: set[int | None] = set()
    with suppress(BadVideo):
        for images_of in (_key_frames, _first_frames):
            if len(seen) >= num:
                return
            with containers.opened(place) as (container, stream):
                aspect = containers.pixel_aspect_of(stream)
                for image in images_of(container, stream, place.span_s, num):
                    if image.pts in seen:
                        continue
                    seen.add(image.pts)
                    containers.expect_modest(place.path, image.height, image.width, 0)
                    time_s = image.time or 0.0
                    yield Picture(opaque(image), len(seen) - 1, time_s, aspect, orientation_of(image))


def _images(
    place: Place, container: InputContainer, stream: VideoStream, faults: list[Fault]
) -> Iterator[av.VideoFrame]:
    """Decoded frames of the whole video or of a span of it."""
    images = containers.images_of(container, stream, faults)
    if place.span_s is None:
        yield from images
        return
    rate_hz = containers.rate_of(stream)
    containers.seek(container, stream, place.span_s[0] - SEEK_MARGIN_FRAMES / rate_hz)
    first = next(images, None)
    if first is not None and first.time is not None and first.time < place.span_s[0] + 0.5 / rate_hz:
        yield from containers.within(place.span_s, rate_hz, chain([first], images))
        return
    faults.clear()  # sought too far, for some containers have a poor index; or there are no times at all
    with containers.opened(place) as (container, stream):
        yield from containers.within(place.span_s, rate_hz, containers.images_of(container, stream, faults))


def _key_frames(
    container: InputContainer, stream: VideoStream, span_s: Span | None, num: int
) -> Iterator[av.VideoFrame]:
    """The key frames before the middles of `num` equal parts of a video."""
    length_s = containers.seconds_of(container, stream)
    if span_s is None and length_s is None:
        return
    start_s = float((stream.start_time or 0) * (stream.time_base or 0))
    begin_s, end_s = span_s or (start_s, start_s + (length_s or 0.0))
    for part in sorted(range(num), key=lambda part: abs(2 * part + 1 - num)):
        containers.seek(container, stream, begin_s + (part + 0.5) / num * (end_s - begin_s))
        image = next(containers.images_of(container, stream, []), None)
        if image is not None and begin_s <= (image.time or begin_s) < end_s:
            yield image


def _first_frames(
    container: InputContainer, stream: VideoStream, span_s: Span | None, num: int
) -> Iterator[av.VideoFrame]:
    """At even distances, for neighbours show the same."""
    if span_s is not None:
        containers.seek(container, stream, span_s[0])
    images = containers.images_of(container, stream, [])
    if span_s is not None:
        images = containers.within(span_s, containers.rate_of(stream), images)
    return islice(images, 0, SAMPLE_FRAMES, max(1, SAMPLE_FRAMES // (4 * num)))


def encode_mp4(
    frames: UInt8[np.ndarray, "t h w c"],
    rate_hz: float,
    gop: int = 10,
    crf: int = 12,
    pixel_format: PixelFormat = "yuv444p",
    codec: Codec = "h264",
    jpeg_quality: int = 90,
) -> bytes:
    """An mp4 without frames that need a later one. The same frames give the same bytes.

    A random window of 16 frames of a clip of 160 takes 1 / 1340 of a CPU second from mjpeg and 1 / 220 from h264 at
    64 px, where a clip is 350 kB and 154 kB.

    Args:
        frames: RGB.
        rate_hz: frames per second.
        gop: frames from one key frame to the next.
        crf: x264's quality, 0 (best, large) to 51; 12 is hard to tell from the original.
        pixel_format: yuv444p keeps the colour of single pixels; yuv420p plays in every browser, averages
            colour over 2 x 2 pixels and wants even sides.
        codec: h264, or mjpeg, for which the two before the format do not count.
        jpeg_quality: for mjpeg alone, 1 to 100 (best, large).
    """
    assert len(frames), "a video needs a frame"
    assert pixel_format == "yuv444p" or not any(side % 2 for side in frames.shape[1:3]), frames.shape
    if codec == "mjpeg":
        rate = _fraction(rate_hz)
        return encode_mjpeg(frames, rate, jpeg_quality, full_colour=pixel_format == "yuv444p")
    return encode_stream(frames, rate_hz, gop, crf, pixel_format)


def encode_stream(
    frames: Iterable[UInt8[np.ndarray, "h w c"]],
    rate_hz: float,
    gop: int = 10,
    crf: int = 12,
    pixel_format: PixelFormat = "yuv420p",
) -> bytes:
    """`encode_mp4` in H.264, of frames that come one by one and need not fit into memory; at least one."""
    frames = iter(frames)
    first = next(frames)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=_fraction(rate_hz))
        stream.height, stream.width = first.shape[:2]
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
        for pixels in chain([first], frames):
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            container.mux(stream.encode(image))
        container.mux(stream.encode())
    return buffer.getvalue()


def _fraction(rate_hz: float) -> Fraction:
    return Fraction(rate_hz).limit_denominator(1001)


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
    name = "mp4 in memory" if isinstance(mp4, bytes) else str(mp4)
    if isinstance(mp4, bytes) and (jpegs := find_jpegs(mp4)) is not None:
        # decord reads these too, at a fifth of the speed.
        try:
            return decode_jpegs(mp4, jpegs, indices)
        except (ValueError, IndexError, cv2.error) as error:
            raise UserError(f"{name}: cannot be decoded ({error}); expected a video of ours") from error
    import decord  # here: reading foreign video and encoding do without it

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
