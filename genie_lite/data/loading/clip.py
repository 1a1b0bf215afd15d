"""What travels from the data to the models: batches of windows, of frames or of their tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Tensor


@dataclass(frozen=True)
class Clip:
    """A batch of windows.

    frames: in [0, 1]. source: name of the video of each window. start: place of its first frame in its
    sample. key: of its sample. frame_index: for each of its frames, the index in the source, which labels
    are joined by. The last two are empty for frames that come from elsewhere than shards.
    """

    frames: Float[Tensor, "b t c h w"]
    source: list[str]
    start: list[int]
    key: list[str] = field(default_factory=list)
    frame_index: list[list[int]] = field(default_factory=list)

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.frames)

    def to(self, device: torch.device | str, **kwargs: Any) -> "Clip":
        """The same clip with its frames on a device."""
        return replace(self, frames=self.frames.to(device, **kwargs))


@dataclass(frozen=True)
class TokenClip:
    """A batch of windows of tokens. Row k of `codes` is the code of frame k -> k + 1."""

    tokens: Int[Tensor, "b t n"]
    codes: Int[Tensor, "b k"]

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.tokens)

    def to(self, device: torch.device | str, **kwargs: Any) -> "TokenClip":
        """The same batch on another device."""
        return TokenClip(self.tokens.to(device, **kwargs), self.codes.to(device, **kwargs))


def to_frames(pixels: UInt8[np.ndarray, "*batch h w c"]) -> Float[Tensor, "*batch c h w"]:
    """uint8 as on disk to float in [0, 1] as in the models: the only place where frames change their type."""
    return rearrange(torch.from_numpy(pixels), "... h w c -> ... c h w").contiguous().float().div_(255)


@dataclass(frozen=True)
class Window:
    """One window as it is read, frames still uint8 `t h w c`."""

    pixels: np.ndarray
    source: str
    start: int
    key: str
    frame_index: list[int]


@dataclass(frozen=True)
class PackedClip:
    """A batch on its way between processes: a quarter of the bytes that a `Clip` has."""

    pixels: UInt8[Tensor, "b t h w c"]
    source: list[str]
    start: list[int]
    key: list[str]
    frame_index: list[list[int]]

    @classmethod
    def of(cls, windows: Sequence[Window]) -> "PackedClip":
        return cls(
            pixels=torch.from_numpy(np.stack([window.pixels for window in windows])),
            source=[window.source for window in windows],
            start=[window.start for window in windows],
            key=[window.key for window in windows],
            frame_index=[window.frame_index for window in windows],
        )

    def unpack(self) -> Clip:
        return Clip(to_frames(self.pixels.numpy()), self.source, self.start, self.key, self.frame_index)
