"""Clips of which every frame is a JPEG, in the mp4 that any player takes: larger than H.264 and quicker to read.

Reading a window touches the frames of that window alone, without a video decoder: the place of each JPEG in the file
is in the tables that every mp4 carries. Only for files that we wrote.

Source: ISO/IEC 14496-12 for the boxes: stsz holds the sizes of the frames, stco where each chunk of them begins, stsc
how many frames are in each chunk.
"""

import io
import struct
from collections.abc import Sequence
from fractions import Fraction
from functools import reduce

import av
import cv2
import numpy as np
from jaxtyping import Int64, UInt8

TABLES = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
JPEG_BEGIN = b"\xff\xd8"


def encode_mjpeg(
    frames: UInt8[np.ndarray, "t h w c"], rate: Fraction, quality: int, *, full_colour: bool
) -> bytes:
    """An mp4 of JPEGs. The same frames give the same bytes.

    Args:
        frames: RGB.
        rate: frames per second.
        quality: libjpeg's, 1 to 100, best.
        full_colour: keep the colour of single pixels; otherwise it is averaged over 2 x 2 of them.
    """
    factor = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if full_colour else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    # Huffman tables of their own save small pictures a seventh.
    how = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    how += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mjpeg", rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuvj444p" if full_colour else "yuvj420p"
        for number, frame in enumerate(frames):
            is_encoded, jpeg = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), how)
            assert is_encoded
            packet = av.Packet(jpeg.tobytes())
            packet.stream, packet.is_keyframe = stream, True
            packet.pts = packet.dts = number
            packet.duration, packet.time_base = 1, 1 / rate
            container.mux(packet)
    return buffer.getvalue()


def find_jpegs(mp4: bytes) -> list[tuple[int, int]] | None:
    """Begin and end of each frame in a file of ours; None if its frames are no JPEGs, or it is damaged."""
    try:
        tables = reduce(_box, TABLES, memoryview(mp4))
        _, fixed, num = struct.unpack_from(">III", _box(tables, b"stsz"))
        sizes = _numbers(_box(tables, b"stsz"), 12, num)
        chunks = _numbers(_box(tables, b"stco"), 8, struct.unpack_from(">I", _box(tables, b"stco"), 4)[0])
        runs = _box(tables, b"stsc")
        runs = _numbers(runs, 8, 3 * struct.unpack_from(">I", runs, 4)[0]).reshape(-1, 3)
        if fixed or not num or bytes(mp4[chunks[0] : chunks[0] + 2]) != JPEG_BEGIN:
            return None
        begins = _begins(sizes, chunks, runs)
        return list(zip(begins.tolist(), (begins + sizes).tolist(), strict=True))
    except (KeyError, ValueError, IndexError, struct.error):
        return None


def decode_jpegs(
    mp4: bytes, places: Sequence[tuple[int, int]], indices: Sequence[int] | None
) -> UInt8[np.ndarray, "t h w c"]:
    """Frames of a file of ours: all of them, or those at `indices` in that order.

    Raises:
        IndexError: beyond the last frame.
        ValueError: a frame that is no JPEG.
    """
    bytes_of = np.frombuffer(mp4, np.uint8)
    frames = []
    for begin, end in places if indices is None else [places[index] for index in indices]:
        frame = cv2.imdecode(bytes_of[begin:end], cv2.IMREAD_COLOR)
        if frame is None:
            raise ValueError(f"no JPEG at byte {begin}")
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    return np.stack(frames)


def _box(content: memoryview, name: bytes) -> memoryview:
    """What the first box of this name holds."""
    place = 0
    while place + 8 <= len(content):
        size, found = struct.unpack_from(">I4s", content, place)
        if found == name:
            return content[place + 8 : place + size]
        place += max(size, 8)
    raise KeyError(name)


def _numbers(content: memoryview, offset: int, num: int) -> Int64[np.ndarray, " n"]:
    return np.frombuffer(content, ">u4", num, offset).astype(np.int64)


def _begins(
    sizes: Int64[np.ndarray, " t"], chunks: Int64[np.ndarray, " chunks"], runs: Int64[np.ndarray, "runs 3"]
) -> Int64[np.ndarray, " t"]:
    """Where each frame begins: frames lie side by side in their chunk.

    runs: first chunk (from 1) of a run of chunks, frames in each of them, and a description of the codec.
    """
    lengths = np.diff(np.append(runs[:, 0], len(chunks) + 1))
    frames_in_chunk = np.repeat(runs[:, 1], lengths)
    chunk_of = np.repeat(np.arange(len(chunks)), frames_in_chunk)
    if len(chunk_of) != len(sizes):
        raise ValueError("the tables contradict each other")
    ends = np.cumsum(sizes)
    first_of_chunk = np.searchsorted(chunk_of, np.arange(len(chunks)))
    return chunks[chunk_of] + (ends - sizes) - (ends - sizes)[first_of_chunk][chunk_of]
