"""Bottlenecks: continuous vectors in, one of a few codes out.

Both kinds are the library's; this file gives them one face. Everything runs in float32: distances
between near codes drown in bfloat16's rounding.
"""

import math
from typing import Annotated, Any, Literal

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from genie_lite.config import Config
from genie_lite.types import Quantized

MOST_CODES = 2**16 - 1  # what training keeps of a frame are 16-bit numbers, the last of which says "none"


class VQConfig(Config):
    """Codebook learnt by moving averages; codes that fall out of use restart from encoder outputs.

    Source: VQ-VAE-2, arXiv:1906.00446 (moving averages); ViT-VQGAN, arXiv:2110.04627 (unit-length codes).
    """

    kind: Literal["vq"] = "vq"
    num_codes: int = Field(default=1024, ge=2, le=MOST_CODES)
    dim: int = Field(default=32, ge=1)  # width of a code; small, so that codes stay apart
    decay: float = Field(default=0.99, ge=0, lt=1)  # of the moving averages; nearer to 1 is slower
    # A code whose average count per batch falls below restarts; 0 never restarts.
    restart_below: float = Field(default=0.0, ge=0)
    cosine: bool = True  # compare directions, with codes of unit length


class FSQConfig(Config):
    """Finite scalar quantization: each channel is rounded to one of a few levels; nothing can collapse.

    Source: arXiv:2309.15505. The number of codes is the product of the levels; the library's rounding needs
    three or more of them in each channel.
    """

    kind: Literal["fsq"] = "fsq"
    levels: tuple[Annotated[int, Field(ge=3)], ...] = Field(default=(8, 5, 5), min_length=1)

    @model_validator(mode="after")
    def _codes_can_be_kept(self) -> "FSQConfig":
        if (num_codes := math.prod(self.levels)) > MOST_CODES:
            raise ValueError(
                f"levels: {list(self.levels)} make {num_codes} codes, expected at most {MOST_CODES}"
            )
        return self


CodeConfig = Annotated[VQConfig | FSQConfig, Field(discriminator="kind")]


class _SumOverProcesses(torch.autograd.Function):
    """Adds a tensor up over all processes; so is its gradient, since every process's loss depends on all."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone()
        dist.all_reduce(total)
        return total


def _join_processes(codebook: Any) -> None:
    """Let a codebook learn from the rows of all processes as it would from those of one with the whole batch.

    Asked at every call: the library asks once, when a codebook is made, and models are made before processes
    know of one another. Then each process would learn from its own rows, and the first one's would be kept.
    """
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        codebook.all_reduce_fn = dist.all_reduce
        codebook.replace_sample_fn = _draw_from_all_processes


def _draw_from_all_processes(rows: Float[Tensor, "1 rows d"], num: int) -> Float[Tensor, "1 num d"]:
    """The rows at which `num` codes restart; every process has the same random numbers, so all draw the same."""
    from vector_quantize_pytorch.vector_quantize_pytorch import batched_sample_vectors

    parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, rows.contiguous())
    return batched_sample_vectors(torch.cat(parts, dim=1), num)


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
        mean, var = self._batch_statistics(rows) if self.training else (self.mean, self.var)
        return (rows - mean) * (var + 1e-5).rsqrt()

    def _batch_statistics(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        flat = rows.reshape(-1, rows.shape[-1])
        moments = torch.stack([flat.mean(dim=0), flat.square().mean(dim=0)])
        if dist.is_available() and dist.is_initialized():
            moments = _SumOverProcesses.apply(moments) / dist.get_world_size()
        mean, var = moments[0], (moments[1] - moments[0].square()).clamp_min(0)
        # A plain mean of the first batches, so that nothing is left of the initial values.
        self.num_batches = self.num_batches + 1
        weight = (1 / self.num_batches).clamp_min(self.momentum)
        self.mean = self.mean.lerp(mean.detach(), weight)
        self.var = self.var.lerp(var.detach(), weight)
        return mean, var


class Quantizer(nn.Module):
    """Projects to the bottleneck's width, standardizes, and chooses one code per row."""

    def __init__(self, config: VQConfig | FSQConfig, width: int) -> None:
        super().__init__()
        self.dim = config.dim if config.kind == "vq" else len(config.levels)
        self.project = nn.Linear(width, self.dim, bias=False)  # standardizing would take a bias away
        self.standardize = Standardize(self.dim)
        # Here, not on top: the import takes seconds, and recipes are read without it.
        from vector_quantize_pytorch import FSQ, VectorQuantize

        self.is_fsq = config.kind == "fsq"
        self.layer: Any
        if config.kind == "vq":
            self.layer = VectorQuantize(
                dim=self.dim,
                codebook_size=config.num_codes,
                decay=config.decay,
                use_cosine_sim=config.cosine,
                threshold_ema_dead_code=config.restart_below,  # pyright: ignore[reportArgumentType] - compared only
                commitment_weight=1.0,
            )
            self.num_codes = config.num_codes
        else:
            self.layer = FSQ(levels=list(config.levels))
            self.num_codes = int(torch.tensor(config.levels).prod())

    def forward(self, rows: Float[Tensor, "*rows width"]) -> Quantized:
        with torch.autocast(rows.device.type, enabled=False):
            embedding = self.standardize(self.project(rows.float()))
            flat = embedding.reshape(1, -1, self.dim)
            if self.is_fsq:
                vector, index = self.layer(flat)
                commitment = flat.new_zeros(())
            else:
                _join_processes(self.layer._codebook)
                vector, index, commitment = self.layer(flat)
        chosen = index.reshape(embedding.shape[:-1]).long()
        return Quantized(
            index=chosen,
            tokens=chosen[..., None],
            vector=vector.reshape(embedding.shape),
            embedding=embedding,
            spread=None,
            commitment=commitment.sum(),
            kl=flat.new_zeros(()),
        )

    def vector_of(self, index: Int[Tensor, "*rows"]) -> Float[Tensor, "*rows e"]:
        """The vector that stands for each index, as `forward` would have returned it."""
        if self.is_fsq:
            return self.layer.indices_to_codes(index.reshape(1, -1)).reshape(*index.shape, self.dim)
        return self.layer.get_codes_from_indices(index.reshape(1, -1)).reshape(*index.shape, self.dim)

    def all_vectors(self) -> Float[Tensor, "num_codes e"]:
        """Every code's vector, in the order of the indices."""
        device = self.project.weight.device
        return self.vector_of(torch.arange(self.num_codes, device=device))
