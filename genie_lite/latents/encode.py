"""From the frames of one shot to the latent action of each of them: what is encoded together, and how much at once.

A model compares frames that lie as far apart as those that it learnt from. With a horizon of n frames, a shot is n
combs that are encoded side by side, and every frame has its row:

    frames      0  1  2  3  4  5  6  7                  n = 3
    comb 0      0 ─────▶ 3 ─────▶ 6                     row 0: 0 → 3, row 3: 3 → 6
    comb 1         1 ─────▶ 4 ─────▶ 7                  row 1: 1 → 4, row 4: 4 → 7
    comb 2            2 ─────▶ 5                        row 2: 2 → 5; rows 5, 6 and 7 lead beyond the shot

With n = 1 there is one comb, the shot itself. Every row has seen as much of its comb's past as the model can use:
shots that are too long for memory are cut, with as much overlap as the model can see, which changes nothing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from genie_lite.data.loading.loader import to_frames
from genie_lite.metrics import psnr_db
from genie_lite.models.lam import LatentActionModel

MAX_PIXELS = 512 * 64 * 64  # of the frames that are encoded at once: about a gigabyte of activations
OVERLAPS = 4  # the shortest piece of a shot, in overlaps: most of what is decoded and encoded is then new


@dataclass(frozen=True)
class Measured:
    """What a model says of some transitions, on the CPU; the names and units are those of `Latents`."""

    code: Int[np.ndarray, " rows"]
    tokens: Int[np.ndarray, "rows m"]
    embedding: Float[np.ndarray, "rows d"]
    recon_psnr_db: Float[np.ndarray, " rows"]
    copy_psnr_db: Float[np.ndarray, " rows"]


def encode_shot(
    lam: LatentActionModel,
    num_frames: int,
    read: Callable[[int, int], UInt8[np.ndarray, "t h w c"]],
    horizon: int = 1,
    max_frames: int | None = None,
) -> Measured:
    """The transitions k → k + horizon of one shot, `max(0, num_frames - horizon)` rows.

    Args:
        lam: in evaluation mode, on the device to use.
        num_frames: of the shot.
        read: gives the frames from one index up to another, the last one left out.
        horizon: frames from the first to the second of a transition.
        max_frames: that are encoded at once, unless the model needs to see more; None for what memory allows.
    """
    height, width = lam.config.frame_hw
    most = max_frames or max(1, MAX_PIXELS // (height * width))
    overlap = horizon * reach(lam)
    parts = [
        _of_rows(encode_frames(lam, read(start, stop), horizon, most), skip)
        for start, stop, skip in pieces(num_frames, max(most, OVERLAPS * overlap), overlap, horizon)
    ]
    return _join(parts) if parts else _nothing(lam)


@torch.inference_mode()
def encode_frames(
    lam: LatentActionModel, frames: UInt8[np.ndarray, "t h w c"], horizon: int, max_frames: int
) -> Measured:
    """The transitions of frames that are read at once, comb by comb, as many combs together as fit; t > horizon."""
    combs = _combs(frames, horizon)
    together = max(1, max_frames // combs.shape[1])
    parts = [_encode_combs(lam, combs[first : first + together]) for first in range(0, horizon, together)]
    rows = {
        name: rearrange(torch.cat([part[name] for part in parts]), "n k ... -> (k n) ...")
        for name in parts[0]
    }
    return Measured(**{name: column[: len(frames) - horizon].cpu().numpy() for name, column in rows.items()})


def reach(lam: LatentActionModel) -> int:
    """How many earlier frames can influence a prediction: each block of both halves looks a window back."""
    return lam.config.depth * (lam.config.window - 1 + lam.config.past_window - 1)


def pieces(
    num_frames: int, max_frames: int, overlap: int, horizon: int = 1
) -> Iterator[tuple[int, int, int]]:
    """Cut a shot into (start, stop, transitions to skip) so that every transition comes out once.

    Each piece begins `overlap` frames before its first new transition; one piece if the shot is short, none if it
    has no transition.
    """
    done = 0  # transitions 0 … done - 1 have been given
    while done + horizon < num_frames:
        start = max(0, done - overlap)
        stop = min(num_frames, start + max(max_frames, overlap + horizon + 1))
        yield start, stop, done - start
        done = stop - horizon


def _combs(frames: UInt8[np.ndarray, "t h w c"], horizon: int) -> UInt8[np.ndarray, "n l h w c"]:
    """Comb o is frames o, o + n, o + 2n, ...; short ones are filled up, which no earlier row can see."""
    num = -(-len(frames) // horizon) * horizon
    filled = np.concatenate([frames, np.zeros((num - len(frames), *frames.shape[1:]), np.uint8)])
    return rearrange(filled, "(l n) h w c -> n l h w c", n=horizon)


def _encode_combs(lam: LatentActionModel, combs: UInt8[np.ndarray, "n l h w c"]) -> dict[str, Tensor]:
    """Each tensor is `n k ...`, one row for every frame of a comb but its last."""
    clip = to_frames(combs).to(lam.place.device)
    result = lam(clip)
    return {
        "code": result.code.index,
        "tokens": result.code.tokens,
        "embedding": result.code.embedding.float(),
        "recon_psnr_db": psnr_db(result.prediction, clip[:, 1:]),
        "copy_psnr_db": psnr_db(clip[:, :-1], clip[:, 1:]),
    }


def _of_rows(measured: Measured, first: int) -> Measured:
    return Measured(**{field.name: getattr(measured, field.name)[first:] for field in fields(Measured)})


def _join(parts: list[Measured]) -> Measured:
    return Measured(
        **{
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(Measured)
        }
    )


def _nothing(lam: LatentActionModel) -> Measured:
    """Of a shot that is too short: the columns of some transition, without it."""
    blank = np.zeros((2, *lam.config.frame_hw, 3), np.uint8)
    return _of_rows(encode_frames(lam, blank, horizon=1, max_frames=2), 1)
