"""What every kind of bottleneck returns, and one number for a choice made of several tokens."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genie_lite.types import Quantized


def chosen(
    tokens: Int[Tensor, "*rows m"],
    sizes: Sequence[int],
    *,
    vector: Float[Tensor, "*rows d"],
    embedding: Float[Tensor, "*rows d"],
    spread: Float[Tensor, "*rows d"] | None = None,
    commitment: Float[Tensor, ""] | None = None,
    kl: Float[Tensor, ""] | None = None,
) -> Quantized:
    """What a bottleneck returns of some rows; `sizes` of its tokens. What a kind does not have is 0, or None."""
    nothing = embedding.new_zeros(())
    return Quantized(
        index=compose(tokens, sizes),
        tokens=tokens,
        vector=vector,
        embedding=embedding,
        spread=spread,
        commitment=nothing if commitment is None else commitment,
        kl=nothing if kl is None else kl,
    )


def compose(tokens: Int[Tensor, "*rows m"], sizes: Sequence[int]) -> Int[Tensor, "*rows"]:
    """The number whose digits the tokens are, each below its size; the first one counts most."""
    index = tokens[..., 0].long()
    for at, size in enumerate(sizes[1:], start=1):
        index = index * size + tokens[..., at]
    return index


def digits(index: Int[Tensor, "*rows"], sizes: Sequence[int]) -> Int[Tensor, "*rows m"]:
    """The tokens that make up each number: what `compose` takes back."""
    left, tokens = index.long(), []
    for size in reversed(sizes):
        tokens.append(left % size)
        left = left // size
    return torch.stack(tokens[::-1], dim=-1)
