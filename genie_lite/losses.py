"""Loss functions. Each returns a scalar and says its range and its value in a trivial case.

Where several processes train together, each sees its part of the batch, and the average of their gradients
is taken. For a mean over equally many numbers in each that is the gradient of the whole batch; a mean whose
divisor differs between them is divided by the mean of their divisors instead, which makes it one.
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


def pixel_loss(
    prediction: Float[Tensor, "b t c h w"],
    target: Float[Tensor, "b t c h w"],
    weight: Float[Tensor, "b t 1 h w"] | None = None,
) -> Float[Tensor, ""]:
    """Mean squared error of [0, 1] pixels; 0 for equal frames, 1 for black against white.

    With a weight, 1 on average over a clip, pixels count by it.
    """
    if weight is None:
        return F.mse_loss(prediction.float(), target)
    return (weight * (prediction.float() - target) ** 2).mean()


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


def relative_distance(found: Float[Tensor, "*rows d"], wanted: Float[Tensor, "*rows d"]) -> Float[Tensor, ""]:
    """Squared distance of vectors as a share of their squared lengths: 0 if equal, 1 if unrelated, 2 if opposite.

    It is the same in any unit, and neither longer nor shorter vectors make it smaller. Where both are far shorter
    than most, as for a transition in which nothing happened, a twentieth of the usual squared lengths stands in for
    theirs: the direction of next to nothing is noise.

    Source: additivity and reversal errors of ALAM, arXiv:2605.10819, ‖found - wanted‖ / ‖found‖.
    Differs: divided by both, so that it is bounded, has a gradient where `found` vanishes, and cannot be lowered by
    making `found` long; squared, so that its gradient vanishes with it.
    """
    far = (found.float() - wanted.float()).square().sum(dim=-1)
    long = found.float().square().sum(dim=-1) + wanted.float().square().sum(dim=-1)
    floor = 0.05 * _mean_over_processes(long.detach().mean(), found)
    return (far / torch.maximum(long, floor).clamp_min(1e-12)).mean()


def mean_where(values: Float[Tensor, "b k"], known: Bool[Tensor, "b k"]) -> Float[Tensor, ""]:
    """Mean of the values that are known, over all processes; 0 where none is."""
    num = known.sum().float()
    return (values * known).sum() / _mean_over_processes(num, values).clamp_min(1.0)


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
