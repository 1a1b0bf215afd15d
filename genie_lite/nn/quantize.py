"""Bottlenecks: continuous vectors in, one of a few codes out.

Both kinds are the library's; this file gives them one face. Everything runs in float32: distances
between near codes drown in bfloat16's rounding.
"""

from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from vector_quantize_pytorch import FSQ, VectorQuantize

from genie_lite.config import Config
from genie_lite.types import Quantized


class VQConfig(Config):
    """Codebook learnt by moving averages; codes that fall out of use restart from encoder outputs.

    Source: VQ-VAE-2, arXiv:1906.00446 (moving averages); ViT-VQGAN, arXiv:2110.04627 (unit-length codes).
    """

    kind: Literal["vq"] = "vq"
    num_codes: int = 1024
    dim: int = 32  # width of a code; small, so that codes stay apart
    decay: float = 0.99  # of the moving averages; nearer to 1 is slower
    restart_below: float = 0.0  # a code whose average count per batch falls below restarts; 0 never restarts
    cosine: bool = True  # compare directions, with codes of unit length


class FSQConfig(Config):
    """Finite scalar quantization: each channel is rounded to one of a few levels; nothing can collapse.

    Source: arXiv:2309.15505. The number of codes is the product of the levels.
    """

    kind: Literal["fsq"] = "fsq"
    levels: tuple[int, ...] = (8, 5, 5)


CodeConfig = Annotated[VQConfig | FSQConfig, Field(discriminator="kind")]


class Quantizer(nn.Module):
    """Projects to the bottleneck's width and chooses one code per row."""

    def __init__(self, config: VQConfig | FSQConfig, width: int) -> None:
        super().__init__()
        self.dim = config.dim if config.kind == "vq" else len(config.levels)
        self.project = nn.Linear(width, self.dim)
        self.layer: VectorQuantize | FSQ
        if config.kind == "vq":
            self.layer = VectorQuantize(
                dim=self.dim,
                codebook_size=config.num_codes,
                decay=config.decay,
                use_cosine_sim=config.cosine,
                threshold_ema_dead_code=config.restart_below,
                commitment_weight=1.0,
            )
            self.num_codes = config.num_codes
        else:
            self.layer = FSQ(levels=list(config.levels))
            self.num_codes = int(torch.tensor(config.levels).prod())

    def forward(self, rows: Float[Tensor, "*rows width"]) -> Quantized:
        with torch.autocast(rows.device.type, enabled=False):
            embedding = self.project(rows.float())
            flat = embedding.reshape(1, -1, self.dim)
            if isinstance(self.layer, FSQ):
                vector, index = self.layer(flat)
                commitment = flat.new_zeros(())
            else:
                vector, index, commitment = self.layer(flat)
        return Quantized(
            index=index.reshape(embedding.shape[:-1]).long(),
            vector=vector.reshape(embedding.shape),
            embedding=embedding,
            commitment=commitment.sum(),
        )

    def vector_of(self, index: Int[Tensor, "*rows"]) -> Float[Tensor, "*rows e"]:
        """The vector that stands for each index, as `forward` would have returned it."""
        if isinstance(self.layer, FSQ):
            return self.layer.indices_to_codes(index.reshape(1, -1)).reshape(*index.shape, self.dim)
        return self.layer.get_codes_from_indices(index.reshape(1, -1)).reshape(*index.shape, self.dim)

    def all_vectors(self) -> Float[Tensor, "num_codes e"]:
        """Every code's vector, in the order of the indices."""
        device = self.project.weight.device
        return self.vector_of(torch.arange(self.num_codes, device=device))
