"""Everything that is measured of a run, put together: the measurements are in `evals`, the rivals in `adapt`.

    held-out clips   ─▶ tokenizer, lam, rollout, control, pictures
    labels           ─▶ probe, code × action, how well the world is driven by true actions
    unseen levels    ─▶ policy, one success rate per arm

What cannot be measured is left out, and a sentence says why.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import chain, islice
from typing import Any

import numpy as np
import torch

from genie_lite.adapt.adapt import arm_folder, read_adapted
from genie_lite.adapt.ceiling import read_supervised
from genie_lite.adapt.continuous import CHANGE_ARMS, HeldOut
from genie_lite.adapt.footage import load_footage
from genie_lite.adapt.policy import PolicyFn, fixed_fn, load_policy, policy_fn, random_fn
from genie_lite.adapt.setting import Setting
from genie_lite.data.labels import Labels, join
from genie_lite.data.loading.loader import Clip, validation_clips
from genie_lite.data.shards.shards import ShardSet
from genie_lite.envs.games import game_of
from genie_lite.errors import UserError
from genie_lite.evals.codes import agreement
from genie_lite.evals.control import score_control
from genie_lite.evals.driven import ToCodes, deal, known_actions, lead, score_drive, score_map
from genie_lite.evals.gallery import paint, write_gallery
from genie_lite.evals.probe import ProbeScore, Split, probe_continuous, probe_discrete
from genie_lite.evals.reconstruction import score_lam, score_tokenizer
from genie_lite.evals.rollout import HORIZONS, continue_clips, score_rollout
from genie_lite.evals.score import BLIND, Plays, play_policy, score_policies
from genie_lite.evals.transitions import Transitions, frames_of, label_transitions
from genie_lite.evals.tree import to_tree
from genie_lite.evals.untrained import CALIBRATION_SHOTS, with_random_weights
from genie_lite.models.lam import LatentActionModel, load_lam
from genie_lite.models.sampling import SamplingConfig
from genie_lite.models.world import World
from genie_lite.recipe import Recipe

Progress = Callable[[str, int, int], None]  # (what, done, total)

# Arms of `adapt` and of a robot's decoders, by their names in the report.
POLICY_ARMS = {"latent": "latent", "bc_labels": "bc", "idm_labels": "idm", "oracle": "oracle"}
ROBOT_ARMS = {
    "latent": "adapted",
    "latent_change": "adapted_change",
    "idm_labels": "supervised_few",
    "idm_all": "supervised",
    "idm_change_labels": "supervised_few_change",
    "idm_change_all": "supervised_change",
}
CONTROL_T = 4
# At least, of worlds that are measured: one per code of most alphabets, and enough for a CPU.
STREAMS_TOGETHER = 8
DRIVE_CLIPS, DRIVE_T = 32, 8  # at most: each is rolled out three times
PROBE_SHOTS = 128  # at most, of a split, that the probe reads: it learns from thousands of transitions


@dataclass(frozen=True)
class Findings:
    """sections: of evaluate.json. left_out: what was not measured, and why, one sentence each."""

    sections: dict[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def measure_world(
    recipe: Recipe, shards: ShardSet, device: str, progress: Progress, labels: Labels | None = None
) -> Findings:
    """Score tokenizer, latent action model and rollouts on held-out clips, and paint the pictures.

    Args:
        recipe: of the run.
        shards: of the run.
        device: where to compute.
        progress: called with (what, done, total).
        labels: of test sources, which a world of true actions is led by; any other is led by inferred codes.

    Raises:
        UserError: a stage is not finished, or no held-out shot is long enough.
    """
    section = recipe.evaluate
    world = load_world_to_measure(recipe, device)
    clips = _held_out_clips(recipe, shards, section.clips, device)
    progress("tokenizer and lam", 0, 4)
    sections = {
        "tokenizer": score_tokenizer(world.tokenizer, clips).tree(),
        "lam": score_lam(world.lam, clips, recipe.seed).tree(),
    }
    progress("rollouts", 1, 4)
    codes = None
    if world.actions:
        known = known_actions(clips, labels) if labels is not None else []
        if not known:
            return Findings(
                sections, ["The world is led by true actions, and no held-out clip has them all."]
            )
        clips, codes = [each.clip for each in known], [each.action.to(device) for each in known]
    continuations = continue_clips(
        world,
        clips,
        prompt_frames=section.prompt_frames,
        horizon=section.horizon,
        seed=recipe.seed,
        codes=codes,
    )
    horizons = [t for t in HORIZONS if t <= section.horizon]
    sections["rollout"] = score_rollout(world, continuations, horizons).tree()
    progress("control", 2, 4)
    sections["control"] = score_control(
        world,
        continuations,
        t=min(CONTROL_T, section.horizon),
        num_draws=section.control_draws,
        seed=recipe.seed,
    ).tree()
    progress("pictures", 3, 4)
    gallery = paint(
        world.tokenizer,
        world.lam,
        world,
        clips,
        rate_hz=shards.rate_hz,
        prompt_frames=section.prompt_frames,
        num_frames=section.horizon,
        seed=recipe.seed,
        codes=codes,
    )
    write_gallery(gallery, recipe.folder / "panels")
    progress("pictures", 4, 4)
    return Findings(sections)


def measure_drive(
    recipe: Recipe,
    shards: ShardSet,
    labels: Labels,
    codes_of: ToCodes | None,
    device: str,
    progress: Progress,
) -> Findings:
    """Let the world follow the true actions of held-out clips.

    Args:
        recipe: of the run.
        shards: of the run.
        labels: of test sources.
        codes_of: how actions become codes; None where nothing tells.
        device: where to compute.
        progress: called with (what, done, total).
    """
    if codes_of is None:
        return Findings(
            left_out=["The world is not driven by true actions: nothing says which code each is."]
        )
    section, world = recipe.evaluate, load_world_to_measure(recipe, device)
    held_out = _held_out_clips(recipe, shards, min(section.clips, DRIVE_CLIPS), device, DRIVE_T)
    known = known_actions(held_out, labels)
    if not known:
        return Findings(left_out=["The world is not driven by true actions: no held-out clip has them all."])
    progress("driven by actions", 0, 2)
    given, horizon = section.prompt_frames, min(section.horizon, DRIVE_T)
    led = partial(lead, world, codes_of=codes_of, prompt_frames=given, horizon=horizon, seed=recipe.seed)
    inferred = None
    if not world.actions:
        clips = [each.clip for each in known]
        inferred = continue_clips(world, clips, prompt_frames=given, horizon=horizon, seed=recipe.seed)
    score = score_drive(
        led(known),
        led(deal(known, recipe.seed)),
        inferred,
        [t for t in HORIZONS if t <= horizon],
    )
    progress("driven by actions", 1, 2)
    tree = score.tree()
    if not world.actions:
        shots = list(shards.spread("test", PROBE_SHOTS))
        test = label_transitions(world.lam, shots, labels, device)
        tree |= {"map": to_tree(score_map(test, frames_of(shots, labels), codes_of, world.num_codes))}
    progress("driven by actions", 2, 2)
    return Findings({"drive": tree})


def _held_out_clips(
    recipe: Recipe, shards: ShardSet, num: int, device: str, most: int | None = None
) -> list[Clip]:
    """Held-out clips of prompt and horizon, which may be cut short."""
    section = recipe.evaluate
    num_frames = section.prompt_frames + min(section.horizon, most or section.horizon)
    clips = validation_clips(shards, "test", num_frames, num, batch=section.batch)
    return [clip.to(device) for clip in clips]


def load_world_to_measure(recipe: Recipe, device: str) -> World:
    """The world of a run, of which more streams are computed together than the recipe asks for, to be done sooner."""
    together = max(STREAMS_TOGETHER, recipe.sampling.micro_batch)
    return load_world(recipe, device, recipe.sampling.model_copy(update={"micro_batch": together}))


def load_world(
    recipe: Recipe,
    device: str,
    sampling: SamplingConfig | None = None,
    *,
    cache: bool = True,
    compiled: bool = False,
) -> World:
    """The world of a run on a device, sampled as the recipe says or otherwise."""
    world = World.load(recipe.folder)
    parts = world.tokenizer.to(device), world.lam.to(device), world.dynamics.to(device)
    return World(*parts, sampling or recipe.sampling, cache=cache, compiled=compiled)


def measure_codes(
    recipe: Recipe, shards: ShardSet, labels: Labels, device: str, progress: Progress
) -> Findings:
    """Probe the codes for true actions, on transitions of held-out sources.

    Args:
        recipe: of the run; its latents must have been extracted.
        shards: of the run.
        labels: of train and test sources.
        device: where to compute.
        progress: called with (what, done, total).
    """
    lam = load_lam(recipe.folder / "lam").to(device)
    train, test = (
        label_transitions(lam, shards.spread(split, PROBE_SHOTS), labels, device)
        for split in ("train", "test")
    )
    if not len(train) or not len(test):
        return Findings(left_out=["The probe is left out: no held-out transition has a label."])
    other = with_random_weights(
        lam, islice(shards.spread("train", PROBE_SHOTS), CALIBRATION_SHOTS), recipe.seed, device
    )
    trained = Split(train, test)
    untrained = Split(
        *(
            label_transitions(other, shards.spread(split, PROBE_SHOTS), labels, device)
            for split in ("train", "test")
        )
    )
    if labels.kind == "continuous":
        held_out = read_adapted(recipe.folder / "adapt").held_out()
        return Findings(sections=_probe_robot(trained, untrained, lam, held_out).tree())
    others = {"supervised": _supervised(recipe, shards, labels, lam, test, device, progress)}
    tokens = lam.quantizer.num_tokens
    score = probe_discrete(trained, untrained, lam.num_codes, labels.num_actions, others, num_tokens=tokens)
    table = agreement(test.code, test.action, lam.num_codes, labels.names)
    return Findings(sections=score.tree() | {"code_action": to_tree(table)})


def measure_policies(recipe: Recipe, labels: Labels, device: str, progress: Progress) -> Findings:
    """Let every arm play the same unseen levels in the real game."""
    section = recipe.evaluate
    if labels.kind == "continuous":
        return Findings(left_out=["No policy is played: there is no engine for this robot."])
    if recipe.record is None or section.levels is None:
        return Findings(
            left_out=["No policy is played: the recipe records no game, or names no evaluate.levels."]
        )
    game, name = game_of(recipe.record.game), recipe.record.game
    levels = range(*section.levels)
    env = game.open(min(section.num_envs, len(levels)))
    try:
        if tuple(env.action_names) != labels.names:
            raise UserError(f"labels: actions {list(labels.names)}, but {name} has {list(env.action_names)}")

        def play(arm: str, choose: PolicyFn, context: int = 1) -> Plays:
            player = Player(choose, context, recipe.seed)
            show = partial(progress, f"{arm} plays")
            return play_policy(env, player, levels, game.step_limit, show)

        left_out: list[str] = []
        # Policies without adapt.json are those of an attempt that was broken off, made from anything.
        adapted = recipe.folder / "adapt"
        finished = read_adapted(adapted).summary["arms"] if (adapted / "adapt.json").is_file() else {}
        arms = {"random": play("random", random_fn(env.num_actions))}
        arms[BLIND] = _best([play(BLIND, fixed_fn(env.action_names.index(action))) for action in game.blind])
        for arm, shown in POLICY_ARMS.items():
            if arm in finished:
                policy = load_policy(arm_folder(adapted, arm)).to(device)
                choose = policy_fn(policy, recipe.adapt.temperature)
                arms[shown] = play(shown, choose, policy.config.context)
            else:
                left_out.append(f"The policy '{shown}' is not played: run genie-lite run to train it.")
    finally:
        env.close()
    about = {"policy_about": {"demonstrations": recipe.adapt.demonstrations}}
    return Findings(score_policies(arms).tree() | about, left_out)


class Player:
    """A policy at play: remembers the last frames of each stream, and forgets them when an episode begins."""

    def __init__(self, choose: PolicyFn, context: int, seed: int) -> None:
        self._choose, self._context = choose, context
        self._generator = torch.Generator().manual_seed(seed)
        self._seen: np.ndarray | None = None

    def act(self, frames: np.ndarray, fresh: np.ndarray) -> np.ndarray:
        """One action per stream, from uint8 frames `b h w c` and whether each begins an episode."""
        first = np.repeat(frames[:, None], self._context, axis=1)
        if self._seen is None:
            self._seen = first
        else:
            moved = np.concatenate([self._seen[:, 1:], frames[:, None]], axis=1)
            self._seen = np.where(fresh[:, None, None, None, None], first, moved)
        return self._choose(self._seen, self._generator)


def _supervised(
    recipe: Recipe,
    shards: ShardSet,
    labels: Labels,
    lam: LatentActionModel,
    test: Transitions,
    device: str,
    progress: Progress,
) -> np.ndarray:
    """Predictions, in the order of `test`, of an inverse model trained on all labels of the training split."""
    splits = ("train", "test")
    footage = load_footage(
        chain.from_iterable(shards.samples(split) for split in splits),
        sum(shards.num_samples(split) for split in splits),
        partial(progress, "frames"),
    )
    known = labels.locate(footage.source, footage.frame_index) >= 0
    # A ceiling for all held-out play, so it learns from all play, not from the demonstrations alone.
    train = np.flatnonzero(footage.has_next & known & (footage.split == "train"))
    wanted = join(footage.source, footage.frame_index, test.episode, test.frame_index)
    setting = Setting(recipe.seed, device, progress, "supervised inverse model")
    answer = read_supervised(
        lam.config, footage, labels, train, wanted, recipe.adapt.idm, setting, eye=lam.eye
    )
    return answer.argmax(dim=1).numpy()


def _probe_robot(trained: Split, untrained: Split, lam: LatentActionModel, held_out: HeldOut) -> ProbeScore:
    """Score on the transitions for which the arms of `adapt` have predictions."""
    test = trained.test
    where = join(held_out.source, held_out.frame_index, test.episode, test.frame_index)
    kept = where >= 0
    others = {
        name: held_out.predictions[arm][where[kept]].astype(np.float64) for arm, name in ROBOT_ARMS.items()
    }
    ours, other = (Split(split.train, _select(split.test, kept)) for split in (trained, untrained))
    given_last = [ROBOT_ARMS[arm] for arm in CHANGE_ARMS]
    tokens = lam.quantizer.num_tokens
    return probe_continuous(
        ours, other, lam.num_codes, held_out.groups, others, given_last, num_tokens=tokens
    )


def _best(plays: Sequence[Plays]) -> Plays:
    """The most successful: a blind player is granted the best of its moves."""
    return max(plays, key=lambda each: each.success.mean())


def _select(rows: Transitions, kept: np.ndarray) -> Transitions:
    return Transitions(**{each.name: getattr(rows, each.name)[kept] for each in fields(Transitions)})
