"""Multi-head attention with normalised queries and keys, rotary time and a cache.

On a CPU the attention is written as plain matrix products: the backward pass of
`scaled_dot_product_attention` in bfloat16 takes ten times as long there as in float32. On other
devices the fused kernel is used. Query and key normalisation: arXiv:2010.04245, as in Genie, app. C.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from genie_lite.nn.position import rotate

EVERY = slice(None)


def check_heads(width: int, heads: int) -> None:
    """Refuse what rotary attention cannot split: it turns pairs of a head's channels.

    Raises:
        ValueError: the heads do not share the width evenly, or get an odd number of channels each.
    """
    if width % (2 * heads):
        raise ValueError(
            f"width {width} cannot be split into {heads} heads of an even width; "
            f"make width a multiple of {2 * heads}, or change heads"
        )


class Attention(nn.Module):
    """Attention over the next to last axis; every axis before it is a batch."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        check_heads(width, heads)
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.norm_q = nn.LayerNorm(width // heads, bias=False)
        self.norm_k = nn.LayerNorm(width // heads, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)

    def project(self, rows: Float[Tensor, "*batch s d"]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, `*batch heads s e`; queries and keys are normalised."""
        query, key, value = rearrange(
            self.to_qkv(rows), "... s (three h e) -> three ... h s e", three=3, h=self.heads
        )
        return self.norm_q(query).to(value.dtype), self.norm_k(key).to(value.dtype), value

    def forward(
        self,
        rows: Float[Tensor, "*batch s d"],
        mask: Bool[Tensor, "s m"] | None = None,
        turn: Float[Tensor, "2 m half"] | None = None,
        past: tuple[Tensor, Tensor] | None = None,
        asking: slice = EVERY,
    ) -> tuple[Float[Tensor, "*batch a d"], tuple[Tensor, Tensor]]:
        """Attend, and return the keys and values that were attended to, before any rotation.

        Args:
            rows: what to mix.
            mask: True where query s may read key m; None for everywhere.
            turn: rotary angles of all m keys; the queries are the last s of them.
            past: keys and values of earlier rows, `*batch heads p e` each, so that m = p + s.
            asking: the rows that are mixed, from all of them.
        """
        query, key, value = self.project(rows)
        if past is not None:
            key, value = torch.cat([past[0], key], dim=-2), torch.cat([past[1], value], dim=-2)
        memory = (key, value)
        if turn is not None:
            query, key = rotate(query, turn[:, -query.shape[-2] :]), rotate(key, turn)
        mixed = _attend(query[..., asking, :], key, value, None if mask is None else mask[asking])
        return self.to_out(rearrange(mixed, "... h s e -> ... s (h e)")), memory


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    if query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.float().softmax(dim=-1).to(value.dtype) @ value
