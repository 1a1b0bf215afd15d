"""What a player brings to begin from: images and short videos, and what only pretends to be one."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from genie_lite.data.cutting.sandbox import Sandbox
from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.data.video.place import Place
from genie_lite.errors import UserError
from genie_lite.play import own_start
from genie_lite.play.own_start import OwnStarts
from genie_lite.steer import first_frames
from tests.videos import drifting, moving_square, write, write_foreign

CONFIG = IngestConfig(size_px=32, rate_hz=10.0)


def halves(mode: str = "RGB", hw: tuple[int, int] = (40, 60)) -> Image.Image:
    """Red above, blue below."""
    pixels = np.zeros((*hw, 3), np.uint8)
    pixels[: hw[0] // 2, :, 0], pixels[hw[0] // 2 :, :, 2] = 250, 250
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_an_image_gives_one_frame_as_a_file_of_it_does(tmp_path: Path, kind: str) -> None:
    data = encoded(halves(), kind)
    frames = OwnStarts(CONFIG, 3)(data)
    assert frames.shape == (1, 32, 32, 3)
    assert frames.dtype == np.uint8
    (tmp_path / "it").write_bytes(data)
    assert np.array_equal(frames, first_frames(tmp_path / "it", CONFIG, 3))
    assert frames[0, 2, 16, 0] > 200 > 50 > frames[0, 2, 16, 2]


def test_a_photograph_is_upright() -> None:
    """Held on its side, a phone stores red on the left of what is red above."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    lying = halves().transpose(Image.Transpose.ROTATE_90)
    frame = OwnStarts(CONFIG, 1)(encoded(lying, "JPEG", exif=exif))[0].astype(int)
    assert frame[2, 2:-2, 0].min() > 200
    assert frame[-3, 2:-2, 2].min() > 200


def test_what_is_transparent_is_black() -> None:
    image = Image.new("RGBA", (40, 40), (250, 250, 250, 0))
    assert OwnStarts(CONFIG, 1)(encoded(image, "PNG")).max() == 0


def test_a_video_gives_its_first_frames(tmp_path: Path) -> None:
    video = drifting(30, 48, 64)
    path = write_foreign(tmp_path / "a.mp4", video, rate=10)
    frames = OwnStarts(CONFIG, 3)(path.read_bytes())
    expected = first_frames(path, CONFIG, 3)
    assert frames.shape == expected.shape == (3, 32, 32, 3)
    assert np.abs(frames.astype(int) - expected).mean() < 1  # they were another video in between


def test_of_a_long_video_the_beginning_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Place] = []
    read = Sandbox.read
    monkeypatch.setattr(Sandbox, "read", lambda self, place: asked.append(place) or read(self, place))
    data = write(tmp_path / "a.mp4", moving_square(200)).read_bytes()
    assert OwnStarts(CONFIG, 2)(data).shape[0] == 2
    assert [place.span_s for place in asked] == [(0.0, 1.2)]


def test_a_video_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    data = write(tmp_path / "a.mp4", moving_square(20)).read_bytes()
    with pytest.raises(
        UserError, match=r"as a video: decoding (took more than|hung: no sign of life for) 0\.0[1-5]"
    ):
        OwnStarts(CONFIG, 1, most_s=0.05)(data)


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that says so in its header, and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "an empty file; expected an image"),
        (encoded(halves(), "GIF")[:60], "an image that cannot be read"),
        (png_of_size(50, 40), "an image that cannot be read"),
        (png_of_size(8_001, 8_000), "an image of 8001 x 8000 pixels, expected at most 64 million"),
        (png_of_size(60_000, 60_000), "an image that cannot be read .*bomb"),
        (png_of_size(40_000, 100), "an image of 40000 x 100 pixels, expected sides of at most 32 to 1"),
        (encoded(halves(), "TIFF"), "not an image, and as a video: .*expected an image .* or a short video"),
        (b"#!/bin/sh\necho hello\n" * 50, "not an image, and as a video"),
        (b"x" * (own_start.MOST_BYTES + 1), "a file of 32 MB, expected at most 32 MB"),
    ],
    ids=["empty", "cut", "hollow", "large", "bomb", "long", "tiff", "text", "bytes"],
)
def test_what_cannot_be_used_is_told_in_a_line(data: bytes, words: str) -> None:
    with pytest.raises(UserError, match=f"^{words}") as told:
        OwnStarts(CONFIG, 1)(data)
    assert "/" not in str(told.value)  # no place of this machine
    assert "\n" not in str(told.value)


def test_a_video_that_is_too_short_is_told(tmp_path: Path) -> None:
    data = write(tmp_path / "a.mp4", moving_square(5)).read_bytes()
    with pytest.raises(
        UserError, match=r"a video that cannot be used: no shot of at least 8 frames at 10 Hz"
    ):
        OwnStarts(CONFIG, 8)(data)


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_start.tempfile, "tempdir", str(tmp_path))
    OwnStarts(CONFIG, 1)(encoded(halves(), "PNG"))
    with pytest.raises(UserError):
        OwnStarts(CONFIG, 1)(encoded(halves(), "PNG")[:-30])
    assert not list(tmp_path.iterdir())


def test_a_header_that_breaks_the_parser_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise struct.error("unpack requires a buffer of 4 bytes")

    monkeypatch.setattr(own_start.Image, "open", fail)
    with pytest.raises(UserError, match="an image that cannot be read"):
        OwnStarts(CONFIG, 1)(encoded(halves(), "PNG"))
