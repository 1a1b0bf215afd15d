"""A video inside of another file is read as if it lay alone."""

import io
import json
from pathlib import Path

import pytest

from genie_lite.data.video.place import Place


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "many.tar"
    path.write_bytes(b"before" + b"the video" + b"after")
    return path


def test_only_its_own_bytes_are_read(file: Path) -> None:
    with Place(file, offset=6, num_bytes=9).open() as found:
        assert found.read() == b"the video"
        assert found.read(1) == b""
        assert found.seek(-5, io.SEEK_END) == 4
        assert found.read(100) == b"video"
        assert found.seek(4) == 4
        assert found.read(3) == b"vid"
        assert found.seek(-2, io.SEEK_CUR) == 5


def test_without_a_range_it_is_the_file(file: Path) -> None:
    with Place(file).open() as found:
        assert found.read() == file.read_bytes()
    assert Place(file).is_whole_file
    assert not Place(file, span_s=(0.0, 1.0)).is_whole_file


def test_a_range_that_leaves_the_file_ends_with_it(file: Path) -> None:
    with Place(file, offset=15, num_bytes=10**9).open() as found:
        assert found.read() == b"after"
    with Place(file, offset=10**6, num_bytes=5).open() as found:
        assert found.read() == b""


@pytest.mark.parametrize(
    "place",
    [Place(Path("a b/ü.mp4")), Place(Path("x.tar"), 512, 90), Place(Path("x.mp4"), span_s=(0.5, 2.25))],
)
def test_its_plain_form_comes_back(place: Place) -> None:
    assert Place.from_json(json.loads(json.dumps(place.to_json()))) == place
