"""From N labelled transitions to a policy, and the arms it is compared with.

    latent      labels ─▶ mapping (code ⇄ action) ─▶ an action for every transition ─▶ clone     ours
    bc_labels   labels ─▶ clone                                                     no unlabelled video
    idm_labels  labels ─▶ inverse model ─▶ an action for every transition ─▶ clone  no latent actions
    oracle      all labels ─▶ clone                                                 the upper bound

All arms clone with the same network (`policy.py`); those with a whole video to clone take the same number of
updates. What is learnt from the few labels alone is stopped by held-out ones of them: the mapping by five folds,
the policy of bc_labels and the inverse model of idm_labels by one fifth (`stopping.py`). The folder:

    policy.safetensors policy.json     ours; with action names, normalisers, context and parents' hashes
    mapping.safetensors mapping.json   ours; code -> action
    reverse.safetensors reverse.json   action -> code, to drive the world by real actions (`reverse.py`)
    prior/policy.*                     games only: frame -> code, beside it (`prior.py`)
    arms/<arm>/policy.*                the others
    held_out.parquet change/mapping.*  robots only: predictions of all decoders, the decoder of changes
    adapt.json                         what was done, and how well the relabelling went; written last

Sources: Genie, arXiv:2402.15391, section 3.3 and figure 15 (200 labels, oracle); LAPO+, arXiv:2602.02762
(decode at the inverse model, relabel, clone; the same labels and updates in all arms).
Differs: what sees the few labels alone stops early instead of taking the same updates, and ours, which is the
cheaper to try, is chosen with more care than the others.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from genie_lite.adapt.config import AdaptConfig
from genie_lite.adapt.continuous import HeldOut, RobotArms, decode_arms, read_held_out, write_held_out
from genie_lite.adapt.footage import Footage, load_footage
from genie_lite.adapt.idm import infer, train_idm
from genie_lite.adapt.mapping import DictionaryMapping, Fitted, choose, fit_mapping, save_mapping
from genie_lite.adapt.material import Material, gather
from genie_lite.adapt.policy import Policy, PolicyConfig, fit_policy, read_policy_card, save_policy
from genie_lite.adapt.prior import MOST_CODES, fit_prior, prior_about, save_prior
from genie_lite.adapt.reverse import fit_reverse, pairs_of, save_reverse
from genie_lite.adapt.setting import Progress, Setting
from genie_lite.adapt.stopping import Stop
from genie_lite.adapt.supervised import Examples, Kind
from genie_lite.card import read_card
from genie_lite.config import parse
from genie_lite.data.labels import ACTION, Labels, fingerprint
from genie_lite.data.shards.shards import ShardSet
from genie_lite.errors import UserError
from genie_lite.files import write_json
from genie_lite.latents.table import read_latents, read_manifest
from genie_lite.models.lam import LAMConfig
from genie_lite.nn.features import FrozenFeatures

FORMAT = 1
HELD_OUT_FILE = "held_out.parquet"
Arm = Literal["latent", "bc_labels", "idm_labels", "oracle"]
ARMS: tuple[Arm, ...] = ("latent", "bc_labels", "idm_labels", "oracle")
CARD_KEYS = {
    "kind": str,
    "labels": dict,
    "arms": dict,
    "parents": dict,
    "config": dict,
    "seed": int,
    "inputs": dict,
    "seconds": float,
}


@dataclass(frozen=True)
class Plan:
    """What an adaptation is made with, beside the material.

    out: folder to write. config: budget, mapping, inverse model and policy. lam: shape of the latent action
    model, for the inverse model of the same network. parents: hashes of everything this rests on, such as
    {"lam": ..., "shards": ..., "labels": ...}. setting: seed, device, and whom to tell. eye: the latent action
    model's frozen features, if it has any; see `InverseModel`.
    """

    out: Path
    config: AdaptConfig
    lam: LAMConfig
    parents: Mapping[str, str]
    setting: Setting
    eye: FrozenFeatures | None = None

    def inputs(self, arm: Arm) -> str:
        """A hash that changes with anything that the arm's policy depends on."""
        tree = {
            "arm": arm,
            "parents": dict(self.parents),
            "config": self.config.model_dump(exclude={"prior_steps"}),
            "seed": self.setting.seed,
        }
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Lesson:
    """What an arm clones from.

    rows: of the material. target: probabilities, or actions in their own units. fitted: the mapping, if the
    arm has one. accuracy: share of relabelled transitions whose likeliest action is the true one; NaN where
    nothing was relabelled or no truth is known. It is a measurement: nothing is chosen by it. stop: how long
    the inverse model was trained, if the arm has one.
    """

    rows: np.ndarray
    target: Float[Tensor, "rows a"]
    fitted: Fitted | None
    accuracy: float
    stop: Stop | None = None


@dataclass(frozen=True)
class Adapted:
    """What `adapt` leaves. summary: the content of adapt.json."""

    folder: Path
    summary: dict[str, Any]

    def held_out(self) -> HeldOut:
        """A robot's predictions on held-out episodes."""
        return read_held_out(self.folder / HELD_OUT_FILE)


def read_adapted(folder: Path) -> Adapted:
    """What a finished `adapt` left.

    Raises:
        UserError: not finished, damaged, or another format.
    """
    path = folder / "adapt.json"
    if not path.is_file():
        raise UserError(f"{folder}: nothing adapted here (adapt.json is missing); run adapt")
    return Adapted(folder, read_card(path, "a summary of adapt", FORMAT, CARD_KEYS, "run adapt again"))


def arm_folder(folder: Path, arm: str) -> Path:
    """Where an arm's policy lies below the folder of `adapt`."""
    return folder if arm == "latent" else folder / "arms" / arm


def adapt(material: Material, plan: Plan, arms: Sequence[Arm] = ("latent",)) -> Adapted:
    """Adapt to discrete or continuous actions. An arm that is finished with the same inputs is kept.

    Args:
        material: frames, latents and labels, joined by `material.gather`.
        plan: with what, and where to.
        arms: which to train. For continuous actions only "latent" becomes a policy; the rivals are decoders,
            see `continuous.decode_arms`.

    Raises:
        UserError: too few labels to hold any out, or frames that the policy cannot cut into patches.
    """
    arms = arms_for(material.actions.kind, arms)
    if (finished := _finished(plan, arms)) is not None:
        return finished
    _check(material, plan.config)
    start = time.monotonic()
    robot = _decode_robot(material, plan) if material.actions.kind == "continuous" else None
    about = {arm: _finish_arm(arm, material, plan, robot) for arm in arms}
    reverse = fit_reverse(pairs_of(material), plan.config.mapping, plan.setting.seed)
    save_reverse(plan.out, reverse, plan.parents)
    _finish_prior(material, plan)
    summary = {
        "format": FORMAT,
        "kind": material.actions.kind,
        "num_codes": material.num_codes,
        "action_names": list(material.actions.names),
        "labels": {
            "transitions": int(material.labelled.sum()),
            "episodes": material.episodes,
            "transitions_relabelled": int((material.train & ~material.labelled).sum()),
            "action": ACTION,
        },
        "arms": about,
        "decoders": robot.summary() if robot else None,
        "reverse": asdict(reverse.score),
        "parents": dict(plan.parents),
        "config": plan.config.model_dump(),
        "seed": plan.setting.seed,
        "inputs": {arm: plan.inputs(arm) for arm in arms},
        "seconds": round(time.monotonic() - start, 1),
    }
    write_json(plan.out / "adapt.json", summary)
    return Adapted(plan.out, summary)


def adapt_shards(
    shards: ShardSet,
    latents: Path,
    labels: Labels,
    out: Path,
    config: AdaptConfig,
    *,
    seed: int,
    arms: Sequence[Arm] = ("latent",),
    device: str = "cpu",
    progress: Progress | None = None,
    eye: FrozenFeatures | None = None,
) -> Adapted:
    """`adapt` from folders and plain arguments.

    Args:
        shards: where the frames are.
        latents: folder that `extract` wrote for these shards.
        labels: all labels there are; the budget is drawn from those of the train split.
        out: folder to write.
        config: see `Plan`.
        seed: see `Setting`; so are the others.
        arms: see `adapt`.
        device: where to train.
        progress: called with (what, done, total).
        eye: see `Plan`.

    Raises:
        UserError: the latents are not those of these shards, labels and video do not meet, or see `adapt`.
    """
    plan = _plan(shards, latents, labels, out, config, Setting(seed, device, progress), eye)
    if (finished := _finished(plan, arms_for(labels.kind, arms))) is not None:
        return finished
    config.policy.check_frame(shards.frame_hw)
    footage = _load(shards, ("train",) if labels.kind == "discrete" else ("train", "test"), plan.setting)
    num_codes = read_manifest(latents)["num_codes"]
    return adapt(gather(footage, read_latents(latents), num_codes, labels, config, seed), plan, arms)


def arms_for(kind: Kind, arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """The arms that become policies: all for a game, ours for a robot, where the rivals are decoders."""
    return tuple(arm for arm in arms if kind == "discrete" or arm == "latent")


def teach(
    arm: Arm,
    material: Material,
    config: AdaptConfig,
    lam: LAMConfig,
    setting: Setting,
    eye: FrozenFeatures | None = None,
) -> Lesson:
    """What an arm of a game clones from; see the table on top of this file."""
    if arm == "bc_labels":
        return _as_labelled(material, material.labelled)
    if arm == "oracle":
        return _as_labelled(material, material.train & material.known)
    train = np.flatnonzero(material.train)
    fitted = stop = None
    if arm == "latent":
        fitted = learn_mapping(material, config, setting.seed)
        with torch.no_grad():
            probability = fitted.mapping(material.given[torch.from_numpy(train)])
    else:
        probability, stop = _ask_idm(material, config, lam, setting.named("inverse model"), eye)
    told = choose(probability, config.mapping.relabel, torch.Generator().manual_seed(setting.seed))
    _keep_known(told, material)
    return Lesson(train, told, fitted, _accuracy(material, train, told), stop)


def learn_mapping(material: Material, config: AdaptConfig, seed: int) -> Fitted:
    """Learn code ⇄ action from the budget of a game's labels."""
    labelled = torch.from_numpy(np.flatnonzero(material.labelled))
    return fit_mapping(
        material.given[labelled],
        material.target[labelled],
        material.source[material.labelled],
        material.num_codes,
        config.mapping,
        is_discrete=True,
        seed=seed,
    )


def describe(fitted: Fitted) -> dict[str, Any]:
    """A mapping and how it was chosen, as plain data."""
    counts = fitted.mapping.counts.tolist() if isinstance(fitted.mapping, DictionaryMapping) else None
    return {
        "kind": fitted.kind,
        "choice": fitted.choice,
        "held_out_loss": fitted.held_out,
        "held_out_accuracy": fitted.accuracy,
        "counts": counts,
    }


def _plan(
    shards: ShardSet,
    latents: Path,
    labels: Labels,
    out: Path,
    config: AdaptConfig,
    setting: Setting,
    eye: FrozenFeatures | None,
) -> Plan:
    manifest, where = read_manifest(latents), str(latents / "manifest.json")
    if manifest["shards"].get("fingerprint") != shards.fingerprint:
        raise UserError(f"{latents}: extracted from other shards than {shards.folder}; run extract again")
    parents = {
        "lam": manifest["lam"]["sha256"],
        "shards": shards.fingerprint,
        "labels": fingerprint(labels),
    }
    return Plan(out, config, parse(manifest["lam"]["config"], LAMConfig, where), parents, setting, eye)


def _load(shards: ShardSet, splits: Sequence[str], setting: Setting) -> Footage:
    return load_footage(
        chain.from_iterable(shards.samples(split) for split in splits),
        sum(shards.num_samples(split) for split in splits),
        setting.named("frames").tell,
    )


def _finished(plan: Plan, arms: Sequence[Arm]) -> Adapted | None:
    """What is in the folder already, if it was made from the same inputs and is complete."""
    if not (plan.out / "adapt.json").is_file():
        return None
    found = read_adapted(plan.out)
    same = found.summary["inputs"] == {arm: plan.inputs(arm) for arm in arms}
    wants_prior = _wants_prior(found.summary["kind"], found.summary.get("num_codes", 0), plan.config)
    has_prior = not wants_prior or prior_about(plan.out) == _prior_from(plan)
    return found if same and has_prior and all(_has_arm(plan, arm) for arm in arms) else None


def _check(material: Material, config: AdaptConfig) -> None:
    """Refuse what would fail after minutes of work, or not fail and mean nothing."""
    config.policy.check_frame(material.footage.frame_hw)
    if (num := int(material.labelled.sum())) < 2:
        raise UserError(
            f"adapt: {num} labelled transition in {', '.join(material.episodes) or 'no episode'} is the whole "
            "budget, expected at least 2; raise adapt.labels_budget or adapt.labels_episodes"
        )


def _has_arm(plan: Plan, arm: Arm) -> bool:
    folder = arm_folder(plan.out, arm)
    if not (folder / "policy.json").is_file():
        return False
    return read_policy_card(folder)["about"].get("inputs") == plan.inputs(arm)


def _prior_config(config: AdaptConfig) -> PolicyConfig:
    """Of the network that expects codes: a policy's, which sees one frame."""
    return config.policy.model_copy(update={"context": 1, "steps": config.prior_steps})


def _prior_from(plan: Plan) -> dict[str, Any]:
    """All that the prior depends on; labels are not among it."""
    parents = {name: plan.parents[name] for name in ("lam", "shards") if name in plan.parents}
    config = json.loads(_prior_config(plan.config).model_dump_json())
    return parents | {"config": config, "seed": plan.setting.seed}


def _wants_prior(kind: Kind, num_codes: int, config: AdaptConfig) -> bool:
    """A robot's vector tells its code by itself, or not at all: what its pictures add is not measured."""
    return kind == "discrete" and config.prior_steps > 0 and num_codes <= MOST_CODES


def _finish_prior(material: Material, plan: Plan) -> None:
    """Learn and save what pictures lead one to expect, unless it is there already."""
    wanted = _wants_prior(material.actions.kind, material.num_codes, plan.config)
    if not wanted or prior_about(plan.out) == _prior_from(plan):
        return
    watched, setting = material.watched, plan.setting.named("prior")
    prior = fit_prior(
        material.footage,
        watched.rows,
        watched.code,
        material.num_codes,
        _prior_config(plan.config),
        setting,
    )
    save_prior(plan.out, prior, _prior_from(plan))


def _decode_robot(material: Material, plan: Plan) -> RobotArms:
    """Fit all decoders, and save what the policy's folder holds of them."""
    robot = decode_arms(material, plan.config, plan.lam, plan.setting, plan.eye)
    if robot.held_out is not None:
        write_held_out(plan.out / HELD_OUT_FILE, robot.held_out)
    change = robot.fitted_change.mapping
    save_mapping(plan.out / "change", change, material.actions, material.num_codes, plan.config.mapping)
    return robot


def _finish_arm(arm: Arm, material: Material, plan: Plan, robot: RobotArms | None) -> dict[str, Any]:
    """Train and save one arm, unless it is there already; returns what its card says about it."""
    folder, config = arm_folder(plan.out, arm), plan.config
    if _has_arm(plan, arm):
        return read_policy_card(folder)["about"]
    start = time.monotonic()
    if robot is not None:
        lesson = _robot_lesson(material, robot)
    else:
        lesson = teach(arm, material, config, plan.lam, plan.setting, plan.eye)
    examples = Examples(
        material.rows[lesson.rows],
        lesson.target,
        episodes=material.source[lesson.rows] if arm == "bc_labels" else None,
    )
    policy = fit_policy(material.footage, examples, material.actions, config.policy, plan.setting.named(arm))
    if lesson.fitted is not None:
        save_mapping(folder, lesson.fitted.mapping, material.actions, material.num_codes, config.mapping)
    about = _about(arm, material, plan, lesson, policy) | {"seconds": round(time.monotonic() - start, 1)}
    save_policy(folder, policy, about)
    return about


def _about(arm: Arm, material: Material, plan: Plan, lesson: Lesson, policy: Policy) -> dict[str, Any]:
    """What a policy's card says of how it came to be."""
    return {
        "arm": arm,
        "inputs": plan.inputs(arm),
        "parents": dict(plan.parents),
        "labels_used": int(material.labelled.sum()) if arm != "oracle" else len(lesson.rows),
        "transitions_cloned": len(lesson.rows),
        "relabel_accuracy": None if np.isnan(lesson.accuracy) else lesson.accuracy,
        "mapping": describe(lesson.fitted) if lesson.fitted else None,
        "stopped": {
            "policy": policy.stop.summary() if policy.stop else None,
            "inverse_model": lesson.stop.summary() if lesson.stop else None,
        },
        "temperature": plan.config.temperature,
    }


def _as_labelled(material: Material, chosen: np.ndarray) -> Lesson:
    """Clone the labels of a mask, and nothing else."""
    rows = np.flatnonzero(chosen)
    return Lesson(rows, material.target[rows], None, float("nan"))


def _ask_idm(
    material: Material, config: AdaptConfig, lam: LAMConfig, setting: Setting, eye: FrozenFeatures | None
) -> tuple[Tensor, Stop | None]:
    """What an inverse model that learnt from the budget says of every training transition."""
    examples = Examples(
        material.rows[material.labelled],
        material.target[torch.from_numpy(material.labelled)],
        episodes=material.source[material.labelled],
    )
    model = train_idm(lam, material.footage, examples, material.actions, config.idm, setting, eye)
    rows = material.rows[material.train]
    return infer(model, material.footage, rows, config.idm.context), model.stop


def _robot_lesson(material: Material, robot: RobotArms) -> Lesson:
    """A robot's policy clones the actions that were decoded from latents, on the whole training split."""
    train = np.flatnonzero(material.train)
    told = robot.decoded[torch.from_numpy(train)].clone()
    _keep_known(told, material)
    return Lesson(train, told, robot.fitted, float("nan"))


def _keep_known(told: Tensor, material: Material) -> None:
    """Where the true action of a training transition is within the budget there is nothing to guess."""
    told[torch.from_numpy(material.labelled[material.train])] = material.target[
        torch.from_numpy(material.labelled)
    ]


def _accuracy(material: Material, train: np.ndarray, told: Tensor) -> float:
    """Share of relabelled transitions with the true action, where the truth is known but was not used."""
    judged = torch.from_numpy(material.known[train] & ~material.labelled[train])
    if not judged.any():
        return float("nan")
    truth = material.target[train]
    return float((told.argmax(1) == truth.argmax(1))[judged].float().mean())
