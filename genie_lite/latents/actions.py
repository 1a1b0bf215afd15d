"""True actions beside the latent ones, joined by the name of the video and the number of the frame."""

from itertools import pairwise

import numpy as np

from genie_lite.data.labels import Labels
from genie_lite.latents.table import NO_CHOICE


class ActionColumn:
    """Finds the labels of a video's frames; made once for all of them."""

    def __init__(self, labels: Labels) -> None:
        order = np.lexsort((labels.frame_index, labels.sources))
        self._labels = labels.select(order)
        names, first = np.unique(self._labels.sources, return_index=True)
        bounds = np.append(first, len(order)).tolist()
        self._rows_of = {
            name: slice(*pair) for name, pair in zip(names.tolist(), pairwise(bounds), strict=True)
        }

    def of(self, source: str, frame_index: np.ndarray) -> np.ndarray:
        """The label of each frame, as `Latents.action` has it: -1 or NaN where there is none."""
        shape = (len(frame_index), *self._labels.action.shape[1:])
        if self._labels.kind == "discrete":
            action = np.full(shape, NO_CHOICE, dtype=np.int64)
        else:
            action = np.full(shape, np.nan, dtype=np.float32)
        rows = self._rows_of.get(source)
        if rows is not None:
            known = self._labels.frame_index[rows]
            place = np.searchsorted(known, frame_index).clip(max=len(known) - 1)
            has_label = known[place] == frame_index
            action[has_label] = self._labels.action[rows][place[has_label]]
        return action
