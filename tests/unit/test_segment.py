"""One video in, segments out: where it is cut, what is kept, and at which times."""

import hashlib
import weakref
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from genie_lite.data.cutting import segment as segment_module
from genie_lite.data.cutting.segment import IngestConfig, Segment, Tally, segments
from genie_lite.data.cutting.signature import MAX_DISTANCE, distance
from genie_lite.data.video.codec import decode, read_frames
from genie_lite.data.video.picture import Picture
from genie_lite.data.video.place import Place
from tests.videos import black, drifting, moving_square, write, write_foreign

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


def test_a_clock_that_starts_again_ends_a_segment(tmp_path: Path) -> None:
    coder = {"b": "8M"}
    part = write_foreign(
        tmp_path / "part.mpg", drifting(50, 32, 32), rate=25, codec="mpeg2video", coder=coder
    )
    whole = tmp_path / "whole.mpg"
    whole.write_bytes(part.read_bytes() * 2)
    found, _ = cut(whole, CONFIG.model_copy(update={"cuts": False}))
    assert [segment.source_frames[0] // 50 for segment in found] == [0, 1]
    assert [segment.source_frames[-1] // 50 for segment in found] == [0, 1]


def test_a_clock_that_stands_still_gives_nothing(tmp_path: Path) -> None:
    path = write_foreign(
        tmp_path / "a.mkv", drifting(30, 32, 32), codec="mjpeg", pixel_format="yuvj420p", rate=1000
    )
    found, tally = cut(path)  # all of it lasts 30 ms
    assert not found
    assert tally.source_frames == 30
    assert str(tally.complaint(CONFIG)).startswith("no shot of at least 4 frames")


# Where nothing moves


def test_a_frozen_stretch_ends_a_shot_and_is_left_out(tmp_path: Path) -> None:
    frames = np.concatenate(
        [moving_square(8), moving_square(8)[-1:].repeat(15, axis=0), moving_square(9)[1:]]
    )
    path = write_foreign(tmp_path / "a.mp4", frames, rate=10, coder={"g": "6"})
    found, tally = cut(path)
    # The first frame of the stretch is the last one that something moved into.
    assert [segment.source_frames for segment in found] == [list(range(8)), list(range(23, 31))]
    assert (tally.frozen, tally.kept, tally.short) == (15, 16, 0)
    assert tally.figures()["frozen"] == 15


def test_what_rests_for_less_than_a_second_or_in_a_game_stays(tmp_path: Path) -> None:
    frames = np.concatenate([moving_square(8), moving_square(8)[-1:].repeat(9, axis=0)])
    found, tally = cut(write(tmp_path / "short.mp4", frames))
    assert ([len(segment.frames) for segment in found], tally.frozen) == ([17], 0)
    frames = np.concatenate([moving_square(4), moving_square(4)[-1:].repeat(16, axis=0)])
    found, tally = cut(write(tmp_path / "game.mp4", frames), CONFIG.model_copy(update={"cuts": False}))
    assert ([len(segment.frames) for segment in found], tally.frozen) == ([20], 0)


def test_of_a_still_picture_nothing_is_left_and_the_reason_is_told(tmp_path: Path) -> None:
    found, tally = cut(write(tmp_path / "still.mp4", moving_square(1).repeat(40, axis=0)))
    assert not found
    assert tally.complaint(CONFIG) == "no shot of at least 4 frames at 10 Hz, 39 of 40 frames are frozen"


def hum(num: int) -> np.ndarray:
    """A picture in which next to nothing happens: one pixel that wanders."""
    frames = np.full((num, 32, 32, 3), 120, np.uint8)
    for k, frame in enumerate(frames):
        frame[20, 2 * k % 32] = 140
    return frames


def test_clips_with_too_little_motion_are_left_out_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", np.concatenate([hum(8), moving_square(8, ground="green")]))
    config = CONFIG.model_copy(update={"min_motion": 0.3})
    found, tally = cut(path, config)
    assert [segment.source_frames for segment in found] == [list(range(8, 16))]
    assert (tally.dull, tally.dropped) == (8, {"little motion": 1})
    assert tally.complaint(config) is None
    assert "dull" not in tally.figures()
    assert [segment.motion < 0.3 for segment in cut(path)[0]] == [True, False]


def test_a_video_in_which_too_little_moves_is_filtered_with_the_figure(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"min_motion": 0.3})
    found, tally = cut(write(tmp_path / "a.mp4", hum(50)), config)
    assert not found
    complaint = str(tally.complaint(config))
    assert complaint.startswith("too little motion: 50 of 50 frames change by 0.")
    assert complaint.endswith(" levels at most; min_motion is 0.3")
    assert tally.figures()["dropped"] == {"little motion": 3}


def test_a_short_piece_is_counted_as_such(tmp_path: Path) -> None:
    found, tally = cut(
        write(tmp_path / "a.mp4", np.concatenate([moving_square(3), moving_square(8, ground="green")]))
    )
    assert len(found) == 1
    assert tally.figures()["dropped"] == {"too short": 1}


# What is said of a clip


def test_a_clip_tells_its_figures(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", drifting(20, 32, 32))
    (plain,), _ = cut(path)
    assert plain.about().keys() == {"source_frames", "times_s", "num_frames", "motion", "brightness"}
    luma = drifting(20, 32, 32) @ np.array([0.299, 0.587, 0.114])
    assert plain.motion == pytest.approx(np.abs(np.diff(luma, axis=0)).mean(), rel=0.1)
    assert plain.brightness == pytest.approx(luma.mean(), abs=2)
    (signed,), _ = cut(path, CONFIG.model_copy(update={"near_duplicates": True}))
    assert signed.about() == plain.about() | {"signature": signed.signature}


def test_a_copy_of_a_file_has_nearly_its_signature(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"near_duplicates": True})
    frames = drifting(40, 64, 64)
    frames[:20, 30:40, 30:40] = 0
    (one,), _ = cut(write(tmp_path / "a.mp4", frames), config.model_copy(update={"segment_frames": 40}))
    small = write_foreign(
        tmp_path / "b.webm", frames[:, ::2, ::2], codec="libvpx-vp9", rate=10, coder={"crf": "45"}
    )
    (other,), _ = cut(small, config.model_copy(update={"segment_frames": 40}))
    assert distance(str(one.signature), str(other.signature)) <= MAX_DISTANCE


def test_large_samples_are_cut_where_small_ones_are(tmp_path: Path) -> None:
    frames = np.concatenate([drifting(20, 160, 160), drifting(20, 160, 160)[::-1] // 3])
    path = write(tmp_path / "a.mp4", frames)
    for size_px in (32, 64, 160):
        found, _ = cut(path, CONFIG.model_copy(update={"size_px": size_px}))
        assert [segment.source_frames for segment in found] == [list(range(20)), list(range(20, 40))]
        assert found[0].frames.shape == (20, size_px, size_px, 3)


@pytest.mark.parametrize("codec", ["h264", "mjpeg"])
def test_a_segment_is_encoded_as_the_configuration_says(tmp_path: Path, codec: str) -> None:
    config = CONFIG.model_copy(update={"codec": codec, "jpeg_quality": 95})
    (segment,), _ = cut(write(tmp_path / "a.mp4", drifting(20, 32, 32)), config)
    mp4 = segment.encode(config)
    assert (b"\xff\xd8\xff" in mp4) == (codec == "mjpeg")
    assert np.abs(read_frames(mp4).astype(int) - segment.frames).mean() < 2


# Games and robots


def coded(num: int, height: int, width: int) -> np.ndarray:
    t, y, x = np.ogrid[:num, :height, :width]
    return np.stack([(x * k + 3 * y + 5 * t * k) % 256 for k in (1, 2, 3)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    ("num", "rate", "expected"),
    [
        (100, 30, "919ea1e133da822d0923caeb1fb1d4b291f60f873fcf02d6b1fc1ecb0f56ce40"),
        (60, 10, "8dc1421e64caafa2736851bdab9e2bd5b77966d8c83d7dc657ffbf4e562c3647"),
    ],
)
def test_with_the_filters_off_the_frames_are_what_they_always_were(
    tmp_path: Path, num: int, rate: int, expected: str
) -> None:
    # Lossless RGB at its final size: no version of a library and no processor has a say in it.
    path = write_foreign(tmp_path / "a.mkv", coded(num, 32, 32), codec="ffv1", pixel_format="bgr0", rate=rate)
    found, _ = cut(path, CONFIG.model_copy(update={"cuts": False}))
    digest = hashlib.sha256()
    for segment in found:
        digest.update(segment.frames.tobytes())
        digest.update(repr((segment.source_frames, segment.times_s)).encode())
    assert digest.hexdigest() == expected


@pytest.mark.parametrize("size_px", [32, 96])
def test_with_the_filters_off_frames_are_scaled_once_and_nothing_else(tmp_path: Path, size_px: int) -> None:
    path = write_foreign(tmp_path / "a.mp4", drifting(20, 64, 100), rate=10)
    (segment,), _ = cut(path, CONFIG.model_copy(update={"cuts": False, "size_px": size_px}))
    width = round(100 * size_px / 64)
    left = (width - size_px) // 2
    with av.open(str(path)) as container:
        expected = [
            image.reformat(width, size_px, "rgb24", interpolation="AREA").to_ndarray()[
                :, left : left + size_px
            ]
            for image in container.decode(video=0)
        ]
    np.testing.assert_array_equal(segment.frames, np.stack(expected))
