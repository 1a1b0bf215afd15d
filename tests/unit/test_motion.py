"""What moves, what stands still, and where one shot ends."""

from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from scenedetect import FrameTimecode
from scenedetect.detectors import ContentDetector

from genie_lite.data.cutting.motion import (
    FROZEN_LUMA,
    brightness_of,
    find_frozen,
    is_black,
    luma_of,
    motion_of,
    thumbnail,
)
from genie_lite.data.cutting.shots import CutDetector
from tests.videos import drifting, moving_square


@dataclass(frozen=True)
class Frame:
    luma: np.ndarray


def frames_of(levels: list[float]) -> list[Frame]:
    return [Frame(np.full((8, 8), level, np.uint8)) for level in levels]


def frozen(levels: list[float], rate_hz: float = 4.0) -> list[bool]:
    frames = frames_of(levels)
    found = list(find_frozen(frames, rate_hz))
    assert [frame for frame, _ in found] == frames
    return [is_frozen for _, is_frozen in found]


def test_motion_is_the_mean_change_in_levels() -> None:
    still = np.full((5, 64, 64), 100, np.uint8)
    assert motion_of(still) == 0
    assert motion_of(still[:1]) == 0
    assert motion_of(np.stack([still[0], still[0] + 10, still[0]])) == 10
    half = still.copy()
    half[1::2, :32] += 8
    assert motion_of(half) == 4
    assert brightness_of(half) == pytest.approx(101.6)


def test_size_changes_motion_and_brightness_little() -> None:
    small, large = (
        np.stack([luma_of(cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA)) for frame in frames])
        for frames in [drifting(10, 256, 256)]
        for size in (64, 256)
    )
    assert small.shape == large.shape == (10, 64, 64)
    assert motion_of(small) == pytest.approx(motion_of(large), rel=0.05)
    assert brightness_of(small) == pytest.approx(brightness_of(large), abs=0.5)


def test_a_thumbnail_is_never_larger_than_the_frame() -> None:
    assert thumbnail(np.zeros((32, 32, 3), np.uint8)).shape == (32, 32, 3)
    assert thumbnail(np.zeros((128, 128, 3), np.uint8)).shape == (64, 64, 3)


def test_black_is_what_has_next_to_no_bright_pixel() -> None:
    luma = np.full((64, 64), 20, np.uint8)
    assert is_black(luma)
    luma[:, 0] = 200
    assert not is_black(luma)


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([10, 50, 90, 50, 10], [0, 0, 0, 0, 0]),
        ([10, 50, 50, 50, 50, 10], [0, 0, 0, 0, 0, 0]),  # 3 of 4 frames that make a second
        ([10, 50, 50, 50, 50, 50, 10], [0, 0, 1, 1, 1, 1, 0]),
        ([50] * 7, [0] + [1] * 6),
        ([50, 50, 50, 50, 50, 90, 90, 90, 90, 90], [0, 1, 1, 1, 1, 0, 1, 1, 1, 1]),
        ([10, 10], [0, 0]),
        ([], []),
    ],
)
def test_a_second_without_change_is_frozen(levels: list[float], expected: list[int]) -> None:
    assert frozen(levels) == [bool(each) for each in expected]


def test_slow_change_is_no_freeze_and_a_key_frame_is_no_change() -> None:
    assert not any(frozen([50 + 2 * k for k in range(20)]))
    assert sum(frozen([50 + FROZEN_LUMA * (k // 6 % 2) for k in range(20)])) == 19


def test_a_small_thing_that_moves_is_seen() -> None:
    lumas = np.full((12, 64, 64), 90, np.uint8)
    for k, luma in enumerate(lumas):
        luma[30, k] = 110
    assert not any(is_frozen for _, is_frozen in find_frozen([Frame(luma) for luma in lumas], 4.0))


def test_few_frames_are_held_back() -> None:
    taken = 0

    def endless():
        nonlocal taken
        for frame in frames_of([50] * 1000):
            taken += 1
            yield frame

    for given, _ in enumerate(find_frozen(endless(), 4.0), start=1):
        assert taken - given <= 4


def test_cuts_are_those_of_pyscenedetect() -> None:
    random = np.random.default_rng(0)
    frames = [
        *drifting(8, 64, 64),
        *moving_square(8, 64),
        *random.integers(0, 255, (8, 64, 64, 3), dtype=np.uint8),
        *drifting(8, 64, 64)[::-1] // 2 + 60,
    ]
    for threshold in (5.0, 15.0, 27.0, 60.0):
        ours, theirs = CutDetector(threshold), ContentDetector(threshold=threshold, min_scene_len=0)
        found = [ours.push(frame)[0] for frame in frames]
        expected = [
            bool(theirs.process_frame(FrameTimecode(k, fps=25.0), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)))
            for k, frame in enumerate(frames)
        ]
        assert found == expected
        assert 0 < sum(found) < len(frames)
