"""How time and memory grow with a rollout, with a clip and with a frame.

    python benchmarks/growth.py [--frames 10000] [--clips 4 8 16 32 64] [--tokens 16 36 64 144 256] [--write]

Prints one JSON line each:

    frames rolled out    of a small world: seconds per frame at this age, and the process's memory by then. Flat.
    clip frames          of a dynamics model's training step
    tokens per frame     of the same

`exponent` is p of the power law seconds = a size^p that fits best, by least squares on logarithms: 0 is flat, 1 in
proportion. So is `memory_exponent`, of what a step keeps for its backward pass; `memory_mb` is that, or how much the
process has grown since the rollout's first size.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from measure import Row, command, take_turns, tell, training_step, write_table
from torch import Tensor, nn

from genie_lite.models.dynamics import (
    DynamicsConfig,
    DynamicsModel,
    DynamicsSizes,
    DynamicsSpec,
    DynamicsWeights,
    objective,
)
from genie_lite.models.lam import LAMConfig, LatentActionModel
from genie_lite.models.sampling import SamplingConfig
from genie_lite.models.tokenizer import TokenizerConfig, VideoTokenizer
from genie_lite.models.world import World
from genie_lite.nn.quantize import VQConfig

CLIP_FRAMES, TOKENS = 8, 64  # of a step, where they are not what grows
MEGABYTE = 2**20
PARTS = 10  # a rollout is looked at so many times


@dataclass(frozen=True)
class Cost:
    """Seconds, and megabytes of memory."""

    seconds: float
    memory_mb: float


def main() -> None:
    """Parse the command line and print a row for each thing that grows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--clips", type=int, nargs="+", default=[4, 8, 16, 32, 64])
    parser.add_argument("--tokens", type=int, nargs="+", default=[16, 36, 64, 144, 256])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    given = parser.parse_args()
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    rollout = roll_out(small_world(), given.frames)
    clips = train({each: (each, TOKENS) for each in given.clips}, given.rounds)
    tokens = train({each: (CLIP_FRAMES, each) for each in given.tokens}, given.rounds)
    rows = [
        tell(describe("frames rolled out", rollout, fit_memory=False)),
        tell(describe("clip frames", clips)),
        tell(describe("tokens per frame", tokens)),
    ]
    if given.write:
        write_table("growth", rows, command())


def describe(what: str, costs: Mapping[int, Cost], *, fit_memory: bool = True) -> Row:
    """What grows, by its sizes."""
    seconds = {size: cost.seconds for size, cost in costs.items()}
    memory = {size: cost.memory_mb for size, cost in costs.items()}
    return {
        "what": what,
        "sizes": " ".join(map(str, costs)),
        "seconds": " ".join(f"{each:.3g}" for each in seconds.values()),
        "exponent": exponent(seconds),
        "memory_mb": " ".join(f"{each:.3g}" for each in memory.values()),
        "memory_exponent": exponent(memory) if fit_memory else None,
    }


def exponent(values: Mapping[int, float]) -> float:
    """The power of the size that positive values grow with, by least squares on logarithms."""
    sizes = np.log(list(values))
    return float(np.polyfit(sizes, np.log(list(values.values())), deg=1)[0])


# --- a rollout -------------------------------------------------------------------------------------------------


def small_world() -> World:
    """16 tokens of 16x16 pixels, a window of 16 frames, random weights."""
    torch.manual_seed(0)
    part = {"frame_hw": (16, 16), "width": 32, "depth": 2, "heads": 2}
    code = VQConfig(num_codes=64, dim=8)
    tokenizer = VideoTokenizer(TokenizerConfig(**part, patch=4, window=2, code=code))
    lam = LatentActionModel(LAMConfig(**part, patch=8, code=VQConfig(num_codes=8, dim=8)))
    dynamics = _dynamics(DynamicsConfig(width=32, depth=2, heads=2, window=16), 64, tokenizer.num_tokens, 8)
    return World(tokenizer, lam, dynamics, SamplingConfig(refinements=2))


@torch.inference_mode()
def roll_out(world: World, num_frames: int) -> dict[int, Cost]:
    """By the number of frames so far: the median second of the last ones, and the process's growth in memory."""
    height, width = world.tokenizer.config.frame_hw
    state = world.reset(torch.rand(1, 1, 3, height, width, device=world.device), seed=0)
    part = num_frames // PARTS
    seconds, resident = {}, {}
    for done in range(part, part * PARTS + 1, part):
        walls = []
        for number in range(part):
            code = torch.full((1,), number % world.num_codes, device=world.device)
            begin = time.perf_counter()
            state, _ = world.step(state, code)
            walls.append(time.perf_counter() - begin)
        seconds[done], resident[done] = statistics.median(walls), resident_mb()
    first = resident[part]
    return {done: Cost(seconds[done], resident[done] - first) for done in seconds}


def resident_mb() -> float:
    """Memory of this process that is in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MEGABYTE


# --- a training step -------------------------------------------------------------------------------------------


def train(shapes: Mapping[int, tuple[int, int]], rounds: int) -> dict[int, Cost]:
    """By size: a step on one clip of so many frames of so many tokens each. Sizes take turns."""
    jobs: dict[str, Callable[[], object]] = {}
    memory = {}
    for size, (num_frames, num_tokens) in shapes.items():
        model, loss = clip_loss(num_frames, num_tokens)
        memory[size] = kept_mb(model, loss)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        jobs[str(size)] = training_step(optimizer, loss, bf16=False)
    timed = take_turns(jobs, rounds, warm_up=1)
    return {size: Cost(timed[str(size)].wall_s, memory[size]) for size in shapes}


def clip_loss(num_frames: int, num_tokens: int) -> tuple[DynamicsModel, Callable[[], Tensor]]:
    """A dynamics model of the demo's width and depth, and its loss on one random clip."""
    torch.manual_seed(0)
    vocabulary, code_dim = 512, 32
    config = DynamicsConfig(width=128, depth=4, heads=4, window=16)
    model = _dynamics(config, vocabulary, num_tokens, code_dim)
    tokens = torch.randint(vocabulary, (1, num_frames, num_tokens))
    codes = torch.randn(1, num_frames - 1, code_dim)

    def loss() -> Tensor:
        out = model(tokens, codes, torch.Generator().manual_seed(0))
        return objective(out, tokens, DynamicsWeights()).total

    return model, loss


def kept_mb(model: nn.Module, loss: Callable[[], Tensor]) -> float:
    """Memory that a forward pass keeps for the backward pass, the weights not counted: exact, unlike a process's."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # the tensor itself would keep its graph alive, and be kept alive by it

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        value = loss()
    assert value.requires_grad  # it holds on to what was kept, so that no address was counted for two tensors
    return sum(kept.values()) / MEGABYTE


def _dynamics(config: DynamicsConfig, vocabulary: int, num_tokens: int, code_dim: int) -> DynamicsModel:
    sizes = DynamicsSizes(vocabulary=vocabulary, num_tokens=num_tokens, code_dim=code_dim)
    return DynamicsModel(DynamicsSpec(model=config, sizes=sizes))


if __name__ == "__main__":
    main()
