"""Transitions beside their labels, and what a linear reader makes of them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from genie_lite.adapt.footage import Footage
from genie_lite.data.labels import Labels
from genie_lite.errors import UserError
from genie_lite.evals.probe import read_linear, read_ridge
from genie_lite.inspect.spoken import Spoken, follower


@dataclass(frozen=True)
class Labelled:
    """The transitions that have a label, of both splits.

    ours, other: what the model under test and the network before training say. action: (rows,) or (rows, a).
    train: mask of the training split. stride: rows from frame k to the frame that follows it in its pair.
    """

    ours: Spoken
    other: Spoken
    footage: Footage
    labels: Labels
    action: np.ndarray
    train: np.ndarray
    stride: int

    @property
    def test(self) -> np.ndarray:
        """Mask of the test split."""
        return ~self.train

    @property
    def is_discrete(self) -> bool:
        """Whether actions are choices."""
        return self.labels.kind == "discrete"

    def at(self, shift: int) -> tuple[np.ndarray, np.ndarray]:
        """Actions some transitions later, or earlier, and where there is one."""
        row = follower(self.footage, self.ours.row, shift * self.stride)
        where = np.where(
            row >= 0, self.labels.locate(self.footage.source[row], self.footage.frame_index[row]), -1
        )
        return self.labels.action[where], where >= 0


def attach(ours: Spoken, other: Spoken, footage: Footage, labels: Labels, stride: int) -> Labelled | None:
    """Join with labels by (source, frame index); None where a split has none.

    A choice is that of the whole transition: where a pair lies several frames apart, only those are kept in which the
    choice stays the same.

    Raises:
        UserError: choices, and frames that lie further apart than those of the video.
    """
    where = labels.locate(footage.source[ours.row], footage.frame_index[ours.row])
    known = where >= 0
    if labels.kind == "discrete":
        _expect_native_rate(footage, ours.row[known])
        for step in range(1, stride):
            row = follower(footage, ours.row, step)
            later = labels.locate(footage.source[row], footage.frame_index[row])
            known &= (later >= 0) & (labels.action[later] == labels.action[where])
    train = footage.split[ours.row[known]] == "train"
    if train.all() or not train.any():
        return None
    return Labelled(
        ours.select(known),
        other.select(known),
        footage,
        labels,
        labels.action[where[known]],
        train,
        stride,
    )


def linear_reader(
    rows: Labelled, vector: np.ndarray, action: np.ndarray, weight: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """A linear reader fitted on vectors and actions, to be asked about other vectors."""
    if rows.is_discrete:
        return lambda unseen: read_linear(vector, action, weight, rows.labels.num_actions, unseen)
    return lambda unseen: read_ridge(vector, action, unseen)


def scale_of(rows: Labelled) -> np.ndarray:
    """Standard deviation of each component over the training split; 1 for one that never changes."""
    if rows.is_discrete:
        return np.ones(1)
    spread = rows.action[rows.train].std(axis=0, dtype=np.float64)
    return np.where(spread > 1e-6, spread, 1.0)


def _expect_native_rate(footage: Footage, rows: np.ndarray) -> None:
    after = follower(footage, rows, 1)
    longer = np.flatnonzero((after >= 0) & (footage.frame_index[after] - footage.frame_index[rows] > 1))
    if len(longer):
        row = rows[longer[0]]
        raise UserError(
            f"labels: a transition from frame {footage.frame_index[row]} to {footage.frame_index[row + 1]} of "
            f"{footage.source[row]} has a label; expected one frame of the video, and one choice, from each frame of "
            "the shards to the next: ingest at the video's own rate (rate_hz)"
        )
