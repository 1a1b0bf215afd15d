"""A latent action model left to itself: its decoder is fed its own predictions, frame after frame."""

import torch
from jaxtyping import Float
from torch import Tensor

from genie_lite.models.lam import LatentActionModel


def drive(
    lam: LatentActionModel, prompt: Float[Tensor, "b t c h w"], vectors: Float[Tensor, "b k e"]
) -> Float[Tensor, "b k c h w"]:
    """The frames that follow a prompt under the given codes' vectors, clamped to [0, 1].

    The prompt's own transitions get their inferred codes. A model that is made to name changes, not to sample
    pictures, blurs after a few frames.
    """
    given = prompt.shape[1]
    if given > 1:
        vectors = torch.cat([lam.encode(prompt).vector, vectors], dim=1)
    frames = prompt
    for seen in range(given, vectors.shape[1] + 1):
        frames = torch.cat([frames, lam.decode(frames, vectors[:, :seen])[:, -1:].clamp(0, 1)], dim=1)
    return frames[:, given:]
