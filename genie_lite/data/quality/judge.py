"""Which clips are worth training on, as a classifier has learned it from labels of a person.

    folder/   model.safetensors (image model, scale and linear head) · quality.json, written last

    clip -> figures and an image model's features -> standardised -> a linear head -> score in [0, 1]

The folder is made by `quality_training` and holds all that scoring needs: nothing is downloaded, nothing unpickled.

Source: the curation of Genie, arXiv:2402.15391: labels of 10 k videos taught a ResNet18 which 6.8 M of 55 M clips
to train on. Differs: the image model is frozen and only a linear head is trained, so that some hundred labels do.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8
from pydantic import Field, ValidationError

from genie_lite.config import Config
from genie_lite.data.quality.figures import FIGURES, figures
from genie_lite.data.quality.vision import Vision, VisionConfig
from genie_lite.errors import UserError
from genie_lite.files import read_json, sha256_of

FORMAT = 1  # a change of what a description is needs another
INDEX_FILE = "quality.json"
WEIGHTS_FILE = "model.safetensors"
VISION, HEAD = "vision.", "head."  # what the names of their tensors begin with
ADVICE = "copy the whole folder again, or train it again with genie-lite data quality"
# In deviations from the mean. A feature that hardly ever fires would otherwise decide alone when it does.
FURTHEST = 3.0


class QualityConfig(Config):
    """A trained classifier as a filter.

    path: its folder. min_score: clips that score less are dropped. sha256: of the classifier, which `ingest` fills in.
    """

    path: str = Field(min_length=1)
    min_score: float = Field(default=0.5, ge=0, le=1)
    sha256: str | None = None


@dataclass(frozen=True)
class Head:
    """A linear reader. centre, scale: mean and deviation of what describes a clip, over the labelled clips.

    weight: of each of the `readings`.
    """

    centre: Float64[np.ndarray, " d"]
    scale: Float64[np.ndarray, " d"]
    weight: Float64[np.ndarray, " e"]
    bias: float

    def __call__(self, described: Float64[np.ndarray, "rows d"]) -> Float64[np.ndarray, " rows"]:
        """How likely each clip is good, were good and bad ones equally frequent."""
        logits = readings(described, self.centre, self.scale) @ self.weight + self.bias
        return 0.5 * (1 + np.tanh(logits / 2))  # the logistic function, without its overflow


def readings(
    described: Float64[np.ndarray, "rows d"],
    centre: Float64[np.ndarray, " d"],
    scale: Float64[np.ndarray, " d"],
) -> Float64[np.ndarray, "rows e"]:
    """What the head weighs: standardised figures, the products of any two of them, and standardised features.

    With the products it can say that too little and too much are both bad. The few figures together count as much
    as the many features: under one penalty they would be lost among them.
    """
    near = np.clip((described - centre) / scale, -FURTHEST, FURTHEST)
    plain, seen = near[:, : len(FIGURES)], near[:, len(FIGURES) :]
    one, other = np.triu_indices(len(FIGURES))
    told = np.concatenate([plain, plain[:, one] * plain[:, other]], axis=1)
    return np.concatenate([told, seen * np.sqrt(told.shape[1] / max(1, seen.shape[1]))], axis=1)


def describe(frames: UInt8[np.ndarray, "t h w 3"], vision: Vision) -> Float64[np.ndarray, " d"]:
    """All that a head reads of a clip: the figures first, then the image model's features."""
    return np.concatenate([figures(frames), vision(frames)])


class Judge:
    """A trained classifier. It can be sent to another process: there it is loaded from its folder.

    vision: the image model's name and options. about: all that `quality.json` says, of its training too.
    """

    def __init__(self, folder: Path, vision: VisionConfig, about: dict[str, Any]) -> None:
        self.folder, self.vision, self.about = folder, vision, about

    @classmethod
    def load(cls, folder: Path | str) -> "Judge":
        """Check a folder; the models themselves are loaded with the first clip.

        Raises:
            UserError: no finished classifier here, another format, or weights that are missing or altered.
        """
        about = _read_index(Path(folder))
        path, weights = Path(folder) / INDEX_FILE, Path(folder) / WEIGHTS_FILE
        try:
            vision = VisionConfig.model_validate_json(json.dumps(about["vision"]))
            sha256 = about["weights"]["sha256"]
        except (ValidationError, KeyError, TypeError) as error:
            raise UserError(f"{path}: not a whole classifier ({type(error).__name__}); {ADVICE}") from error
        if not weights.is_file():
            raise UserError(f"{weights}: missing; {ADVICE}")
        if sha256_of(weights) != sha256:
            raise UserError(f"{weights}: does not match its sha256 in {INDEX_FILE}; {ADVICE}")
        return cls(Path(folder), vision, about)

    @cached_property
    def sha256(self) -> str:
        """Of all that decides a score: the weights and how a clip is described. Part of the shards' identity."""
        decides = {
            "format": FORMAT,
            "figures": FIGURES,
            "vision": self.vision.model_dump(mode="json"),
            "weights": self.about["weights"]["sha256"],
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

    def score(self, frames: UInt8[np.ndarray, "t h w 3"]) -> float:
        """How likely a clip is good, in [0, 1]; the same frames have the same score, in every process.

        Raises:
            UserError: at the first clip, when the weights are not those of the model that `quality.json` names.
        """
        vision, head = self._models
        # The last digits are the processor's; a clip must not pass or fail by them.
        return round(float(head(describe(frames, vision)[None])[0]), 6)

    def scores(self, clips: Sequence[UInt8[np.ndarray, "_ _ _ 3"]]) -> list[float]:
        """The score of each clip, which does not depend on what else is in the list.

        For that they go through the image model one by one, which costs a sixth more time than eight at once would.
        """
        return [self.score(frames) for frames in clips]

    def __reduce__(self) -> tuple[Any, ...]:
        return Judge.load, (self.folder,)

    @cached_property
    def _models(self) -> tuple[Vision, Head]:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.folder / WEIGHTS_FILE
        try:
            tensors = load_file(path)
            vision = Vision.restore(self.vision, _under(VISION, tensors))
            parts = {name: tensor.double().numpy() for name, tensor in _under(HEAD, tensors).items()}
            return vision, Head(parts["centre"], parts["scale"], parts["weight"], float(parts["bias"]))
        except (SafetensorError, RuntimeError, KeyError) as error:
            name = self.vision.name
            raise UserError(f"{path}: not the weights of a classifier on '{name}'; {ADVICE}") from error


def expect_unused(folder: Path) -> None:
    """Refuse a folder with a finished classifier in it: shards may have been made with that.

    Raises:
        UserError: there is one, or a file lies where the folder should be.
    """
    if (folder / INDEX_FILE).is_file():
        raise UserError(f"{folder}: holds a quality classifier; use another folder, or delete this one")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; expected a folder to write the classifier to")


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX_FILE
    if not path.is_file():
        raise UserError(
            f"{folder}: no finished quality classifier here ({INDEX_FILE} is missing); "
            "train one with genie-lite data quality, or check the path"
        )
    about = read_json(path, "a quality classifier", ADVICE)
    if about.get("format") != FORMAT or about.get("figures") != list(FIGURES):
        raise UserError(
            f"{path}: format {about.get('format')}, this version reads {FORMAT}; train it again, or use the version "
            "that wrote it"
        )
    return about


def _under(prefix: str, tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}
