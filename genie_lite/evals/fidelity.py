"""How close predicted frames are to true ones, with intervals over episodes.

PSNR is taken of the *mean squared error over the frames*, not averaged over frames: a frame that equals the
last one has an infinite PSNR, and a few still frames would let copy-last-frame win by any margin.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from genie_lite.evals.interval import bootstrap, by_unit, mean_over
from genie_lite.metrics import ssim
from genie_lite.types import Interval

SMALLEST_ERROR = 1e-10  # equal frames give 100 dB, as in metrics.psnr_db


@dataclass(frozen=True)
class Closeness:
    """Errors of single frames.

    error: mean squared error of each frame, pixels in [0, 1].
    ssim: structural similarity of each frame, 1 when equal.
    """

    error: np.ndarray
    ssim: np.ndarray


def compare(prediction: Float[Tensor, "*rows c h w"], target: Float[Tensor, "*rows c h w"]) -> Closeness:
    """Error and similarity of every frame; the results have the shape `rows`."""
    prediction, target = prediction.detach().float().clamp(0, 1).cpu(), target.float().cpu()
    error = (prediction - target).square().mean(dim=(-3, -2, -1))
    return Closeness(error.double().numpy(), ssim(prediction, target).double().numpy())


def join(parts: Sequence[Closeness]) -> Closeness:
    """Frames of several batches as one row of frames."""
    return Closeness(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("error", "ssim")))


def psnr_db(error: np.ndarray, episodes: Sequence[str] | np.ndarray) -> Interval:
    """PSNR of the mean error in dB; `error` and `episodes` have one entry per frame."""
    return bootstrap(by_unit(np.stack([error, np.ones_like(error)], axis=1), episodes), _psnr)


def gain_db(error: np.ndarray, reference: np.ndarray, episodes: Sequence[str] | np.ndarray) -> Interval:
    """PSNR of `error` minus PSNR of `reference` on the same frames, in dB; above 0 when closer."""
    return bootstrap(by_unit(np.stack([error, reference, np.ones_like(error)], axis=1), episodes), _gain)


def similarity(value: np.ndarray, episodes: Sequence[str] | np.ndarray) -> Interval:
    """Mean SSIM, interval over episodes."""
    return mean_over(value, episodes)


def _decibel(error: np.ndarray) -> np.ndarray:
    return -10 * np.log10(np.maximum(error, SMALLEST_ERROR))


def _psnr(sums: np.ndarray) -> np.ndarray:
    return _decibel(sums[..., 0] / sums[..., 1])


def _gain(sums: np.ndarray) -> np.ndarray:
    return _decibel(sums[..., 0] / sums[..., 2]) - _decibel(sums[..., 1] / sums[..., 2])
