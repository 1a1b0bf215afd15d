"""What a model says of whole clips, and how well it foretells each frame from the one before."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from genie_lite.inspect.held_out import HeldOut, each_time, error, in_rows
from genie_lite.models.lam import LatentActionModel


@dataclass(frozen=True)
class Told:
    """Clips beside their codes. index, vector: one per transition of each clip, on the CPU."""

    lam: LatentActionModel
    held_out: HeldOut
    index: Int[Tensor, "clips k"]
    vector: Float[Tensor, "clips k d"]
    batch: int

    @property
    def names(self) -> np.ndarray:
        """The source of every transition, in the order of errors."""
        return each_time(self.held_out.source, self.index.shape[1])

    @property
    def elsewhere(self) -> np.ndarray:
        """For each clip, one of another source."""
        return self.held_out.elsewhere()

    @property
    def past(self) -> Float[Tensor, "clips k c h w"]:
        """Frames that something follows."""
        return self.held_out.frames[:, :-1]

    @torch.inference_mode()
    def foretell(self, vector: Float[Tensor, "clips k d"]) -> Float[Tensor, "clips k c h w"]:
        """Each next frame as the true past and these vectors let expect it; in [0, 1]."""
        device = self.lam.place.device
        parts = [
            self.lam.decode(self.past[rows].to(device), vector[rows].to(device)).float().clamp(0, 1).cpu()
            for rows in (slice(first, first + self.batch) for first in range(0, len(self.index), self.batch))
        ]
        return torch.cat(parts)

    def error(self, vector: Float[Tensor, "clips k d"]) -> Float[np.ndarray, " rows"]:
        """Mean squared error of every next frame."""
        return error(in_rows(self.foretell(vector)), in_rows(self.held_out.frames[:, 1:]))

    def copy_error(self) -> Float[np.ndarray, " rows"]:
        """The same of each last frame in place of the next."""
        return error(in_rows(self.past), in_rows(self.held_out.frames[:, 1:]))


@torch.inference_mode()
def tell(lam: LatentActionModel, held_out: HeldOut, batch: int) -> Told:
    """Let a model name every transition of the clips."""
    device = lam.place.device
    codes = [
        lam.encode(held_out.frames[first : first + batch].to(device))
        for first in range(0, len(held_out), batch)
    ]
    index = torch.cat([code.index.cpu() for code in codes])
    vector = torch.cat([code.vector.float().cpu() for code in codes])
    return Told(lam, held_out, index, vector, batch)
