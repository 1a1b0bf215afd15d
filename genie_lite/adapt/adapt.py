"""From N labelled transitions to a policy, and the arms it is compared with.

    latent      labels ─▶ mapping (code ⇄ action) ─▶ an action for every transition ─▶ clone     ours
    bc_labels   labels ─▶ clone                                                     no unlabelled video
    idm_labels  labels ─▶ inverse model ─▶ an action for every transition ─▶ clone  no latent actions
    oracle      all labels ─▶ clone                                                 the upper bound

All arms clone with the same network (`policy.py`); those with a whole video to clone take the same number of
updates. What is learnt from the few labels alone, the mapping, the policy of bc_labels and the inverse model of
idm_labels, is stopped by held-out ones of them (`stopping.py`). The folder:

    policy.safetensors policy.json     ours; with action names, normalisers, context and parents' hashes
    mapping.safetensors mapping.json   ours; code ⇄ action
    arms/<arm>/policy.*                the others
    held_out.parquet change/mapping.*  robots only: predictions of all decoders, the decoder of changes
    adapt.json                         what was done, and how well the relabelling went; written last

Sources: Genie, arXiv:2402.15391, section 3.3 and figure 15 (200 labels, oracle); LAPO+, arXiv:2602.02762
(decode at the inverse model, relabel, clone; the same labels and updates in all arms).
Differs: what sees the few labels alone stops early instead of taking the same updates.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from genie_lite.adapt.config import AdaptConfig
from genie_lite.adapt.continuous import HeldOut, RobotArms, decode_arms, read_held_out, write_held_out
from genie_lite.adapt.footage import load_footage
from genie_lite.adapt.idm import fit_idm, infer
from genie_lite.adapt.latents import read_latents, read_manifest
from genie_lite.adapt.mapping import DictionaryMapping, Fitted, choose, fit_mapping, save_mapping
from genie_lite.adapt.material import Material, fingerprint, gather
from genie_lite.adapt.policy import Policy, fit_policy, load_policy, read_policy_card, save_policy
from genie_lite.adapt.stopping import Stop
from genie_lite.adapt.supervised import Kind
from genie_lite.config import parse
from genie_lite.data.labels import Labels
from genie_lite.data.shards import ShardSet
from genie_lite.errors import UserError
from genie_lite.files import write_json
from genie_lite.models.lam import LAMConfig

FORMAT = 1
HELD_OUT_FILE = "held_out.parquet"
Arm = Literal["latent", "bc_labels", "idm_labels", "oracle"]
ARMS: tuple[Arm, ...] = ("latent", "bc_labels", "idm_labels", "oracle")
Progress = Callable[[str, int, int], None]  # (what is being done, done, total)


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

    def policy(self, arm: str = "latent") -> Policy:
        """Load one arm's policy."""
        return load_policy(arm_folder(self.folder, arm))

    def held_out(self) -> HeldOut:
        """A robot's predictions on held-out episodes."""
        return read_held_out(self.folder / HELD_OUT_FILE)


def read_adapted(folder: Path) -> Adapted:
    """What a finished `adapt` left.

    Raises:
        UserError: not finished, or another format.
    """
    path = folder / "adapt.json"
    if not path.is_file():
        raise UserError(f"{folder}: nothing adapted here (adapt.json is missing); run adapt")
    summary = json.loads(path.read_text())
    if summary.get("format") != FORMAT:
        raise UserError(
            f"{path}: format {summary.get('format')}, this version reads {FORMAT}; run adapt again"
        )
    return Adapted(folder, summary)


def arm_folder(folder: Path, arm: str) -> Path:
    """Where an arm's policy lies below the folder of `adapt`."""
    return folder if arm == "latent" else folder / "arms" / arm


def adapt(
    material: Material,
    out: Path,
    config: AdaptConfig,
    *,
    lam: LAMConfig,
    parents: Mapping[str, str],
    seed: int,
    arms: Sequence[Arm] = ("latent",),
    device: str = "cpu",
    progress: Progress | None = None,
) -> Adapted:
    """Adapt to discrete or continuous actions. An arm that is finished with the same inputs is kept.

    Args:
        material: frames, latents and labels, joined by `material.gather`.
        out: folder to write.
        config: budget, mapping, inverse model and policy.
        lam: shape of the latent action model, for the inverse model of the same network.
        parents: hashes of everything this rests on, such as {"lam": ..., "shards": ..., "labels": ...}.
        seed: of all randomness.
        arms: which to train. For continuous actions only "latent" becomes a policy; the rivals are decoders,
            see `continuous.decode_arms`.
        device: where to train.
        progress: called with (what, done, total).
    """
    arms = arms_for(material.actions.kind, arms)
    if (finished := _finished(out, config, parents, seed, arms)) is not None:
        return finished
    inputs = {arm: _inputs_hash(arm, config, parents, seed) for arm in arms}
    start = time.monotonic()
    robot = None
    if material.actions.kind == "continuous":
        robot = decode_arms(material, config, lam=lam, seed=seed, device=device, progress=progress)
        if robot.held_out is not None:
            write_held_out(out / HELD_OUT_FILE, robot.held_out)
        change = robot.fitted_change.mapping
        save_mapping(out / "change", change, material.actions, material.num_codes, config.mapping)
    about = {
        arm: _finish_arm(arm, inputs[arm], material, out, config, lam, parents, seed, device, progress, robot)
        for arm in arms
    }
    summary = {
        "format": FORMAT,
        "kind": material.actions.kind,
        "action_names": list(material.actions.names),
        "labels": {
            "transitions": int(material.labelled.sum()),
            "episodes": material.episodes,
            "transitions_relabelled": int((material.train & ~material.labelled).sum()),
        },
        "arms": about,
        "decoders": robot.summary() if robot else None,
        "parents": dict(parents),
        "config": config.model_dump(),
        "seed": seed,
        "inputs": inputs,
        "seconds": round(time.monotonic() - start, 1),
    }
    write_json(out / "adapt.json", summary)
    return Adapted(out, summary)


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
) -> Adapted:
    """`adapt` from folders: reads the frames of the shards and the latents that were extracted from them.

    Args:
        shards: where the frames are.
        latents: folder that `extract` wrote for these shards.
        labels: all labels there are; the budget is drawn from those of the train split.
        out: folder to write.
        config: see `adapt`; so are the others.
        seed: of all randomness.
        arms: which to train.
        device: where to train.
        progress: called with (what, done, total).

    Raises:
        UserError: the latents are not those of these shards, or labels and video do not meet.
    """
    manifest = read_manifest(latents)
    if manifest["shards"]["fingerprint"] != shards.fingerprint:
        raise UserError(f"{latents}: extracted from other shards than {shards.folder}; run extract again")
    parents = {
        "lam": manifest["lam"]["sha256"],
        "shards": shards.fingerprint,
        "labels": fingerprint(labels),
    }
    arms = arms_for(labels.kind, arms)
    if (finished := _finished(out, config, parents, seed, arms)) is not None:
        return finished
    splits = ("train",) if labels.kind == "discrete" else ("train", "test")
    footage = load_footage(
        chain.from_iterable(shards.samples(split) for split in splits),
        sum(shards.num_samples(split) for split in splits),
        named(progress, "frames"),
    )
    return adapt(
        gather(footage, read_latents(latents), manifest["num_codes"], labels, config, seed),
        out,
        config,
        lam=parse(manifest["lam"]["config"], LAMConfig, str(latents / "manifest.json")),
        parents=parents,
        seed=seed,
        arms=arms,
        device=device,
        progress=progress,
    )


def arms_for(kind: Kind, arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """The arms that become policies: all for a game, ours for a robot, where the rivals are decoders."""
    return tuple(arm for arm in arms if kind == "discrete" or arm == "latent")


def _finished(
    out: Path, config: AdaptConfig, parents: Mapping[str, str], seed: int, arms: Sequence[Arm]
) -> Adapted | None:
    """What is in the folder already, if it was made from the same inputs and is complete."""
    if not (out / "adapt.json").is_file():
        return None
    found = read_adapted(out)
    inputs = {arm: _inputs_hash(arm, config, parents, seed) for arm in arms}
    complete = found.summary["inputs"] == inputs and all(_has_arm(out, arm, inputs[arm]) for arm in arms)
    return found if complete else None


def teach(
    arm: Arm,
    material: Material,
    config: AdaptConfig,
    *,
    lam: LAMConfig,
    seed: int,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Lesson:
    """What an arm of a game clones from; see the table on top of this file."""
    train = np.flatnonzero(material.train)
    labelled = np.flatnonzero(material.labelled)
    if arm == "bc_labels":
        return Lesson(labelled, material.target[labelled], None, float("nan"))
    if arm == "oracle":
        known = np.flatnonzero(material.train & material.known)
        return Lesson(known, material.target[known], None, float("nan"))
    fitted = stop = None
    if arm == "latent":
        fitted = learn_mapping(material, config, seed)
        with torch.no_grad():
            probability = fitted.mapping(material.given[torch.from_numpy(train)])
        told = choose(probability, config.mapping.relabel, torch.Generator().manual_seed(seed))
    else:
        told, stop = _told_by_idm(material, config, lam, train, labelled, seed, device, progress)
    # Where the true action is known there is nothing to guess.
    told[torch.from_numpy(material.labelled[train])] = material.target[labelled]
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


def _told_by_idm(
    material: Material,
    config: AdaptConfig,
    lam: LAMConfig,
    train: np.ndarray,
    labelled: np.ndarray,
    seed: int,
    device: str,
    progress: Progress | None,
) -> tuple[Tensor, Stop | None]:
    model = fit_idm(
        lam,
        material.footage,
        material.rows[labelled],
        material.target[labelled],
        material.actions,
        config.idm,
        seed=seed,
        device=device,
        progress=named(progress, "inverse model"),
        episodes=material.source[labelled],
    )
    probability = infer(model, material.footage, material.rows[train], config.idm.context)
    told = choose(probability, config.mapping.relabel, torch.Generator().manual_seed(seed))
    return told, model.stop


def _has_arm(out: Path, arm: Arm, inputs: str) -> bool:
    folder = arm_folder(out, arm)
    return (folder / "policy.json").is_file() and read_policy_card(folder)["about"].get("inputs") == inputs


def _finish_arm(
    arm: Arm,
    inputs: str,
    material: Material,
    out: Path,
    config: AdaptConfig,
    lam: LAMConfig,
    parents: Mapping[str, str],
    seed: int,
    device: str,
    progress: Progress | None,
    robot: RobotArms | None,
) -> dict[str, Any]:
    """Train and save one arm, unless it is there already; returns what its card says about it."""
    folder = arm_folder(out, arm)
    if _has_arm(out, arm, inputs):
        return read_policy_card(folder)["about"]
    start = time.monotonic()
    lesson = _robot_lesson(material, robot) if robot else None
    if lesson is None:
        lesson = teach(arm, material, config, lam=lam, seed=seed, device=device, progress=progress)
    policy = fit_policy(
        material.footage,
        material.rows[lesson.rows],
        lesson.target,
        material.actions,
        config.policy,
        seed=seed,
        device=device,
        progress=named(progress, arm),
        episodes=material.source[lesson.rows] if arm == "bc_labels" else None,
    )
    if lesson.fitted is not None:
        save_mapping(folder, lesson.fitted.mapping, material.actions, material.num_codes, config.mapping)
    about = {
        "arm": arm,
        "inputs": inputs,
        "parents": dict(parents),
        "labels_used": int(material.labelled.sum()) if arm != "oracle" else len(lesson.rows),
        "transitions_cloned": len(lesson.rows),
        "relabel_accuracy": None if np.isnan(lesson.accuracy) else lesson.accuracy,
        "mapping": describe(lesson.fitted) if lesson.fitted else None,
        "stopped": {
            "policy": policy.stop.summary() if policy.stop else None,
            "inverse_model": lesson.stop.summary() if lesson.stop else None,
        },
        "temperature": config.temperature,
        "seconds": round(time.monotonic() - start, 1),
    }
    save_policy(folder, policy, about)
    return about


def _robot_lesson(material: Material, robot: RobotArms) -> Lesson:
    """A robot's policy clones the actions that were decoded from latents, on the whole training split."""
    train = np.flatnonzero(material.train)
    told = robot.decoded[torch.from_numpy(train)].clone()
    told[torch.from_numpy(material.labelled[train])] = material.target[np.flatnonzero(material.labelled)]
    return Lesson(train, told, robot.fitted, float("nan"))


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


def _accuracy(material: Material, train: np.ndarray, told: Tensor) -> float:
    """Share of relabelled transitions with the true action, where the truth is known but was not used."""
    judged = torch.from_numpy(material.known[train] & ~material.labelled[train])
    if not judged.any():
        return float("nan")
    truth = material.target[train]
    return float((told.argmax(1) == truth.argmax(1))[judged].float().mean())


def _inputs_hash(arm: Arm, config: AdaptConfig, parents: Mapping[str, str], seed: int) -> str:
    """Changes with anything that the arm's policy depends on."""
    tree = {"arm": arm, "parents": dict(parents), "config": config.model_dump(), "seed": seed}
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def named(progress: Progress | None, what: str) -> Callable[[int, int], None] | None:
    """A plain progress callback that says what is in progress."""
    return None if progress is None else lambda done, total: progress(what, done, total)
