"""Frames per second of a world at play, beside mixing the whole window anew, beside peers, beside the machine's limit.

    python benchmarks/generate.py [--tinyworlds CHECKOUT] [--swm CHECKOUT] [--sizes 1 3 10 100] [--batches 1 8 64]
                                  [--passes 1 4 8 25] [--micro-batch 8] [--threads 2] [--device cpu] [--write]

Every rival makes one new frame of `batch` streams after 15 known ones, in `passes` passes, with random weights:

    ours      World.step: the past is remembered; the frame's tokens are committed and decoded
    whole     the same weights, noise and frames, but every pass mixes all 16 frames of the window, as peers do
    peers     their own samplers at equal size (see `peers.py`); they are spared decoding the frame

`roofline_share` is what ours reaches of a machine without any overhead:

    FLOP of a pass    F = 2 P S + 4 L S² d + 4 L S T d        P weights, S tokens, L blocks, d width, T frames
    bytes of a pass   W + B V, V = 2 L S T d numbers          the weights, and each stream's keys and values
    seconds           (K + 1) max(B F / rate, (W + B V) / bandwidth) + B D / rate

with one pass more than K, which commits the frame, D FLOP to decode it, and rate and bandwidth as measured here: a
bare chain of the model's own matrix products, and copying memory.

What would take longer than --most-gflop says, once, is left out, so that all of it takes ten minutes on two cores.
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from measure import Row, command, matmul_flops, take_turns, tell, write_table
from peers import Peer, Shape, add_peer_arguments, find_peers
from torch import Tensor, nn

from genie_lite.errors import UserError
from genie_lite.models.dynamics import DynamicsConfig, DynamicsModel, DynamicsSizes, DynamicsSpec
from genie_lite.models.lam import LAMConfig, LatentActionModel
from genie_lite.models.sampling import SamplingConfig, sample
from genie_lite.models.tokenizer import TokenizerConfig, VideoTokenizer
from genie_lite.models.world import State, World
from genie_lite.nn.noise import uniform
from genie_lite.nn.quantize import VQConfig
from genie_lite.nn.transformer import Read

WINDOW = 16  # frames, the new one among them
# Of tokenizer and latent action model, as in recipes/maze/demo.yaml.
PART_WIDTH, PART_DEPTH, PART_HEADS = 128, 2, 4
FLOAT_BYTES = 4
COPIED = 2**26  # numbers copied to measure bandwidth: many times more than any cache holds
CPU_GFLOP = 200.0

Job = Callable[[], object]

# Millions of parameters, about, to width, depth and heads of a dynamics model; "3" has no more than 3.0.
SIZES = {1: (128, 4, 4), 3: (160, 6, 4), 10: (320, 6, 5), 100: (768, 11, 12)}


@dataclass(frozen=True)
class Machine:
    """What it does at most: FLOP per second in bare matrix products, bytes per second to and from memory."""

    flops: float
    bandwidth: float


def main() -> None:
    """Parse the command line, print a row per size, batch and number of passes."""
    parser = options()
    given = parser.parse_args()
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    try:
        peers = find_peers(given)
    except UserError as error:
        parser.error(str(error))
    if peers and given.device != "cpu":
        parser.error("peers are compared on the CPU only")
    shapes = [shape_of(size) for size in given.sizes]
    rows = [tell(row) for shape in shapes for row in measure(shape, peers, given)]
    if given.write:
        write_table("generate", rows, command())


def shape_of(size: int) -> Shape:
    """The shape of about so many million parameters, of one stream."""
    width, depth, heads = SIZES[size]
    return Shape(1, WINDOW, width=width, depth=depth, heads=heads)


def measure(shape: Shape, peers: Sequence[Peer], given: argparse.Namespace) -> Iterator[Row]:
    """A row per batch and number of passes, of models of one shape."""
    world = build(shape, given.device)
    state = begin(world, shape)
    for batch in given.batches:
        many = replace(shape, batch=batch)
        group = min(batch, given.micro_batch or batch)
        machine = limits(many, group, given.device)
        for passes in given.passes:
            row = _row(world, state, many, passes, group, machine, peers, given)
            if row is None:
                print(f"left out: {many} in {passes} passes", file=sys.stderr, flush=True)
            else:
                yield row


def build(shape: Shape, device: str = "cpu") -> World:
    """A world of a shape, with random weights."""
    torch.manual_seed(0)
    frame_hw = (shape.size_px, shape.size_px)
    part = {"frame_hw": frame_hw, "width": PART_WIDTH, "depth": PART_DEPTH, "heads": PART_HEADS}
    tokenizer = VideoTokenizer(
        TokenizerConfig(**part, patch=shape.patch, window=1, code=VQConfig(num_codes=shape.codes, dim=16))
    )
    lam = LatentActionModel(
        LAMConfig(**part, patch=shape.lam_patch, code=VQConfig(num_codes=shape.actions, dim=32))
    )
    config = DynamicsConfig(width=shape.width, depth=shape.depth, heads=shape.heads, window=shape.frames)
    sizes = DynamicsSizes(vocabulary=shape.codes, num_tokens=tokenizer.num_tokens, code_dim=lam.code_dim)
    dynamics = DynamicsModel(DynamicsSpec(model=config, sizes=sizes))
    return World(tokenizer.to(device), lam.to(device), dynamics.to(device))


def begin(world: World, shape: Shape) -> State:
    """One stream that has seen all of the window but the frame to come."""
    frames = torch.rand(1, shape.frames - 1, 3, shape.size_px, shape.size_px, device=world.device)
    return world.reset(frames, seed=0)


# --- rivals ----------------------------------------------------------------------------------------------------


def remembering(world: World, state: State, code: Tensor, passes: int, group: int) -> Job:
    """The next frame as play makes it."""
    sampling = SamplingConfig(refinements=passes, micro_batch=group)
    player = World(world.tokenizer, world.lam, world.dynamics, sampling)
    return lambda: player.step(state, code)[1]


def recomputing(world: World, state: State, code: Tensor, passes: int, group: int) -> Job:
    """The same frame, every pass over all frames of the window; streams in the same groups."""

    @torch.inference_mode()
    def job() -> Tensor:
        firsts = range(0, len(state), group)
        parts = [slice(first, first + group) for first in firsts]
        return torch.cat([_recompute(world, state.of(part), code[part], passes) for part in parts])

    return job


def _recompute(world: World, state: State, code: Tensor, passes: int) -> Tensor:
    dynamics, tokenizer = world.dynamics, world.tokenizer
    window = dynamics.transformer.window
    num_past = min(window - 1, int(state.frame[0]) + 1)
    past = state.tokens[:, state.tokens.shape[1] - num_past :]
    index = torch.cat([state.codes[:, state.codes.shape[1] - num_past :], code[:, None]], dim=1)
    table = torch.cat([world.lam.code_vectors(), dynamics.first_codes(1)[0]])
    vector = table[index]  # -1, no code, is the last
    time = torch.arange(num_past + 1, device=world.device)
    causal = torch.ones(num_past + 1, num_past + 1, dtype=torch.bool, device=world.device).tril()

    def predict(hidden: Tensor) -> Tensor:
        clip = torch.cat([past, hidden[:, None]], dim=1)
        rows = dynamics.inject(dynamics.embed(clip) + dynamics.place, vector)
        mixed, _ = dynamics.transformer.run(rows, time, causal, read=Read(frames=slice(num_past, None)))
        return dynamics.to_logits(dynamics.inject.strip(mixed)[:, 0]).float()

    noise = uniform(state.seed, state.stream, state.frame + 1, passes, past.shape[-1])
    tokens = sample(predict, noise, world.sampling.temperature, dynamics.mask_token)
    return tokenizer.decode_tokens(tokens[:, None])[:, 0]


# --- the machine's limit ---------------------------------------------------------------------------------------


def limits(shape: Shape, group: int, device: str) -> Machine:
    """Measure the machine at the products of one block of a group of streams."""
    rows, width = group * (shape.num_tokens + 1), shape.width  # with the code's token
    mixing = [(rows, width, 3 * width), (rows, width, width)]
    products = [*mixing, *mixing, (rows, width, 4 * width), (rows, 4 * width, width)]
    with torch.device(device):
        flops = matmul_flops(products * 4, torch.float32, rounds=15)
        source, target = torch.zeros(COPIED), torch.empty(COPIED)
    copied = take_turns({"copy": lambda: target.copy_(source)}, rounds=3, warm_up=1)
    return Machine(flops, 2 * FLOAT_BYTES * COPIED / copied["copy"].wall_s)


def roofline_s(
    shape: Shape, num_weights: float, passes: int, machine: Machine, decode_flop: float = 0.0
) -> float:
    """Seconds per frame of all streams, as above; `passes` with the one that commits, if there is one."""
    compute = shape.batch * pass_flop(shape, num_weights) / machine.flops
    kept = 2 * shape.depth * shape.num_tokens * shape.frames * shape.width
    moved = FLOAT_BYTES * (num_weights + shape.batch * kept) / machine.bandwidth
    return passes * max(compute, moved) + shape.batch * decode_flop / machine.flops


def pass_flop(shape: Shape, num_weights: float, num_frames: int = 1) -> float:
    """FLOP of one pass over new frames of one stream, each of which reads a whole window."""
    tokens, mixed = shape.num_tokens, 4 * shape.depth * shape.num_tokens * shape.width
    return num_frames * (2 * num_weights * tokens + mixed * tokens + mixed * shape.frames)


def _weights(*parts: nn.Module) -> int:
    return sum(parameter.numel() for part in parts for parameter in part.parameters())


# --- rows ------------------------------------------------------------------------------------------------------


def _row(
    world: World,
    one: State,
    shape: Shape,
    passes: int,
    group: int,
    machine: Machine,
    peers: Sequence[Peer],
    given: argparse.Namespace,
) -> Row | None:
    num_weights = _weights(world.dynamics.transformer, world.dynamics.to_logits)
    most = _most_gflop(given) * 1e9 / (shape.batch * pass_flop(shape, num_weights))
    if passes + 1 > most:
        return None
    streams = torch.zeros(shape.batch, dtype=torch.long, device=world.device)
    state, code = one.of(streams), streams
    jobs = {"ours": remembering(world, state, code, passes, group)}
    if passes * shape.frames <= most:
        jobs["whole"] = recomputing(world, state, code, passes, group)
        jobs |= {peer.name: peer.sample_frame(shape, passes) for peer in peers}
    timed = take_turns(jobs, given.rounds, warm_up=1)
    rate = {name: shape.batch / each.wall_s for name, each in timed.items()}
    decode = pass_flop(
        replace(shape, width=PART_WIDTH, depth=PART_DEPTH, frames=0), _weights(world.tokenizer.decoder)
    )
    ideal = shape.batch / roofline_s(shape, num_weights, passes + 1, machine, decode)
    row: Row = {
        "size": round(_weights(world.dynamics) / 1e6, 2),
        "batch": shape.batch,
        "passes": passes,
        "frames_per_s": rate["ours"],
        "whole_frames_per_s": rate.get("whole"),
        "over_whole": _over(rate, ["whole"]),
    }
    for peer in peers:
        row |= {
            f"{peer.name}_frames_per_s": rate.get(peer.name),
            f"over_{peer.name}": _over(rate, [peer.name]),
        }
    fastest = _over(rate, [peer.name for peer in peers])
    return row | {"over_fastest": fastest, "roofline_share": rate["ours"] / ideal}


def _over(rate: dict[str, float], rivals: Sequence[str]) -> float | None:
    """How many times faster ours is than the fastest of these rivals."""
    found = [rate[name] for name in rivals if name in rate]
    return rate["ours"] / max(found) if found else None


def _most_gflop(given: argparse.Namespace) -> float:
    if given.most_gflop is not None:
        return given.most_gflop
    return CPU_GFLOP if given.device == "cpu" else math.inf


def options() -> argparse.ArgumentParser:
    """Of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", type=int, choices=list(SIZES), default=list(SIZES), metavar="M")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 64], metavar="B")
    parser.add_argument("--passes", nargs="+", type=int, default=[1, 4, 8, 25], metavar="K")
    parser.add_argument("--rounds", type=int, default=3, help="that count, after one that does not")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--micro-batch", type=int, help="streams computed together; all, if not given")
    parser.add_argument("--most-gflop", type=float, help=f"of one frame of a rival; {CPU_GFLOP:g} on a CPU")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    add_peer_arguments(parser)
    return parser


if __name__ == "__main__":
    main()
