"""The world: seeds, branches, batches, and the cache."""

import pytest
import torch

from genie_lite.errors import UserError
from genie_lite.models.sampling import SamplingConfig
from genie_lite.models.world import World
from tests import models


@pytest.fixture
def world() -> World:
    return World(models.tokenizer(), models.lam(), models.dynamics(), SamplingConfig(refinements=3))


def codes(batch: int = 2, num: int = 7) -> torch.Tensor:
    return torch.randint(4, (batch, num), generator=torch.Generator().manual_seed(5))


def test_same_seed_same_frames_and_another_seed_others(world: World) -> None:
    start = models.frames(num=1)
    first = world.rollout(start, codes(), seed=3)
    assert first.shape == (2, 7, 3, 16, 16)
    assert torch.equal(first, world.rollout(start, codes(), seed=3))
    assert not torch.equal(first, world.rollout(start, codes(), seed=4))


def test_a_state_can_be_kept_and_branched(world: World) -> None:
    state = world.reset(models.frames(num=2), seed=0)
    ahead = torch.tensor([0, 1])
    kept, _ = world.step(state, ahead)
    _, one = world.step(kept, torch.tensor([2, 3]))
    world.step(kept, torch.tensor([0, 0]))
    _, again = world.step(kept, torch.tensor([2, 3]))
    assert torch.equal(one, again)


def test_codes_change_the_picture(world: World) -> None:
    start = models.frames(num=1, batch=1)
    ends = [world.rollout(start, torch.full((1, 3), code), seed=0)[:, -1] for code in range(4)]
    assert any(not torch.equal(ends[0], end) for end in ends[1:])


def test_frames_are_images(world: World) -> None:
    frames = world.rollout(models.frames(num=3), codes(), seed=0)
    assert frames.dtype == torch.float32
    assert float(frames.min()) >= 0
    assert float(frames.max()) <= 1


def test_a_code_outside_the_alphabet_is_refused(world: World) -> None:
    state = world.reset(models.frames(), seed=0)
    with pytest.raises(UserError, match="expected 2 integers from 0 to 3"):
        world.step(state, torch.tensor([0, 4]))


def test_one_code_for_each_stream_is_asked_for(world: World) -> None:
    state = world.reset(models.frames(), seed=0)
    with pytest.raises(UserError, match=r"code: found \[0\], expected 2 integers"):
        world.step(state, torch.tensor([0]))


@pytest.mark.parametrize("seed", [-1, 2**63, [1, 2, 3], [0, -1]])
def test_what_is_no_seed_is_refused(world: World, seed: int | list[int]) -> None:
    with pytest.raises(
        UserError, match=r"seed: found .*, expected 2 whole numbers from 0 to 9223372036854775807"
    ):
        world.reset(models.frames(), seed=seed)


def test_a_state_of_another_world_is_refused(world: World) -> None:
    kept = world.reset(models.frames(), seed=0).tensors()
    other = World(models.tokenizer(), models.lam(), models.dynamics(window=5))
    for tensors in (kept, {}, {"frame": kept["frame"]}):
        with pytest.raises(UserError, match=r"state: found .* it is of another world"):
            other.recall(tensors)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tokens", -1),
        ("tokens", "vocabulary"),
        ("codes", -2),
        ("codes", "rows"),
        ("frame", -1),
        ("frame", 2**32 - 1),
        ("seed", -1),
        ("stream", 2**32),
    ],
)
def test_a_state_of_numbers_that_cannot_be_is_refused(world: World, name: str, value: int | str) -> None:
    limits = {"vocabulary": world.dynamics.mask_token, "rows": len(world._vector) - 1}
    state = world.reset(models.frames(), seed=0)
    tensors = {key: tensor.clone() for key, tensor in state.tensors().items()}
    world.recall(tensors)
    tensors[name].view(-1)[-1] = limits[value] if isinstance(value, str) else value
    with pytest.raises(UserError, match=f"state: found {name} from .* it is damaged or of another world"):
        world.recall(tensors)


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (torch.zeros(2, 0, 3, 16, 16), r"found \[2, 0, 3, 16, 16\] of torch.float32, expected floats"),
        (torch.zeros(0, 1, 3, 16, 16), r"found \[0, 1, 3, 16, 16\]"),
        (torch.zeros(1, 2, 3, 32, 32), r"found \[1, 2, 3, 32, 32\] .* \[batch, frames, 3, 16, 16\]"),
        (torch.zeros(1, 2, 16, 16, 3), r"found \[1, 2, 16, 16, 3\]"),
        (
            torch.full((1, 1, 3, 16, 16), 255.0),
            "values from 255 to 255, expected 0 to 1; divide bytes by 255",
        ),
        (torch.full((1, 1, 3, 16, 16), -0.5), "values from -0.5"),
        (torch.full((1, 1, 3, 16, 16), torch.nan), "values from nan"),
    ],
)
def test_frames_that_are_none_are_refused(world: World, frames: torch.Tensor, words: str) -> None:
    with pytest.raises(UserError, match=words):
        world.reset(frames, seed=0)


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("micro_batch", [1, 4])
def test_known_tokens_make_the_same_state_and_picture_as_drawing_them_did(
    cache: bool, micro_batch: int
) -> None:
    sampling = SamplingConfig(refinements=3, micro_batch=micro_batch)
    world = World(models.tokenizer(), models.lam(), models.dynamics(), sampling, cache=cache)
    drawn = followed = world.reset(models.frames(num=2), seed=0)
    for code in codes().unbind(dim=1):
        drawn, frame = world.step(drawn, code)
        followed, shown = world.follow(followed, drawn.tokens[:, -1], code)
        assert torch.equal(frame, shown)
    for name, kept in drawn.tensors().items():
        assert torch.equal(kept, followed.tensors()[name])
    _, ahead = world.step(drawn, codes()[:, 0])
    _, as_well = world.step(followed, codes()[:, 0])  # what comes reads the caches
    assert torch.equal(ahead, as_well)


def test_following_draws_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    state = world.reset(models.frames(), seed=0)
    ahead, _ = world.step(state, torch.tensor([1, 2]))

    def draw(*given: object) -> None:
        raise AssertionError("a known frame was drawn")

    monkeypatch.setattr(world, "_next_logits", draw)
    world.follow(state, ahead.tokens[:, -1], torch.tensor([1, 2]))


@pytest.mark.parametrize(
    ("tokens", "found"),
    [
        (torch.full((2, 4), 16), r"\[2, 4\] of torch.int64"),
        (torch.full((2, 4), -1), r"\[2, 4\]"),
        (torch.zeros(2, 5, dtype=torch.int64), r"\[2, 5\]"),
    ],
)
def test_tokens_of_another_world_are_refused(world: World, tokens: torch.Tensor, found: str) -> None:
    state = world.reset(models.frames(), seed=0)
    with pytest.raises(UserError, match=f"tokens: found {found}.* integers from 0 to 15"):
        world.follow(state, tokens, torch.tensor([0, 1]))


def test_a_code_outside_the_alphabet_is_not_followed(world: World) -> None:
    state = world.reset(models.frames(), seed=0)
    with pytest.raises(UserError, match="expected 2 integers from 0 to 3"):
        world.follow(state, torch.zeros(2, 4, dtype=torch.int64), torch.tensor([0, 4]))


def test_a_rollout_stays_in_tokens(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """D11: a rollout that encodes the frames it has made drifts, and is slow."""
    state = world.reset(models.frames(num=2), seed=0)

    def encode(frames: torch.Tensor) -> None:
        raise AssertionError("a generated frame was encoded")

    monkeypatch.setattr(world.tokenizer, "encode", encode)
    monkeypatch.setattr(world.lam, "encode", encode)
    for code in codes().unbind(dim=1):
        state, _ = world.step(state, code)
    assert state.frame.tolist() == [8, 8]
