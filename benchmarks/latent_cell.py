"""What is trained and measured for one cell of the table of `latent_actions.py`, by the toolkit's own functions.

    OUT/cells/<cell>/seed-<n>/   lam/ latents/ adapt/ dynamics/, and result.json, which is written last
    OUT/results.jsonl            a result per line: of the cells above, and of cells that were measured elsewhere

What cells share, and where that lies: `latent_shared.py`.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from latent_plan import Cell, recipe_of_cell
from latent_shared import Shared
from measure import commit, machine

from genie_lite.adapt.adapt import Arm, adapt_shards, arm_folder
from genie_lite.adapt.policy import PolicyFn, load_policy, policy_fn, random_fn
from genie_lite.config import change, dump
from genie_lite.data.labels import fingerprint
from genie_lite.data.loading.loader import validation_clips
from genie_lite.data.shards.shards import ShardSet
from genie_lite.envs.games import game_of
from genie_lite.errors import UserError
from genie_lite.evals.control import score_control
from genie_lite.evals.probe import ProbeScore, Split, probe_continuous, probe_discrete
from genie_lite.evals.reconstruction import score_lam
from genie_lite.evals.rollout import continue_clips
from genie_lite.evals.score import Plays, play_policy, score_policies
from genie_lite.evals.transitions import label_transitions
from genie_lite.evals.untrained import CALIBRATION_SHOTS, with_random_weights
from genie_lite.evaluation import POLICY_ARMS, Player, load_world
from genie_lite.files import read_json, write_bytes, write_json
from genie_lite.latents.extract import extract
from genie_lite.models.lam import LatentActionModel, load_lam
from genie_lite.progress import bars
from genie_lite.recipe import Recipe
from genie_lite.train.fit import fit

RESULT_FILE = "result.json"
RESULTS_FILE = "results.jsonl"
CONTROL_T = 4  # as in Genie
SUPERVISED = "supervised"
# Settings that nothing which is measured here depends on: they may be others, or have come later.
WITHOUT_PART = frozenset({"prior_steps"})  # of true actions on the way to codes


@dataclass
class Stopwatch:
    """What each part took: by the clock, and of this process on all cores. What was found done keeps what it took."""

    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time a block."""
        wall, cpu = time.monotonic(), time.process_time()
        try:
            yield
        finally:
            for kept, took in (
                (self.seconds, time.monotonic() - wall),
                (self.cpu_seconds, time.process_time() - cpu),
            ):
                kept[name] = max(round(took, 1), kept.get(name, 0.0))

    def tree(self) -> dict[str, dict[str, float]]:
        """As plain data."""
        return asdict(self)


def run_cell(shared: Shared, cell: Cell, seed: int) -> dict[str, Any]:
    """Train and measure a cell, unless it is done; returns its result.

    Raises:
        UserError: its result is there, but was made with other settings or from other video.
    """
    recipe, shards = recipe_of_cell(shared.plan, cell, seed, shared.out), shared.shards(cell.video)
    made_from = _made_from(shared, recipe, shards)
    before = result_of(shared.out, cell, seed)
    if before is not None:
        if difference := change(before["made_from"], made_from, WITHOUT_PART):
            raise UserError(
                f"{recipe.folder}: was made with {difference}; give another --out, or delete this folder"
            )
        if has_all(before, cell):
            return before
    watch = Stopwatch() if before is None else Stopwatch(before["seconds"], before["cpu_seconds"])
    sections = _Made(shared, cell, recipe, shards, watch).measure()
    measured = {"commit": commit(), "machine": machine(), "made_from": made_from}
    result = {"cell": asdict(cell), "seed": seed} | measured
    write_json(recipe.folder / RESULT_FILE, result | sections | watch.tree())
    return read_result(recipe.folder / RESULT_FILE)


def result_of(out: Path, cell: Cell, seed: int) -> dict[str, Any] | None:
    """What was measured of a cell before, here or elsewhere; None where nothing was."""
    path = out / "cells" / cell.name / f"seed-{seed}" / RESULT_FILE
    return read_result(path) if path.is_file() else _from_elsewhere(out).get((cell.name, seed))


@dataclass(frozen=True)
class _Made:
    """A cell in the making."""

    shared: Shared
    cell: Cell
    recipe: Recipe
    shards: ShardSet
    watch: Stopwatch

    def measure(self) -> dict[str, Any]:
        """The sections of its result."""
        lam, sha256 = self._train()
        sections: dict[str, Any] = {"probe": self._probe(lam), "lam": self._foretell(lam)}
        if self.cell.arms:
            sections["policy"] = self._play(lam, sha256)
        if self.cell.world:
            sections["control"] = self._steer()
        return sections

    def _train(self) -> tuple[LatentActionModel, str]:
        recipe = self.recipe
        labels = self.shared.shown(recipe) if recipe.lam.uses_labels else {}
        with self.watch.part("lam"):
            artifact = fit(
                "lam",
                recipe.lam,
                self.shards,
                recipe.folder,
                seed=recipe.seed,
                wandb="off",
                trainer=recipe.trainer,
                recipe_text=dump(recipe),
                labels=labels,
            )
        return load_lam(artifact.folder).to(self.shared.device), artifact.sha256

    def _probe(self, lam: LatentActionModel) -> dict[str, Any]:
        """Scores of readers of codes and embeddings, of guessing, and of the network with all labels."""
        labels, device = self.shared.labels, self.shared.device
        with self.watch.part("probe"):
            shots = {
                split: list(self.shards.spread(split, self.shared.plan.shots)) for split in ("train", "test")
            }
            other = with_random_weights(lam, shots["train"][:CALIBRATION_SHOTS], self.recipe.seed, device)
            trained, untrained = (
                Split(
                    *(label_transitions(model, shots[split], labels, device) for split in ("train", "test"))
                )
                for model in (lam, other)
            )
        with self.watch.part("ceiling"):
            ceiling = self.shared.supervised(self.recipe, self.cell, self.shards, trained.test, lam.eye)
        others = {SUPERVISED: ceiling}
        is_discrete = labels.kind == "discrete"
        probe = partial(probe_discrete, num_actions=labels.num_actions) if is_discrete else probe_continuous
        with self.watch.part("readers"):
            tokens = lam.quantizer.num_tokens
            score = probe(trained, untrained, lam.num_codes, others=others, num_tokens=tokens)
        return score.tree() | {"share": share_of_way(score)}

    def _foretell(self, lam: LatentActionModel) -> dict[str, Any]:
        """Use of the codes, and what they add to the next frame."""
        with self.watch.part("clips"):
            frames = self.recipe.lam.train.clip_frames
            clips = validation_clips(self.shards, "test", frames, self.shared.plan.clips, batch=16)
            return score_lam(lam, [clip.to(self.shared.device) for clip in clips], self.recipe.seed).tree()

    def _play(self, lam: LatentActionModel, sha256: str) -> dict[str, Any]:
        """Relabel, clone, and play levels that nobody has seen."""
        recipe, folder = self.recipe, self.recipe.folder
        with self.watch.part("policy"), bars() as show:
            extract(lam, self.shards, folder / "latents", lam_sha=sha256)
            adapt_shards(
                self.shards,
                folder / "latents",
                self.shared.labels,
                folder / "adapt",
                recipe.adapt,
                seed=recipe.seed,
                arms=self.cell.arms,
                device=self.shared.device,
                progress=show,
                eye=lam.eye,
            )
        with self.watch.part("play"):
            return score_policies(self._plays()).tree()

    def _plays(self) -> dict[str, Plays]:
        recipe = self.recipe
        if recipe.record is None or recipe.evaluate.levels is None:
            raise UserError(
                f"{self.cell.name}: policies play a recorded game, on evaluate.levels; the recipe has none"
            )
        levels = range(*recipe.evaluate.levels)
        env = self.shared.game(recipe, self.cell.video, min(recipe.evaluate.num_envs, len(levels)))
        limit = game_of(recipe.record.game).step_limit

        def play(choose: PolicyFn, context: int = 1) -> Plays:
            return play_policy(env, Player(choose, context, recipe.seed), levels, limit)

        def play_arm(arm: Arm) -> Plays:
            policy = load_policy(arm_folder(recipe.folder / "adapt", arm)).to(self.shared.device)
            return play(policy_fn(policy, recipe.adapt.temperature), policy.config.context)

        try:
            played = {POLICY_ARMS[arm]: play_arm(arm) for arm in self.cell.arms}
            return {"random": play(random_fn(env.num_actions)), **played}
        finally:
            env.close()

    def _steer(self) -> dict[str, Any]:
        """ΔtPSNR of a world that is trained on the codes."""
        recipe, folder = self.recipe, self.recipe.folder
        with self.watch.part("tokenizer"):
            tokenizer = self.shared.tokenizer(recipe, self.cell.video, self.shards)
        if not (folder / "tokenizer").exists():
            (folder / "tokenizer").symlink_to(tokenizer.resolve(), target_is_directory=True)
        with self.watch.part("dynamics"):
            fit(
                "dynamics",
                recipe.dynamics,
                self.shards,
                folder,
                seed=recipe.seed,
                wandb="off",
                trainer=recipe.trainer,
            )
        with self.watch.part("control"):
            world, prompt = load_world(recipe, self.shared.device), recipe.evaluate.prompt_frames
            clips = validation_clips(
                self.shards, "test", prompt + CONTROL_T, self.shared.plan.clips, batch=recipe.evaluate.batch
            )
            moved = [clip.to(self.shared.device) for clip in clips]
            continued = continue_clips(
                world, moved, prompt_frames=prompt, horizon=CONTROL_T, seed=recipe.seed
            )
            draws = recipe.evaluate.control_draws
            return score_control(world, continued, t=CONTROL_T, num_draws=draws, seed=recipe.seed).tree()


def _made_from(shared: Shared, recipe: Recipe, shards: ShardSet) -> dict[str, Any]:
    kept = json.loads(recipe.model_dump_json(exclude={"out", "name", "threads"}))
    extent = {"clips": shared.plan.clips, "shots": shared.plan.shots}
    return {"recipe": kept, "shards": shards.fingerprint, "labels": fingerprint(shared.labels)} | extent


def share_of_way(score: ProbeScore) -> dict[str, float | None]:
    """How far from guessing to all labels a reader gets: 0 at the one, 1 at the other; None where they are equal."""
    mean = {name: each.mean for name, each in score.score.items()}
    floor, top = mean.get("majority", mean.get("mean", 0.0)), mean[SUPERVISED]
    return {
        name: (mean[name] - floor) / (top - floor) if top > floor else None for name in ("embedding", "code")
    }


def has_all(result: Mapping[str, Any], cell: Cell) -> bool:
    """Whether a result holds all that is asked of a cell now."""
    played = result.get("policy", {}).get("policy", {})
    return (not cell.world or "control" in result) and all(POLICY_ARMS[arm] in played for arm in cell.arms)


def read_result(path: Path) -> dict[str, Any]:
    """The result of a cell and a seed.

    Raises:
        UserError: it is damaged.
    """
    return read_json(path, "the result of a cell", "delete it to measure the cell again")


def results_of(out: Path) -> list[dict[str, Any]]:
    """Every result that a folder holds, in the order of their names; what was measured here prevails.

    Raises:
        UserError: one of them is damaged.
    """
    here = _by_name([read_result(path) for path in (out / "cells").glob(f"*/seed-*/{RESULT_FILE}")])
    return [result for _, result in sorted((_from_elsewhere(out) | here).items())]


def write_results(out: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Keep results in one file, which is all that another machine needs to go on from them."""
    lines = [json.dumps(result) for result in results]
    write_bytes(out / RESULTS_FILE, "".join(f"{line}\n" for line in lines).encode())


def _by_name(results: Sequence[dict[str, Any]]) -> dict[tuple[str, int], dict[str, Any]]:
    return {(Cell(**result["cell"]).name, result["seed"]): result for result in results}


def _from_elsewhere(out: Path) -> dict[tuple[str, int], dict[str, Any]]:
    path = out / RESULTS_FILE
    if not path.is_file():
        return {}
    try:
        return _by_name([json.loads(line) for line in path.read_text().splitlines()])
    except ValueError as error:
        raise UserError(f"{path}: damaged: {error}; restore it, or delete it") from error
