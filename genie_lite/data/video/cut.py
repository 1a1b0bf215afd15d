"""A span of a video as a video of its own.

Where the span begins at a key frame and its pictures lie together, the packets are copied: no pixel changes, and it
takes as long as reading them. Otherwise its pictures are decoded and encoded again, which nobody sees (crf 12) but
which are not the same numbers.
"""

import io
from fractions import Fraction
from typing import Literal

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import PictureType
from av.video.stream import VideoStream

from genie_lite.data.video import container as containers
from genie_lite.data.video.codec import SEEK_MARGIN_FRAMES, decode
from genie_lite.data.video.container import BadVideo
from genie_lite.data.video.place import Place

How = Literal["copied", "encoded"]
CRF = 12
GOP = 10  # frames from one key frame to the next, where a span is encoded


def cut(place: Place, num_frames: int, rate_hz: float) -> tuple[bytes, How]:
    """An mp4 of the frames in a span, the first of them at time 0, without sound.

    Args:
        place: a span of a file.
        num_frames: that lie in it.
        rate_hz: frames per second.

    Raises:
        BadVideo: it cannot be decoded, or has another number of frames.
    """
    assert place.span_s is not None, "a whole file needs no cut"
    copied = _copied(place, num_frames)
    return (copied, "copied") if copied is not None else (_encoded(place, num_frames, rate_hz), "encoded")


def _copied(place: Place, num_frames: int) -> bytes | None:
    """None where a copy of packets would not be these frames exactly."""
    with containers.opened(place) as (container, stream):
        packets = _packets(place, container, stream, num_frames)
        if packets is None:
            return None
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="mp4") as result:
            track = result.add_stream_from_template(stream)
            begin = packets[0].pts or 0
            for packet in packets:
                packet.pts = (packet.pts or 0) - begin
                packet.dts = None if packet.dts is None else packet.dts - begin
                packet.stream = track
                result.mux(packet)
        return buffer.getvalue()


def _packets(
    place: Place, container: InputContainer, stream: VideoStream, num_frames: int
) -> list[Packet] | None:
    assert place.span_s is not None
    begin_s, end_s = place.span_s
    half_s = 0.5 / containers.rate_of(stream)
    containers.seek(container, stream, begin_s - SEEK_MARGIN_FRAMES * 2 * half_s)
    taken: list[Packet] = []
    for packet in container.demux(stream):
        if packet.pts is None or packet.time_base is None or packet.is_corrupt:
            return None
        time_s = float(packet.pts * packet.time_base)
        if not taken:
            if time_s > end_s:
                return None
            if not packet.is_keyframe or abs(time_s - begin_s) >= half_s:
                continue
        # In the order of decoding: what lies between two frames of the span may be needed for the later one.
        if not begin_s - half_s <= time_s < end_s - half_s:
            return None
        taken.append(packet)
        if len(taken) == num_frames:
            return taken
    return None


def _encoded(place: Place, num_frames: int, rate_hz: float) -> bytes:
    buffer = io.BytesIO()
    rate = Fraction(rate_hz).limit_denominator(1001)
    num = 0
    with av.open(buffer, "w", format="mp4") as result:
        track = None
        for num, picture in enumerate(decode(place), start=1):
            image = picture.image
            if track is None:
                track = result.add_stream("libx264", rate=rate)
                track.height, track.width = image.height, image.width
                track.pix_fmt = "yuv444p" if image.height % 2 or image.width % 2 else "yuv420p"
                track.codec_context.thread_count = 1
                track.options = {"crf": str(CRF), "g": str(GOP), "bf": "0", "mbtree": "0"}
            frame = image.reformat(format=track.pix_fmt)
            frame.pts, frame.time_base = num - 1, 1 / rate
            frame.pict_type = (
                PictureType.NONE
            )  # it was what the decoder found, and would be asked of the encoder
            result.mux(track.encode(frame))
        if track is not None:
            result.mux(track.encode())
    if num != num_frames:
        raise BadVideo(place.path, f"{num} frames from {place.span_s} s, expected {num_frames}")
    return buffer.getvalue()
