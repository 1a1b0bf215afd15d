"""Clips of JPEGs: the same frames by any reader, and ours touches only those that are asked for."""

import io
from pathlib import Path

import av
import decord
import numpy as np
import pytest

from genie_lite.data.video import mjpeg
from genie_lite.data.video.codec import PixelFormat, encode_mp4, read_frames
from genie_lite.data.video.mjpeg import find_jpegs
from genie_lite.errors import UserError
from tests.videos import drifting, write_foreign


def encoded(frames: np.ndarray, quality: int = 90, pixel_format: PixelFormat = "yuv444p") -> bytes:
    return encode_mp4(frames, 10.0, pixel_format=pixel_format, codec="mjpeg", jpeg_quality=quality)


@pytest.mark.parametrize("size", [16, 24, 48, 64, 72])
def test_frames_read_back(size: int) -> None:
    frames = drifting(20, size, size)
    back = read_frames(encoded(frames, 95))
    assert back.shape == frames.shape
    assert np.abs(back.astype(int) - frames).mean() < 2


def test_decord_and_pyav_read_the_same_frames() -> None:
    frames = drifting(30, 64, 64)
    mp4 = encoded(frames)
    ours = read_frames(mp4).astype(int)
    reader = decord.VideoReader(io.BytesIO(mp4), num_threads=1)
    assert np.abs(reader.get_batch(range(30)).asnumpy() - ours).max() <= 6
    with av.open(io.BytesIO(mp4), "r") as container:
        pictures = list(container.decode(video=0))
    assert [picture.time for picture in pictures] == pytest.approx([k / 10 for k in range(30)])
    assert np.abs(np.stack([picture.to_ndarray(format="rgb24") for picture in pictures]) - ours).max() <= 6


def test_any_order_of_frames_can_be_asked_for() -> None:
    mp4 = encoded(drifting(40, 32, 32))
    order = [39, 0, 17, 17, 5]
    np.testing.assert_array_equal(read_frames(mp4, order), read_frames(mp4)[order])


def test_a_file_of_many_chunks_reads_back() -> None:
    random = np.random.default_rng(0)
    frames = random.integers(0, 255, (70, 128, 128, 3), dtype=np.uint8)
    mp4 = encoded(frames, 100)
    assert len(mp4) > 2_000_000  # FFmpeg begins another chunk after a megabyte
    assert np.abs(read_frames(mp4, [0, 35, 69]).astype(int) - frames[[0, 35, 69]]).mean() < 3


def test_only_the_frames_asked_for_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    mp4 = encoded(drifting(40, 32, 32))
    places = find_jpegs(mp4)
    assert places is not None
    broken = bytearray(mp4)
    for begin, end in places[:20]:
        broken[begin:end] = bytes(end - begin)
    # The first frame tells that these are JPEGs.
    broken[places[0][0] : places[0][0] + 2] = mjpeg.JPEG_BEGIN
    np.testing.assert_array_equal(read_frames(bytes(broken), [20, 39]), read_frames(mp4)[[20, 39]])
    with pytest.raises(UserError, match="cannot be decoded"):
        read_frames(bytes(broken), [3])


def test_quality_and_colour_are_as_asked() -> None:
    frames = drifting(10, 64, 64)
    frames[:, ::2, ::2] = (255, 0, 0)
    sizes = [len(encoded(frames, quality)) for quality in (30, 60, 90, 100)]
    assert sizes == sorted(sizes)
    full, averaged = (
        np.abs(read_frames(mp4).astype(int) - frames).mean()
        for mp4 in (encoded(frames, 95), encoded(frames, 95, "yuv420p"))
    )
    assert full < averaged / 3


def test_encoding_is_reproducible() -> None:
    assert encoded(drifting(10, 32, 32)) == encoded(drifting(10, 32, 32))


def test_a_frame_beyond_the_end_is_a_user_error() -> None:
    with pytest.raises(UserError, match="cannot be decoded"):
        read_frames(encoded(drifting(5, 32, 32)), [5])


def test_other_videos_are_not_taken_for_it(tmp_path: Path) -> None:
    assert find_jpegs(encode_mp4(drifting(5, 32, 32), 10.0)) is None
    assert find_jpegs(write_foreign(tmp_path / "a.mkv", drifting(5, 32, 32)).read_bytes()) is None
    for junk in (b"", b"moov", b"\0\0\0\x08moov", bytes(100), b"\xff" * 500):
        assert find_jpegs(junk) is None


def test_damaged_tables_are_no_crash() -> None:
    mp4 = encoded(drifting(8, 32, 32))
    random = np.random.default_rng(0)
    tables = mp4.rindex(b"moov")
    for _ in range(100):
        broken = bytearray(mp4)
        place = int(random.integers(tables, len(mp4) - 8))
        broken[place : place + 8] = random.bytes(8)
        found = find_jpegs(bytes(broken[: random.integers(tables, len(mp4))]))
        assert found is None or all(isinstance(begin, int) for begin, _ in found)
