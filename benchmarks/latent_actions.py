"""Which latent actions are worth having: bottlenecks, inputs and labels, on clean and on distracted video.

    python benchmarks/latent_actions.py PLAN [key=value ...] --out DIR --plan          what there is to do, how long
    python benchmarks/latent_actions.py PLAN [key=value ...] --out DIR --seeds 0 1 2   do it, or what is missing
    python benchmarks/latent_actions.py --out DIR --report                             the table of what is done

PLAN is a file or the name of one of `benchmarks/plans` (`latent_plan.py` says what is in it); key=value changes it,
such as backgrounds=DIR. Every cell of the table is a latent action model of its own, in a folder of its own, and is
measured on held-out levels: how well small readers tell the true action from its embeddings and codes, beside guessing
and beside an inverse model of the same network that was trained on all labels; where the plan asks for it, how far a
world obeys its codes, and how many levels a policy solves that was cloned from 200 labels. Cells that are done are
skipped, so a call that was broken off goes on, on another machine as well if it finds OUT/results.jsonl. Recordings,
distracted video, and what the same network reads with all labels are made once for all cells.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from latent_cell import has_all, result_of, results_of, run_cell, write_results
from latent_cost import estimate
from latent_plan import Cell, cells_of, load_plan
from latent_shared import Shared
from latent_table import report

from genie_lite.errors import UserError
from genie_lite.files import write_bytes

TABLE_FILE = "table.md"


def main(words: Sequence[str] | None = None) -> None:
    """Parse the command line and do what it asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("plan", nargs="*", help="a plan, and changes of it as key=value")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", default="", help="cells whose name contains this, such as _clean")
    parser.add_argument(
        "--plan", action="store_true", dest="is_dry", help="say what there is to do, and stop"
    )
    parser.add_argument("--report", action="store_true", help="print the table of what is done, and stop")
    given = parser.parse_intermixed_args(words)
    try:
        if given.report:
            print(write_report(given.out), end="")
            return
        if not given.plan:
            parser.error("expected a plan")
        plan = load_plan(given.plan[0], given.plan[1:])
        cells = [cell for cell in cells_of(plan) if given.only in cell.name]
        shared = Shared(plan, given.out, "cuda" if torch.cuda.is_available() else "cpu")
        print("\n".join(estimate(shared, cells, given.seeds)), flush=True)
        if not given.is_dry:
            run(shared, cells, given.seeds)
            print(write_report(given.out), end="")
    except UserError as error:
        parser.error(str(error))


def run(shared: Shared, cells: Sequence[Cell], seeds: Sequence[int]) -> None:
    """Every cell of the first seed, then of the next: a table of few seeds is whole sooner than one of few cells."""
    jobs = [(cell, seed) for seed in seeds for cell in cells]
    for number, (cell, seed) in enumerate(jobs, start=1):
        before = result_of(shared.out, cell, seed)
        is_done = before is not None and has_all(before, cell)
        sys.stderr.write(
            f"{number}/{len(jobs)}  {cell.name}  seed {seed}{'  done before' if is_done else ''}\n"
        )
        result = run_cell(shared, cell, seed)
        if not is_done:
            probe = result["probe"]["probe"]
            sys.stderr.write(
                f"  embedding {probe['embedding']['mean']:.3f}, code {probe['code']['mean']:.3f}, "
                f"all labels {probe['supervised']['mean']:.3f}; {sum(result['seconds'].values()):.0f} s\n"
            )


def write_report(out: Path) -> str:
    """The table of what is done; kept beside it, as are the results themselves.

    Raises:
        UserError: nothing is done.
    """
    results = results_of(out)
    if not results:
        raise UserError(f"{out}: no cell is done; run a plan first")
    text = report(results)
    write_bytes(out / TABLE_FILE, text.encode())
    write_results(out, results)
    return text


if __name__ == "__main__":
    main()
