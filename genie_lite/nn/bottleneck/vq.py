"""Vector quantization: one nearest code, several side by side, or several that add up.

Imported when such a bottleneck is built: the library takes seconds.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from vector_quantize_pytorch import VectorQuantize

from genie_lite.nn.bottleneck.choice import chosen
from genie_lite.nn.bottleneck.config import ResidualVQConfig, VQConfig
from genie_lite.nn.bottleneck.processes import join_processes
from genie_lite.types import Quantized


class ProductVQ(VectorQuantize):
    """One code for each of `tokens` parts of a vector, from one book or from as many."""

    def __init__(self, config: VQConfig) -> None:
        super().__init__(
            dim=config.width,
            codebook_dim=config.dim,
            heads=config.tokens,
            separate_codebook_per_head=config.tokens > 1 and not config.share,
            codebook_size=config.num_codes,
            decay=config.decay,
            use_cosine_sim=config.cosine,
            threshold_ema_dead_code=config.restart_below,  # pyright: ignore[reportArgumentType] - compared only
            commitment_weight=1.0,
        )
        self.width = config.width
        self.sizes, self.num_tokens = config.sizes, config.tokens
        self.num_books = 1 if config.share else config.tokens

    def choose(self, rows: Float[Tensor, "*rows d"]) -> Quantized:
        """The nearest code of every part; in training books learn from the rows."""
        join_processes(self._codebook, self.num_tokens if self.num_books == 1 else 1)
        vector, index, commitment = self(rows.reshape(1, -1, self.width))
        return chosen(
            index.reshape(*rows.shape[:-1], self.num_tokens).long(),
            self.sizes,
            vector=vector.reshape(rows.shape),
            embedding=rows,
            commitment=commitment.sum(),
        )

    def vectors(self, tokens: Int[Tensor, "n m"]) -> Float[Tensor, "n d"]:
        """The codes of each row's tokens, side by side."""
        books: Any = self._codebook.embed  # one, or one for each token
        chosen = [books[at % self.num_books][tokens[:, at]] for at in range(self.num_tokens)]
        return torch.cat(chosen, dim=-1)


class ResidualVQ(nn.Module):
    """`depth` books one after another, or one book as often: each quantizes what is left over, and codes add up.

    Not the library's class of that name: there a shared book lies in the state dict once for every depth, and the
    gradient that is passed straight through comes once for every depth, too.
    """

    def __init__(self, config: ResidualVQConfig) -> None:
        super().__init__()
        self.width, self.share = config.width, config.share
        self.sizes, self.num_tokens = config.sizes, config.depth
        self.books = nn.ModuleList(_book(config) for _ in range(1 if config.share else config.depth))

    def choose(self, rows: Float[Tensor, "*rows d"]) -> Quantized:
        """The nearest code of each row, then of what this misses of it, and so on; in training books learn."""
        left = rows.reshape(1, -1, self.width)
        total, commitment = torch.zeros_like(left), left.new_zeros(())
        asked, tokens = [], []
        for depth in range(self.num_tokens):
            book = self._book(depth)
            join_processes(book._codebook, self.num_tokens if self.share else 1)
            code, index, error = book(left, freeze_codebook=self.share)
            asked.append(left.detach())
            tokens.append(index)
            total, left, commitment = total + code, left - code, commitment + error.sum()
        if self.training and self.share:  # it stayed as it was until every depth had chosen
            self._book(0).update_indices(torch.cat(asked, dim=1), torch.cat(tokens, dim=1))
        vector = total.reshape(rows.shape)
        return chosen(
            torch.cat(tokens).T.reshape(*rows.shape[:-1], self.num_tokens).long(),
            self.sizes,
            vector=rows + (vector - rows).detach() if self.training else vector,
            embedding=rows,
            commitment=commitment,
        )

    def vectors(self, tokens: Int[Tensor, "n m"]) -> Float[Tensor, "n d"]:
        """The sum of the codes of each row's tokens."""
        total = torch.zeros(len(tokens), self.width, device=tokens.device)
        for depth in range(self.num_tokens):
            total = total + self._book(depth)._codebook.embed[0][tokens[:, depth]]
        return total

    def _book(self, depth: int) -> Any:
        return self.books[0 if self.share else depth]


def _book(config: ResidualVQConfig) -> VectorQuantize:
    return VectorQuantize(
        dim=config.width,
        codebook_size=config.num_codes,
        decay=config.decay,
        threshold_ema_dead_code=config.restart_below,  # pyright: ignore[reportArgumentType] - compared only
        commitment_weight=1.0,
        route_gradients_to_input=False,
    )
