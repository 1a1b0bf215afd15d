"""Video in and out: exact frames, honest errors."""

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import av
import numpy as np
import pytest

from genie_lite.data.video import container as containers
from genie_lite.data.video.codec import (
    decode,
    encode_mp4,
    probe,
    read_frames,
    write_mp4,
)
from genie_lite.data.video.container import BadVideo, Fault
from genie_lite.data.video.picture import SquareFitter
from genie_lite.data.video.place import Place
from genie_lite.errors import UserError
from tests.videos import huge_gif, moving_square, rotate_header, truncate, write, write_foreign


def pixels_of(path: Path) -> np.ndarray:
    return np.stack([picture.image.to_ndarray(format="rgb24") for picture in decode(Place(path))])


def test_colour_of_single_pixels_survives() -> None:
    frames = np.full((12, 64, 64, 3), (90, 140, 200), np.uint8)
    for k, frame in enumerate(frames):
        frame[20, 3 * k] = (255, 0, 0)
        frame[40, 2 * k] = (0, 255, 0)
    back = read_frames(encode_mp4(frames, 10.0)).astype(int)
    assert back.shape == frames.shape
    assert np.abs(back - frames).mean() < 1.5
    assert all(back[k, 20, 3 * k, 0] - back[k, 20, 3 * k, 1] > 150 for k in range(12))


@pytest.mark.parametrize("pixel_format", ["yuv444p", "yuv420p"])
def test_decord_finds_every_frame_at_its_place(pixel_format) -> None:
    frames = np.repeat(np.arange(37, dtype=np.uint8) * 6 + 10, 16 * 16 * 3).reshape(37, 16, 16, 3)
    mp4 = encode_mp4(frames, 10.0, gop=10, pixel_format=pixel_format)
    order = [36, 0, 19, 20, 9, 9]
    assert len(read_frames(mp4)) == 37
    np.testing.assert_allclose(
        read_frames(mp4, order).mean((1, 2, 3)), frames[order].mean((1, 2, 3)), atol=2.5
    )


@pytest.mark.parametrize("size", [16, 24, 32, 40, 48, 72, 84])
def test_every_frame_size_reads_back(size: int) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (5, size, size, 3), dtype=np.uint8)
    back = read_frames(encode_mp4(frames, 10.0, crf=0), [4, 0, 2])
    assert np.abs(back.astype(int) - frames[[4, 0, 2]]).max() <= 3


def test_encoding_is_reproducible() -> None:
    frames = moving_square(20)
    assert encode_mp4(frames, 10.0) == encode_mp4(frames, 10.0)


def test_a_file_and_its_bytes_read_alike(tmp_path: Path) -> None:
    write_mp4(tmp_path / "a.mp4", moving_square(12), 10.0)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    np.testing.assert_array_equal(
        read_frames(tmp_path / "a.mp4"), read_frames((tmp_path / "a.mp4").read_bytes())
    )


def test_pyav_and_decord_agree(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", moving_square(25))
    assert np.abs(pixels_of(path).astype(int) - read_frames(path)).max() <= 3


def test_probe_reads_the_header(tmp_path: Path) -> None:
    info = probe(Place(write_foreign(tmp_path / "a.mp4", moving_square(15)[:, :24], rate=30)))
    assert (info.height, info.width, info.num_frames, info.codec) == (24, 32, 15, "h264")
    assert info.rate_hz == pytest.approx(30, rel=0.01)
    assert info.seconds == pytest.approx(0.5, abs=0.05)


def test_frames_come_with_their_times(tmp_path: Path) -> None:
    times_s = [0.0, 0.1, 0.15, 0.4, 0.5]
    path = write_foreign(tmp_path / "vfr.mp4", moving_square(5), times_s=times_s)
    found = [(round(picture.time_s, 3), picture.index) for picture in decode(Place(path))]
    assert found == list(zip(times_s, range(5), strict=True))


def test_a_phones_rotation_is_undone(tmp_path: Path) -> None:
    frames = np.zeros((3, 16, 32, 3), np.uint8)
    frames[:, :4, :4] = 255  # top left as stored, top right after a quarter turn clockwise
    path = rotate_header(write_foreign(tmp_path / "phone.mp4", frames))
    padded = SquareFitter(32, "pad")(next(decode(Place(path))))
    upright = padded[:, 8:-8]  # less the black sides
    assert upright[:4, -4:].mean() > 200
    assert upright.mean() < 40


@pytest.mark.parametrize(
    ("resize", "expected"), [("crop", [200, 200, 200]), ("pad", [0, 200, 0]), ("stretch", [120, 200, 120])]
)
def test_each_resize_keeps_what_it_says(tmp_path: Path, resize, expected) -> None:
    frames = np.full((2, 32, 64, 3), 200, np.uint8)
    frames[:, :, :16] = frames[:, :, 48:] = 120
    path = write(tmp_path / "wide.mp4", frames)
    pixels = SquareFitter(16, resize)(next(decode(Place(path))))
    assert pixels.shape == (16, 16, 3)
    rows_or_columns = pixels[8, [1, 8, 14], 0] if resize != "pad" else pixels[[1, 8, 14], 8, 0]
    np.testing.assert_allclose(rows_or_columns, expected, atol=6)


def break_in_the_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = np.random.default_rng(0).bytes(400)
    path.write_bytes(data)


def noise(num: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (num, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["text.mp4", "empty.mp4", "playlist.mp4", "missing.mp4", "folder.mp4"])
def test_what_is_no_video_says_so(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write(tmp_path / "secret.mp4", moving_square(5))
    if name == "folder.mp4":
        path.mkdir()
    elif name != "missing.mp4":
        content = {"text.mp4": "hello\n" * 50, "playlist.mp4": "#EXTM3U\n#EXTINF:1,\nsecret.mp4\n"}
        path.write_text(content.get(name, ""))
    with pytest.raises(BadVideo, match=name):
        list(decode(Place(path)))


@pytest.mark.parametrize("suffix", ["mp4", "fast.mp4", "mkv", "webm"])
def test_a_truncated_file_is_bad_as_a_whole(tmp_path: Path, suffix: str) -> None:
    options = {"movflags": "faststart"} if suffix == "fast.mp4" else None
    codec = "libvpx-vp9" if suffix == "webm" else "libx264"
    path = write_foreign(tmp_path / f"a.{suffix}", noise(60), codec=codec, options=options)
    assert len(list(decode(Place(path)))) == 60
    with pytest.raises(BadVideo):
        list(decode(Place(truncate(path))))


def test_garbage_in_mid_file_is_noticed(tmp_path: Path) -> None:
    # Without it x264 reads past its data on small frames: other bytes now and then, and other ones of them broken.
    path = write_foreign(tmp_path / "a.mp4", noise(60), coder={"mbtree": "0"})
    break_in_the_middle(path)
    with pytest.raises(BadVideo, match="fault"):
        list(decode(Place(path)))


def test_sound_without_pictures_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "song.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux([*stream.encode(frame), *stream.encode()])
    with pytest.raises(BadVideo, match="no video track"):
        probe(Place(tmp_path / "song.mp4"))


# Files that want to harm


LISTS = {
    "concat": "ffconcat version 1.0\nfile secret.mp4\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
}


@pytest.mark.parametrize("kind", LISTS)
def test_a_list_of_other_files_is_not_followed(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "secret.mp4", moving_square(5))
    (tmp_path / "list.mp4").write_text(LISTS[kind])
    with pytest.raises(BadVideo, match="not a readable video"):
        list(decode(Place(tmp_path / "list.mp4")))


def test_a_container_that_refers_to_other_files_finds_no_way_to_open_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "secret.mp4", moving_square(5))
    (tmp_path / "list.mp4").write_text(LISTS["concat"])
    monkeypatch.setattr(containers, "CONTAINERS", "concat,mov")
    with pytest.raises(BadVideo):
        list(decode(Place(tmp_path / "list.mp4")))
    monkeypatch.setattr(containers, "PROTOCOLS", "file")
    assert len(list(decode(Place(tmp_path / "list.mp4")))) == 5  # a list that would have worked


def test_huge_frames_are_refused_by_the_header(tmp_path: Path) -> None:
    with pytest.raises(BadVideo, match="at most 67108864 pixels"):
        probe(Place(huge_gif(tmp_path / "huge.gif")))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm", "h264", "avi", "ts"])
def test_the_pixels_are_bounded_in_every_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    codec = "libvpx-vp9" if suffix == "webm" else "libx264"
    path = write_foreign(tmp_path / f"a.{suffix}", moving_square(8), codec=codec)
    monkeypatch.setattr(containers, "MAX_PIXELS", 32 * 32)
    assert probe(Place(path)).width == 32
    monkeypatch.setattr(containers, "MAX_PIXELS", 32 * 32 - 1)
    with pytest.raises(BadVideo, match="at most 1023 pixels"):
        probe(Place(path))


def test_extremely_long_frames_are_refused(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "line.mp4", np.zeros((2, 16, 528, 3), np.uint8))
    with pytest.raises(BadVideo, match="528 x 16 pixels; expected sides of at most 32 to 1"):
        probe(Place(path))


def grown_in_mid_stream(path: Path) -> Path:
    """Ten frames of 32 x 32, then ten of 96 x 96: raw H.264 may change its size at any key frame."""
    streams = []
    for size in (32, 96):
        part = path.with_suffix(f".{size}.h264")
        streams.append(write_foreign(part, moving_square(10, size=size)).read_bytes())
    path.write_bytes(b"".join(streams))
    return path


@pytest.mark.parametrize("heeds", [True, False])
def test_frames_that_grow_beyond_the_limit_end_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heeds: bool
) -> None:
    path = grown_in_mid_stream(tmp_path / "grows.mp4")
    assert len(list(decode(Place(path)))) == 20
    monkeypatch.setattr(containers, "MAX_PIXELS", 64 * 64)
    if not heeds:  # a decoder that knows nothing of `max_pixels`
        monkeypatch.setattr(containers, "_limits", dict)
    sizes: list[int] = []
    expected = "broken or truncated after 10 frames" if heeds else "frames of 96 x 96 pixels"
    with pytest.raises(BadVideo, match=expected):
        sizes.extend(picture.image.width for picture in decode(Place(path)))
    assert sizes == [32] * 10


@pytest.mark.parametrize("suffix", ["mp4", "h264"])
def test_the_number_of_frames_is_bounded_whether_stated_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = write_foreign(tmp_path / f"long.{suffix}", moving_square(12))
    monkeypatch.setattr(containers, "MAX_FRAMES", 11)
    found: list[int] = []
    with pytest.raises(BadVideo, match="more than 11 frames"):
        found.extend(picture.index for picture in decode(Place(path)))
    assert len(found) == (0 if suffix == "mp4" else 11)


def test_own_files_that_do_not_decode_are_user_errors() -> None:
    with pytest.raises(UserError, match="cannot be decoded"):
        read_frames(b"nothing")
    with pytest.raises(UserError, match="cannot be decoded"):
        read_frames(encode_mp4(moving_square(5), 10.0), [5])


def test_a_track_that_turns_up_late_takes_nothing_away(tmp_path: Path) -> None:
    """PyAV 18 forgets how many tracks it had asked for, and fails when it has handed out every packet."""
    path = write_foreign(tmp_path / "a.ts", moving_square(8))
    with containers.opened(Place(path)) as (container, stream):

        def demux(wanted: object) -> Iterator[object]:
            yield from container.demux(wanted)
            raise IndexError("list index out of range")

        late = Mock(spec=type(container), demux=demux)
        faults: list[Fault] = []
        assert len(list(containers.images_of(late, stream, faults))) == 8
    assert not faults
