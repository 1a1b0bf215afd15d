"""A video that shares its file with others: a span of time, a member of a tar."""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from genie_lite.data.cutting.sandbox import Sandbox
from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.data.video.codec import decode, probe, read_frames
from genie_lite.data.video.container import BadVideo
from genie_lite.data.video.place import Place
from tests.videos import drifting, truncate, write_foreign

FILES = {
    "long groups.mp4": {"coder": {"g": "250", "bf": "3"}},
    "open groups.mp4": {"coder": {"x264-params": "keyint=12:open-gop=1:bframes=3:scenecut=0"}},
    "short groups.mp4": {"coder": {"g": "2", "bf": "0"}},
    "b.mkv": {"coder": {"g": "15"}},
    "v.webm": {"codec": "libvpx-vp9", "coder": {"deadline": "realtime", "cpu-used": "8", "g": "20"}},
    "t.ts": {"coder": {"g": "15"}},
    "raw.h264": {"coder": {"g": "15"}},
    "all.avi": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
}
"""With and without an index, with key frames everywhere and almost nowhere."""


def pixels_of(place: Place) -> np.ndarray:
    return np.stack([picture.image.to_ndarray(format="rgb24") for picture in decode(place)])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("first", "end"), [(0, 10), (17, 40), (33, 34), (50, 60)])
def test_a_span_holds_exactly_its_frames(tmp_path: Path, name: str, first: int, end: int) -> None:
    path = write_foreign(tmp_path / name, drifting(60, 32, 32), rate=25, **FILES[name])
    whole = list(decode(Place(path)))
    start_s = whole[0].time_s  # a transport stream's clock starts anywhere
    place = Place(path, span_s=(start_s + first / 25, start_s + end / 25))
    found = list(decode(place))
    assert [picture.index for picture in found] == list(range(end - first))
    np.testing.assert_allclose(
        [picture.time_s for picture in found], [k / 25 for k in range(end - first)], atol=2e-3
    )
    np.testing.assert_array_equal(pixels_of(place), pixels_of(Place(path))[first:end])


def test_the_header_of_a_span_tells_its_length_alone(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "a.mp4", drifting(60, 32, 32), rate=30)
    info = probe(Place(path, span_s=(0.5, 1.25)))
    assert (info.num_frames, info.seconds) == (None, 0.75)
    assert (probe(Place(path)).num_frames, info.height, info.codec) == (60, 32, "h264")


def test_bounds_are_met_to_half_a_frame(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "a.mp4", drifting(60, 32, 32), rate=30)
    for slack_s in (-0.015, 0.015):
        found = list(decode(Place(path, span_s=(1 + slack_s, 1.5 + slack_s))))
        assert len(found) == 15
        np.testing.assert_allclose(found[0].time_s, -slack_s, atol=1e-3)


def damaged(path: Path, share: float) -> Path:
    data = bytearray(path.read_bytes())
    place = int(share * len(data))
    data[place : place + 300] = np.random.default_rng(0).bytes(300)
    path.write_bytes(data)
    return path


def test_a_broken_neighbour_does_no_harm(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (90, 32, 32, 3), dtype=np.uint8)
    path = write_foreign(tmp_path / "a.mp4", noise, rate=30, coder={"g": "10", "bf": "0"})
    whole = pixels_of(Place(path))
    damaged(path, 0.5)
    for first, end in ((0, 30), (60, 90)):
        place = Place(path, span_s=(first / 30, end / 30))
        np.testing.assert_array_equal(pixels_of(place), whole[first:end])
    with pytest.raises(BadVideo, match="fault"):
        list(decode(Place(path, span_s=(1.0, 2.0))))
    with pytest.raises(BadVideo, match="fault"):
        list(decode(Place(path)))


def test_a_span_beyond_the_end_is_told(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "a.mp4", drifting(60, 32, 32), rate=30)
    with pytest.raises(BadVideo, match="no frame could be decoded between 5 s and 6 s"):
        list(decode(Place(path, span_s=(5.0, 6.0))))
    with pytest.raises(BadVideo, match=r"truncated: 1\.0 s decoded of 3\.0 s"):
        list(decode(Place(path, span_s=(1.0, 4.0))))


def tar_of(path: Path, *members: Path) -> dict[str, Place]:
    with tarfile.open(path, "w") as tar:
        for member in members:
            tar.add(member, member.name)
    with tarfile.open(path) as tar:
        return {found.name: Place(path, found.offset_data, found.size) for found in tar}


@pytest.mark.parametrize("name", ["long groups.mp4", "b.mkv", "t.ts", "all.avi", "v.webm"])
def test_a_member_of_a_tar_is_read_where_it_lies(tmp_path: Path, name: str) -> None:
    path = write_foreign(tmp_path / name, drifting(40, 32, 32), rate=30, **FILES[name])
    other = write_foreign(tmp_path / "other.mp4", drifting(5, 64, 64))
    places = tar_of(tmp_path / "all.tar", other, path, other)
    np.testing.assert_array_equal(pixels_of(places[name]), pixels_of(Place(path)))
    assert probe(places[name]) == probe(Place(path))
    assert len(list(decode(places["other.mp4"]))) == 5


def test_a_tar_that_breaks_off_is_told(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "a.mp4", drifting(40, 32, 32))
    size = path.stat().st_size
    place = tar_of(tmp_path / "all.tar", path)["a.mp4"]
    truncate(tmp_path / "all.tar", 0.1)
    with pytest.raises(BadVideo, match=f"truncated: .* of its {size} bytes"):
        probe(place)
    with pytest.raises(BadVideo, match="an empty file"):
        probe(Place(path, 10**6))


def test_the_child_reads_spans_and_members(tmp_path: Path) -> None:
    config = IngestConfig(size_px=32, rate_hz=10.0, min_frames=4, letterbox=False, near_duplicates=False)
    path = write_foreign(tmp_path / "a.mp4", drifting(90, 32, 32), rate=30)
    whole = Place(path, span_s=(1.0, 2.0))
    member = tar_of(tmp_path / "all.tar", path)["a.mp4"]
    with Sandbox(config) as sandbox:
        results = [sandbox.read(place) for place in (whole, member)]
        header = sandbox.read_header(whole)
    found = [[segment.about["source_frames"] for segment in result.segments] for result in results]
    assert found == [[list(range(0, 30, 3))], [list(range(0, 90, 3))]]
    assert results[0].segments[0].about["times_s"] == pytest.approx([k / 10 for k in range(10)], abs=1e-3)
    assert results[0].figures["sha256"] == results[1].figures["sha256"]
    assert results[0].figures["seconds"] == pytest.approx(29 / 30, abs=1e-2)
    assert header.figures["seconds"] == 1.0
    np.testing.assert_array_equal(
        read_frames(results[0].segments[0].mp4).shape, read_frames(results[1].segments[0].mp4)[10:20].shape
    )
    for result in results:
        result.close()
