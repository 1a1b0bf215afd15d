"""Centre and scale a bottleneck's input."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from genie_lite.nn.bottleneck.processes import num_processes, sum_over_processes


class Standardize(nn.Module):
    """Centre and scale each channel over the batch; over running statistics once trained.

    An encoder's outputs share a large common part, so that at the start every row is nearest to the same
    code, and commitment then pulls all rows together there: a bottleneck that says nothing gets no
    gradient to say more, and a small alphabet never recovers. Here rows are spread over the codes from
    the first step, and pulling them all together is without effect.

    Source: batch normalisation before VQ, arXiv:2005.08520, section 3.2. Differs: the statistics are those
    of the global batch on every device, CPUs too, so that two processes take the steps of one.
    """

    mean: Tensor
    var: Tensor
    num_batches: Tensor

    def __init__(self, dim: int, momentum: float = 0.05) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("var", torch.ones(dim))
        self.register_buffer("num_batches", torch.zeros(()))

    def forward(self, rows: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        if not self.training:
            return _scaled(rows, self.mean, self.var)
        mean, var = _statistics(rows)
        self._learn(mean, var)
        return _scaled(rows, mean, var)

    def beside(
        self, rows: Float[Tensor, "*rows d"], batch: Float[Tensor, "*batch d"]
    ) -> Float[Tensor, "*rows d"]:
        """Rows as they would come out together with those of a batch; neither they nor the batch are learnt from."""
        return _scaled(rows, *(_statistics(batch) if self.training else (self.mean, self.var)))

    def _learn(self, mean: Tensor, var: Tensor) -> None:
        # A plain mean of the first batches, so that nothing is left of the initial values.
        self.num_batches = self.num_batches + 1
        weight = (1 / self.num_batches).clamp_min(self.momentum)
        self.mean = self.mean.lerp(mean.detach(), weight)
        self.var = self.var.lerp(var.detach(), weight)


def _statistics(batch: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel, over all processes."""
    flat = batch.reshape(-1, batch.shape[-1])
    moments = torch.stack([flat.mean(dim=0), flat.square().mean(dim=0)])
    moments = sum_over_processes(moments) / num_processes()
    return moments[0], (moments[1] - moments[0].square()).clamp_min(0)


def _scaled(rows: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    return (rows - mean) * (var + 1e-5).rsqrt()
