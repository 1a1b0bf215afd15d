"""Robots: actions decoded from latents, beside what is achieved without them, on held-out episodes.

    latent             embeddings ─▶ action                   mapping from the labelled episodes     ours
    latent_change      action[k - 1] + decoded change         the same, given the last command       ours
    mean               the labelled episodes' mean
    hold_last          action[k - 1]                          what inertia gives
    idm_labels         frames k, k + 1 ─▶ action              inverse model, the same labels, some of which stop it
    idm_all            the same                               inverse model, all training labels
    idm_change_labels  action[k - 1] + change from frames     as idm_labels, given the last command
    idm_change_all     the same                               as idm_all, given the last command

An embedding says what changed, while a robot's action is often a pose; `latent_change` asks of it only what
it can know, and `r_squared_of_change` counts only what holding the last command does not give. Every arm is
scored on the same transitions: labelled, of the test split, with a labelled transition right before in the
same shot.
"""

import io
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float
from torch import Tensor

from genie_lite.adapt.config import AdaptConfig
from genie_lite.adapt.idm import infer, train_idm
from genie_lite.adapt.mapping import Fitted, MappingConfig, fit_mapping
from genie_lite.adapt.material import Material
from genie_lite.adapt.setting import Setting
from genie_lite.adapt.stopping import Stop
from genie_lite.adapt.supervised import Examples
from genie_lite.errors import UserError
from genie_lite.files import write_bytes
from genie_lite.models.lam import LAMConfig
from genie_lite.nn.features import FrozenFeatures

EVERYTHING = "all"
METADATA_KEY = b"genie_lite"
CHANGE_ARMS = ("latent_change", "idm_change_labels", "idm_change_all")


@dataclass(frozen=True)
class HeldOut:
    """Predictions on held-out transitions, actions in their own units; one row per transition.

    source, frame_index: of the transition. truth: (rows, components). predictions: the same, of each arm.
    scale: (components,) standard deviation on the labelled episodes, which makes components comparable.
    groups: name to components.
    """

    source: np.ndarray
    frame_index: np.ndarray
    truth: np.ndarray
    predictions: dict[str, np.ndarray]
    scale: np.ndarray
    groups: dict[str, list[int]]

    def r_squared(self) -> dict[str, dict[str, float]]:
        """R² of each arm, of all components and per group."""
        return {
            arm: {
                part: r_squared(self.truth[:, chosen], guess[:, chosen], self.scale[chosen])
                for part, chosen in self._parts().items()
            }
            for arm, guess in self.predictions.items()
        }

    def r_squared_of_change(self) -> dict[str, dict[str, float]]:
        """Of each arm that is given the last command: the share of the squared change since then it explains.

        1 when exact, 0 for holding the last command, below 0 for worse.
        """
        held = self.predictions["hold_last"]
        return {
            arm: {
                part: share_of_change(
                    self.truth[:, chosen],
                    self.predictions[arm][:, chosen],
                    held[:, chosen],
                    self.scale[chosen],
                )
                for part, chosen in self._parts().items()
            }
            for arm in CHANGE_ARMS
        }

    def _parts(self) -> dict[str, list[int]]:
        return {EVERYTHING: list(range(self.truth.shape[1]))} | self.groups


@dataclass(frozen=True)
class RobotArms:
    """What was fitted.

    held_out: predictions where there are labels to score them by, None if there are none. fitted: the
    mapping of `latent`; fitted_change: of `latent_change`. decoded: (transitions, components) what `latent`
    says of every transition. stops: how long the inverse models with the few labels were trained, by arm.
    """

    held_out: HeldOut | None
    fitted: Fitted
    fitted_change: Fitted
    decoded: Float[Tensor, "transitions a"]
    stops: dict[str, Stop | None] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """What adapt.json keeps."""
        scored = self.held_out
        return {
            "r2": scored.r_squared() if scored else None,
            "r2_of_change": scored.r_squared_of_change() if scored else None,
            "groups": scored.groups if scored else None,
            "test_transitions": len(scored.truth) if scored else 0,
            "test_episodes": len(np.unique(scored.source)) if scored else 0,
            "decoder": {"kind": self.fitted.kind, "held_out_loss": self.fitted.held_out},
            "change_decoder": {"kind": self.fitted_change.kind, "held_out_loss": self.fitted_change.held_out},
            "stopped": {arm: stop.summary() if stop else None for arm, stop in self.stops.items()},
        }


def write_held_out(path: Path, held_out: HeldOut) -> None:
    """Write predictions as Parquet, atomically: source, frame_index, truth, one column per arm."""
    width = held_out.truth.shape[1]
    vectors = {"truth": held_out.truth, **held_out.predictions}
    columns = {
        "source": pa.array(held_out.source, pa.string()),
        "frame_index": pa.array(held_out.frame_index, pa.int64()),
    } | {
        name: pa.FixedSizeListArray.from_arrays(pa.array(rows.astype(np.float32).ravel()), width)
        for name, rows in vectors.items()
    }
    about = {"scale": held_out.scale.tolist(), "groups": held_out.groups}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata({METADATA_KEY: json.dumps(about)}), buffer)
    write_bytes(path, buffer.getvalue())


def read_held_out(path: Path) -> HeldOut:
    """Read what `write_held_out` wrote.

    Raises:
        UserError: missing or not such a file.
    """
    try:
        table = pq.read_table(path)
        about = json.loads((table.schema.metadata or {})[METADATA_KEY])
        vectors = {
            name: table[name].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
            for name in table.column_names[2:]
        }
        return HeldOut(
            source=np.asarray(table["source"].to_pylist(), dtype=str),
            frame_index=table["frame_index"].to_numpy(),
            truth=vectors.pop("truth"),
            predictions=vectors,
            scale=np.asarray(about["scale"]),
            groups=about["groups"],
        )
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{path}: no predictions on held-out episodes here; run adapt again") from error


def decode_arms(
    material: Material,
    config: AdaptConfig,
    lam: LAMConfig,
    setting: Setting,
    eye: FrozenFeatures | None = None,
) -> RobotArms:
    """Fit every arm and predict the held-out transitions; without labels there, only ours, with a warning.

    The inverse models get the frozen features of the latent action model where `eye` is given.

    Raises:
        UserError: too few labels of neighbouring transitions to learn changes from.
    """
    before = previous(material)
    change = material.target - material.target[np.maximum(before, 0)]
    moves = material.labelled & (before >= 0) & material.labelled[before]
    if (num := int(moves.sum())) < 2:
        raise UserError(
            f"adapt: {num} of {int(material.labelled.sum())} labelled transitions come right after another one, "
            "expected at least 2, to learn how actions change; raise adapt.labels_budget or adapt.labels_episodes"
        )
    fitted, decoded = _decode(material, material.labelled, material.target, config.mapping, setting.seed)
    fitted_change, decoded_change = _decode(material, moves, change, config.mapping, setting.seed)
    test = np.flatnonzero(~material.train & material.known & (before >= 0))
    if not len(test):
        warnings.warn("labels: none in the test split, so nothing is scored; hold out episodes", stacklevel=2)
        return RobotArms(None, fitted, fitted_change, decoded)

    held = material.target[before[test]]
    predictions = {
        "latent": decoded[test],
        "latent_change": held + decoded_change[test],
        "mean": material.target[material.labelled].mean(dim=0).expand(len(test), -1),
        "hold_last": held,
    }
    stops: dict[str, Stop | None] = {}
    for arm, examples in _rivals(material, before, moves, change).items():
        model = train_idm(
            lam, material.footage, examples, material.actions, config.idm, setting.named(arm), eye
        )
        guess = infer(model, material.footage, material.rows[test], config.idm.context)
        predictions[arm] = held + guess if arm in CHANGE_ARMS else guess
        if examples.episodes is not None:
            stops[arm] = model.stop
    return RobotArms(_held_out(material, test, predictions), fitted, fitted_change, decoded, stops)


def _rivals(material: Material, before: np.ndarray, moves: np.ndarray, change: Tensor) -> dict[str, Examples]:
    """What each inverse model learns from: poses or changes, of the budget or of all training labels."""
    everywhere = material.train & material.known

    def examples(chosen: np.ndarray, target: Tensor, *, are_few: bool) -> Examples:
        episodes = material.source[chosen] if are_few else None
        return Examples(material.rows[chosen], target[torch.from_numpy(chosen)], episodes)

    return {
        "idm_labels": examples(material.labelled, material.target, are_few=True),
        "idm_all": examples(everywhere, material.target, are_few=False),
        "idm_change_labels": examples(moves, change, are_few=True),
        "idm_change_all": examples(everywhere & (before >= 0), change, are_few=False),
    }


def _held_out(material: Material, test: np.ndarray, predictions: Mapping[str, Tensor]) -> HeldOut:
    return HeldOut(
        source=material.source[test],
        frame_index=material.footage.frame_index[material.rows[test]],
        truth=material.target[test].numpy(),
        predictions={arm: guess.numpy() for arm, guess in predictions.items()},
        scale=_spread(material.target[material.labelled]),
        groups=group_joints(material.actions.names),
    )


def previous(material: Material) -> np.ndarray:
    """Row of the transition right before each one in the same shot, if it has a label; else -1."""
    follows = np.zeros(len(material.rows), dtype=bool)
    follows[1:] = (np.diff(material.rows) == 1) & material.known[:-1]
    first = material.footage.first[material.rows]
    follows[1:] &= first[1:] == first[:-1]
    return np.where(follows, np.arange(len(material.rows)) - 1, -1)


def group_joints(names: Sequence[str]) -> dict[str, list[int]]:
    """Parts of a robot by the names of its joints: left and right, arm, hand and leg; else one group "all".

    `kLeftShoulderPitch` belongs to left_arm, `right_hand_thumb_1_joint` to right_hand. A name that tells
    neither side nor part puts everything into one group, for half a grouping would mislead.
    """
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}
        side = next((side for side in ("left", "right") if side in words), None)
        part = next((part for part, marks in PARTS.items() if marks & words), None)
        if part is None or (side is None and part not in UNSIDED):
            return {EVERYTHING: list(range(len(names)))}
        groups.setdefault(f"{side}_{part}" if side else part, []).append(index)
    return groups


# In this order: a left hand's thumb joint may well be called "LeftHandThumbRotation".
PARTS: Mapping[str, set[str]] = {
    "hand": {"hand", "finger", "thumb", "gripper", "pinky"},
    "arm": {"shoulder", "elbow", "wrist", "arm", "forearm"},
    "leg": {"hip", "knee", "ankle", "leg"},
    "waist": {"waist", "torso"},
    "head": {"head", "neck"},
}
UNSIDED = {"waist", "head"}


def r_squared(truth: np.ndarray, guess: np.ndarray, scale: np.ndarray) -> float:
    """1 - residual / total, both summed over rows and standardised components.

    1 when exact, 0 for the mean of the scored rows, below 0 for worse; 0 where the truth is constant.
    """
    residual = (((guess - truth) / scale) ** 2).sum(dtype=np.float64)
    total = (((truth - truth.mean(axis=0)) / scale) ** 2).sum(dtype=np.float64)
    return float(1 - residual / total) if total > 0 else 0.0


def share_of_change(truth: np.ndarray, guess: np.ndarray, held: np.ndarray, scale: np.ndarray) -> float:
    """1 - residual / squared change since the last command, summed over rows and standardised components."""
    residual = (((guess - truth) / scale) ** 2).sum(dtype=np.float64)
    change = (((held - truth) / scale) ** 2).sum(dtype=np.float64)
    return float(1 - residual / change) if change > 0 else 0.0


def _decode(
    material: Material, chosen: np.ndarray, target: Tensor, config: MappingConfig, seed: int
) -> tuple[Fitted, Tensor]:
    """Fit on the rows of a mask; the mapping, and its answers everywhere."""
    rows = torch.from_numpy(chosen)
    fitted = fit_mapping(
        material.given[rows],
        target[rows],
        material.source[chosen],
        material.num_codes,
        config,
        is_discrete=False,
        seed=seed,
    )
    with torch.no_grad():
        return fitted, fitted.mapping(material.given)


def _spread(action: Tensor) -> np.ndarray:
    std = action.std(dim=0, unbiased=False)
    return torch.where(std > 1e-6, std, 1.0).numpy()
