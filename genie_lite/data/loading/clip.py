"""What travels from the data to the models: batches of windows, of frames or of their tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from einops import rearrange, reduce
from jaxtyping import Float, Float16, Int, UInt8
from torch import Tensor


@dataclass(frozen=True)
class Clip:
    """A batch of windows.

    frames: in [0, 1]. source: name of the video of each window. start: place of its first frame in its
    sample. key: of its sample. frame_index: for each of its frames, the index in the source, which labels
    are joined by. dt_s: seconds from one of its frames to the next. weight: how much each pixel of frames[1:] counts
    in a reconstruction, at least 0 and 1 on average over a window; None: all the same. The last four are empty for
    frames that come from elsewhere than shards.
    """

    frames: Float[Tensor, "b t c h w"]
    source: list[str]
    start: list[int]
    key: list[str] = field(default_factory=list)
    frame_index: list[list[int]] = field(default_factory=list)
    dt_s: list[float] = field(default_factory=list)
    weight: Float[Tensor, "b k 1 h w"] | None = None

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.frames)

    def to(self, device: torch.device | str, **kwargs: Any) -> "Clip":
        """The same clip with its frames, and their weight, on a device."""
        weight = None if self.weight is None else self.weight.to(device, **kwargs)
        return replace(self, frames=self.frames.to(device, **kwargs), weight=weight)


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
    """uint8 as on disk to float in [0, 1] as in the models; frames change their type here and in `to_pixels` alone."""
    return rearrange(torch.from_numpy(pixels), "... h w c -> ... c h w").contiguous().float().div_(255)


def to_pixels(frames: Float[Tensor, "*batch c h w"]) -> UInt8[np.ndarray, "*batch h w c"]:
    """Frames in [0, 1] to uint8, as they are shown and written: rounded, values outside clamped."""
    pixels = frames.detach().float().clamp(0, 1).mul(255).round().byte()
    return rearrange(pixels, "... c h w -> ... h w c").contiguous().cpu().numpy()


@dataclass(frozen=True)
class Window:
    """One window as it is read: frames still uint8 `t h w c`, the weight of all but the first `k h w` of mean 1."""

    pixels: np.ndarray
    source: str
    start: int
    key: str
    frame_index: list[int]
    dt_s: float
    weight: np.ndarray | None = None


@dataclass(frozen=True)
class PackedClip:
    """A batch on its way between processes: a quarter of the bytes that a `Clip` has, half of them with a weight.

    weight: as it is rounded here it is a thousandth off at most; `unpack` brings its mean back to 1.
    """

    pixels: UInt8[Tensor, "b t h w c"]
    source: list[str]
    start: list[int]
    key: list[str]
    frame_index: list[list[int]]
    dt_s: list[float]
    weight: Float16[Tensor, "b k h w"] | None = None

    @classmethod
    def of(cls, windows: Sequence[Window]) -> "PackedClip":
        weights = [window.weight for window in windows if window.weight is not None]
        assert len(weights) in (0, len(windows)), "all windows of a batch have a weight, or none"
        return cls(
            pixels=torch.from_numpy(np.stack([window.pixels for window in windows])),
            source=[window.source for window in windows],
            start=[window.start for window in windows],
            key=[window.key for window in windows],
            frame_index=[window.frame_index for window in windows],
            dt_s=[window.dt_s for window in windows],
            weight=torch.from_numpy(np.stack(weights).astype(np.float16)) if weights else None,
        )

    def unpack(self) -> Clip:
        return Clip(
            frames=to_frames(self.pixels.numpy()),
            source=self.source,
            start=self.start,
            key=self.key,
            frame_index=self.frame_index,
            dt_s=self.dt_s,
            weight=None if self.weight is None else _of_mean_one(self.weight),
        )


def _of_mean_one(weight: Float16[Tensor, "b k h w"]) -> Float[Tensor, "b k 1 h w"]:
    exact = rearrange(weight.float(), "b k h w -> b k 1 h w")
    return exact / reduce(exact, "b k 1 h w -> b 1 1 1 1", "mean")
