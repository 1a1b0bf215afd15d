"""Axis letters and the small frozen results that every layer shares.

Axis letters, used in every shape annotation and every einops pattern of the package:

    b  batch                 h w  height and width, in pixels or in patches
    t  frames of a clip      c    colour channels (RGB)
    k  transitions, t - 1    n    patches (tokens) of one frame
    d  width of a vector     s    frames of a packed sequence (several streams side by side)

`frames` are float `b t c h w` in [0, 1]; uint8 exists only on disk and on the wire.
Row k of anything that describes transitions describes frame k -> frame k + 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Quantized:
    """What a bottleneck returns.

    index: the discrete choice, one integer per vector, in [0, num_codes); of a choice made of several tokens, the
        number that these are the digits of, the first one counting most; of a continuous bottleneck, the nearest of
        its centres.
    tokens: the m choices that `index` is made of.
    vector: what later layers read; gradients pass straight through where it is quantized.
    embedding: the vector before quantization or noise, same shape as `vector`.
    spread: standard deviation of the noise that `vector` is drawn with around `embedding` in training, and that there
        would be in evaluation, where `vector` is `embedding`; None for bottlenecks without noise.
    commitment: what pulls embeddings to codes, 0 for bottlenecks that have no such loss.
    kl: divergence from the prior in nats per vector, mean over the rows; 0 for bottlenecks without a prior.
    """

    index: Int[Tensor, "*rows"]
    tokens: Int[Tensor, "*rows m"]
    vector: Float[Tensor, "*rows d"]
    embedding: Float[Tensor, "*rows d"]
    spread: Float[Tensor, "*rows d"] | None
    commitment: Float[Tensor, ""]
    kl: Float[Tensor, ""]


@dataclass(frozen=True)
class Loss:
    """A weighted sum and the unweighted terms that it was made of."""

    total: Tensor
    terms: Mapping[str, Tensor]

    @classmethod
    def weigh(cls, terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> "Loss":
        """Sum `weights[name] * terms[name]`: no term without a weight, no weight without a term."""
        assert terms.keys() == weights.keys(), (sorted(terms), sorted(weights))
        total = sum(
            (weights[name] * term for name, term in terms.items()), start=0.0 * next(iter(terms.values()))
        )
        return cls(total=total, terms=dict(terms))


@dataclass(frozen=True)
class Interval:
    """A mean with a 95 % confidence interval, and how many independent units it rests on."""

    mean: float
    low: float
    high: float
    num: int
