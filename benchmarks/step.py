"""One training step of every stage at equal sizes: genie_lite beside its peers, in turns, on one core.

    python benchmarks/step.py [--tinyworlds CHECKOUT] [--swm CHECKOUT] [--shapes 2x8 8x16] [--write]

Prints one JSON line per stage, shape (clips x frames) and precision of ours: medians of process CPU seconds of a
step (forward, backward, AdamW), how many times as long the fastest peer takes (`over_fastest`: in whichever precision
suits it, `over_fastest_fp32`: in float32), and millions of parameters. `peers.py` says what is equal and what the
peers' steps contain. Frames are random: what they show does not change what a step costs. `--write` puts the table
into docs/benchmarks.md.

A dynamics step of ours has a clean and a hidden copy of the clip in one sequence (`models/dynamics.py`), so nearly
twice the tokens that the peers' have: that is part of what it costs, and counted.

Ours runs with windows that span the whole clip, as the peers' attention through time does. In its recipes most
windows are shorter: on a CPU that changes nothing for a clip of 16 frames, except that the latent action model's
decoder has no attention through time in a window of one frame.

What a recipe of one's own costs: `recipe_cost.py`.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch
from measure import Row, Timed, command, take_turns, tell, training_step, write_table
from peers import (
    CODE_DIM,
    Job,
    Peer,
    Precision,
    Shape,
    Stage,
    add_peer_arguments,
    count_parameters,
    find_peers,
)
from torch import Tensor

from genie_lite.errors import UserError
from genie_lite.models import dynamics, lam, tokenizer
from genie_lite.models.dynamics import DynamicsConfig
from genie_lite.models.lam import LAMConfig
from genie_lite.models.tokenizer import TokenizerConfig
from genie_lite.nn.quantize import VQConfig
from genie_lite.train.config import DynamicsStage, LAMStage, TokenizerStage, TrainConfig
from genie_lite.train.module import DynamicsModule, LAMModule, StageModule, TokenizerModule
from genie_lite.train.optim import build_optimizer

OurPrecision = Literal["bf16-mixed", "32-true"]
STAGES: tuple[Stage, ...] = ("tokenizer", "lam", "dynamics")
OUR_PRECISIONS: tuple[OurPrecision, ...] = ("bf16-mixed", "32-true")
PEER_PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
SHAPES = (Shape(batch=2, frames=8), Shape(batch=8, frames=16))


def main() -> None:
    """Parse the command line and print a row per stage, shape and precision."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_peer_arguments(parser)
    parser.add_argument("--shapes", type=shape_of, nargs="+", default=SHAPES, metavar="CLIPSxFRAMES")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    try:
        peers = find_peers(arguments)
    except UserError as error:
        parser.error(str(error))
    rows = [tell(row) for row in compare(arguments.shapes, peers, arguments.rounds)]
    if arguments.write:
        write_table("step", rows, command())


def shape_of(text: str) -> Shape:
    """Read `2x8`: clips x frames."""
    batch, _, frames = text.partition("x")
    return Shape(int(batch), int(frames))


def compare(shapes: Sequence[Shape], peers: Sequence[Peer], rounds: int) -> Iterator[Row]:
    """All rivals take turns at each stage of each shape; a row for each of our precisions."""
    for shape in shapes:
        for stage in STAGES:
            ours = {precision: our_step(stage, shape, precision) for precision in OUR_PRECISIONS}
            theirs = {
                column(peer, precision): peer_step(peer, stage, shape, precision)
                for peer in peers
                for precision in PEER_PRECISIONS
            }
            timed = take_turns({**ours, **theirs}, rounds)
            parameters = {"ours": ours["bf16-mixed"].parameters}
            parameters |= {peer.name: theirs[column(peer, "fp32")].parameters for peer in peers}
            for precision in OUR_PRECISIONS:
                yield {
                    "stage": stage,
                    "shape": str(shape),
                    "ours_precision": precision,
                    **costs(timed[precision], {name: timed[name] for name in theirs}),
                    **{f"{name}_params_m": round(number / 1e6, 3) for name, number in parameters.items()},
                }


def costs(ours: Timed, theirs: Mapping[str, Timed]) -> Row:
    """CPU seconds of everybody; `over_fastest` is 2 when the fastest of the others takes twice as long as ours."""
    in_float32 = {name: timed for name, timed in theirs.items() if not name.endswith("_bf16")}
    return {
        "ours_cpu_s": round(ours.cpu_s, 4),
        **{f"{name}_cpu_s": round(timed.cpu_s, 4) for name, timed in theirs.items()},
        "over_fastest": _over(ours, theirs),
        "over_fastest_fp32": _over(ours, in_float32),
    }


def _over(ours: Timed, theirs: Mapping[str, Timed]) -> float | None:
    fastest = min((timed.cpu_s for timed in theirs.values()), default=None)
    return None if fastest is None else round(fastest / ours.cpu_s, 3)


def column(peer: Peer, precision: Precision) -> str:
    """How a peer's job is called: its plain name in float32."""
    return peer.name if precision == "fp32" else f"{peer.name}_{precision}"


def peer_step(peer: Peer, stage: Stage, shape: Shape, precision: Precision) -> Job:
    """A peer's training step of a stage."""
    steps = {"tokenizer": peer.tokenizer_step, "lam": peer.lam_step, "dynamics": peer.dynamics_step}
    return steps[stage](shape, precision)


def our_step(stage: Stage, shape: Shape, precision: OurPrecision) -> Job:
    """Our training step of a stage."""
    train = TrainConfig(steps=1000, batch=shape.batch, clip_frames=shape.frames, precision=precision)
    frame_hw = (shape.size_px, shape.size_px)
    module = our_module(stage, shape, train)
    return our_job(module, train, random_batch(module, train, frame_hw))


def our_module(stage: Stage, shape: Shape, train: TrainConfig) -> StageModule:
    """Our model of a stage with what trains it, of these sizes."""
    if stage == "tokenizer":
        return _tokenizer(shape, train)
    if stage == "lam":
        return _lam(shape, train)
    config = DynamicsConfig(width=shape.width, depth=shape.depth, heads=shape.heads, window=shape.frames)
    parents = _tokenizer(shape, train).model, _lam(shape, train).model
    return DynamicsModule(DynamicsStage(model=config, train=train), parents, seed=0)


def _tokenizer(shape: Shape, train: TrainConfig) -> TokenizerModule:
    config = TokenizerConfig(
        frame_hw=(shape.size_px, shape.size_px),
        patch=shape.patch,
        width=shape.width,
        depth=shape.depth,
        heads=shape.heads,
        window=shape.frames,
        code=VQConfig(num_codes=shape.codes, dim=CODE_DIM, restart_below=0.5),
    )
    return TokenizerModule(TokenizerStage(model=config, train=train))


def _lam(shape: Shape, train: TrainConfig) -> LAMModule:
    config = LAMConfig(
        frame_hw=(shape.size_px, shape.size_px),
        patch=shape.lam_patch,
        width=shape.width,
        depth=shape.depth,
        heads=shape.heads,
        window=shape.frames,
        past_window=shape.frames,
        code=VQConfig(num_codes=shape.actions, dim=CODE_DIM, restart_below=1.0),
    )
    return LAMModule(LAMStage(model=config, train=train))


def random_batch(module: StageModule, train: TrainConfig, frame_hw: tuple[int, int]) -> tuple[Tensor, ...]:
    """What a stage's model is fed: a batch of frames, or of tokens and the vectors of codes."""
    shape = (train.batch, train.clip_frames)
    if not isinstance(module, DynamicsModule):
        return (torch.rand(*shape, 3, *frame_hw),)
    sizes = module.model.sizes
    tokens = torch.randint(sizes.vocabulary, (*shape, sizes.num_tokens))
    return tokens, torch.randn(train.batch, train.clip_frames - 1, sizes.code_dim)


def our_job(module: StageModule, train: TrainConfig, batch: tuple[Tensor, ...]) -> Job:
    """A training step as `train/module.py` takes it, without Lightning."""
    optimizer, _ = build_optimizer(module, train)
    generator = torch.Generator().manual_seed(0)

    def loss() -> Tensor:
        if isinstance(module, TokenizerModule):
            return tokenizer.objective(module.model(*batch), batch[0], module.weights).total
        if isinstance(module, LAMModule):
            out = module.model(*batch)
            features = None if module.target is None else module.target(out.rows, batch[0][:, 1:])
            return lam.objective(out, batch[0], module.weights, features).total
        return dynamics.objective(module.model(*batch, generator), batch[0], module.weights).total

    run = training_step(optimizer, loss, bf16=train.precision == "bf16-mixed")
    return Job(run, count_parameters(module.model))


if __name__ == "__main__":
    main()
