"""Whatever people have: containers, codecs, pixel formats and oddities, exact to the frame and right to look at."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from genie_lite.data.video.codec import decode, probe
from genie_lite.data.video.container import BadVideo
from genie_lite.data.video.picture import SquareFitter
from genie_lite.data.video.place import Place
from tests.videos import drifting, set_matrix, write_foreign

QUIET = {"x265-params": "log-level=none:pools=none:frame-threads=1:crf=16"}
FAST = {"preset": "12", "svtav1-params": "lp=1"}
VP9 = {"deadline": "realtime", "cpu-used": "8", "crf": "20", "b": "0"}
FORMATS: dict[str, dict[str, Any]] = {
    "h264.mp4": {"codec": "libx264"},
    "h264.mov": {"codec": "libx264"},
    "h264.ts": {"codec": "libx264"},
    "h264 10 bit.mkv": {"codec": "libx264", "pixel_format": "yuv420p10le"},
    "h264 4:2:2.mkv": {"codec": "libx264", "pixel_format": "yuv422p"},
    "hevc.mp4": {"codec": "libx265", "coder": QUIET},
    "hevc 10 bit.mkv": {"codec": "libx265", "pixel_format": "yuv420p10le", "coder": QUIET},
    "vp8.webm": {"codec": "libvpx", "coder": {"deadline": "realtime", "crf": "10", "b": "2M"}},
    "vp9.webm": {"codec": "libvpx-vp9", "coder": VP9},
    "vp9.mp4": {"codec": "libvpx-vp9", "coder": VP9},
    "av1.mp4": {"codec": "libsvtav1", "coder": FAST},
    "av1 10 bit.webm": {"codec": "libsvtav1", "pixel_format": "yuv420p10le", "coder": FAST},
    "mjpeg.mov": {"codec": "mjpeg", "pixel_format": "yuvj420p", "coder": {"b": "20M"}},
    "mjpeg.avi": {"codec": "mjpeg", "pixel_format": "yuvj422p", "coder": {"b": "20M"}},
    "mpeg4.avi": {"codec": "mpeg4", "coder": {"b": "8M"}},
    "mpeg2.mpg": {"codec": "mpeg2video", "coder": {"b": "8M"}},
    "prores.mov": {"codec": "prores_ks", "pixel_format": "yuv422p10le"},
    "png.mov": {"codec": "png", "pixel_format": "rgb24"},
    "ffv1 grey.mkv": {"codec": "ffv1", "pixel_format": "gray"},
    "gif.gif": {"codec": "gif", "pixel_format": "rgb8"},
}
"""File name to arguments of `write_foreign`."""


def pixels_of(path: Path) -> np.ndarray:
    return np.stack([picture.image.to_ndarray(format="rgb24") for picture in decode(Place(path))])


def psnr_db(one: np.ndarray, other: np.ndarray) -> float:
    error = np.mean((one.astype(float) - other.astype(float)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-3)))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_exact_to_the_frame(tmp_path: Path, name: str) -> None:
    frames = drifting(14, 64, 96)
    if "grey" in name:
        frames = np.repeat(frames.mean(axis=-1, keepdims=True), 3, axis=-1).astype(np.uint8)
    path = write_foreign(tmp_path / name, frames, rate=25, **FORMATS[name])
    assert probe(Place(path)).rate_hz == pytest.approx(25, rel=0.01)
    found = pixels_of(path)
    assert found.shape == frames.shape
    quality = [psnr_db(found[k], frames[k]) for k in range(14)]
    # 256 fixed colours are all that a GIF of this encoder has.
    assert min(quality) > (20 if name == "gif.gif" else 30), quality
    # A neighbour in the place of a frame would be further off than the frame itself.
    assert all(quality[k] > psnr_db(found[k], frames[k + 1]) for k in range(13))
    times_s = [picture.time_s for picture in decode(Place(path))]
    np.testing.assert_allclose(np.diff(times_s), 0.04, atol=0.011)  # a GIF counts in hundredths


@pytest.mark.parametrize("num_sounds", [0, 1, 3])
def test_sound_changes_nothing(tmp_path: Path, num_sounds: int) -> None:
    path = write_foreign(tmp_path / "a.mkv", drifting(9, 32, 32), num_sounds=num_sounds)
    with av.open(str(path)) as container:
        assert len(container.streams.audio) == num_sounds
    assert len(pixels_of(path)) == 9


NAMES = [
    "a b.v1.mp4",
    "Ünï 深い ♥.mp4",
    "two\nlines.mp4",
    "raw \udcff byte.mp4",
    "a:b.mp4",
    "-y %d.mp4",
    "concat:a|b.mp4",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_will_do(tmp_path: Path, name: str) -> None:
    path = write_foreign(tmp_path / "a.mp4", drifting(5, 32, 32)).rename(tmp_path / name)
    assert probe(Place(path)).num_frames == len(pixels_of(path)) == 5


@pytest.mark.parametrize("name", ["vp9.webm", "ffv1.mkv", "gif.gif", "mjpeg.avi"])
@pytest.mark.parametrize(("height", "width"), [(27, 35), (33, 64), (64, 41)])
def test_odd_sizes_are_kept(tmp_path: Path, name: str, height: int, width: int) -> None:
    how = FORMATS.get(name, {"codec": "ffv1"})
    frames = drifting(4, height, width)
    found = pixels_of(write_foreign(tmp_path / name, frames, **how))
    assert found.shape == frames.shape
    assert psnr_db(found, frames) > (20 if name == "gif.gif" else 28)


# Upright


def corner(height: int, width: int) -> np.ndarray:
    """Three dark frames whose upper left corner is bright."""
    frames = np.full((3, height, width, 3), 40, np.uint8)
    frames[:, : height // 4, : width // 4] = 230
    return frames


def bright_corners(pixels: np.ndarray) -> set[tuple[int, int]]:
    """Which corners are: (0, 0) is the upper left one, (0, 1) the upper right one."""
    height, width, _ = pixels.shape
    inner = {
        (row, column): pixels[row * (height - 4) + 2, column * (width - 4) + 2].mean()
        for row in (0, 1)
        for column in (0, 1)
    }
    return {place for place, luma in inner.items() if luma > 130}


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm"])
@pytest.mark.parametrize(
    ("counterclockwise", "place", "clockwise"),
    [(0, (0, 0), 0), (90, (1, 0), 270), (180, (1, 1), 180), (-90, (0, 1), 90)],
)
def test_a_rotation_in_the_header_is_undone(
    tmp_path: Path, suffix: str, counterclockwise: int, place: tuple[int, int], clockwise: int
) -> None:
    how = FORMATS["vp9.webm"] if suffix == "webm" else {}
    path = write_foreign(tmp_path / f"a.{suffix}", corner(32, 32), rotation=counterclockwise, **how)
    picture = next(decode(Place(path)))
    assert bright_corners(SquareFitter(32, "stretch")(picture)) == {place}
    assert picture.orientation.rotation == clockwise


@pytest.mark.parametrize(
    ("matrix", "place"),
    [((-1, 0, 0, 1), (0, 1)), ((1, 0, 0, -1), (1, 0)), ((0, 1, 1, 0), (0, 0)), ((0, -1, -1, 0), (1, 1))],
)
def test_a_mirror_image_is_mirrored_back(
    tmp_path: Path, matrix: tuple[int, int, int, int], place: tuple[int, int]
) -> None:
    path = set_matrix(write_foreign(tmp_path / "a.mp4", corner(32, 32)), *matrix)
    assert bright_corners(SquareFitter(32, "stretch")(next(decode(Place(path))))) == {place}


# Transparent


def see_through(num: int) -> np.ndarray:
    """RGBA: a bright picture whose left half is invisible, and its lower right quarter half so."""
    frames = np.full((num, 32, 48, 4), 200, np.uint8)
    frames[..., 3] = 255
    frames[:, 16:, 24:, 3] = 128
    frames[:, :, :24, 3] = 0
    return frames


ALPHA: dict[str, dict[str, Any]] = {
    "vp9.webm": {"codec": "libvpx-vp9", "pixel_format": "yuva420p", "coder": VP9 | {"auto-alt-ref": "0"}},
    "png.mov": {"codec": "png", "pixel_format": "rgba"},
    "qtrle.mov": {"codec": "qtrle", "pixel_format": "argb"},
    "prores.mov": {"codec": "prores_ks", "pixel_format": "yuva444p10le", "coder": {"profile": "4"}},
}


@pytest.mark.parametrize("name", ALPHA)
def test_what_is_transparent_is_shown_on_black(tmp_path: Path, name: str) -> None:
    path = write_foreign(tmp_path / name, see_through(5), **ALPHA[name])
    found = pixels_of(path)
    assert found.shape == (5, 32, 48, 3)
    for part, expected in ((found[:, :, 2:20], 0), (found[:, 2:14, 28:], 200), (found[:, 18:, 28:], 100)):
        np.testing.assert_allclose(part.mean((1, 2, 3)), expected, atol=4)
    times_s = [picture.time_s for picture in decode(Place(path))]
    np.testing.assert_allclose(np.diff(times_s), 1 / 30, atol=1e-3)


def test_a_transparent_gif_is_shown_on_black(tmp_path: Path) -> None:
    frames = see_through(4)
    frames[:, 16:, 24:, 3] = 255  # a GIF knows no half
    frames[..., :3] += np.arange(4, dtype=np.uint8)[:, None, None, None]  # equal frames would become one
    images = [Image.fromarray(frame, "RGBA") for frame in frames]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=100, disposal=2)
    found = pixels_of(tmp_path / "a.gif")
    assert len(found) == 4
    assert found[:, :, :24].max() == 0
    assert found[:, :, 24:].min() > 190


def test_an_opaque_picture_is_not_touched(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "a.gif", drifting(3, 32, 32), **FORMATS["gif.gif"])
    assert [picture.image.format.name for picture in decode(Place(path))] == ["bgra"] * 3


# Two moments in one picture


def woven(num: int) -> tuple[np.ndarray, np.ndarray]:
    """Interlaced frames, odd rows a moment before even ones; and the moments of the odd rows, twice `num` in all."""
    moments = drifting(2 * num, 64, 96).mean(axis=-1, keepdims=True).astype(np.uint8).repeat(3, axis=-1)
    frames = moments[0::2].copy()
    frames[:, 0::2] = moments[1::2, 0::2]
    return frames, moments


INTERLACED: dict[str, dict[str, Any]] = {
    "mbaff.mp4": {"coder": {"x264-params": "interlaced=1", "crf": "16"}},
    "tape.mpg": {"codec": "mpeg2video", "coder": {"flags": "+ildct+ilme", "b": "8M"}},
}


@pytest.mark.parametrize("name", INTERLACED)
def test_interlaced_frames_show_one_moment(tmp_path: Path, name: str) -> None:
    frames, moments = woven(10)
    path = write_foreign(tmp_path / name, frames, rate=25, **INTERLACED[name])
    found = pixels_of(path)
    assert len(found) == 10
    assert max(psnr_db(frames[k], moments[2 * k]) for k in range(10)) < 35
    assert min(psnr_db(found[k], moments[2 * k]) for k in range(10)) > 35
    times_s = [picture.time_s for picture in decode(Place(path))]
    np.testing.assert_allclose(np.diff(times_s), 0.04, atol=1e-3)


def test_a_single_interlaced_frame_and_one_of_two_rows_come_through(tmp_path: Path) -> None:
    one = write_foreign(tmp_path / "one.mp4", woven(1)[0], **INTERLACED["mbaff.mp4"])
    assert pixels_of(one).shape == (1, 64, 96, 3)
    flat = write_foreign(tmp_path / "flat.mkv", drifting(3, 2, 32), codec="mjpeg", pixel_format="yuvj444p")
    assert pixels_of(flat).shape == (3, 2, 32, 3)


def test_a_turned_interlaced_video_is_upright(tmp_path: Path) -> None:
    frames = corner(64, 64)
    path = write_foreign(tmp_path / "a.mp4", frames, rotation=-90, **INTERLACED["mbaff.mp4"])
    assert bright_corners(SquareFitter(64, "stretch")(next(decode(Place(path))))) == {(0, 1)}


# Odd clocks and odd sizes


def test_a_clock_that_starts_below_zero(tmp_path: Path) -> None:
    path = write_foreign(
        tmp_path / "a.mkv",
        drifting(10, 32, 32),
        codec="ffv1",
        rate=10,
        times_s=[k / 10 - 0.5 for k in range(10)],
        options={"avoid_negative_ts": "disabled"},
    )
    times_s = [picture.time_s for picture in decode(Place(path))]
    np.testing.assert_allclose(times_s, [k / 10 - 0.5 for k in range(10)], atol=2e-3)


def test_a_clock_that_starts_again(tmp_path: Path) -> None:
    part = write_foreign(tmp_path / "part.mpg", drifting(40, 32, 32), rate=25, **FORMATS["mpeg2.mpg"])
    whole = tmp_path / "whole.mpg"
    whole.write_bytes(part.read_bytes() * 2)
    times_s = [picture.time_s for picture in decode(Place(whole))]
    assert len(times_s) == 80
    assert np.sum(np.diff(times_s) < 0) == 1


def test_a_stream_that_says_it_lost_something_is_believed(tmp_path: Path) -> None:
    part = write_foreign(tmp_path / "part.ts", drifting(40, 32, 32), rate=25)
    whole = tmp_path / "whole.ts"
    whole.write_bytes(part.read_bytes() * 2)  # its packets are numbered
    with pytest.raises(BadVideo, match="after 80 frames"):
        list(decode(Place(whole)))


@pytest.mark.parametrize(
    "name", ["h264.mp4", "vp9.webm", "gif.gif", "mjpeg.avi", "h264 10 bit.mkv", "hevc.mp4"]
)
def test_one_frame_is_a_video(tmp_path: Path, name: str) -> None:
    assert len(pixels_of(write_foreign(tmp_path / name, drifting(1, 64, 64), **FORMATS[name]))) == 1


@pytest.mark.parametrize("name", ["png.mov", "gif.gif"])
def test_one_pixel_is_a_picture(tmp_path: Path, name: str) -> None:
    path = write_foreign(tmp_path / name, np.full((3, 1, 1, 3), 200, np.uint8), **FORMATS[name])
    for resize in ("crop", "pad", "stretch"):
        pixels = SquareFitter(16, resize)(next(decode(Place(path))))
        assert pixels.shape == (16, 16, 3)
        assert abs(pixels.mean() - 200) < 40


def test_8k_is_a_picture(tmp_path: Path) -> None:
    frames = np.full((1, 4320, 7680, 3), 90, np.uint8)
    path = write_foreign(tmp_path / "a.mkv", frames, codec="mjpeg", pixel_format="yuvj420p")
    assert SquareFitter(32, "crop")(next(decode(Place(path)))).shape == (32, 32, 3)
