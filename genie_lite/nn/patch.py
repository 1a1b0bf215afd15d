"""Frames to rows of patches and back: pure reshapes, exact inverses of one another."""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor


def patchify(frames: Float[Tensor, "b t c h w"], patch: int) -> Float[Tensor, "b t n p"]:
    """Cut every frame into `patch` × `patch` squares, row by row; p = c · patch²."""
    return rearrange(frames, "b t c (y p) (x q) -> b t (y x) (c p q)", p=patch, q=patch)


def unpatchify(
    patches: Float[Tensor, "b t n p"], patch: int, grid_hw: tuple[int, int]
) -> Float[Tensor, "b t c h w"]:
    """Put squares back into frames; `grid_hw` counts patches down and across."""
    return rearrange(
        patches, "b t (y x) (c p q) -> b t c (y p) (x q)", p=patch, q=patch, y=grid_hw[0], x=grid_hw[1]
    )


def grid_of(frame_hw: tuple[int, int], patch: int) -> tuple[int, int]:
    """Patches down and across a frame.

    Raises:
        ValueError: a side is not divisible by the patch.
    """
    if frame_hw[0] % patch or frame_hw[1] % patch:
        raise ValueError(f"frame_hw {frame_hw[0]}x{frame_hw[1]} is not divisible by patch {patch}")
    return frame_hw[0] // patch, frame_hw[1] // patch
