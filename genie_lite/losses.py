"""Loss functions. Each returns a scalar and says its range and its value in a trivial case.

Where several processes train together, each sees its part of the batch, and the average of their gradients
is taken. For a mean over equally many numbers in each that is the gradient of the whole batch; a mean whose
divisor differs between them is divided by the mean of their divisors instead, which makes it one.
"""

import torch.distributed as dist
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
    batch, over all processes, sum to one, so the unit is that of `pixel_loss`; copying the previous frame
    costs most.
    """
    change = (target - previous).abs().mean(dim=2, keepdim=True).expand_as(target)
    weight = change / _mean_over_processes(change.sum(), prediction).clamp_min(1e-6)
    return (weight * (prediction.float() - target) ** 2).sum()


def masked_cross_entropy(
    logits: Float[Tensor, "b k n v"], tokens: Int[Tensor, "b k n"], masked: Bool[Tensor, "b k n"]
) -> Float[Tensor, ""]:
    """Mean negative log-likelihood, in nats, of the tokens that were hidden; log v for a uniform guess."""
    num = masked.sum().float()
    return F.cross_entropy(logits[masked].float(), tokens[masked]) * (num / _mean_over_processes(num, logits))


def _mean_over_processes(divisor: Float[Tensor, ""], prediction: Tensor) -> Float[Tensor, ""]:
    """The mean of every process's divisor while they train together, else this one's own.

    A prediction without a gradient is a measurement, which one process makes while the others wait.
    """
    if not (prediction.requires_grad and dist.is_available() and dist.is_initialized()):
        return divisor
    total = divisor.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()
