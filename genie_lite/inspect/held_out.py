"""Held-out clips of a few frames, and what a model says of any two frames of them.

Most checks ask about pairs that no training saw in this form: the last two frames turned round, the outer two of
three, the ends of two videos spliced together. So a pair here is a clip of its own, of two frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor

from genie_lite.data.loading.loader import Clip
from genie_lite.models.lam import LatentActionModel

FRAMES = 5  # of a clip: one to begin from and four to foretell


@dataclass(frozen=True)
class HeldOut:
    """Clips of `FRAMES` frames, on the CPU, a pair's distance from each frame to the next.

    source: name of the video of each.
    """

    frames: Float[Tensor, "clips t c h w"]
    source: np.ndarray

    @staticmethod
    def of(clips: Sequence[Clip]) -> "HeldOut":
        """All windows of some batches."""
        names = [name for clip in clips for name in clip.source]
        return HeldOut(torch.cat([clip.frames for clip in clips]), np.asarray(names, dtype=str))

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.frames)

    def elsewhere(self) -> np.ndarray:
        """For each clip one of another source, where there is any: the partner of a splice, or of a wrong code."""
        order = np.argsort(self.source, kind="stable")
        # Half a turn takes every clip past its own source, unless that has more than half of all clips.
        partner = np.empty_like(order)
        partner[order] = np.roll(order, -(len(order) // 2))
        return partner


@dataclass(frozen=True)
class Said:
    """What a model says of pairs of frames, one row each.

    index: the code. embedding: the vector before the bottleneck. vector: what the decoder reads.
    """

    index: Int[Tensor, " rows"]
    embedding: Float[Tensor, "rows d"]
    vector: Float[Tensor, "rows d"]


@torch.inference_mode()
def say(
    lam: LatentActionModel,
    first: Float[Tensor, "rows c h w"],
    second: Float[Tensor, "rows c h w"],
    batch: int,
) -> Said:
    """Encode each pair as a clip of two frames; on the CPU."""
    device = lam.place.device
    parts = []
    for start in range(0, len(first), batch):
        rows = slice(start, start + batch)
        code = lam.encode(torch.stack([first[rows], second[rows]], dim=1).to(device))
        parts.append([each[:, 0].cpu() for each in (code.index, code.embedding.float(), code.vector.float())])
    return Said(*(torch.cat(each) for each in zip(*parts, strict=True)))


@torch.inference_mode()
def foretell(
    lam: LatentActionModel, past: Float[Tensor, "rows c h w"], vector: Float[Tensor, "rows d"], batch: int
) -> Float[Tensor, "rows c h w"]:
    """The frame that follows each past frame if its vector is what happens; in [0, 1], on the CPU."""
    device = lam.place.device
    parts = [
        lam.decode(
            past[start : start + batch, None].to(device), vector[start : start + batch, None].to(device)
        )
        for start in range(0, len(past), batch)
    ]
    return torch.cat([part[:, 0].float().clamp(0, 1).cpu() for part in parts])


def error(
    prediction: Float[Tensor, "rows c h w"], target: Float[Tensor, "rows c h w"]
) -> Float[np.ndarray, " rows"]:
    """Mean squared error of each frame."""
    return (prediction - target).square().mean(dim=(1, 2, 3)).double().numpy()


def in_rows(frames: Float[Tensor, "clips k c h w"]) -> Float[Tensor, "rows c h w"]:
    """Frames of all clips, one after another."""
    return rearrange(frames, "b k c h w -> (b k) c h w")


def each_time(names: np.ndarray, num: int) -> np.ndarray:
    """The source of each of `in_rows`, of `num` frames a clip."""
    return repeat(names, "b -> (b k)", k=num)
