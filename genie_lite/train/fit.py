"""Train one stage of a run, or find it finished, or go on where it was broken off.

    fit("lam", config, shards, run, seed=0, wandb="offline", trainer={}, recipe_text=text) -> Artifact
    fit("lam", config, shards, run, seed=0, labels=[labels])     where config.labels is set (labelled.py)

    run/lam/   stage.json (what it is being trained from) · metrics.jsonl · last.ckpt · panels/
               and once it is finished: model.safetensors · recipe.yaml · artifact.json
               with labels: heads.safetensors · heads.json (models/heads.py)

A broken stage goes on exactly: its metrics and weights equal those of an uninterrupted run, bit for bit,
on the same machine with the same number of processes (on a GPU with `trainer: {deterministic: true}`).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from genie_lite.artifact import Artifact, is_finished, read_artifact
from genie_lite.config import change
from genie_lite.data.labels import Labels, fingerprint
from genie_lite.data.loading.masks import fingerprint_of
from genie_lite.data.loading.mixture import Corpora
from genie_lite.data.loading.weight import MaskWeight
from genie_lite.data.shards.shards import ShardSet
from genie_lite.errors import UserError
from genie_lite.files import read_json, write_json
from genie_lite.train.config import STAGES, DynamicsStage, LAMStage, StageConfig, StageName, TokenizerStage
from genie_lite.train.label_choices import choices_of
from genie_lite.train.logging import WandbMode, check_wandb
from genie_lite.train.rank import is_main_process

PARENTS: dict[StageName, tuple[str, ...]] = {"tokenizer": (), "lam": (), "dynamics": ("tokenizer", "lam")}

# These change how often something is looked at or kept or worked out, not what is learnt.
WITHOUT_EFFECT = {
    "val_every",
    "val_clips",
    "log_every",
    "checkpoint_every",
    "cache_gb",
    "num_workers",
    "recompute",
}


def fit(
    stage: StageName,
    config: StageConfig,
    shards: ShardSet | Corpora[Any],
    run: Path,
    *,
    seed: int,
    wandb: WandbMode = "offline",
    trainer: Mapping[str, Any] | None = None,
    recipe_text: str = "",
    strict: bool = False,
    labels: Sequence[Labels] | Mapping[str, Labels] = (),
) -> Artifact:
    """Train a stage to its end and write its artifact; do what is missing of that.

    Args:
        stage: which of the three.
        config: of that stage.
        shards: the ingested video, of one corpus or several; the dynamics model takes token shards, too.
        run: folder of the whole run; the stage's own is `run / stage`, its parents' lie beside it.
        seed: of weights, data order and every step's randomness.
        wandb: where numbers go beside metrics.jsonl.
        trainer: further arguments of lightning.Trainer, such as devices.
        recipe_text: kept beside the weights.
        strict: stop where a shard cannot be read any more, instead of taking other windows.
        labels: true actions, of one robot or several, by name or not (see `label_shots.robots_of`). Read by the latent
            action model and the dynamics model alone, and only where their `labels` are set.

    Returns:
        The finished stage, at once if it was finished before.

    Raises:
        UserError: a parent is missing, the folder holds a stage trained from something else, a setting
            cannot work, or labels are wanted and none were given.
    """
    if not isinstance(config, STAGES[stage]):
        raise UserError(f"stage '{stage}': expected {STAGES[stage].__name__}, found {type(config).__name__}")
    folder = run / stage
    parents = {name: read_artifact(run / name, name) for name in PARENTS[stage]}
    check_labels(config, labels)
    origin = origin_of(config, shards, seed, labels) | {
        "parents": {name: parent.sha256 for name, parent in parents.items()}
    }
    is_claimed = check_trained(folder, origin)
    if is_finished(folder):
        return read_artifact(folder, stage)
    check_wandb(wandb)
    _check_frames(config, shards)
    if not is_claimed and is_main_process():
        write_json(folder / "stage.json", origin)

    # Lightning takes seconds to import; a finished stage, and `--help`, should not wait for it.
    from genie_lite.train.session import Session

    session = Session(stage, config, shards, run, parents, seed, strict=strict, labels=labels)
    return session.train(wandb, dict(trainer or {}), recipe_text)


def check_labels(config: StageConfig, labels: Sequence[Labels] | Mapping[str, Labels]) -> None:
    """Refuse to begin where labels are wanted that cannot be had.

    Raises:
        UserError: there are none, or fewer episodes than are asked for.
    """
    if isinstance(config, TokenizerStage) or config.labels is None or not config.uses_labels:
        return
    stage = "lam" if isinstance(config, LAMStage) else "dynamics"
    given = list(labels.values()) if isinstance(labels, Mapping) else list(labels)
    if not any(len(each) for each in given):
        raise UserError(
            f"{stage}.labels: is set, but there are no labels; name them (labels.source), or set {stage}.labels to null"
        )
    fewest = min(len(each.episodes) for each in given if len(each))
    if config.labels.episodes is not None and config.labels.episodes > fewest:
        raise UserError(
            f"{stage}.labels.episodes: found {config.labels.episodes}, expected at most {fewest}, the labelled "
            "episodes that a robot has"
        )
    if isinstance(config, DynamicsStage):
        choices_of(labels)


def _check_frames(config: StageConfig, shards: ShardSet | Corpora[Any]) -> None:
    if not isinstance(config, DynamicsStage) and config.model.frame_hw != shards.frame_hw:
        raise UserError(
            f"{shards.place}: frames (height, width) are {shards.frame_hw} pixels, but model.frame_hw is "
            f"{config.model.frame_hw}; make them equal"
        )


def origin_of(
    config: StageConfig,
    shards: ShardSet | Corpora[Any],
    seed: int,
    labels: Sequence[Labels] | Mapping[str, Labels] = (),
) -> dict[str, Any]:
    """What a stage is trained from, its parents left out, as plain data.

    Labels count where it looks at them; masks by what they are, not by where they lie.
    """
    origin = {**json.loads(config.model_dump_json()), "seed": seed, "shards": shards.fingerprint}
    if isinstance(config, LAMStage) and isinstance(config.pixel_weight, MaskWeight):
        origin["pixel_weight"]["masks"] = fingerprint_of(Path(config.pixel_weight.masks))
    if config.uses_labels:
        given = (
            labels if isinstance(labels, Mapping) else {str(place): each for place, each in enumerate(labels)}
        )
        origin["labelled"] = {name: fingerprint(each) for name, each in given.items()}
    return origin


def check_trained(folder: Path, origin: Mapping[str, Any]) -> bool:
    """Refuse to go on from something else than what a stage's folder was trained from.

    Args:
        folder: of the stage, whose name it has.
        origin: what it is to be trained from; its parents are compared only where they are named, since they may
            be made again on purpose.

    Returns:
        Whether the stage is finished or was broken off. An attempt that left not even a checkpoint claims nothing.

    Raises:
        UserError: it was trained from something else.
    """
    path = folder / "stage.json"
    if not path.is_file() or not (is_finished(folder) or (folder / "last.ckpt").is_file()):
        return False
    advice = "delete this folder to train the stage again"
    before = _completed(read_json(path, "a list of what a stage was trained from", advice), folder.name)
    if "parents" not in origin:
        before.pop("parents", None)
    if difference := change(before, origin, WITHOUT_EFFECT):
        raise UserError(f"{folder}: was trained with {difference}; choose another run name, or {advice}")
    return True


def _completed(before: dict[str, Any], stage: str) -> dict[str, Any]:
    """With every setting that the version which trained the stage did not have yet, at its default."""
    config = STAGES[stage]
    try:
        given = {name: before[name] for name in config.model_fields if name in before}
        known = config.model_validate_json(json.dumps(given))
    except ValidationError:  # of settings that this version does not have: the comparison names them
        return before
    return before | json.loads(known.model_dump_json())
