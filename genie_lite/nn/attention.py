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
from genie_lite.nn.ring import Memory, Page

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
        """Queries, keys and values, `*batch heads s e`; queries and keys are normalised, queries scaled."""
        query, key, value = rearrange(
            self.to_qkv(rows), "... s (three h e) -> three ... h s e", three=3, h=self.heads
        )
        # The scale of the scores is worked into the few weights of the norm instead of every query.
        scaled = F.layer_norm(query, query.shape[-1:], self.norm_q.weight * query.shape[-1] ** -0.5)
        return scaled.to(value.dtype), self.norm_k(key).to(value.dtype), value

    def forward(
        self,
        rows: Float[Tensor, "*batch s d"],
        mask: Bool[Tensor, "s m"] | None = None,
        turn: Float[Tensor, "2 s half"] | None = None,
        past: Memory | None = None,
        asking: slice = EVERY,
    ) -> tuple[Float[Tensor, "*batch a d"], Memory]:
        """Attend, and return the keys and values of the rows, to be remembered.

        Args:
            rows: what to mix.
            mask: True where query s may read key m; None for everywhere. The keys of the past come first.
            turn: rotary angles of the rows; what is remembered is turned already.
            past: keys and values of earlier rows, `*batch heads p e` each, so that m = p + s.
            asking: the rows that are mixed, from all of them.
        """
        query, key, value = self.project(rows)
        if turn is not None:
            query, key = rotate(query, turn), rotate(key, turn)
        fresh = (key, value)
        if past is not None:
            key, value = torch.cat([past[0], key], dim=-2), torch.cat([past[1], value], dim=-2)
        mixed = _attend(query[..., asking, :], key, value, None if mask is None else mask[asking])
        return self.to_out(rearrange(mixed, "... h s e -> ... s (h e)")), fresh

    def look_back(self, rows: Float[Tensor, "b n d"], page: Page, layer: int) -> Float[Tensor, "b n d"]:
        """Attend from one frame to those that a page holds, itself among them; the page keeps it."""
        query, key, value = self.project(rows[:, :, None])
        keys, values = page.write(layer, (rotate(key, page.turn), value))
        mixed = _attend(rotate(query, page.turn), keys, values, page.is_there)
        return self.to_out(rearrange(mixed, "b n h 1 e -> b n (h e)"))


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    if query.device.type != "cpu":
        return _fused(query, key, value, mask)
    scores = query @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    # The sum within a bfloat16 softmax is float32; only what goes in and comes out is rounded.
    return scores.softmax(dim=-1) @ value


def _fused(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """The same by torch's kernel, which takes one axis of batch and falls back to a slow path for more."""
    lead = query.shape[:-3]
    if mask is not None and mask.ndim > 2:
        mask = mask.expand(*lead, *mask.shape[len(lead) :]).flatten(0, -4)
    flat = (each.flatten(0, -4) for each in (query, key, value))
    return F.scaled_dot_product_attention(*flat, attn_mask=mask, scale=1.0).unflatten(0, lead)
