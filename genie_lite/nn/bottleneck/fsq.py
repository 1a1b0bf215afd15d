"""Finite scalar quantization, as the library has it.

Imported when such a bottleneck is built: the library takes seconds.
"""

from jaxtyping import Float, Int
from torch import Tensor
from vector_quantize_pytorch import FSQ

from genie_lite.nn.bottleneck.choice import chosen, compose, digits
from genie_lite.nn.bottleneck.config import FSQConfig
from genie_lite.types import Quantized


class ScalarLevels(FSQ):
    """Every channel rounded to one of its levels; together they are one token, or where they make too many codes, each.

    The library has one 32-bit number for all channels, which it adds up as floats, and lists all codes there are;
    so it is asked for neither. Its order stays: the last channel counts most.
    """

    def __init__(self, config: FSQConfig) -> None:
        super().__init__(levels=list(config.levels), return_indices=False)
        self.width, self.sizes, self.levels = config.width, config.sizes, config.levels

    def choose(self, rows: Float[Tensor, "*rows d"]) -> Quantized:
        """Round."""
        vector = self(rows.reshape(1, -1, self.width))[0].reshape(rows.shape)
        level = self._scale_and_shift(vector.detach()).round().long()
        one_token = len(self.sizes) == 1
        return chosen(
            compose(level.flip(-1), self.levels[::-1])[..., None] if one_token else level,
            self.sizes,
            vector=vector,
            embedding=rows,
        )

    def vectors(self, tokens: Int[Tensor, "n m"]) -> Float[Tensor, "n d"]:
        """The levels that tokens stand for."""
        level = digits(tokens[:, 0], self.levels[::-1]).flip(-1) if len(self.sizes) == 1 else tokens
        return self._scale_and_shift_inverse(level)
