"""Run folders: a finished stage is one folder with weights, recipe and a manifest that is written last.

    runs/<name>/<stage>/   model.safetensors · recipe.yaml · artifact.json

The manifest's presence means finished. Nothing is unpickled.
"""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from genie_lite import __version__
from genie_lite.config import Config
from genie_lite.errors import UserError
from genie_lite.files import read_json, sha256_of, write_bytes, write_json

FORMAT = 1


@dataclass(frozen=True)
class Artifact:
    """What a finished stage left.

    sha256: of the weights. config: the model's configuration as plain data. parents: stage name to
    weights' sha256. metrics: the last validation. data: name, fingerprint and counts of what it saw.
    """

    folder: Path
    stage: str
    config: dict[str, Any]
    sha256: str
    parents: dict[str, str]
    metrics: dict[str, float]
    data: dict[str, Any]
    seconds: float
    meta: dict[str, Any]


def is_finished(folder: Path) -> bool:
    """Whether a stage's manifest has been written."""
    return (folder / "artifact.json").is_file()


def write_artifact(
    folder: Path,
    stage: str,
    model: nn.Module,
    config: Config,
    recipe: str,
    parents: Mapping[str, Artifact],
    data: Mapping[str, Any],
    metrics: Mapping[str, float],
    seconds: float,
) -> Artifact:
    """Write weights, then the recipe, then the manifest that declares the stage finished."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_bytes(folder / "model.safetensors", save(weights))
    write_bytes(folder / "recipe.yaml", recipe.encode())
    manifest = {
        "format": FORMAT,
        "stage": stage,
        "config": json.loads(config.model_dump_json()),
        "weights": {"file": "model.safetensors", "sha256": sha256_of(folder / "model.safetensors")},
        "parents": {name: parent.sha256 for name, parent in parents.items()},
        "metrics": dict(metrics),
        "data": dict(data),
        "seconds": round(seconds, 1),
        "meta": {
            "genie_lite": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
        },
    }
    write_json(folder / "artifact.json", manifest)
    return read_artifact(folder, stage)


def write_copy(
    folder: Path,
    artifact: Artifact,
    weights: Mapping[str, Tensor],
    recipe: str | None,
    parents: Mapping[str, str],
) -> Artifact:
    """Write a stage again, with the same manifest but for its weights and those it was trained on.

    Args:
        folder: where to.
        artifact: the stage.
        weights: by the same names.
        recipe: to be kept beside them, if any.
        parents: stage name to its weights' sha256.
    """
    write_bytes(folder / "model.safetensors", save(dict(weights)))
    if recipe is not None:
        write_bytes(folder / "recipe.yaml", recipe.encode())
    own = {"file": "model.safetensors", "sha256": sha256_of(folder / "model.safetensors")}
    kept = read_json(artifact.folder / "artifact.json", "a genie_lite manifest", "train again")
    origin = {} if own["sha256"] == artifact.sha256 else {"rounded_from": artifact.sha256}
    changed = {"weights": own, "parents": dict(parents), "meta": kept["meta"] | origin}
    write_json(folder / "artifact.json", kept | changed)
    return read_artifact(folder, artifact.stage)


def read_artifact(folder: Path, stage: str) -> Artifact:
    """Read a finished stage's manifest and check it against the weights beside it.

    Raises:
        UserError: not finished, another stage's folder, another format, not whole, or weights that do not match.
    """
    path = folder / "artifact.json"
    if not path.is_file():
        raise UserError(
            f"{folder}: no finished {stage} here (artifact.json is missing); train it, or check the path"
        )
    tree = read_json(path, "a genie_lite manifest", "copy the whole folder again or train again")
    if tree.get("format") != FORMAT:
        raise UserError(
            f"{path}: format {tree.get('format')}, this version reads {FORMAT}; "
            "train again or use the version that wrote it"
        )
    artifact = _artifact(folder, tree)
    if artifact.stage != stage:
        raise UserError(
            f"{folder}: expected stage '{stage}', found '{artifact.stage}'; pass the {stage} folder"
        )
    if not (folder / "model.safetensors").is_file():
        raise UserError(f"{folder}: model.safetensors is missing; copy the whole folder or train again")
    if sha256_of(folder / "model.safetensors") != artifact.sha256:
        raise UserError(
            f"{folder / 'model.safetensors'}: does not match the sha256 in artifact.json; copy it again"
        )
    return artifact


def load_weights(artifact: Artifact, model: nn.Module) -> None:
    """Put an artifact's weights into a model, every name matched, and set it to evaluation.

    Raises:
        UserError: other weights than the model has.
    """
    path = artifact.folder / "model.safetensors"
    try:
        model.load_state_dict(load_file(path), strict=True)
    except RuntimeError as error:
        raise UserError(
            f"{path}: weights of another model than this version builds from the folder's configuration; "
            "train the stage again, or use the version that wrote it"
        ) from error
    model.eval()


def write_weights(path: Path, model: nn.Module) -> str:
    """Write a model's weights, buffers included, as one file of safetensors; returns its sha256, for a card."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_bytes(path, save(weights))
    return sha256_of(path)


def read_weights(path: Path, sha256: str, card: str, advice: str) -> dict[str, Tensor]:
    """Weights that a card beside them describes.

    Args:
        path: of the weights.
        sha256: that the card says they have.
        card: its name.
        advice: what to do where they are not there.

    Raises:
        UserError: missing, or other ones.
    """
    if not path.is_file() or sha256_of(path) != sha256:
        raise UserError(f"{path}: missing, or not the file that {card} describes; {advice}")
    return load_file(path)


def _artifact(folder: Path, tree: Mapping[str, Any]) -> Artifact:
    try:
        return Artifact(
            folder=folder,
            stage=tree["stage"],
            config=tree["config"],
            sha256=tree["weights"]["sha256"],
            parents=tree["parents"],
            metrics=tree["metrics"],
            data=tree["data"],
            seconds=tree["seconds"],
            meta=tree["meta"],
        )
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{folder / 'artifact.json'}: not a whole genie_lite manifest, missing or wrong: {error}; "
            "copy the whole folder again or train again"
        ) from error
