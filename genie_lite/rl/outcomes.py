"""Labelled outcomes beside frames: what each transition of a run's shots brought, and whether it was the last.

Labels count the frames of a video, shots hold every so-many-th of them: what happened between two frames of a shot
belongs to the transition between them. What happened after a shot's last frame, before the next would have come,
belongs to its last transition where the video's labels end there: robots' datasets mark the end on a frame that nothing
follows. Elsewhere it belongs to no transition that is shown, for another shot may go on from there.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from numpy import ndarray

from genie_lite.data.labels import Labels
from genie_lite.data.loading.clip import to_pixels
from genie_lite.data.loading.loader import to_frames
from genie_lite.data.shards.shards import Sample, ShardSet
from genie_lite.errors import UserError
from genie_lite.models.tokenizer import VideoTokenizer


@dataclass(frozen=True)
class Outcomes:
    """Transitions with known outcomes.

    frames: of all shots, as the tokenizer shows them. row: of each transition's first frame; the next is its
    second. episode: the video that it is of. ended, reward: of the transition.
    """

    frames: UInt8[ndarray, "n h w c"]
    row: Int[ndarray, " k"]
    episode: ndarray
    ended: Bool[ndarray, " k"]
    reward: Float[ndarray, " k"]

    def __len__(self) -> int:
        return len(self.row)

    def pairs(self, which: Int[ndarray, " b"]) -> Float[torch.Tensor, "b 2 c h w"]:
        """The two frames of some transitions."""
        rows = self.row[which]
        return to_frames(np.stack([self.frames[rows], self.frames[rows + 1]], axis=1))


def gather(shards: ShardSet, labels: Labels, tokenizer: VideoTokenizer) -> Outcomes:
    """Every labelled transition of the training shots.

    Args:
        shards: of the run.
        labels: of the episodes to be used.
        tokenizer: of the run; frames become what it makes of them, for a world shows no others.

    Raises:
        UserError: the labels have no ends, or none belongs to a shot.
    """
    if labels.ended is None:
        raise UserError(
            "labels: no column 'ended', so nothing can be learnt of rewards and ends; record the game again, give "
            "labels that have it, or reward a goal image: goal=IMAGE"
        )
    reward = labels.ended.astype(np.float32) if labels.reward is None else labels.reward
    wanted = set(labels.episodes)
    shots = [shot for shot in shards.samples("train") if shot.meta["source"] in wanted]
    parts = [
        _of_shot(shot, labels.frame_index[rows], labels.ended[rows], reward[rows])
        for shot, rows in _rows(shots, labels)
    ]
    if not any(len(where) for where, _, _ in parts):
        raise UserError(
            f"labels: none of their {len(labels.episodes)} episodes is a training shot of {shards.place}; give the "
            "labels of these videos"
        )
    lengths = np.array([shot.meta["num_frames"] for shot in shots])
    first = np.cumsum(lengths) - lengths
    return Outcomes(
        frames=np.concatenate([_as_shown(shot, tokenizer) for shot in shots]),
        row=np.concatenate([start + where for start, (where, _, _) in zip(first, parts, strict=True)]),
        episode=np.concatenate(
            [
                np.full(len(where), shot.meta["source"])
                for shot, (where, _, _) in zip(shots, parts, strict=True)
            ]
        ),
        ended=np.concatenate([ended for _, ended, _ in parts]),
        reward=np.concatenate([earned for _, _, earned in parts]),
    )


def _rows(shots: list[Sample], labels: Labels) -> Iterator[tuple[Sample, ndarray]]:
    """Each shot with the rows of its video's labels."""
    order = np.lexsort((labels.frame_index, labels.sources))
    names = labels.sources[order]
    for shot in shots:
        first, end = (np.searchsorted(names, shot.meta["source"], side=side) for side in ("left", "right"))
        yield shot, order[first:end]


def _of_shot(
    shot: Sample, frame_index: ndarray, ended: ndarray, reward: ndarray
) -> tuple[ndarray, ndarray, ndarray]:
    """The labelled transitions of a shot: their places in it, whether they ended the episode, and their rewards."""
    shown = np.asarray(shot.meta["source_frames"], np.int64)
    num = len(shown) - 1
    if num < 1:
        return np.empty(0, np.int64), np.empty(0, bool), np.empty(0)
    beyond = _beyond(shown, frame_index)
    is_near = (frame_index >= shown[0]) & (frame_index < beyond)
    where = np.minimum(np.searchsorted(shown, frame_index[is_near], side="right") - 1, num - 1)
    known, ends, earned = (
        np.bincount(where, weights=weight, minlength=num)
        for weight in (np.ones(len(where)), ended[is_near].astype(float), reward[is_near].astype(float))
    )
    places = np.flatnonzero(known)
    return places, ends[places] > 0, earned[places]


def _beyond(shown: Int[ndarray, " t"], frame_index: Int[ndarray, " rows"]) -> int:
    """The first frame that is no longer the shot's: where the next would have come, if labels end before it."""
    distinct = np.unique(shown)[
        -2:
    ]  # a frame is shown again where the run has more per second than the video
    following = int(shown[-1] + max(1, distinct[-1] - distinct[0]))
    return following if frame_index.max(initial=-1) < following else int(shown[-1])


@torch.inference_mode()
def _as_shown(shot: Sample, tokenizer: VideoTokenizer) -> UInt8[ndarray, "t h w c"]:
    device = next(tokenizer.parameters()).device
    tokens = tokenizer.encode(to_frames(shot.frames())[None].to(device)).index
    return to_pixels(tokenizer.decode_tokens(tokens)[0])
