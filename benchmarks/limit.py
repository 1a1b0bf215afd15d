"""How near a training step comes to what the machine can do: its FLOP/s beside those of bare matrix products.

    python benchmarks/limit.py [--widths 128 256 512] [--shape 8x16] [--write]

Takes seven minutes of a core; `--shape 2x8` one.

Prints one JSON line per stage and width. Ours is a whole training step in bf16-mixed: forward, backward, AdamW, and
everything that is no matrix product. Beside it, in turns, runs a bare chain of the very same products `m k n` as
the step's linear layers have, in bfloat16: each layer's forward product and the two of its backward pass (one
where its input needs no gradient), one after another, nothing between. No optimum is assumed that the machine has not
shown.

What is counted was recorded while a step ran: every matrix product that torch was asked for, forward and backward, a
multiplication and an addition as two. The products of attention (queries with keys, weights with values), and of
rows with the codebook, are batches of small ones. They count as work of ours, masked entries too since they are
computed, but are not in the chain: `linear_gflop` and `attention_gflop` tell them apart. GFLOP/s are per second of
process CPU time, so of one core however many threads there are.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from measure import Product, Row, command, matmul_chain, matmul_work, take_turns, tell, write_table
from peers import Shape
from step import STAGES, our_step, shape_of
from torch.utils.flop_counter import FlopCounterMode

WIDTHS = (128, 256, 512)


@dataclass(frozen=True)
class Work:
    """Matrix products of one call: the plain ones in their order, and the FLOPs of those in batches."""

    products: list[Product]
    batched_flops: int

    @property
    def flops(self) -> int:
        """All of them."""
        return matmul_work(self.products) + self.batched_flops


def main() -> None:
    """Parse the command line and print a row per stage and width."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--shape", type=shape_of, default=Shape(batch=8, frames=16), metavar="CLIPSxFRAMES")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = [tell(row) for row in compare(arguments.shape, arguments.widths, arguments.rounds)]
    if arguments.write:
        write_table("limit", rows, command())


def compare(shape: Shape, widths: Sequence[int], rounds: int) -> Iterator[Row]:
    """Our step and the bare chain take turns at every stage and width."""
    for width in widths:
        for stage in STAGES:
            step = our_step(stage, replace(shape, width=width), "bf16-mixed")
            work = work_of(step)
            chain = matmul_chain(work.products, torch.bfloat16)
            timed = take_turns({"step": step, "chain": chain}, rounds)
            yield {
                "stage": stage,
                "shape": str(shape),
                "width": width,
                **rates(work, timed["step"].cpu_s, timed["chain"].cpu_s),
            }


def rates(work: Work, step_s: float, chain_s: float) -> Row:
    """FLOP/s of the step, which does all of the work, and of the chain, which does the plain products."""
    achieved, bare = work.flops / step_s, matmul_work(work.products) / chain_s
    return {
        "linear_gflop": round(matmul_work(work.products) / 1e9, 3),
        "attention_gflop": round(work.batched_flops / 1e9, 3),
        "achieved_gflop_per_s": round(achieved / 1e9, 1),
        "bare_gflop_per_s": round(bare / 1e9, 1),
        "ratio": round(achieved / bare, 3),
    }


def work_of(call: Callable[[], object]) -> Work:
    """The matrix products that torch is asked for while something runs, with those of its backward pass."""
    products: list[Product] = []

    def plain(left: Sequence[int], right: Sequence[int], *_: object, **__: object) -> int:
        products.append((left[0], left[1], right[1]))
        return matmul_work(products[-1:])

    def plain_onto(_: object, left: Sequence[int], right: Sequence[int], *__: object, **___: object) -> int:
        return plain(left, right)

    aten = torch.ops.aten
    counter = FlopCounterMode(display=False, custom_mapping={aten.mm: plain, aten.addmm: plain_onto})
    with counter:
        call()
    return Work(products, counter.get_total_flops() - matmul_work(products))


if __name__ == "__main__":
    main()
