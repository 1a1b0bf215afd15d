"""Pure loss functions. Each returns a scalar and says its range and its value in a trivial case."""

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


def pixel_loss(
    prediction: Float[Tensor, "b t c h w"], target: Float[Tensor, "b t c h w"]
) -> Float[Tensor, ""]:
    """Mean squared error of [0, 1] pixels; 0 for equal frames, 1 for black against white."""
    return F.mse_loss(prediction.float(), target)


def motion_loss(
    prediction: Float[Tensor, "b k c h w"],
    target: Float[Tensor, "b k c h w"],
    previous: Float[Tensor, "b k c h w"],
) -> Float[Tensor, ""]:
    """Squared error weighted by how much each pixel changed since the previous frame.

    A plain mean over the frame lets a still background drown a small moving hand. The weights of each
    batch sum to one, so the unit is that of `pixel_loss`; copying the previous frame costs most.
    """
    change = (target - previous).abs().mean(dim=2, keepdim=True).expand_as(target)
    weight = change / change.sum().clamp_min(1e-6)
    return (weight * (prediction.float() - target) ** 2).sum()


def masked_cross_entropy(
    logits: Float[Tensor, "b k n v"], tokens: Int[Tensor, "b k n"], masked: Bool[Tensor, "b k n"]
) -> Float[Tensor, ""]:
    """Mean negative log-likelihood, in nats, of the tokens that were hidden; log v for a uniform guess."""
    return F.cross_entropy(logits[masked].float(), tokens[masked])
