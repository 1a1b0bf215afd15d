"""Black bars are cut off, and nothing else is."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from genie_lite.data.cutting.letterbox import NUM_PICTURES, find_bars
from genie_lite.data.cutting.segment import IngestConfig, Tally, segments
from genie_lite.data.video.codec import decode, sample
from genie_lite.data.video.picture import Bars, Orientation, Picture, SquareFitter
from genie_lite.data.video.place import Place
from tests.videos import black, drifting, write_foreign

CONFIG = IngestConfig(size_px=32, rate_hz=10.0, min_frames=4, near_duplicates=False)
CUTS = {
    "letterbox": Bars(20, 20, 0, 0),
    "pillars": Bars(0, 0, 24, 24),
    "a telephone's video": Bars(0, 0, 54, 54),
    "on all sides": Bars(16, 16, 24, 24),
    "on one side": Bars(0, 22, 0, 0),
    "uneven": Bars(12, 26, 0, 0),
    "a thin line": Bars(0, 0, 2, 0),
}


def boxed(content: np.ndarray, bars: Bars) -> np.ndarray:
    return np.pad(content, ((0, 0), (bars.top, bars.bottom), (bars.left, bars.right), (0, 0)))


def boxed_to(height: int, width: int, bars: Bars, num: int = 40) -> np.ndarray:
    """A picture of this size, bars included."""
    return boxed(drifting(num, height - bars.top - bars.bottom, width - bars.left - bars.right), bars)


def bars_of(path: Path) -> Bars | None:
    return find_bars(sample(Place(path), NUM_PICTURES))


def cut(path: Path, config: IngestConfig = CONFIG) -> tuple[np.ndarray, Tally]:
    tally = Tally()
    found = list(segments(Place(path), config, tally))
    return np.concatenate([segment.frames for segment in found]), tally


@pytest.mark.parametrize("crf", ["18", "38"])
@pytest.mark.parametrize("name", CUTS)
def test_bars_are_found_whatever_the_compression(tmp_path: Path, name: str, crf: str) -> None:
    bars = CUTS[name]
    if (name, crf) == ("a thin line", "38"):
        crf = "24"  # beyond that nothing of it is black
    path = write_foreign(tmp_path / "a.mp4", boxed_to(128, 160, bars), coder={"crf": crf})
    found = bars_of(path)
    assert found is not None
    for side in ("top", "bottom", "left", "right"):
        expected, value = getattr(bars, side), getattr(found, side)
        assert bool(value) == bool(expected)
        assert expected <= value <= expected + 2, (side, found)


@pytest.mark.parametrize("key_frames_every", ["250", "6"])
def test_samples_show_what_lies_between_the_bars(tmp_path: Path, key_frames_every: str) -> None:
    content = drifting(60, 96, 96)
    coder = {"g": key_frames_every, "crf": "16"}
    path = write_foreign(tmp_path / "a.mp4", boxed(content, Bars(16, 16, 32, 32)), coder=coder)
    plain = write_foreign(tmp_path / "b.mp4", content, coder=coder)
    frames, tally = cut(path)
    expected, _ = cut(plain)
    assert tally.letterbox == [16, 16, 32, 32]
    assert np.abs(frames.astype(int) - expected).mean() < 3
    kept, tally = cut(path, CONFIG.model_copy(update={"letterbox": False}))
    assert tally.letterbox is None
    assert kept[:, :4].max() < 20


def test_a_bar_vouches_for_the_other_one(tmp_path: Path) -> None:
    frames = boxed_to(128, 160, Bars(20, 20, 0, 0))
    frames[:, 20:50] = np.linspace(4, 60, 30, dtype=np.uint8)[:, None, None]  # a dark ceiling
    assert bars_of(write_foreign(tmp_path / "a.mp4", frames)) == Bars(20, 20, 0, 0)


def test_noise_in_the_bars_is_no_content(tmp_path: Path) -> None:
    frames = boxed_to(128, 160, Bars(20, 20, 0, 0), num=90)
    noisy = frames + np.random.default_rng(0).normal(0, 3, frames.shape)
    path = write_foreign(tmp_path / "a.mp4", noisy.clip(0, 255).astype(np.uint8))
    assert bars_of(path) in (Bars(20, 20, 0, 0), Bars(20, 22, 0, 0), Bars(22, 20, 0, 0), Bars(22, 22, 0, 0))


def test_a_dark_begin_says_nothing_against_bars(tmp_path: Path) -> None:
    frames = boxed_to(128, 160, Bars(20, 20, 0, 0), num=60)
    frames[:20] = 0
    assert bars_of(write_foreign(tmp_path / "a.mp4", frames)) == Bars(20, 20, 0, 0)


def test_a_subtitle_keeps_its_rows(tmp_path: Path) -> None:
    frames = boxed_to(128, 160, Bars(24, 24, 0, 0), num=60)
    frames[20:50, 112:118, 60:100] = 220
    found = bars_of(write_foreign(tmp_path / "a.mp4", frames))
    assert found is not None
    assert found.top == 24
    assert found.bottom <= 10


def dark(num: int = 40) -> np.ndarray:
    return np.full((num, 128, 160, 3), 2, np.uint8)


def moon() -> np.ndarray:
    """A bright disc in a black sky."""
    frames = dark()
    y, x = np.ogrid[:128, :160]
    for k, frame in enumerate(frames):
        frame[(y - 64) ** 2 + (x - 60 - k) ** 2 < 30**2] = 220
    return frames


def dusk() -> np.ndarray:
    """A landscape that is lost in the dark towards the top, without an edge."""
    frames = drifting(40, 128, 160).astype(float)
    frames[:] *= np.clip((np.arange(128) - 30) / 90, 0, 1)[None, :, None, None]
    return frames.astype(np.uint8)


def skyline() -> np.ndarray:
    """Houses of several heights before a black sky."""
    frames = dark()
    for k, height in enumerate([50, 62, 44, 70, 40, 58, 66, 48]):
        frames[:, 128 - height :, 20 * k : 20 * k + 20] = drifting(40, height, 20)
    return frames


def light_on() -> np.ndarray:
    """A dark upper half, in which a light goes on late."""
    frames = boxed_to(128, 160, Bars(40, 0, 0, 0))
    frames[30:, 10:30, 20:140] = 200
    return frames


def window() -> np.ndarray:
    """A small bright window in a dark room."""
    return boxed_to(128, 160, Bars(50, 50, 65, 65))


@pytest.mark.parametrize(
    "scene", [moon, dusk, skyline, light_on, window, dark, lambda: drifting(40, 128, 160)]
)
@pytest.mark.parametrize("key_frames_every", ["250", "4"])
def test_a_dark_scene_is_not_cropped(tmp_path: Path, scene, key_frames_every: str) -> None:
    path = write_foreign(tmp_path / "a.mp4", scene(), coder={"g": key_frames_every})
    found = bars_of(path)
    assert found is None or (found.top < 40 and not (found.bottom or found.left or found.right)), found
    if scene is not light_on:
        assert found is None


def test_one_look_is_enough_for_most_videos(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "a.mp4", drifting(20, 64, 64))
    taken: list[int] = []

    def watched() -> Iterator[Picture]:
        for picture in decode(Place(path)):
            taken.append(picture.index)
            yield picture

    assert find_bars(watched()) is None
    assert taken == [0]


def test_bars_are_told_as_the_upright_picture_shows_them(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "a.mp4", boxed_to(128, 160, Bars(12, 26, 0, 0)), rotation=-90)
    frames, tally = cut(path)
    assert tally.rotation == 90
    assert tally.letterbox == [0, 0, 26, 12]  # a quarter turn clockwise takes the bottom to the left
    assert frames[:, :, :2].mean() > 40
    assert frames[:, :, -2:].mean() > 40


def test_turning_bars_turns_what_they_cut_off() -> None:
    bars = Bars(1, 2, 3, 4)
    pixels = np.zeros((20, 30, 1), np.uint8)
    pixels[1:-2, 3:-4] = 1
    for transposed in (False, True):
        for mirrored in (False, True):
            for flipped in (False, True):
                orientation = Orientation(transposed, mirrored, flipped)
                turned, upright = bars.turned(orientation), orientation(pixels)
                height, width, _ = upright.shape
                rows, columns = (
                    slice(turned.top, height - turned.bottom),
                    slice(turned.left, width - turned.right),
                )
                assert upright[rows, columns].all()
                assert upright[rows, columns].sum() == pixels.sum()


def test_a_frame_of_another_size_is_not_cropped(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "a.mp4", boxed_to(128, 160, Bars(20, 20, 0, 0), num=2))
    picture = next(decode(Place(path)))
    fitted = SquareFitter(32, "stretch", Bars(20, 20, 0, 0), (64, 64))(picture)
    np.testing.assert_array_equal(fitted, SquareFitter(32, "stretch")(picture))


def test_a_video_that_ends_early_is_still_told_by_decoding_it(tmp_path: Path) -> None:
    path = write_foreign(
        tmp_path / "a.mp4", np.concatenate([boxed_to(64, 64, Bars(8, 8, 0, 0)), black(20, 64)])
    )
    path.write_bytes(path.read_bytes()[:-400])
    assert list(sample(Place(path), 4)) == []
