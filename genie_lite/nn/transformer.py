"""Space-time transformer: attention within each frame, then causal attention through time, then one MLP.

Source: Genie, arXiv:2402.15391, section 2 (ST-transformer; no MLP after the spatial layer).
Differs: pre-norm, LayerNorm without bias (RMSNorm has no fused kernel on a CPU); rotary time with a finite
window instead of learnt absolute times, so that a rollout may go on for ever with constant memory and a
cached pass equals a full one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from genie_lite.nn.attention import EVERY, Attention
from genie_lite.nn.position import rotary
from genie_lite.nn.ring import Memory, Page, Ring

PIECE_FRAMES = 16  # a longer clip is cut into pieces of this many, or of a window


class Read(NamedTuple):
    """What of the mixed frames is wanted: of these frames, these rows. The last block computes nothing else."""

    frames: slice = EVERY
    rows: slice = EVERY


ALL = Read()


def reads(frame: Int[Tensor, " s"], other: Int[Tensor, " m"], window: int) -> Bool[Tensor, "s m"]:
    """Which frame reads which, by their indices: itself and those before it, within the window."""
    distance = frame[:, None] - other[None, :]
    return (distance >= 0) & (distance < window)


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

    def next(self, rows: Float[Tensor, "b n d"], page: Page, layer: int) -> Float[Tensor, "b n d"]:
        """Mix one frame with what a page holds; the page keeps it."""
        rows = rows + self.space(self.norm_space(rows))[0]
        if self.time is not None and self.norm_time is not None:
            rows = rows + self.time.look_back(self.norm_time(rows), page, layer)
        return rows + self.mlp(self.norm_mlp(rows))


class STTransformer(nn.Module):
    """A stack of blocks and a last norm. Positions in space are the caller's, time is rotary."""

    def __init__(self, width: int, depth: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.recompute = False  # in training, work a block out again on the way back instead of keeping it
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
        mixed: list[Tensor] = []
        past: list[Memory] = []
        first = 0
        for piece in rows.split(max(PIECE_FRAMES, self.window), dim=1):
            num_past = past[0][0].shape[-2] if past else 0
            time = torch.arange(first, first + piece.shape[1], device=rows.device)
            seen = torch.arange(first - num_past, first + piece.shape[1], device=rows.device)
            mask, is_last = reads(time, seen, self.window), len(time) + first == rows.shape[1]
            out, fresh = self.run(piece, time, mask, past, Read(rows=read), remember=not is_last)
            mixed.append(out)
            if is_last:
                break
            both = [_append(*each) for each in zip(past, fresh, strict=True)] if past else fresh
            past = [
                (keys[..., 1 - self.window :, :], values[..., 1 - self.window :, :]) for keys, values in both
            ]
            first += piece.shape[1]
        return torch.cat(mixed, dim=1)

    def begin(self, age: Int[Tensor, " b"]) -> Ring:
        """Memory of streams whose next frame is number `age`, and of which nothing is known."""
        return Ring.empty(self.window, age)

    def open(self, ring: Ring) -> Page:
        """What streams remember, with a place for their next frame."""
        return ring.open(rotary(ring.age, self.head_width))

    @property
    def reach(self) -> int:
        """Earlier frames that a frame can depend on, through all layers."""
        return len(self.blocks) * (self.window - 1)

    def next(self, rows: Float[Tensor, "b n d"], page: Page) -> Float[Tensor, "b n d"]:
        """Mix the next frame of streams with what they remember; the page keeps it.

        Frame by frame this gives what mixing the whole clip gives. Streams may be of different ages.
        """
        for layer, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            rows = block.next(rows, page, layer)
        return self.norm(rows)

    def run(
        self,
        rows: Float[Tensor, "b s n d"],
        time: Int[Tensor, " s"],
        mask: Bool[Tensor, "s m"],
        past: Sequence[Memory] = (),
        read: Read = ALL,
        remember: bool = False,
    ) -> tuple[Float[Tensor, "b f r d"], list[Memory]]:
        """Mix a packed sequence of frames under any temporal mask.

        Args:
            rows: s frames; they need not be in order, nor different.
            time: their frame indices.
            mask: which frame may read which; those of the past come first.
            past: keys and values of p earlier frames, by block, so that m = p + s; computed with the same rows read.
            read: what is wanted of the s frames.
            remember: whether more frames follow.

        Returns:
            The mixed frames, and if they are to be remembered the keys and values of all s frames by block.
        """
        turn = rotary(time, self.head_width)
        last = len(self.blocks) - 1
        fresh = []
        for number, block in enumerate(self.blocks):
            given = rows, mask, turn, past[number] if past else None, read if number == last else ALL
            if self.recompute and self.training and torch.is_grad_enabled():
                rows, memory = checkpoint(block, *given, use_reentrant=False)
            else:
                rows, memory = block(*given)
            if remember and memory is not None:
                fresh.append(memory)
        return self.norm(rows), fresh


def _append(old: Memory, new: Memory) -> Memory:
    return torch.cat([old[0], new[0]], dim=-2), torch.cat([old[1], new[1]], dim=-2)
