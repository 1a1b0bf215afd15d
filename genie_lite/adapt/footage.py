"""All frames of a set of shards in one array, so that training decodes nothing twice."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from genie_lite.data.loading.loader import to_frames
from genie_lite.data.shards.shards import Sample


@dataclass(frozen=True)
class Footage:
    """Frames of many shots, one after another.

    frames: (rows, h, w, c) uint8. first: (rows,) row of the first frame of the row's shot. source, split:
    (rows,) names. frame_index: (rows,) native index in the source. has_next: (rows,) whether row + 1 is the
    next frame of the same shot, that is, whether the row's transition exists.
    """

    frames: np.ndarray
    first: np.ndarray
    source: np.ndarray
    split: np.ndarray
    frame_index: np.ndarray
    has_next: np.ndarray

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.first)

    @property
    def frame_hw(self) -> tuple[int, int]:
        """Height and width of every frame, in pixels."""
        return self.frames.shape[1], self.frames.shape[2]

    def ending_at(self, rows: np.ndarray, num: int) -> Float[Tensor, "b t c h w"]:
        """The `num` frames up to each row; before a shot's start its first frame is repeated."""
        places = rows[:, None] + np.arange(1 - num, 1)
        return to_frames(self.frames[np.maximum(places, self.first[rows][:, None])])


def load_footage(
    shots: Iterable[Sample], num_shots: int = 0, progress: Callable[[int, int], None] | None = None
) -> Footage:
    """Decode shots into memory: 12 kB per frame of 64 x 64 pixels.

    Args:
        shots: samples of the shards; all of one frame size.
        num_shots: how many there are, for `progress(done, num_shots)`.
        progress: called after every shot.

    Raises:
        UserError: a shot cannot be decoded, or has more or fewer frames than it says.
    """
    frames: list[np.ndarray] = []
    shot_of: list[Sample] = []
    for done, shot in enumerate(shots, start=1):
        frames.append(shot.whole())
        shot_of.append(shot)
        if progress is not None:
            progress(done, num_shots)
    lengths = np.array([len(each) for each in frames], dtype=np.int64)
    start = np.cumsum(lengths) - lengths
    has_next = np.ones(lengths.sum(), dtype=bool)
    has_next[np.cumsum(lengths) - 1] = False
    return Footage(
        frames=np.concatenate(frames),
        first=np.repeat(start, lengths),
        source=_spread([shot.meta["source"] for shot in shot_of], lengths),
        split=_spread([shot.meta["split"] for shot in shot_of], lengths),
        frame_index=np.concatenate([np.asarray(shot.meta["source_frames"], np.int64) for shot in shot_of]),
        has_next=has_next,
    )


def _spread(names: Sequence[str], lengths: np.ndarray) -> np.ndarray:
    return np.repeat(np.asarray(names, dtype=str), lengths)
