"""Bottlenecks that pass on a vector of numbers: with noise (vae) or as it is (none). And their menu.

Imported when such a bottleneck is built: the library, which has the menu's k-means, takes seconds.
"""

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from vector_quantize_pytorch import VectorQuantize

from genie_lite.nn.bottleneck.choice import chosen
from genie_lite.nn.bottleneck.config import NoneConfig, VAEConfig
from genie_lite.nn.bottleneck.processes import gather_rows, join_processes, num_processes, own_part
from genie_lite.types import Quantized

FIRST_LOG_VAR = -2.0  # of the noise: a third of what means differ by at first
RESTART_SHARE = 0.05  # of an even share of the rows; a centre that gets less starts anew at one of them


class Menu(VectorQuantize):
    """A few centres of vectors, so that a world of continuous actions can be steered by a number.

    K-means by moving averages. The vectors are looked at only: no gradient comes from here. Centres start, and
    start anew, at rows that are far from the others.

    Source: Arthur and Vassilvitskii 2007, k-means++, section 2.2.
    """

    def __init__(self, num: int, width: int) -> None:
        super().__init__(dim=width, codebook_size=num, decay=0.99, commitment_weight=0.0)
        self.num = num
        # The library counts one row for each centre before there are any, and for a hundred steps or so, until those
        # are forgotten, none would start anew. With none counted, the first batch sets them: a centre that gets far
        # more than its share becomes the mean of its rows, and all others start at rows.
        book: Any = self._codebook
        book.cluster_size.zero_()
        book.embed_avg.zero_()

    def nearest(self, rows: Float[Tensor, "*rows d"]) -> Int[Tensor, "*rows 1"]:
        """The nearest centre of every row; in training, centres learn from the rows."""
        book: Any = self._codebook
        join_processes(book)
        book.replace_sample_fn = self._draw
        flat = rearrange(rows.detach(), "... d -> 1 (...) d")
        # The library restarts by counts, and how many rows there are is known only now.
        book.has_dead_code_replacement = True
        book.threshold_ema_dead_code = RESTART_SHARE * flat.shape[1] * num_processes() / self.num
        book.reset_cluster_size = book.threshold_ema_dead_code
        return self(flat)[1].reshape(*rows.shape[:-1], 1).long()

    def centres(self, tokens: Int[Tensor, "n 1"]) -> Float[Tensor, "n d"]:
        """The centres of these numbers."""
        book: Any = self._codebook.embed
        return book[0][tokens[:, 0]]

    def _draw(self, rows: Float[Tensor, "1 n d"], num: int) -> Float[Tensor, "1 num d"]:
        """Rows for `num` centres, each drawn by its squared distance from the nearest centre that there is by then."""
        found, book = gather_rows(rows)[0], self._codebook.embed
        assert isinstance(book, Tensor)
        distance, drawn = torch.cdist(found, book[0]).amin(dim=1), []
        for _ in range(num):
            # On the CPU, where every process has drawn the same so far, whatever its device.
            weight = distance.square().cpu() + 1e-12
            drawn.append(found[int(torch.multinomial(weight, 1))])
            distance = torch.minimum(distance, (found - drawn[-1]).norm(dim=1))
        return torch.stack(drawn)[None]


class Plain(nn.Module):
    """Any vector."""

    def __init__(self, config: NoneConfig) -> None:
        super().__init__()
        self.width, self.sizes = config.width, config.sizes
        self.menu = Menu(config.menu, config.width)

    def choose(self, rows: Float[Tensor, "*rows d"]) -> Quantized:
        """Pass on."""
        return chosen(self.menu.nearest(rows), self.sizes, vector=rows, embedding=rows)

    def vectors(self, tokens: Int[Tensor, "n 1"]) -> Float[Tensor, "n d"]:
        """Centres."""
        return self.menu.centres(tokens)


class Gaussian(nn.Module):
    """A vector with noise around it, and its divergence from a standard normal; no noise in evaluation.

    Noise is drawn from the global generator, on the CPU and for the batch of all processes, of which each takes its
    run of clips: so that a seeded step draws the same whatever the device, however many processes there are, and
    however often training was broken off.

    Source: Kingma and Welling, arXiv:1312.6114, appendix B. Differs: means and logarithms of variances are
    standardized numbers, each with a scale and a shift of its own. So means differ from row to row from the first
    step on, as those of codes do; without that the prior pulled them together before a decoder had learnt to read
    them. A scale may go to zero: then a channel has fallen silent, as the prior wants it.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.width, self.sizes = config.width, config.sizes
        ones = torch.ones(config.width)
        self.scale = nn.Parameter(torch.cat([ones, 0.1 * ones]))
        self.shift = nn.Parameter(torch.cat([0.0 * ones, FIRST_LOG_VAR * ones]))
        self.menu = Menu(config.menu, config.width)

    def choose(self, rows: Float[Tensor, "*rows two_d"]) -> Quantized:
        """Draw; of each row the first half makes means, the second half logarithms of variances."""
        mean, log_var = (rows * self.scale + self.shift).chunk(2, dim=-1)
        spread = (0.5 * log_var).exp()
        # Before the menu draws, so that noise does not depend on it.
        vector = mean + spread * _noise_like(mean) if self.training else mean
        return chosen(
            self.menu.nearest(mean),
            self.sizes,
            vector=vector,
            embedding=mean,
            spread=spread,
            kl=0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(dim=-1).mean(),
        )

    def vectors(self, tokens: Int[Tensor, "n 1"]) -> Float[Tensor, "n d"]:
        """Centres of the means."""
        return self.menu.centres(tokens)


def _noise_like(rows: Float[Tensor, "b ... d"]) -> Float[Tensor, "b ... d"]:
    batch, *rest = rows.shape
    whole = torch.randn(batch * num_processes(), *rest)
    return own_part(whole, batch).to(rows)
