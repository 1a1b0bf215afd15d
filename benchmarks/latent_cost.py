"""What the cells of a plan will take: from the parts of the cells that are done, and from training steps measured now.

Reckoned in CPU seconds over the threads there are: what a machine takes that has nothing else to do. Beside other
work, OMP_WAIT_POLICY=passive keeps threads that wait from being counted as ones that work.
"""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from latent_cell import has_all, result_of, results_of
from latent_plan import Cell, recipe_of_cell
from latent_shared import Shared
from measure import take_turns
from step import our_job, random_batch

from genie_lite.train.config import LAMStage
from genie_lite.train.module import LAMModule

ROUNDS = 3
Kind = tuple[str, str]  # bottleneck and input: what a step's cost depends on


def estimate(shared: Shared, cells: Sequence[Cell], seeds: Sequence[int]) -> list[str]:
    """Lines that say what is to be done and how long it will take this machine."""
    jobs = [(cell, seed) for seed in seeds for cell in cells]
    left = [(cell, seed) for cell, seed in jobs if not _is_done(shared, cell, seed)]
    lines = [f"{len(jobs)} cells with their seeds, {len(jobs) - len(left)} done, {len(left)} to do"]
    if not left:
        return lines
    known = _known_parts(shared)
    steps = {kind: _step_s(shared, cell) for kind, cell in {_kind(cell): cell for cell, _ in left}.items()}
    total, unknown = 0.0, set[str]()
    ceilings: set[tuple[str, str, int]] = set()
    for cell, seed in left:
        total += lam_s(recipe_of_cell(shared.plan, cell, seed, shared.out).lam, steps[_kind(cell)])
        for part in _parts(cell, is_first=(cell.input, cell.video, seed) not in ceilings):
            if part in known:
                total += known[part]
            else:
                unknown.add(part)
        ceilings.add((cell.input, cell.video, seed))
    lines += [
        f"  {bottleneck}, {source}: {step_s:.3f} s per step" for (bottleneck, source), step_s in steps.items()
    ]
    lines += [f"  {part}: {seconds:.0f} s" for part, seconds in sorted(known.items())]
    lines.append(f"about {total / 3600:.1f} hours, recording and distracting not counted")
    if unknown:
        lines.append(f"  nor {', '.join(sorted(unknown))}: no cell has told yet what they take")
    return lines


def lam_s(stage: LAMStage, step_s: float) -> float:
    """Seconds of a training whose steps take so long; labelled clips come on top of each of them."""
    more = stage.labels.batch / stage.train.batch if stage.uses_labels and stage.labels else 0.0
    return stage.train.steps * step_s * (1 + more)


def _is_done(shared: Shared, cell: Cell, seed: int) -> bool:
    result = result_of(shared.out, cell, seed)
    return result is not None and has_all(result, cell)


def _parts(cell: Cell, *, is_first: bool) -> list[str]:
    """What is done beside the training of the latent action model."""
    policy = ["policy", "play"] if cell.arms else []
    world = ["tokenizer", "dynamics", "control"] if cell.world else []
    return ["probe", "readers", "clips", *(["ceiling"] if is_first else []), *policy, *world]


def _known_parts(shared: Shared) -> Mapping[str, float]:
    """Seconds of every part that finished cells have gone through, the median over them; `play` by the clock.

    The engine of a game is a process of its own, whose CPU is not counted.
    """
    took: dict[str, list[float]] = defaultdict(list)
    for result in results_of(shared.out):
        for part, seconds in result["cpu_seconds"].items():
            is_elsewhere = part == "play"
            took[part].append(result["seconds"][part] if is_elsewhere else seconds / torch.get_num_threads())
    # A ceiling, a tokenizer, is made once for several cells; the others find it there in no time.
    made_once = ("ceiling", "tokenizer")
    return {
        part: (max if part in made_once else statistics.median)(seconds)
        for part, seconds in took.items()
        if part != "lam"
    }


def _kind(cell: Cell) -> Kind:
    return cell.bottleneck, cell.input


def _step_s(shared: Shared, cell: Cell) -> float:
    """Seconds of one training step on random frames, without labels."""
    recipe = recipe_of_cell(shared.plan, cell, 0, shared.out)
    module = LAMModule(recipe.lam)
    job = our_job(module, recipe.lam.train, random_batch(module, recipe.lam.train, recipe.lam.model.frame_hw))
    return take_turns({"lam": job}, ROUNDS, warm_up=1)["lam"].cpu_s / torch.get_num_threads()
