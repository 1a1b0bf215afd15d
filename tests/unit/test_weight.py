"""Weights of pixels: balanced, high where things move or where a mask says so, and joined to the right frames."""

import json
import logging
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from genie_lite.data.loading.clip import Clip, PackedClip, Window
from genie_lite.data.loading.flow import LITTLE_PX, magnitudes
from genie_lite.data.loading.loader import Loader, LoaderConfig, train_loader, validation_clips
from genie_lite.data.loading.masks import Masks, NoMask
from genie_lite.data.loading.weight import MOST, FlowWeight, MaskWeight, WeightConfig, balanced
from genie_lite.data.shards.shards import ShardSet
from genie_lite.data.video.codec import encode_mp4, write_mp4
from genie_lite.errors import UserError
from tests.footage import write_shards
from tests.videos import wandering_square

IMPORTANCE = arrays(np.float32, (2, 5, 4), elements=st.floats(0, 1000, width=32))


@given(IMPORTANCE, st.sampled_from([0.01, 0.1, 0.9]), st.sampled_from([0.0, 0.5]))
def test_weights_are_one_on_average_and_bounded(importance: np.ndarray, floor: float, least: float) -> None:
    weight = balanced(importance, floor, least)
    assert weight.mean() == pytest.approx(1, abs=1e-4)
    assert weight.min() >= floor - 1e-4
    assert weight.max() <= (1 - floor) * MOST + 1
    order = np.argsort(importance, axis=None)
    assert np.all(np.diff(weight.flatten()[order]) >= -1e-3)


def test_weights_are_in_proportion_to_what_counts() -> None:
    importance = np.zeros((1, 2, 4), np.float32)
    importance[0, 0, :2] = 1, 3
    weight = balanced(importance, 0.1)
    assert weight.flatten().tolist() == pytest.approx([1.9, 5.5, *[0.1] * 6])


@pytest.mark.parametrize("level", [0.0, 7.0])
def test_where_nothing_or_everything_counts_all_pixels_are_alike(level: float) -> None:
    assert balanced(np.full((2, 3, 3), level, np.float32), 0.1).flatten().tolist() == pytest.approx([1] * 18)


def test_what_hardly_counts_makes_little_difference() -> None:
    importance = np.zeros((1, 8, 8), np.float32)
    importance[0, 0, 0] = 0.1 * 64 * LITTLE_PX  # the mean is a tenth of what counts
    weight = balanced(importance, 0.1, LITTLE_PX)
    assert weight.min() == pytest.approx(0.91)


def scene(num: int = 5, shake: bool = False, speed: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """A textured square of ten pixels that goes right over a textured ground, and where it is in each frame."""
    random = np.random.default_rng(0)
    ground = cv2.resize(random.integers(0, 120, (32, 32, 3), dtype=np.uint8), (80, 80))
    square = random.integers(150, 255, (10, 10, 3), dtype=np.uint8)
    frames, places = np.zeros((num, 64, 64, 3), np.uint8), np.zeros((num, 64, 64), bool)
    for k in range(num):
        dy, dx = random.integers(-2, 3, 2) if shake else (0, 0)
        frames[k] = ground[8 + dy : 72 + dy, 8 + dx : 72 + dx]
        top, left = 24 - dy, 10 + speed * k - dx
        frames[k, top : top + 10, left : left + 10] = square
        places[k, top : top + 10, left : left + 10] = True
    return frames, places


def around(place: np.ndarray, px: int = 8) -> np.ndarray:
    return cv2.dilate(place.astype(np.uint8), np.ones((2 * px + 1,) * 2, np.uint8)).astype(bool)


def test_flow_is_where_the_square_is_now() -> None:
    frames, places = scene(speed=3)
    moved = magnitudes(frames, stabilise=True)
    assert moved.shape == (4, 64, 64)
    for k, found in enumerate(moved):
        now = places[k + 1]
        assert found[now].mean() == pytest.approx(3, abs=0.7)
        assert found[~around(now)].mean() < 0.05
        behind = now & ~places[k], places[k] & ~now  # what it has come to, and what it has left
        assert found[behind[0]].mean() > found[behind[1]].mean()
    weight = balanced(moved, 0.1, LITTLE_PX)
    assert weight[places[1:]].mean() > 10
    assert weight[~around(np.max(places, axis=0))[None].repeat(4, 0)].mean() < 0.3


def test_a_shaking_camera_is_discounted() -> None:
    frames, places = scene(8, shake=True)
    steady, raw = (magnitudes(frames, stabilise=stabilise) for stabilise in (True, False))
    inside, outside = places[1:], np.stack([~around(place) for place in places[1:]])
    assert raw[outside].mean() > 1
    assert steady[outside].mean() < 0.3 * raw[outside].mean()
    assert steady[inside].mean() > 5 * steady[outside].mean()


def test_a_still_clip_has_even_weights_whatever_compression_adds() -> None:
    frames, _ = scene(5, speed=0)
    noisy = np.clip(frames + np.random.default_rng(1).integers(-2, 3, frames.shape), 0, 255).astype(np.uint8)
    weight = balanced(magnitudes(noisy, stabilise=True), 0.1, LITTLE_PX)
    assert weight.min() > 0.8


def test_flow_of_large_pictures_is_in_their_own_pixels_and_leaves_the_threads_of_opencv_alone() -> None:
    frames, places = scene(3)
    large = np.stack([cv2.resize(frame, (256, 256), interpolation=cv2.INTER_CUBIC) for frame in frames])
    before = cv2.getNumThreads()
    moved = magnitudes(large, stabilise=True)
    assert cv2.getNumThreads() == before
    assert moved.shape == (2, 256, 256)
    assert moved[0][places[1].repeat(4, 0).repeat(4, 1)].mean() == pytest.approx(8, abs=2)
    assert np.array_equal(moved, magnitudes(large, stabilise=True))


# ----- masks


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """Frame k of a shot is native frame 3 k."""
    return write_shards(tmp_path_factory.mktemp("weight") / "shards", ("train", "train", "test"))


def native_masks(source: str, length: int) -> np.ndarray:
    """`t y x`, for every native frame where the square of the shot is then; between frames, everywhere."""
    square = wandering_square(source.removesuffix(".mp4"), length, 16)[..., 0] > 100
    masks = np.ones((3 * length, 16, 16), bool)
    masks[::3] = square
    return masks


def per_frame(folder: Path, source: str, masks: np.ndarray) -> None:
    (folder / source).with_suffix("").mkdir(parents=True)
    for frame, mask in enumerate(masks):
        path = (folder / source).with_suffix("") / f"{frame:06d}.png"
        cv2.imwrite(
            str(path), cv2.resize(255 * mask.astype(np.uint8), (64, 64), interpolation=cv2.INTER_NEAREST)
        )


def as_video(folder: Path, source: str, masks: np.ndarray) -> None:
    frames = (255 * masks.astype(np.uint8))[..., None].repeat(3, -1).repeat(4, 1).repeat(4, 2)
    write_mp4(folder / source, frames, 30.0)


SOURCES = {f"{split}-{n}-{part}.mp4": length
           for split, n in (("train", 0), ("train", 1), ("test", 2)) for part, length in enumerate((9, 7))}  # fmt: skip


def expect_the_square(clip: Clip) -> None:
    """The foreground of every frame but the first is where its square is, and nowhere else."""
    assert clip.weight is not None
    square = clip.frames[:, 1:, :1] > 0.6
    assert torch.equal(clip.weight > 1, square)
    assert clip.weight.mean(dim=(1, 2, 3, 4)).tolist() == pytest.approx([1] * len(clip), abs=1e-5)


@pytest.mark.parametrize("write", [per_frame, as_video])
@pytest.mark.parametrize("distance", [{}, {"stride": 2}, {"pair_s": (0.1, 0.3)}])
def test_masks_join_the_right_frames(
    shards: ShardSet, tmp_path: Path, write: Callable[..., None], distance: dict
) -> None:
    """A mask of the frame before or after, or of the k-th frame instead of the native one, is elsewhere."""
    for source, length in SOURCES.items():
        write(tmp_path, source, native_masks(source, length))
    weight = MaskWeight(masks=str(tmp_path))
    loader = train_loader(shards, LoaderConfig(clip_frames=3, batch=4, weight=weight, **distance), 0)
    for clip in islice(loader, 6):
        expect_the_square(clip)
    for clip in validation_clips(shards, "test", 3, 6, weight=weight, **distance):
        expect_the_square(clip)
    assert not loader.unweighed


def test_one_mask_may_be_for_all_frames(shards: ShardSet, tmp_path: Path) -> None:
    mask = np.zeros((32, 48, 3), np.uint8)
    mask[:, :24, 2] = 255  # red, in the left half
    for name, picture in (("a/b", mask), ("a/c.d", mask // 255)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture)
    for source in ("a/b.mp4", "a/b.MKV", "a/b", "a/c.d"):  # of the last, .d is no suffix of a video
        found = Masks(tmp_path, shards).of(source, [0, 12345])
        assert np.array_equal(found[0], found[1])
        assert np.array_equal(found[0], np.repeat([[1.0] * 8 + [0.0] * 8], 16, axis=0))


@pytest.mark.parametrize(
    ("resize", "expected"), [("crop", slice(4, 12)), ("stretch", slice(6, 10)), ("pad", slice(6, 10))]
)
def test_masks_are_resized_as_the_frames_were(
    shards: ShardSet, tmp_path: Path, resize: str, expected: slice
) -> None:
    mask = np.zeros((32, 64), np.uint8)
    mask[8:24, 24:40] = 255
    cv2.imwrite(str(tmp_path / "a.png"), mask)
    changed = ShardSet(shards.folder, shards.config | {"resize": resize}, shards.fingerprint, shards.shards)
    found = Masks(tmp_path, changed).of("a.mp4", [0])[0]
    rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    assert [columns[0], columns[-1]] == [expected.start, expected.stop - 1]
    high = {"crop": (4, 11), "stretch": (4, 11), "pad": (6, 9)}[resize]
    assert (rows[0], rows[-1]) == high


@pytest.mark.parametrize("rotation", [0, 90])
def test_bars_that_ingest_has_cut_off_are_cut_off_masks(
    shards: ShardSet, tmp_path: Path, rotation: int
) -> None:
    """The video is 100 x 200, as shown, with a quarter of bars above and nothing below; the mask has half its size."""
    folder = tmp_path / "shards"
    folder.mkdir()
    height, width = (200, 100) if rotation == 0 else (100, 200)
    row = {
        "source": "a.mp4",
        "height": height,
        "width": width,
        "rotation": rotation,
        "letterbox": [100, 0, 0, 0],
    }
    (folder / "manifest.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({"source": "b.mp4"}) + "\n")
    mask = np.zeros((100, 50), np.uint8)
    mask[50:75] = 255  # the upper half of what is left
    cv2.imwrite(str(tmp_path / "a.png"), mask)
    found = Masks(tmp_path, ShardSet(folder, shards.config, "", shards.shards)).of("a.mp4", [0])[0]
    assert np.array_equal(found, np.repeat([[1.0]] * 8 + [[0.0]] * 8, 16, axis=1))


@pytest.mark.parametrize(
    "source",
    [
        "../secret.mp4",
        "a/../../secret.mp4",
        "/etc/secret.mp4",
        "..",
        ".",
        "",
        "a\0b.mp4",
        "x" * 5000,
        "../masks/../secret",
    ],
)
def test_names_of_sources_do_not_lead_out_of_the_folder(
    shards: ShardSet, tmp_path: Path, source: str
) -> None:
    folder = tmp_path / "masks"
    (folder / "a").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "secret.png"), np.full((16, 16), 255, np.uint8))
    cv2.imwrite(str(tmp_path / "000000.png"), np.full((16, 16), 255, np.uint8))
    cv2.imwrite(str(folder / "000000.png"), np.full((16, 16), 255, np.uint8))
    with pytest.raises(NoMask):
        Masks(folder, shards).of(source, [0])


def test_windows_without_masks_are_even_and_counted_with_one_warning(
    shards: ShardSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Missing, shorter than the source, or no picture at all."""
    per_frame(tmp_path, "train-0-0.mp4", native_masks("train-0-0.mp4", 9))
    as_video(tmp_path, "train-0-1.mp4", native_masks("train-0-1.mp4", 7)[:4])
    (tmp_path / "train-1-0.png").write_bytes(b"no picture")
    (tmp_path / "test-2-0.mp4").write_bytes(encode_mp4(wandering_square("x", 9, 16), 10.0)[:200])
    weight = MaskWeight(masks=str(tmp_path))
    with caplog.at_level(logging.WARNING):
        loader = train_loader(shards, LoaderConfig(clip_frames=4, batch=4, weight=weight, num_workers=1), 0)
        clips = list(islice(loader, 8))
    assert len(caplog.messages) == 1
    assert "windows without masks weigh all pixels alike" in caplog.text
    lacking = [source for clip in clips for source in clip.source if source != "train-0-0.mp4"]
    assert loader.unweighed.total() == len(lacking) > 8
    assert set(loader.unweighed) == {"train-0-1.mp4", "train-1-0.mp4", "train-1-1.mp4"}
    for clip in clips:
        assert clip.weight is not None
        for source, each in zip(clip.source, clip.weight, strict=True):
            assert bool((each == 1).all()) == (source != "train-0-0.mp4")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        held_out = validation_clips(shards, "test", 4, 3, weight=weight)
    assert [bool((clip.weight == 1).all()) for clip in held_out] == [True] * 3
    assert len(caplog.messages) == 1
    assert "(3 held-out clips)" in caplog.text


def test_why_a_source_has_no_mask_is_told(shards: ShardSet, tmp_path: Path) -> None:
    as_video(tmp_path, "a.mp4", np.ones((4, 16, 16), bool))
    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "c").mkdir()
    masks = Masks(tmp_path, shards)
    for source, message in (
        ("a.mp4", r"a\.mp4: has 4 frames, but frame 4 of 'a\.mp4' was wanted"),
        ("b.mp4", r"b\.png: cannot be read as a mask"),
        ("c.mp4", r"000004\.png: cannot be read as a mask"),
        ("d.mp4", r"no mask of 'd\.mp4': neither .*d/, d\.png nor d\.mp4"),
        ("../d.mp4", r"no mask of '\.\./d\.mp4': its name leads out of"),
    ):
        with pytest.raises(NoMask, match=message):
            masks.of(source, [4])


def test_a_folder_of_masks_that_is_not_there_is_a_user_error(shards: ShardSet, tmp_path: Path) -> None:
    weight = MaskWeight(masks=str(tmp_path / "gone"))
    with pytest.raises(UserError, match=r"gone: no such folder; expected masks, named like the sources of"):
        train_loader(shards, LoaderConfig(clip_frames=3, weight=weight), 0)


# ----- on their way


def loader_of(shards: ShardSet, weight: WeightConfig, **changes) -> Loader[Clip]:
    ranks = {name: changes.pop(name) for name in ("rank", "world_size") if name in changes}
    config = LoaderConfig(clip_frames=3, batch=4, pair_s=(0.1, 0.3), weight=weight)
    return train_loader(shards, config.model_copy(update=changes), 1, **ranks)


def weights_of(clips: list[Clip]) -> list[tuple[str, int, float, bytes]]:
    return [
        (key, start, dt_s, each.numpy().tobytes())
        for clip in clips
        if clip.weight is not None
        for key, start, dt_s, each in zip(clip.key, clip.start, clip.dt_s, clip.weight, strict=True)
    ]


def test_neither_workers_nor_ranks_nor_a_resume_change_weights_and_strides(shards: ShardSet) -> None:
    weight = FlowWeight()
    alone = weights_of(list(islice(loader_of(shards, weight), 6)))
    assert len(alone) == 24
    assert len({dt_s for _, _, dt_s, _ in alone}) == 3
    processes = loader_of(shards, weight, num_workers=2)
    assert weights_of(list(islice(processes, 6))) == alone
    ranks = [list(islice(loader_of(shards, weight, batch=2, rank=rank, world_size=2), 3)) for rank in (0, 1)]
    assert [row for joint in zip(*ranks, strict=True) for row in weights_of(list(joint))] == alone[:12]
    resumed = loader_of(shards, weight, cache_gb=0.0)
    resumed.load_state_dict({"windows": 12, "of": resumed.state_dict()["of"]})
    assert weights_of(list(islice(resumed, 3))) == alone[12:]


def test_a_weight_is_no_part_of_a_position(shards: ShardSet) -> None:
    """Which pixels count decides nothing about which window is next."""
    loader = loader_of(shards, FlowWeight())
    loader.load_state_dict(
        train_loader(shards, LoaderConfig(clip_frames=3, pair_s=(0.1, 0.3)), 1).state_dict()
    )


def test_without_a_weight_a_clip_has_none(shards: ShardSet) -> None:
    assert next(iter(train_loader(shards, LoaderConfig(clip_frames=3), 0))).weight is None
    assert validation_clips(shards, "test", 3, 1)[0].weight is None


def test_a_weight_travels_in_half_the_bytes_and_moves_with_its_clip() -> None:
    random = np.random.default_rng(0)
    exact = np.stack([balanced(random.random((2, 8, 8), np.float32) ** 9, 0.1) for _ in range(3)])
    pixels = np.zeros((3, 8, 8, 3), np.uint8)
    packed = PackedClip.of([Window(pixels, "a.mp4", 0, "a", [0, 1, 2], 0.1, each) for each in exact])
    assert packed.weight is not None
    assert packed.weight.dtype == torch.float16
    clip = packed.unpack()
    assert clip.weight is not None
    assert clip.weight.dtype == torch.float32
    np.testing.assert_allclose(clip.weight[:, :, 0].numpy(), exact, rtol=2e-3)
    assert clip.weight.mean(dim=(1, 2, 3, 4)).tolist() == pytest.approx([1] * 3, abs=1e-6)
    assert clip.dt_s == [0.1] * 3
    moved = clip.to("meta")
    assert moved.weight is not None
    assert moved.weight.device.type == "meta"
