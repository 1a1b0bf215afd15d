"""Start frames that cannot be used are the user's mistake."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.errors import UserError
from genie_lite.steer import first_frames


def noise(path: Path) -> Path:
    """A PNG of several data chunks."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)).save(path)
    return path


def test_an_image_gives_one_frame(tmp_path: Path) -> None:
    assert first_frames(noise(tmp_path / "a.png"), IngestConfig(size_px=32), 4).shape == (1, 32, 32, 3)


def test_a_broken_image_is_told(tmp_path: Path) -> None:
    path = noise(tmp_path / "broken.png")
    first, second, *rest = path.read_bytes().split(b"IDAT", 2)
    path.write_bytes(b"".join([first, b"IDAT", second, b"\0\0\0\0", *rest]))
    with pytest.raises(UserError, match=r"broken\.png: an image that cannot be read"):
        first_frames(path, IngestConfig(), 1)


def with_text_bomb(png: bytes) -> bytes:
    """A PNG with a note, after its pixels, that unfolds to 3 MB."""
    body = b"zTXtnote\0\0" + zlib.compress(bytes(3 << 20), 9)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    place = png.rindex(b"IEND") - 4
    return png[:place] + chunk + png[place:]


def test_a_note_that_unfolds_to_megabytes_is_told(tmp_path: Path) -> None:
    path = noise(tmp_path / "bomb.png")
    path.write_bytes(with_text_bomb(path.read_bytes()))
    with pytest.raises(UserError, match=r"bomb\.png: an image that cannot be read"):
        first_frames(path, IngestConfig(size_px=32), 1)


@pytest.mark.parametrize("error", [ValueError, KeyError, struct.error, zlib.error])
def test_however_a_picture_is_broken_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(*_: object) -> None:
        raise error("broken")

    monkeypatch.setattr(Image.Image, "getexif", fail)
    with pytest.raises(UserError, match="an image that cannot be read"):
        first_frames(noise(tmp_path / "a.png"), IngestConfig(size_px=32), 1)


def test_an_image_of_too_many_pixels_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UserError, match=r"huge\.png: an image that cannot be read"):
        first_frames(noise(tmp_path / "huge.png"), IngestConfig(), 1)


def test_a_picture_of_an_uncommon_format_is_refused(tmp_path: Path) -> None:
    """Whoever chooses the start must not choose among all parsers of the picture library."""
    Image.new("RGB", (40, 40)).save(tmp_path / "scan.tiff")
    with pytest.raises(UserError, match=r"scan\.tiff"):
        first_frames(tmp_path / "scan.tiff", IngestConfig(size_px=32), 1)


@pytest.mark.parametrize("name", ["a.jpg", "a.webp", "a.gif", "a.bmp"])
def test_pictures_that_people_have_are_read(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / name)
    assert first_frames(tmp_path / name, IngestConfig(size_px=32), 1).shape == (1, 32, 32, 3)
