"""What moves between two frames, and where to: the common ground on which effects of codes are compared.

Dense optical flow (Farnebäck 2003, as OpenCV computes it) on luma. Good to half a pixel on what has texture, which
is enough to tell left from right.
"""

import cv2
import numpy as np
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

MOVED_PX = 0.5
WEIGHTS = np.array([0.299, 0.587, 0.114])  # of red, green and blue in luma


def flow(
    first: Float[Tensor, "rows c h w"], second: Float[Tensor, "rows c h w"]
) -> Float[np.ndarray, "rows h w 2"]:
    """Pixels to the right and down that each pixel of the first frame has moved."""
    window = max(5, first.shape[-1] // 8)
    return np.stack(
        [
            cv2.calcOpticalFlowFarneback(before, after, None, 0.5, 3, window, 3, 5, 1.1, 0)  # pyright: ignore
            for before, after in zip(_luma(first), _luma(second), strict=True)
        ]
    ).astype(np.float64)


def main_motion(
    first: Float[Tensor, "rows c h w"], second: Float[Tensor, "rows c h w"]
) -> Float[np.ndarray, "rows 2"]:
    """Mean flow in pixels, weighted by how much each pixel changed: where to that moves which moves."""
    change = np.abs(_luma(second).astype(np.float64) - _luma(first))[..., None]
    return (change * flow(first, second)).sum(axis=(1, 2)) / np.maximum(change.sum(axis=(1, 2)), 1e-6)


def share_moving(
    first: Float[Tensor, "rows c h w"], second: Float[Tensor, "rows c h w"]
) -> Float[np.ndarray, " rows"]:
    """Share of the pixels that moved by more than half a pixel."""
    return (np.linalg.norm(flow(first, second), axis=-1) > MOVED_PX).mean(axis=(1, 2))


def _luma(frames: Float[Tensor, "rows c h w"]) -> np.ndarray:
    rows = rearrange(frames.float().clamp(0, 1).numpy(), "r c h w -> r h w c")
    return (rows @ WEIGHTS * 255).round().astype(np.uint8)
