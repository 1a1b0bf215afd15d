"""Finite scalar quantization, as the library has it.

Imported when such a bottleneck is built: the library takes seconds.
"""

import math

from jaxtyping import Float, Int
from torch import Tensor
from vector_quantize_pytorch import FSQ

from genie_lite.nn.bottleneck.choice import Choice
from genie_lite.nn.bottleneck.config import FSQConfig


class ScalarLevels(FSQ):
    """Every channel rounded to one of its levels; together they are one token."""

    num_tokens = 1

    def __init__(self, config: FSQConfig) -> None:
        super().__init__(levels=list(config.levels))
        self.width, self.codes_per_token = config.width, math.prod(config.levels)

    def choose(self, rows: Float[Tensor, "*rows d"]) -> Choice:
        """Round."""
        vector, index = self(rows.reshape(1, -1, self.width))
        return Choice(
            tokens=index.reshape(*rows.shape[:-1], 1).long(),
            vector=vector.reshape(rows.shape),
            embedding=rows,
            spread=None,
            commitment=rows.new_zeros(()),
            kl=rows.new_zeros(()),
        )

    def vectors(self, tokens: Int[Tensor, "n 1"]) -> Float[Tensor, "n d"]:
        """The levels that a token stands for."""
        return self.indices_to_codes(tokens.T)[0]
