"""Three ways to tell a space-time transformer which code leads to a frame.

`token` gives every frame one more token that carries the code (jasmine, arXiv:2510.27002, found this
essential on CoinRun); `add` adds the code to every token (Genie, arXiv:2402.15391, section 2); `film`
scales and shifts every token (arXiv:1709.07871). All three act once, before the first block.
"""

from typing import Literal

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor, nn

InjectKind = Literal["token", "add", "film"]


class Inject(nn.Module):
    """Adds a code to the tokens of a frame; `strip` undoes the change of shape."""

    def __init__(self, kind: InjectKind, code_width: int, width: int) -> None:
        super().__init__()
        self.kind = kind
        # The default, non-zero initialisation matters: a code that starts with no effect is easily ignored.
        self.project = nn.Linear(code_width, 2 * width if kind == "film" else width)

    def forward(
        self, rows: Float[Tensor, "b s n d"], code: Float[Tensor, "b s e"]
    ) -> Float[Tensor, "b s m d"]:
        code = self.project(code)[:, :, None]
        if self.kind == "token":
            return torch.cat([code.to(rows.dtype), rows], dim=2)
        if self.kind == "add":
            return rows + code
        scale, shift = code.chunk(2, dim=-1)
        return rows * (1 + scale) + shift

    def strip(self, rows: Float[Tensor, "b s m d"]) -> Float[Tensor, "b s n d"]:
        """Drop the extra token, if this kind adds one."""
        return rows[:, :, 1:] if self.kind == "token" else rows


def prepend(token: Float[Tensor, " d"], rows: Float[Tensor, "b s n d"]) -> Float[Tensor, "b s n+1 d"]:
    """Put the same learnt token in front of every frame's tokens."""
    return torch.cat(
        [repeat(token.to(rows.dtype), "d -> b s 1 d", b=rows.shape[0], s=rows.shape[1]), rows], dim=2
    )
