"""How many passes a frame needs: one trained world, sampled with more or fewer of them.

    python benchmarks/refinements.py RUN [--passes 1 2 4 8 25] [--clips 64] [--seed 0] [--device cpu] [--write]

Prints one JSON line per number of passes, on the same held-out clips, codes and seeds for all:

    rollout_psnr_db_t    PSNR of the t-th sampled frame, with its 95 % interval over episodes
    over_most_db_t4      its PSNR at t = 4 above that of the most passes, paired by clip: 0 within the interval means
                         that the passes left out are not missed
    delta_psnr_db        how much of it the codes steer, at t = 4 (`evals/control.py`), with low and high end
    frames_per_s         of one stream
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from measure import Row, Timed, command, take_turns, tell, write_table

from genie_lite.data.loading.loader import Clip, validation_clips
from genie_lite.errors import UserError
from genie_lite.evals import fidelity
from genie_lite.evals.control import score_control
from genie_lite.evals.rollout import HORIZONS, Continuation, continue_clips, score_rollout
from genie_lite.evaluation import load_world
from genie_lite.folder import recipe_of, shards_of
from genie_lite.models.sampling import SamplingConfig
from genie_lite.models.world import World
from genie_lite.recipe import Recipe
from genie_lite.types import Interval

PASSES = (1, 2, 4, 8, 25)
CONTROL_T = 4


def main() -> None:
    """Parse the command line and print a row per number of passes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--passes", type=int, nargs="+", default=PASSES)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=30, help="frames timed")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    given = parser.parse_args()
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    try:
        recipe = recipe_of(given.run)
        num_frames = recipe.evaluate.prompt_frames + recipe.evaluate.horizon
        found = validation_clips(
            shards_of(recipe), "test", num_frames, given.clips, batch=recipe.evaluate.batch
        )
        clips = [clip.to(given.device) for clip in found]
        # Streams side by side are only faster: what is sampled does not depend on the others.
        worlds = {each: load(recipe, each, recipe.evaluate.batch, given.device) for each in given.passes}
        players = {each: load(recipe, each, 1, given.device) for each in given.passes}
    except UserError as error:
        parser.error(str(error))
    timed = time_frames(players, clips[0], given.rounds)
    rows = [tell(row) for row in compare(worlds, clips, recipe, timed, given.seed)]
    if given.write:
        write_table("refinements", rows, command())


def load(recipe: Recipe, passes: int, streams: int, device: str) -> World:
    """The run's world, sampled in so many passes, so many streams together."""
    changed = {"refinements": passes, "micro_batch": streams}
    sampling = SamplingConfig.model_validate(recipe.sampling.model_dump() | changed)
    return load_world(recipe, device, sampling)


def time_frames(worlds: dict[int, World], clip: Clip, rounds: int) -> dict[int, Timed]:
    """The next frame of one stream, whose window is full, in turns."""
    timed = take_turns({str(passes): _player(world, clip) for passes, world in worlds.items()}, rounds)
    return {passes: timed[str(passes)] for passes in worlds}


def compare(
    worlds: dict[int, World], clips: Sequence[Clip], recipe: Recipe, timed: dict[int, Timed], seed: int
) -> Iterator[Row]:
    """A row per number of passes, each compared with the most."""
    section = recipe.evaluate
    horizons = [t for t in HORIZONS if t <= section.horizon]
    t = min(CONTROL_T, section.horizon)
    most: np.ndarray | None = None
    rows = []
    for passes in sorted(worlds, reverse=True):
        world = worlds[passes]
        continued = continue_clips(
            world, clips, prompt_frames=section.prompt_frames, horizon=section.horizon, seed=seed
        )
        score = score_rollout(world, continued, horizons)
        control = score_control(world, continued, t=t, num_draws=section.control_draws, seed=seed)
        error, episodes = _errors(continued, t)
        most = error if most is None else most
        delta = control.delta_psnr_db
        rows.append(
            {
                "passes": passes,
                **{f"rollout_psnr_db_t{at}": words(each) for at, each in score.psnr_db.items()},
                f"over_most_db_t{t}": words(fidelity.gain_db(error, most, episodes)),
                "delta_psnr_db": delta.mean,
                "delta_psnr_db_low": delta.low,
                "delta_psnr_db_high": delta.high,
                "frames_per_s": 1 / timed[passes].wall_s,
            }
        )
    return reversed(rows)


def words(interval: Interval) -> str:
    """`20.12 [19.80, 20.41]`."""
    return f"{interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _player(world: World, clip: Clip) -> Callable[[], object]:
    state = world.reset(clip.frames[:1], seed=0)
    code = torch.zeros(1, dtype=torch.long, device=world.device)
    return lambda: world.step(state, code)


def _errors(continued: Sequence[Continuation], t: int) -> tuple[np.ndarray, list[str]]:
    errors = [fidelity.compare(each.sampled[:, t - 1], each.target[:, t - 1]).error for each in continued]
    return np.concatenate(errors), [name for each in continued for name in each.episodes]


if __name__ == "__main__":
    main()
