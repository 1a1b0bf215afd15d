"""Space-time transformer: attention within each frame, then causal attention through time, then one MLP.

Source: Genie, arXiv:2402.15391, section 2 (ST-transformer; no MLP after the spatial layer).
Differs: pre-norm, LayerNorm without bias (RMSNorm has no fused kernel on a CPU); rotary time with a finite
window instead of learnt absolute times, so that a rollout may go on for ever with constant memory and a
cached pass equals a full one.
"""

from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from genie_lite.nn.attention import EVERY, Attention
from genie_lite.nn.position import rotary

PIECE_FRAMES = 16  # a longer clip is cut into pieces of this many, or of a window
Memory = tuple[Tensor, Tensor]  # keys and values of one block, each `b n h p e`
Past = list[Memory]  # one per block; empty where no block looks back


class Read(NamedTuple):
    """What of the mixed frames is wanted: of these frames, these rows. The last block computes nothing else."""

    frames: slice = EVERY
    rows: slice = EVERY


ALL = Read()
NOTHING = Read(frames=slice(0))  # only to be remembered


def causal_band(
    num_frames: int, window: int, num_past: int = 0, device: torch.device | None = None
) -> Tensor:
    """Mask `s m`: frame i reads frames i - window + 1 … i; the first `num_past` keys are from the cache."""
    query = torch.arange(num_past, num_past + num_frames, device=device)[:, None]
    key = torch.arange(num_past + num_frames, device=device)[None, :]
    return (key <= query) & (key > query - window)


class Block(nn.Module):
    """Spatial attention, temporal attention, MLP; each on a normalised residual branch.

    The block of a window of one frame has no temporal attention: there is nothing to attend to.
    """

    def __init__(self, width: int, heads: int, looks_back: bool, expansion: int = 4) -> None:
        super().__init__()
        self.norm_space = nn.LayerNorm(width, bias=False)
        self.space = Attention(width, heads)
        self.norm_time = nn.LayerNorm(width, bias=False) if looks_back else None
        self.time = Attention(width, heads) if looks_back else None
        self.norm_mlp = nn.LayerNorm(width, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width)
        )

    def forward(
        self,
        rows: Float[Tensor, "b s n d"],
        mask: Tensor,
        turn: Tensor,
        past: Memory | None,
        read: Read = ALL,
    ) -> tuple[Float[Tensor, "b f r d"], Memory | None]:
        """Mix; only what is to be read goes on, but every frame is remembered."""
        mixed, _ = self.space(self.norm_space(rows), asking=read.rows)
        rows = rows[:, :, read.rows] + mixed
        memory = None
        if self.time is not None and self.norm_time is not None:
            through_time = rearrange(self.norm_time(rows), "b s n d -> b n s d")
            mixed, memory = self.time(through_time, mask, turn, past, read.frames)
            rows = rows[:, read.frames] + rearrange(mixed, "b n f d -> b f n d")
        else:
            rows = rows[:, read.frames]
        return rows + self.mlp(self.norm_mlp(rows)), memory


class STTransformer(nn.Module):
    """A stack of blocks and a last norm. Positions in space are the caller's, time is rotary."""

    def __init__(self, width: int, depth: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.head_width = width // heads
        self.blocks = nn.ModuleList(Block(width, heads, looks_back=window > 1) for _ in range(depth))
        self.norm = nn.LayerNorm(width, bias=False)

    def forward(self, rows: Float[Tensor, "b t n d"], read: slice = EVERY) -> Float[Tensor, "b t r d"]:
        """Mix a clip; frame i sees frames i - window + 1 … i of every layer below.

        Long clips are worked through piece by piece: the cost grows with their length, not its square.

        Args:
            rows: the clip.
            read: rows of every frame that are wanted.
        """
        past: Past | None = None
        mixed = []
        for piece in rows.split(max(PIECE_FRAMES, self.window), dim=1):
            out, past = self.extend(piece, past, Read(rows=read))
            mixed.append(out)
        return torch.cat(mixed, dim=1)

    def extend(
        self, rows: Float[Tensor, "b t n d"], past: Past | None, read: Read = ALL
    ) -> tuple[Float[Tensor, "b f r d"], Past]:
        """Mix the next frames of a stream whose earlier frames left `past`; return the new past.

        The past is bounded: at most window - 1 frames are kept. Feeding a clip frame by frame gives what
        feeding it whole gives.
        """
        num_past = past[0][0].shape[-2] if past else 0
        mask = causal_band(rows.shape[1], self.window, num_past, rows.device)
        time = torch.arange(num_past + rows.shape[1], device=rows.device)
        mixed, memory = self.run(rows, time, mask, past, read)
        keep = self.window - 1  # of a window of one nothing: then there is no memory either
        return mixed, [(key[..., -keep:, :], value[..., -keep:, :]) for key, value in memory]

    def run(
        self,
        rows: Float[Tensor, "b s n d"],
        time: Int[Tensor, " m"],
        mask: Bool[Tensor, "s m"],
        past: Past | None = None,
        read: Read = ALL,
    ) -> tuple[Float[Tensor, "b f r d"], Past]:
        """Mix a packed sequence of frames under any temporal mask.

        Args:
            rows: s frames; they need not be in order, nor different.
            time: frame index of the m = p + s keys, the cached ones first.
            mask: which frame may read which.
            past: what earlier calls returned, with the same rows read.
            read: what is wanted of the s frames.
        """
        last = len(self.blocks) - 1
        turn = rotary(time, self.head_width)
        memories: Past = []
        for number, block in enumerate(self.blocks):
            memory_before = past[number] if past else None
            rows, memory = block(rows, mask, turn, memory_before, read if number == last else ALL)
            if memory is not None:
                memories.append(memory)
        return self.norm(rows), memories
