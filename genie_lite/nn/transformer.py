"""Space-time transformer: attention within each frame, then causal attention through time, then one MLP.

Source: Genie, arXiv:2402.15391, section 2 (ST-transformer; no MLP after the spatial layer).
Differs: pre-norm, LayerNorm without bias (RMSNorm has no fused kernel on a CPU); rotary time with a finite
window instead of learnt absolute times, so that a rollout may go on for ever with constant memory and a
cached pass equals a full one.
"""

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from genie_lite.nn.attention import Attention
from genie_lite.nn.position import rotary

PIECE_FRAMES = 16  # a longer clip is cut into pieces of this many, or of a window
Past = list[tuple[Tensor, Tensor]]  # one (keys, values) pair per block, each `b n h p e`


def causal_band(
    num_frames: int, window: int, num_past: int = 0, device: torch.device | None = None
) -> Tensor:
    """Mask `s m`: frame i reads frames i - window + 1 … i; the first `num_past` keys are from the cache."""
    query = torch.arange(num_past, num_past + num_frames, device=device)[:, None]
    key = torch.arange(num_past + num_frames, device=device)[None, :]
    return (key <= query) & (key > query - window)


class Block(nn.Module):
    """Spatial attention, temporal attention, MLP; each on a normalised residual branch."""

    def __init__(self, width: int, heads: int, expansion: int = 4) -> None:
        super().__init__()
        self.norm_space = nn.LayerNorm(width, bias=False)
        self.space = Attention(width, heads)
        self.norm_time = nn.LayerNorm(width, bias=False)
        self.time = Attention(width, heads)
        self.norm_mlp = nn.LayerNorm(width, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width)
        )

    def forward(
        self, rows: Float[Tensor, "b s n d"], mask: Tensor, turn: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Float[Tensor, "b s n d"], tuple[Tensor, Tensor]]:
        rows = rows + self.space(self.norm_space(rows))[0]
        through_time = rearrange(self.norm_time(rows), "b s n d -> b n s d")
        mixed, memory = self.time(through_time, mask, turn, past)
        rows = rows + rearrange(mixed, "b n s d -> b s n d")
        return rows + self.mlp(self.norm_mlp(rows)), memory


class STTransformer(nn.Module):
    """A stack of blocks and a last norm. Positions in space are the caller's, time is rotary."""

    def __init__(self, width: int, depth: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.head_width = width // heads
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, bias=False)

    def forward(self, rows: Float[Tensor, "b t n d"]) -> Float[Tensor, "b t n d"]:
        """Mix a clip; frame i sees frames i - window + 1 … i of every layer below.

        Long clips are worked through piece by piece: the cost grows with their length, not its square.
        """
        past: Past | None = None
        mixed = []
        for piece in rows.split(max(PIECE_FRAMES, self.window), dim=1):
            out, past = self.extend(piece, past)
            mixed.append(out)
        return torch.cat(mixed, dim=1)

    def extend(
        self, rows: Float[Tensor, "b t n d"], past: Past | None
    ) -> tuple[Float[Tensor, "b t n d"], Past]:
        """Mix the next frames of a stream whose earlier frames left `past`; return the new past.

        The past is bounded: at most window - 1 frames are kept. Feeding a clip frame by frame gives what
        feeding it whole gives.
        """
        num_past = 0 if past is None else past[0][0].shape[-2]
        mask = causal_band(rows.shape[1], self.window, num_past, rows.device)
        time = torch.arange(num_past + rows.shape[1], device=rows.device)
        mixed, memory = self.run(rows, time, mask, past)
        keep = self.window - 1
        return mixed, [
            (key[..., -keep:, :], value[..., -keep:, :]) if keep else (key[..., :0, :], value[..., :0, :])
            for key, value in memory
        ]

    def run(
        self,
        rows: Float[Tensor, "b s n d"],
        time: Int[Tensor, " m"],
        mask: Bool[Tensor, "s m"],
        past: Past | None = None,
    ) -> tuple[Float[Tensor, "b s n d"], Past]:
        """Mix a packed sequence of frames under any temporal mask.

        Args:
            rows: s frames; they need not be in order, nor different.
            time: frame index of the m = p + s keys, the cached ones first.
            mask: which frame may read which.
            past: what earlier calls returned.
        """
        turn = rotary(time, self.head_width)
        memories: Past = []
        for number, block in enumerate(self.blocks):
            rows, memory = block(rows, mask, turn, None if past is None else past[number])
            memories.append(memory)
        return self.norm(rows), memories
