"""Frames, latent actions and labels of the same transitions, joined once for every arm of a comparison.

The action of a transition is the command at its first frame, frame k: a policy sees no later one when it has to
act. A robot's commands go on while a transition lasts (30 Hz of them, say, against 5 Hz of frames), and those
after the first are not used. A game's choices cannot be thinned out like that: what was chosen at frame k does
not say what else was before frame k + 1, so there a transition is one frame of the video, or is refused.
"""

import fnmatch
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from genie_lite.adapt.config import AdaptConfig
from genie_lite.adapt.footage import Footage
from genie_lite.adapt.mapping import MappingInput, mapping_input
from genie_lite.adapt.supervised import ActionSpace
from genie_lite.data.labels import Labels, join
from genie_lite.errors import UserError
from genie_lite.latents.table import Latents


@dataclass(frozen=True)
class Watched:
    """Transitions of the training split, whoever made them. rows: of frame k in the footage. code: of each."""

    rows: np.ndarray
    code: Int[Tensor, " transitions"]


@dataclass(frozen=True)
class Material:
    """One row per transition, in the order of the shards.

    footage: all frames. watched: all that was seen, not the demonstrations alone. rows: row of frame k in the
    footage. given: what mappings may read. source, split: of the transition. actions: what the labels name.
    target: one-hot or real action where there is a label, zero elsewhere. known: whether there is a label.
    labelled: whether it lies within the budget; only the oracle, and measurements, may use a label outside of it.
    """

    footage: Footage
    watched: Watched
    rows: np.ndarray
    given: MappingInput
    source: np.ndarray
    split: np.ndarray
    num_codes: int
    actions: ActionSpace
    target: Float[Tensor, "transitions a"]
    known: np.ndarray
    labelled: np.ndarray

    @property
    def train(self) -> np.ndarray:
        """Mask of the transitions of the training split."""
        return self.split == "train"

    @property
    def episodes(self) -> list[str]:
        """Sources of the labels within the budget."""
        return np.unique(self.source[self.labelled]).tolist()


def gather(
    footage: Footage, latents: Latents, num_codes: int, labels: Labels, config: AdaptConfig, seed: int
) -> Material:
    """Join by (source, frame index) and draw the budget from the labelled transitions of the train split.

    Args:
        footage: frames of the splits that are used.
        latents: their latent actions; rows without a transition, or without frames, are left out.
        num_codes: size of the alphabet.
        labels: all labels there are.
        config: the budget, and how far mappings look.
        seed: of the order in which episodes enter the budget.

    Raises:
        UserError: no source is a demonstration, no frame has a label (the sources' names differ), fewer than
            two transitions do, or a game's transition spans more than one frame of its video.
    """
    demonstrated = _demonstrated(latents.source, config.demonstrations)
    where = join(footage.source, footage.frame_index, latents.source, latents.frame_index)
    seen = latents.valid & (where >= 0) & footage.has_next[where]
    in_train, chosen = seen & (latents.split == "train"), seen & demonstrated
    watched = Watched(where[in_train], torch.from_numpy(latents.code[in_train]).long())
    latents, rows = latents.select(chosen), where[chosen]
    label_of = labels.locate(latents.source, latents.frame_index)
    known, train = label_of >= 0, latents.split == "train"
    if (known & train).sum() < 2:
        raise UserError(
            f"labels: {int((known & train).sum())} of {int(train.sum())} training transitions have a label; "
            f"expected at least 2. Label source {_first(labels.sources)!r}, video source "
            f"{_first(latents.source)!r}: both must be the video's path below the ingested folder"
        )
    if labels.kind == "discrete":
        _expect_single_frames(latents.select(known))
    usable = labels.select(label_of[known & train])
    budget = draw_budget(usable, config, seed)
    return Material(
        footage=footage,
        watched=watched,
        rows=rows,
        given=mapping_input(latents, num_codes, config.mapping.before, config.mapping.after),
        source=latents.source,
        split=latents.split,
        num_codes=num_codes,
        actions=ActionSpace(labels.kind, labels.names),
        target=_targets(labels, label_of),
        known=known,
        labelled=budget.locate(latents.source, latents.frame_index) >= 0,
    )


def draw_budget(usable: Labels, config: AdaptConfig, seed: int) -> Labels:
    """The few labels that may be learnt from, of all that training transitions have."""
    if config.labels_episodes is not None:
        return usable.budget_episodes(config.labels_episodes, seed, "adapt.labels_episodes")
    return usable.budget(config.labels_budget, seed, "adapt.labels_budget")


def _expect_single_frames(labelled: Latents) -> None:
    longer = np.flatnonzero(labelled.horizon_frames > 1)
    if len(longer):
        row = longer[0]
        first, span = labelled.frame_index[row], labelled.horizon_frames[row]
        rate_hz = span / labelled.dt_s[row]
        raise UserError(
            f"labels: {len(longer)} of {len(labelled)} labelled transitions span more than one frame of their "
            f"video, such as frames {first} to {first + span} of {labelled.source[row]}; expected one choice per "
            f"transition: ingest at the video's own rate, rate_hz={rate_hz:g}, and extract with a window of one "
            f"frame, window_s={1 / rate_hz:.4g}"
        )


def _demonstrated(source: np.ndarray, pattern: str) -> np.ndarray:
    """Mask of the rows whose source matches; a world is learnt from any video, a policy only from good play."""
    names = np.unique(source).tolist()
    chosen = fnmatch.filter(names, pattern)
    if not chosen:
        raise UserError(
            f"adapt.demonstrations: '{pattern}' matches none of the {len(names)} sources, such as {_first(source)!r}"
        )
    return np.isin(source, chosen)


def _targets(labels: Labels, label_of: np.ndarray) -> Tensor:
    known = torch.from_numpy(label_of >= 0)
    action = torch.from_numpy(labels.action[np.maximum(label_of, 0)])
    dense = F.one_hot(action, labels.num_actions) if labels.kind == "discrete" else action
    return dense.float() * known[:, None]


def _first(names: np.ndarray) -> str:
    return str(names[0]) if len(names) else ""
