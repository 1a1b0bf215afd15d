"""One video in, segments out: where it is cut, what is kept, and at which times."""

import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from genie_lite.data import segment as segment_module
from genie_lite.data.ingest import IngestConfig
from genie_lite.data.place import Place
from genie_lite.data.segment import Segment, Tally, segments
from genie_lite.data.video import Picture, decode
from tests.videos import black, moving_square, write, write_foreign

CONFIG = IngestConfig(
    size_px=32,
    rate_hz=10.0,
    segment_frames=20,
    min_frames=4,
    letterbox=False,
    min_motion=0.0,
    near_duplicates=False,
)


def cut(path: Path, config: IngestConfig = CONFIG) -> tuple[list[Segment], Tally]:
    tally = Tally()
    return list(segments(Place(path), config, tally)), tally


def test_a_scene_cut_ends_a_segment(tmp_path: Path) -> None:
    frames = np.concatenate([moving_square(9, ground="blue"), moving_square(7, ground="green")])
    found, tally = cut(write(tmp_path / "cut.mp4", frames))
    assert [segment.source_frames for segment in found] == [list(range(9)), list(range(9, 16))]
    assert tally.shots == 2


def test_a_cut_from_dark_to_black_and_back_is_seen_and_black_is_left_out(tmp_path: Path) -> None:
    dark = moving_square(8, ground="dark")
    found, tally = cut(write(tmp_path / "fade.mp4", np.concatenate([dark, black(6), dark])))
    assert [segment.source_frames for segment in found] == [list(range(8)), list(range(14, 22))]
    assert tally.black == 6


def test_without_cut_detection_one_file_is_one_shot(tmp_path: Path) -> None:
    frames = np.concatenate([moving_square(8), black(4), moving_square(8, ground="green")])
    found, _ = cut(write(tmp_path / "game.mp4", frames), CONFIG.model_copy(update={"cuts": False}))
    assert [len(segment.frames) for segment in found] == [20]


def test_motion_alone_is_no_cut(tmp_path: Path) -> None:
    found, _ = cut(write(tmp_path / "a.mp4", moving_square(20)))
    assert [segment.source_frames for segment in found] == [list(range(20))]


@pytest.mark.parametrize(("num", "expected"), [(20, [20]), (21, [10, 11]), (24, [20, 4]), (50, [20, 20, 10])])
def test_a_long_shot_is_divided_without_loss(tmp_path: Path, num: int, expected: list[int]) -> None:
    found, tally = cut(write(tmp_path / "long.mp4", moving_square(num)))
    assert [len(segment.frames) for segment in found] == expected
    assert [index for segment in found for index in segment.source_frames] == list(range(num))
    assert (tally.kept, tally.short) == (num, 0)


def test_frames_are_chosen_by_time_not_by_count(tmp_path: Path) -> None:
    found, _ = cut(write_foreign(tmp_path / "fast.mp4", moving_square(31), rate=30))
    assert found[0].source_frames == list(range(0, 31, 3))
    # The first second at 20 Hz, then at 10 Hz: every second frame, then every one.
    times_s = [k / 20 for k in range(20)] + [1 + k / 10 for k in range(10)]
    found, _ = cut(write_foreign(tmp_path / "vfr.mp4", moving_square(30), times_s=times_s))
    assert found[0].source_frames == [*range(0, 20, 2), *range(20, 30)]
    np.testing.assert_allclose(np.diff(found[0].times_s), 0.1, atol=2e-3)


def test_jitter_at_the_same_rate_neither_drops_nor_repeats(tmp_path: Path) -> None:
    jitter = np.random.default_rng(0).uniform(-0.03, 0.03, 20)
    times_s = [0.0, *(k / 10 + jitter[k] for k in range(1, 20))]
    found, tally = cut(write_foreign(tmp_path / "jitter.mp4", moving_square(20), times_s=times_s))
    assert found[0].source_frames == list(range(20))
    assert tally.repeated == 0


def test_a_hole_in_time_ends_a_segment(tmp_path: Path) -> None:
    times_s = [k / 10 for k in range(8)] + [30 + k / 10 for k in range(8)]
    found, _ = cut(
        write_foreign(tmp_path / "hole.mp4", moving_square(16), times_s=times_s),
        CONFIG.model_copy(update={"cuts": False}),
    )
    assert [segment.source_frames for segment in found] == [list(range(8)), list(range(8, 16))]


def test_pixels_are_those_of_the_named_frames(tmp_path: Path) -> None:
    frames = moving_square(24)
    found, _ = cut(write(tmp_path / "a.mp4", np.repeat(frames, 3, axis=0), rate_hz=30.0))
    kept = np.concatenate([segment.frames for segment in found]).astype(int)
    assert np.abs(kept - frames).mean((1, 2, 3)).max() < 1.5  # a shift by one frame is 2.5


def test_decoded_pictures_are_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: weakref.WeakSet[Picture] = weakref.WeakSet()
    most = 0

    def watched(place: Place) -> Iterator[Picture]:
        nonlocal most
        for picture in decode(place):
            alive.add(picture)
            most = max(most, len(alive))
            yield picture

    monkeypatch.setattr(segment_module, "decode", watched)
    for cuts in (True, False):
        cut(write(tmp_path / "a.mp4", moving_square(40)), CONFIG.model_copy(update={"cuts": cuts}))
    assert most <= 5
