"""Bottlenecks: vectors in, and out comes little: one of a few codes, or a vector with noise.

Several kinds (`nn/bottleneck/config.py` lists them) behind one face. Each has an alphabet, `num_codes` of them, in
which `index` is a letter and `vector_of` its vector: worlds are steered by it, whatever the kind, as long as it can
be listed. Of the continuous kinds these letters are centres, and `vector` is not one of them.

Everything runs in float32: distances between near codes drown in bfloat16's rounding.
"""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from genie_lite.nn.bottleneck.choice import compose, digits
from genie_lite.nn.bottleneck.config import (
    MOST_CODES,
    CodeConfig,
    FSQConfig,
    NoneConfig,
    ResidualVQConfig,
    TokenConfig,
    VAEConfig,
    VQConfig,
    expect_listable,
)
from genie_lite.nn.bottleneck.standardize import Standardize
from genie_lite.types import Quantized

__all__ = [
    "MOST_CODES",
    "CodeConfig",
    "FSQConfig",
    "NoneConfig",
    "Quantizer",
    "ResidualVQConfig",
    "Standardize",
    "TokenConfig",
    "VAEConfig",
    "VQConfig",
    "expect_listable",
]


class Quantizer(nn.Module):
    """Projects to the bottleneck's width, standardizes, and chooses."""

    def __init__(
        self, config: VQConfig | ResidualVQConfig | FSQConfig | VAEConfig | NoneConfig, width: int
    ) -> None:
        super().__init__()
        self.config = config
        self.dim = config.width
        num_read = 2 * self.dim if config.kind == "vae" else self.dim  # means and variances
        self.project = nn.Linear(width, num_read, bias=False)  # standardizing would take a bias away
        self.standardize = Standardize(num_read)
        self.layer = _layer(config)

    @property
    def kind(self) -> str:
        """See `nn/bottleneck/config.py`."""
        return self.config.kind

    @property
    def is_continuous(self) -> bool:
        """Whether `vector` may be anything, so that `index` says only what it is nearest to."""
        return self.kind in ("vae", "none")

    @property
    def num_tokens(self) -> int:
        """Choices that an index is made of."""
        return len(self.sizes)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many codes each of them may be."""
        return self.layer.sizes

    @property
    def codes_per_token(self) -> int:
        """Size of the alphabet of one of them, the largest where they differ."""
        return max(self.sizes)

    @property
    def num_codes(self) -> int:
        """Size of the alphabet of indices, at most 2^63; see `is_listable`."""
        return math.prod(self.sizes)

    @property
    def is_listable(self) -> bool:
        """Whether the alphabet is small enough for what lists it or counts by it; else tokens are to be asked."""
        return self.num_codes <= MOST_CODES

    def forward(self, rows: Float[Tensor, "*rows width"]) -> Quantized:
        """Pass rows through; in training, books, menus and statistics learn from them."""
        with torch.autocast(rows.device.type, enabled=False):
            return self.layer.choose(self.standardize(self.project(rows.float())))

    def embed(
        self, rows: Float[Tensor, "*rows width"], batch: Float[Tensor, "*batch width"]
    ) -> Float[Tensor, "*rows d"]:
        """The embedding of rows as they would have it together with those of a batch that `forward` was given.

        Gradients reach both, but nothing here learns from the rows: neither statistics nor books nor menus.
        """
        with torch.autocast(rows.device.type, enabled=False):
            beside = self.standardize.beside(self.project(rows.float()), self.project(batch.float()))
            was_training = self.layer.training
            embedding = self.layer.eval().choose(beside).embedding
            self.layer.train(was_training)
        return embedding

    def tokens_of(self, index: Int[Tensor, "*rows"]) -> Int[Tensor, "*rows m"]:
        """The tokens that each index is made of."""
        return digits(index, self.sizes)

    def index_of(self, tokens: Int[Tensor, "*rows m"]) -> Int[Tensor, "*rows"]:
        """The index that tokens make up."""
        return compose(tokens, self.sizes)

    def vector_of(self, index: Int[Tensor, "*rows"]) -> Float[Tensor, "*rows e"]:
        """The vector that stands for each index: as `forward` would have returned it, or its centre."""
        vectors = self.layer.vectors(self.tokens_of(index.reshape(-1)))
        return vectors.reshape(*index.shape, self.dim)

    def all_vectors(self) -> Float[Tensor, "num_codes e"]:
        """Every code's vector, in the order of the indices.

        Raises:
            UserError: there are too many.
        """
        expect_listable(self.config)
        device = self.project.weight.device
        return self.vector_of(torch.arange(self.num_codes, device=device))

    def calibrate(self) -> "Quantizer":
        """Let statistics and the menu learn from what comes through, and nothing else; `eval` ends it.

        For a model whose weights are not to be trained: without it, all rows of one with random weights fall to
        one code.
        """
        self.eval()
        self.standardize.train()
        if self.is_continuous:
            self.layer.menu.train()
        return self


def _layer(config: VQConfig | ResidualVQConfig | FSQConfig | VAEConfig | NoneConfig) -> Any:
    # Here, not on top: the library takes seconds, and recipes are read without it.
    match config:
        case VQConfig():
            from genie_lite.nn.bottleneck.vq import ProductVQ

            return ProductVQ(config)
        case ResidualVQConfig():
            from genie_lite.nn.bottleneck.vq import ResidualVQ

            return ResidualVQ(config)
        case FSQConfig():
            from genie_lite.nn.bottleneck.fsq import ScalarLevels

            return ScalarLevels(config)
        case VAEConfig():
            from genie_lite.nn.bottleneck.continuous import Gaussian

            return Gaussian(config)
        case NoneConfig():
            from genie_lite.nn.bottleneck.continuous import Plain

            return Plain(config)
