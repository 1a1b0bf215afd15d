"""What a model says of the transitions of whole shots, row by row of the footage.

A shot is encoded as a whole, so every code has seen as much of the past as the model can use. Where the frames of a
pair lie several frames apart, a shot is read as that many interleaved ones, so every frame begins a pair all the same.
"""

from dataclasses import dataclass

import numpy as np
import torch

from genie_lite.adapt.footage import Footage
from genie_lite.data.loading.loader import to_frames
from genie_lite.models.lam import LatentActionModel

MOST_FRAMES = 512  # encoded at once


@dataclass(frozen=True)
class Spoken:
    """One row per transition.

    row: of the footage, its frame k. code: composite. tokens: (rows, m) that it is made of. embedding: (rows, d)
    before the bottleneck. spread: (rows, d) standard deviation of its noise, None without. source: its video.
    """

    row: np.ndarray
    code: np.ndarray
    tokens: np.ndarray
    embedding: np.ndarray
    spread: np.ndarray | None
    source: np.ndarray

    def __len__(self) -> int:
        """Number of transitions."""
        return len(self.row)

    def select(self, rows: np.ndarray) -> "Spoken":
        """The given rows, by a mask or by indices."""
        spread = None if self.spread is None else self.spread[rows]
        return Spoken(
            self.row[rows],
            self.code[rows],
            self.tokens[rows],
            self.embedding[rows],
            spread,
            self.source[rows],
        )


@torch.inference_mode()
def listen(lam: LatentActionModel, footage: Footage, stride: int = 1) -> Spoken:
    """Every transition from a frame to the one `stride` later in its shot, in the order of the footage."""
    device = lam.place.device
    parts: list[tuple[np.ndarray, list[np.ndarray]]] = []
    for start, stop in shots(footage):
        for first in range(start, min(start + stride, stop)):
            comb = np.arange(first, stop, stride)
            for piece in range(0, len(comb) - 1, MOST_FRAMES - 1):
                rows = comb[piece : piece + MOST_FRAMES]
                code = lam.encode(to_frames(footage.frames[rows][None]).to(device))
                columns = [code.index[0, :, None], code.tokens[0], code.embedding[0].float()]
                columns += [] if code.spread is None else [code.spread[0].float()]
                parts.append((rows[:-1], [each.cpu().numpy() for each in columns]))
    row = np.concatenate([rows for rows, _ in parts])
    order = np.argsort(row, kind="stable")
    columns = [np.concatenate(each)[order] for each in zip(*(rest for _, rest in parts), strict=True)]
    spread = columns[3] if len(columns) > 3 else None
    return Spoken(row[order], columns[0][:, 0], columns[1], columns[2], spread, footage.source[row[order]])


def shots(footage: Footage) -> list[tuple[int, int]]:
    """First row of every shot and the row after its last."""
    starts = np.unique(footage.first).tolist()
    return list(zip(starts, [*starts[1:], len(footage)], strict=True))


def follower(footage: Footage, row: np.ndarray, shift: int) -> np.ndarray:
    """The rows some frames later, or earlier, in the same shot; -1 where the shot has none."""
    place = row + shift
    inside = (place >= 0) & (place < len(footage))
    place = np.where(inside, place, 0)
    return np.where(inside & (footage.first[place] == footage.first[row]), place, -1)
