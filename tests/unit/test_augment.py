"""Views of a clip: one and the same for all its frames, another for every clip, and none where none is asked for."""

import pytest
import torch

from genie_lite.data.loading.clip import Clip
from genie_lite.nn.augment import AugmentConfig, AugmentPair, View, augment, draw_view
from genie_lite.train.views import view_of, views_of
from tests import models

EVERYTHING = AugmentConfig(
    shift_px=3.0,
    rotate_deg=10.0,
    scale=0.2,
    perspective=0.1,
    brightness=0.1,
    contrast=0.2,
    saturation=0.3,
    hue_deg=20.0,
    noise=0.05,
)
EACH = [AugmentConfig.model_validate({name: value}) for name, value in EVERYTHING.model_dump().items()]
NAMES = list(EVERYTHING.model_dump())


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clip(frames: torch.Tensor, weight: torch.Tensor | None = None) -> Clip:
    return Clip(frames, ["a.mp4"] * len(frames), [0] * len(frames), weight=weight)


@pytest.mark.parametrize("config", EACH, ids=NAMES)
def test_all_frames_of_a_clip_are_seen_alike_and_clips_are_not(config: AugmentConfig) -> None:
    still = models.frames(batch=1, num=1).expand(4, 3, -1, -1, -1).contiguous()
    seen = augment(still, config, generator())
    assert seen.shape == still.shape
    assert not torch.equal(seen, still)
    for k in (1, 2):
        assert torch.equal(seen[:, k], seen[:, 0]), "a clip in which nothing happens stays one"
    assert len({view.numpy().tobytes() for view in seen}) == 4
    assert seen.min() >= 0
    assert seen.max() <= 1
    assert torch.equal(seen, augment(still, config, generator()))


def test_without_augmentation_frames_are_the_same_bits() -> None:
    frames = models.frames()
    assert augment(frames, AugmentConfig(), generator()) is frames
    views = views_of(clip(frames), AugmentPair(), 0, (0, 1))
    assert views.frames is frames
    assert views.seen is None, "the encoder's pass is not made twice as dear"


@pytest.mark.parametrize("config", [*EACH, EVERYTHING], ids=[*NAMES, "everything"])
def test_a_view_is_computed_in_float32_whatever_surrounds_it(config: AugmentConfig) -> None:
    """In bfloat16 the places of 224 pixels could not be told apart, and the identity was off by a third."""
    frames = torch.rand(2, 2, 3, 224, 224, generator=generator())
    weight = frames[:, 1:, :1] + 0.5
    pair = AugmentPair(inverse=config, forward=config)
    alone = views_of(clip(frames, weight), pair, 0, (0, 1))
    with torch.autocast("cpu", torch.bfloat16):
        seen = views_of(clip(frames, weight), pair, 0, (0, 1))
    assert alone.seen is not None
    assert alone.pixel_weight is not None
    assert seen.seen is not None
    assert seen.pixel_weight is not None
    assert torch.equal(seen.seen, alone.seen)
    assert torch.equal(seen.frames, alone.frames)
    assert torch.equal(seen.pixel_weight, alone.pixel_weight)


def test_a_shift_of_whole_pixels_moves_the_picture_by_them() -> None:
    frames = models.frames(num=2)
    height, width = models.FRAME_HW
    down_3_left_2 = torch.tensor([[1.0, 0.0, 2 * 2 / width], [0.0, 1.0, -2 * 3 / height], [0.0, 0.0, 1.0]])
    view = View(down_3_left_2.expand(2, 3, 3), None, torch.zeros(2, dtype=torch.long), 0.0)
    torch.testing.assert_close(view.of(frames)[..., 3:, :-2], frames[..., :-3, 2:])


def test_a_quarter_turn_and_a_zoom_are_what_their_names_say() -> None:
    frames = models.frames(batch=3, num=2)
    turned = draw_view(AugmentConfig(rotate_deg=90.0), 3, models.FRAME_HW, generator())
    assert turned.places is not None
    half = View(torch.diag(torch.tensor([0.5, 0.5, 1.0])).expand(3, 3, 3), None, turned.seed, 0.0)
    torch.testing.assert_close(
        half.of(frames).mean(), frames[..., 4:12, 4:12].mean(), atol=0.02, rtol=0
    )  # twice as large: the middle fills the view
    quarter = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]).expand(3, 3, 3)
    torch.testing.assert_close(
        View(quarter, None, turned.seed, 0.0).of(frames), frames.rot90(1, dims=(3, 4)), atol=1e-5, rtol=0
    )
    sizes = torch.linalg.det(turned.places)
    torch.testing.assert_close(sizes, torch.ones(3))  # a turn changes no size


def test_grey_stays_grey_under_another_hue_and_saturation() -> None:
    grey = torch.rand(2, 3, 1, 16, 16, generator=generator()).expand(-1, -1, 3, -1, -1).contiguous()
    seen = augment(grey, AugmentConfig(saturation=1.0, hue_deg=180.0), generator())
    torch.testing.assert_close(seen, grey)


def test_brightness_adds_and_contrast_stretches_about_middle_grey() -> None:
    middle, bright = torch.full((2, 1, 3, 4, 4), 0.5), torch.full((2, 1, 3, 4, 4), 0.7)
    torch.testing.assert_close(augment(middle, AugmentConfig(contrast=0.9), generator()), middle)
    lighter = augment(middle, AugmentConfig(brightness=0.2), generator())
    assert ((lighter - middle).abs() <= 0.2).all()
    assert lighter.std() > 0
    view = draw_view(AugmentConfig(contrast=0.5), 2, (4, 4), generator())
    factor = (view.of(bright) - 0.5) / 0.2
    assert ((factor >= 0.5) & (factor <= 1.5)).all()


def test_a_view_of_two_processes_is_that_of_one() -> None:
    frames = models.frames(batch=6)
    whole = view_of(frames, EVERYTHING, generator(5), (0, 1))
    halves = [
        view_of(frames[3 * rank : 3 * rank + 3], EVERYTHING, generator(5), (rank, 2)) for rank in (0, 1)
    ]
    assert torch.equal(torch.cat(halves), whole)


def test_the_encoder_sees_another_view_than_the_decoder_and_weights_move_along() -> None:
    frames, weight = models.frames(), torch.zeros(2, 4, 1, 16, 16)
    weight[..., 4:8, 4:8] = 16.0
    pair = AugmentPair(inverse=EVERYTHING, forward=AugmentConfig(shift_px=3.0))
    views = views_of(clip(frames, weight), pair, 3, (0, 1))
    assert views.seen is not None
    assert views.pixel_weight is not None
    assert not torch.equal(views.seen, views.frames)
    alike = views_of(clip(frames), AugmentPair(inverse=EVERYTHING, forward=EVERYTHING), 3, (0, 1))
    assert alike.seen is not None
    assert not torch.equal(alike.seen, alike.frames), "drawn by themselves"
    # Where a pixel has a weight, it is that of what is shown there.
    marked = weight.expand(-1, -1, 3, -1, -1) / 16
    shown = views_of(clip(torch.cat([marked, marked[:, :1]], dim=1), weight), pair, 3, (0, 1))
    assert shown.pixel_weight is not None
    torch.testing.assert_close(shown.frames[:, 1:, :1], shown.pixel_weight / 16)
    assert torch.equal(shown.pixel_weight, views.pixel_weight)
    assert not torch.equal(shown.pixel_weight, weight)


def test_weights_of_a_view_are_one_on_average_over_each_clip() -> None:
    """A view that leaves out what counts, or shows it larger, would have that clip count less, or more."""
    frames, weight = models.frames(batch=4), torch.zeros(4, 4, 1, 16, 16)
    weight[..., :4, :4] = 16.0
    weight[3] = 0.0  # nothing counts in a clip
    pair = AugmentPair(forward=AugmentConfig(shift_px=3.0, scale=0.3))
    views = views_of(clip(frames, weight), pair, 0, (0, 1))
    assert views.pixel_weight is not None
    mean = views.pixel_weight.mean(dim=(1, 2, 3, 4))
    torch.testing.assert_close(mean, torch.tensor([1.0, 1.0, 1.0, 0.0]))
    moved = draw_view(pair.forward, 4, (16, 16), generator()).warp(weight).mean(dim=(1, 2, 3, 4))
    assert (moved[:3] - 1).abs().max() > 0.1, "it is not so by itself"
