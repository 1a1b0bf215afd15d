"""Labelled transitions: what a latent action model says about each, and the true action, side by side.

The true action is the command at a transition's first frame, since a policy must act on what it sees there. A
robot's later commands, until the next frame, are not asked for; a game's transition may have no more than one.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import UInt8

from genie_lite.data.labels import Labels
from genie_lite.data.loading.loader import to_frames
from genie_lite.data.shards.shards import Sample
from genie_lite.errors import UserError
from genie_lite.models.lam import LatentActionModel


@dataclass(frozen=True)
class Transitions:
    """One row per labelled transition k -> k + 1, in the order of the shots. Rows without a change stay in.

    code: (rows,) int64. embedding: (rows, d) float32, the vector before it was quantized.
    action: (rows,) int64, or (rows, components) float32. episode: (rows,) str. frame_index: (rows,) int64,
    of frame k in its source. before: like action, of the transition that led to frame k; it means something
    where `follows`, (rows,) bool, says that there is such a transition in the shot and that it has a label.
    """

    code: np.ndarray
    embedding: np.ndarray
    action: np.ndarray
    episode: np.ndarray
    frame_index: np.ndarray
    before: np.ndarray
    follows: np.ndarray

    def __post_init__(self) -> None:
        """Hold the lengths together."""
        assert len({len(getattr(self, field.name)) for field in fields(self)}) == 1

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.code)


@torch.inference_mode()
def label_transitions(
    lam: LatentActionModel, samples: Iterable[Sample], labels: Labels, device: torch.device | str = "cpu"
) -> Transitions:
    """Infer the code of every transition of the shots and join it with its label.

    A shot is encoded as a whole, so every code has seen as much of the past as the model can use. The action
    is the label of frame k; transitions without one are left out.

    Raises:
        UserError: a game's transition spans more than one frame of its video; a shot that cannot be decoded, or has
            other frames than it says.
    """
    parts = [part for sample in samples if len((part := _of_shot(lam, sample, labels, device)).code)]
    if not parts:
        return _empty(lam, labels)
    return Transitions(
        **{
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(Transitions)
        }
    )


def frames_of(samples: Iterable[Sample], labels: Labels) -> UInt8[np.ndarray, "rows h w c"]:
    """The first frame of every row that `label_transitions` makes of the same shots, in the same order."""
    parts = []
    for sample in samples:
        *_, rows = _located(sample, labels)
        if (known := rows >= 0).any():
            parts.append(sample.whole()[:-1][known])
    return np.concatenate(parts)


def _located(sample: Sample, labels: Labels) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every transition of a shot: its first frame in the source, the source, and its row of the labels or -1."""
    native = np.asarray(sample.meta["source_frames"][:-1], dtype=np.int64)
    episode = np.full(len(native), sample.meta["source"])
    return native, episode, labels.locate(episode, native)


def _of_shot(
    lam: LatentActionModel, sample: Sample, labels: Labels, device: torch.device | str
) -> Transitions:
    code = lam.encode(to_frames(sample.whole()[None]).to(device))
    native, episode, rows = _located(sample, labels)
    known = rows >= 0
    if labels.kind == "discrete":
        _expect_single_frames(sample, known)
    led_here = np.concatenate([[-1], rows[:-1]])
    return Transitions(
        code=code.index[0].cpu().numpy()[known],
        embedding=code.embedding[0].float().cpu().numpy()[known],
        action=labels.action[rows[known]],
        episode=episode[known],
        frame_index=native[known],
        before=labels.action[led_here[known]],
        follows=(led_here >= 0)[known],
    )


def _expect_single_frames(sample: Sample, known: np.ndarray) -> None:
    native = np.asarray(sample.meta["source_frames"], dtype=np.int64)
    longer = np.flatnonzero(known & (np.diff(native) > 1))
    if len(longer):
        first, last = native[longer[0]], native[longer[0] + 1]
        rate_hz = sample.meta.get("source_rate_hz")
        raise UserError(
            f"labels: a transition from frame {first} to {last} of {sample.meta['source']} has a label; expected "
            "one frame of the video, and one choice, per transition: ingest at the video's own rate"
            + ("" if rate_hz is None else f", rate_hz={rate_hz:g}")
        )


def _empty(lam: LatentActionModel, labels: Labels) -> Transitions:
    return Transitions(
        code=np.empty(0, np.int64),
        embedding=np.empty((0, lam.code_dim), np.float32),
        action=labels.action[:0],
        episode=np.empty(0, str),
        frame_index=np.empty(0, np.int64),
        before=labels.action[:0],
        follows=np.empty(0, bool),
    )
