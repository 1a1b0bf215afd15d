"""What every kind of bottleneck returns of some rows, and one number for a choice made of several tokens."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Choice:
    """As `types.Quantized`, which has the tokens as one number, too."""

    tokens: Int[Tensor, "*rows m"]
    vector: Float[Tensor, "*rows d"]
    embedding: Float[Tensor, "*rows d"]
    spread: Float[Tensor, "*rows d"] | None
    commitment: Float[Tensor, ""]
    kl: Float[Tensor, ""]


def compose(tokens: Int[Tensor, "*rows m"], base: int) -> Int[Tensor, "*rows"]:
    """The number whose digits the tokens are, each in [0, base); the first one counts most."""
    return (tokens.long() * _places(tokens.shape[-1], base, tokens.device)).sum(dim=-1)


def digits(index: Int[Tensor, "*rows"], base: int, num: int) -> Int[Tensor, "*rows m"]:
    """The `num` tokens that make up each number: what `compose` takes back."""
    return index[..., None].long() // _places(num, base, index.device) % base


def _places(num: int, base: int, device: torch.device) -> Tensor:
    return base ** torch.arange(num - 1, -1, -1, device=device)
