"""The same seed gives the same world: whatever the batch, the cache, the order of calls or the process."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from genie_lite.models.dynamics import DynamicsConfig, DynamicsModel, DynamicsSizes, DynamicsSpec
from genie_lite.models.lam import LAMConfig, LatentActionModel
from genie_lite.models.sampling import SamplingConfig
from genie_lite.models.tokenizer import TokenizerConfig, VideoTokenizer
from genie_lite.models.world import State, World
from genie_lite.nn.inject import InjectKind
from genie_lite.nn.quantize import VQConfig
from tests import models
from tests.forked import run_forked

NUM_FRAMES = 48  # far beyond every window, so that every ring of the past has gone round many times
NUM_CODES = 4
ROOT = Path(__file__).parents[2]


def world(
    cache: bool = True,
    inject: InjectKind = "token",
    window: int = 3,
    decoder_window: int = 3,
    compiled: bool = False,
    **sampling: object,
) -> World:
    parts = (
        models.tokenizer(window=decoder_window),
        models.lam(),
        models.dynamics(inject=inject, window=window),
    )
    config = SamplingConfig.model_validate({"refinements": 2, **sampling})
    return World(*parts, config, cache=cache, compiled=compiled)


def start(batch: int, num: int = 1) -> Tensor:
    return models.frames(batch=1, num=num).expand(batch, -1, -1, -1, -1)


def codes(batch: int, num: int = NUM_FRAMES) -> Tensor:
    """The codes of stream 0 do not depend on how many streams there are."""
    taken = [
        torch.randint(NUM_CODES, (num,), generator=torch.Generator().manual_seed(row)) for row in range(batch)
    ]
    return torch.stack(taken)


def play(world: World, state: State, codes: Tensor) -> tuple[State, str]:
    """Go on with the codes of every stream; the hash of tokens and bytes of stream 0."""
    digest = hashlib.sha256()
    for code in codes.unbind(dim=1):
        state, frame = world.step(state, code)
        digest.update(state.tokens[0, -1].numpy().tobytes())
        digest.update(frame[0].mul(255).round().byte().numpy().tobytes())
    return state, digest.hexdigest()


def rollout_hash(world: World, batch: int = 1, num: int = NUM_FRAMES, prompt: int = 1) -> str:
    return play(world, world.reset(start(batch, prompt), seed=11), codes(batch, num))[1]


def in_a_process(script: str) -> str:
    done = run_forked(["-c", script], ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def threads() -> Iterator[None]:
    """Leave the number of threads as it was found."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@cache
def expected(num: int = NUM_FRAMES) -> str:
    """Of the plainest way to play."""
    return rollout_hash(world(), num=num)


@pytest.mark.parametrize(("batch", "num"), [(8, 24), (64, 4)])
def test_a_stream_is_the_same_in_any_batch(batch: int, num: int) -> None:
    assert rollout_hash(world(), batch, num) == expected(num)


@cache
def expected_of_64() -> str:
    """Of one whole group of streams."""
    return rollout_hash(world(micro_batch=64), batch=64)


@pytest.mark.parametrize("batch", [1, 8, 65])
def test_streams_computed_64_at_a_time_are_the_same_in_any_batch(batch: int) -> None:
    """As on a GPU: what is missing in a group is filled up, and one stream too many makes two groups."""
    assert rollout_hash(world(micro_batch=64), batch) == expected_of_64()


@pytest.mark.parametrize("micro_batch", [1, 4])
def test_every_stream_of_a_batch_is_what_it_is_alone(micro_batch: int) -> None:
    grouped, taken = world(micro_batch=micro_batch), codes(6, 12)
    together, _ = play(grouped, grouped.reset(start(6), seed=11), taken)
    for stream in range(6):
        alone = grouped.reset(start(1), seed=11, streams=[stream])
        ended, _ = play(grouped, alone, taken[stream : stream + 1])
        assert torch.equal(ended.tokens[0], together.tokens[stream])


@pytest.mark.parametrize("inject", ["token", "add", "film"])
@pytest.mark.parametrize(("window", "decoder_window", "prompt"), [(3, 3, 1), (2, 1, 4), (5, 2, 2)])
def test_a_world_without_a_cache_is_the_same_world(
    inject: InjectKind, window: int, decoder_window: int, prompt: int
) -> None:
    cached, plain = (
        rollout_hash(world(cache, inject, window, decoder_window), num=12, prompt=prompt)
        for cache in (True, False)
    )
    assert cached == plain


def test_a_world_without_a_cache_is_the_same_world_for_long() -> None:
    assert rollout_hash(world(cache=False)) == expected()


def test_a_world_in_bfloat16_is_as_exact() -> None:
    cached, plain = (rollout_hash(world(cache, precision="bf16-true"), num=12) for cache in (True, False))
    assert cached == plain


COMPILED = """
from tests.unit.test_exact import codes, play, start, torch, world
tokens = [play(each, each.reset(start(1), seed=11), codes(1, 12))[0].tokens for each in (world(), world(compiled=True))]
print(torch.equal(*tokens))
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_world_draws_the_same_tokens() -> None:
    """As its own process: the shape checks of tests are not for a compiler's eyes."""
    assert in_a_process(COMPILED) == "True"


@pytest.mark.usefixtures("threads")
def test_the_number_of_threads_does_not_matter() -> None:
    torch.set_num_threads(2)
    two = rollout_hash(world())
    torch.set_num_threads(1)
    assert rollout_hash(world()) == two == expected()


@pytest.mark.usefixtures("threads")
def test_the_number_of_threads_does_not_matter_to_larger_models() -> None:
    """Products of the demo's size, which threads share."""
    torch.manual_seed(0)
    frame = {"frame_hw": (64, 64), "width": 128, "depth": 1, "heads": 4}
    tokens = VideoTokenizer(TokenizerConfig(**frame, patch=8, window=1, code=VQConfig(num_codes=512, dim=16)))
    actions = LatentActionModel(LAMConfig(**frame, patch=16))
    sizes = DynamicsSizes(vocabulary=512, num_tokens=64, code_dim=actions.code_dim)
    config = DynamicsConfig(width=160, depth=2, heads=4, window=6)
    parts = tokens, actions, DynamicsModel(DynamicsSpec(model=config, sizes=sizes))
    ends, first = [], torch.rand(1, 1, 3, 64, 64)
    for num in (1, 2):
        torch.set_num_threads(num)
        large = World(*parts, SamplingConfig(refinements=2))
        ends.append(large.rollout(first, codes(1, 8), seed=1))
    assert torch.equal(*ends)


def test_a_fresh_process_gives_the_same() -> None:
    """One that shares nothing with this one, nor the seed of its hashes."""
    script = "from tests.unit.test_exact import expected; print(expected())"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    assert done.stdout.strip() == expected()


@pytest.mark.parametrize("micro_batch", [1, 2, 3])
def test_sessions_may_be_interleaved(micro_batch: int) -> None:
    """Two people play in turn, now and then in one call; each sees the world that is its own."""
    shared = world(micro_batch=micro_batch)
    one, other = shared.reset(start(1), seed=11), shared.reset(models.frames(batch=1, seed=9), seed=4)
    taken, digest = codes(1)[0], hashlib.sha256()
    for number, code in enumerate(taken):
        if number % 3 == 0:
            other, _ = shared.step(other, torch.tensor([number % NUM_CODES]))
        if number % 5 == 0:  # streams of different ages, side by side
            both, frames = shared.step(State.join([other, one]), torch.stack([code, code]))
            other, one, frame = both.of(slice(0, 1)), both.of(slice(1, 2)), frames[1]
        else:
            one, frames = shared.step(one, code[None])
            frame = frames[0]
        digest.update(one.tokens[0, -1].numpy().tobytes())
        digest.update(frame.mul(255).round().byte().numpy().tobytes())
    assert digest.hexdigest() == rollout_hash(shared)


@pytest.mark.parametrize("after", [1, 2, 7, 100])
def test_a_state_can_be_kept_and_recalled_in_another_world(tmp_path: Path, after: int) -> None:
    taken = codes(2, after + 20)
    first = world()
    state, _ = play(first, first.reset(start(2), seed=11), taken[:, :after])
    _, straight = play(first, state, taken[:, after:])
    save_file(state.tensors(), tmp_path / "state.safetensors")
    again = world()
    kept = again.recall(load_file(tmp_path / "state.safetensors"))
    assert play(again, kept, taken[:, after:])[1] == straight


def test_streams_that_share_a_seed_differ_and_seeds_can_be_told_one_by_one() -> None:
    shared = world()
    frames, taken = start(3), codes(1, 6).expand(3, -1)
    together, _ = play(shared, shared.reset(frames, seed=11), taken)
    assert not torch.equal(together.tokens[0], together.tokens[1])
    alone, _ = play(shared, shared.reset(frames[:1], seed=[11], streams=[2]), taken[:1])
    assert torch.equal(alone.tokens[0], together.tokens[2])
    same, _ = play(shared, shared.reset(frames, seed=[11, 11, 5], streams=[0, 0, 0]), taken)
    assert torch.equal(same.tokens[0], same.tokens[1])
    assert not torch.equal(same.tokens[0], same.tokens[2])


def test_memory_is_constant() -> None:
    """A rollout may go on for ever."""
    endless = world()
    state = endless.reset(start(1), seed=0)

    def size(state: State) -> int:
        assert state.past is not None
        assert state.decoder is not None
        layers = [each for ring in (state.past, state.decoder) for layer in ring.layers for each in layer]
        return sum(each.numel() for each in [*layers, *state.tensors().values()])

    sizes = set()
    for code in codes(1, 40)[0]:
        state, _ = endless.step(state, code[None])
        sizes.add(size(state))
    assert len(sizes) == 1
