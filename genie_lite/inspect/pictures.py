"""What a model's codes do, to be looked at: each from several start frames, and one clip's actions in another.

    grid        rows are start frames of different episodes, columns are codes; in each cell the code is held down
                and the model's decoder is fed its own predictions
    change      beside each of these films, how it differs from the mean over its row. What all codes do alike (the
                blur of a prediction, above all) cancels out, and what is left is the code's own doing.
    transfer    clip A's codes from clip B's first frame, beside what A and B really showed

A film is a *sheet* (`evals/pictures.py`), which a page plays, pauses, or shows the end of. A continuous bottleneck
has no alphabet: its columns are the centres of its menu, its transfers the vectors themselves.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from genie_lite.data.loading.clip import Clip, to_pixels
from genie_lite.errors import UserError
from genie_lite.evals.drive import drive
from genie_lite.evals.pictures import animation_webp, sheet_webp, strip_png, tile
from genie_lite.files import write_bytes
from genie_lite.models.lam import LatentActionModel

ALL_CODES = 12  # an alphabet of so many is shown whole
MOST_CODES = 10  # of a larger one, the most frequent
MOST_PX = 128  # longer side of a picture; larger frames are shrunk
TRANSFER_STEPS = 7  # what a model foretells of its own predictions blurs; more would show nothing else
QUALITY = 90  # of the films; the pictures of differences are exact
LIGHTER, DARKER = (224, 112, 16), (40, 120, 224)  # of a change; a pair that the colour-blind tell apart
# Differences are drawn relative to the strongest one, but never to less than this share of the range from black
# to white: of codes that do nothing, rounding errors must not look like effects.
LEAST_SCALE = 0.1
DRAWN = 0.06  # of that scale; fainter differences are left out, for blur is not quite the same in all columns


@dataclass(frozen=True)
class Pictures:
    """listing: what there is, as plain JSON, with names of files. files: name to content."""

    listing: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write every file, each whole or not at all."""
        for name, data in self.files.items():
            write_bytes(folder / name, data)


@dataclass(frozen=True)
class _Window:
    """A clip of one episode; `moves` is its mean absolute change from frame to frame."""

    frames: Float[Tensor, "1 t c h w"]
    source: str
    frame_index: list[int]
    moves: float


@torch.inference_mode()
def paint(
    lam: LatentActionModel,
    clips: Sequence[Clip],
    *,
    rate_hz: float,
    seed: int = 0,
    num_starts: int = 4,
    num_steps: int = 5,
    num_transfers: int = 3,
) -> Pictures:
    """Draw what the codes do, from clips of the livelier half of the episodes.

    Args:
        lam: to look at, on the device of the clips.
        clips: held-out, of many episodes at best.
        rate_hz: of the clips.
        seed: of the choice of episodes.
        num_starts: rows of the grid, at most; one per episode.
        num_steps: foretold frames of a film of the grid.
        num_transfers: pairs of episodes, at most; with a single episode there is none.

    Raises:
        UserError: no clip is longer than the past that the model looks at.
    """
    given = lam.config.past_window
    windows = _choose(clips, max(num_starts, 2 * num_transfers), given, seed)
    if not windows:
        raise UserError(
            f"pictures: found no held-out clip of more than {given} frames, expected at least one; inspect the "
            "model on shards with longer shots"
        )
    codes, share = _frequent(lam, clips)
    files: dict[str, bytes] = {}
    height, width = _shrink(windows[0].frames[0]).shape[-2:]
    listing = {
        "rate_hz": rate_hz,
        "frame_hw": [height, width],
        "given": given,
        "codes": codes,
        "share": share,
        "num_codes": lam.num_codes,
        "is_menu": lam.quantizer.is_continuous,
    }
    listing |= _grid(lam, windows[:num_starts], codes, num_steps, rate_hz, files)
    listing["transfers"] = _transfers(lam, windows, num_transfers, files)
    return Pictures(listing, files)


def _choose(clips: Sequence[Clip], num: int, given: int, seed: int) -> list[_Window]:
    """One window per episode, drawn from the livelier half of the episodes, or from as many as are needed."""
    best: dict[str, _Window] = {}
    for clip in clips:
        if clip.frames.shape[1] <= given:
            continue
        moves = (clip.frames[:, 1:] - clip.frames[:, :-1]).abs().mean(dim=(1, 2, 3, 4)).tolist()
        for row, source in enumerate(clip.source):
            if source not in best or moves[row] > best[source].moves:
                index = clip.frame_index[row] if clip.frame_index else []
                best[source] = _Window(clip.frames[row : row + 1], source, index, moves[row])
    ranked = sorted(best.values(), key=lambda window: (-window.moves, window.source))
    lively = ranked[: max(num, len(ranked) // 2)]
    order = torch.randperm(len(lively), generator=torch.Generator().manual_seed(seed)).tolist()
    return [lively[place] for place in order[:num]]


def _frequent(lam: LatentActionModel, clips: Sequence[Clip]) -> tuple[list[int], list[float]]:
    """The codes to show, in their order, and the share of the clips' transitions that carry each."""
    count = Counter(code for clip in clips for code in lam.encode(clip.frames).index.flatten().tolist())
    total = max(count.total(), 1)
    shown = (
        range(lam.num_codes)
        if lam.num_codes <= ALL_CODES
        else [code for code, _ in sorted(count.items(), key=lambda item: (-item[1], item[0]))[:MOST_CODES]]
    )
    return sorted(shown), [count[code] / total for code in sorted(shown)]


def _grid(
    lam: LatentActionModel,
    windows: Sequence[_Window],
    codes: Sequence[int],
    num_steps: int,
    rate_hz: float,
    files: dict[str, bytes],
) -> dict[str, Any]:
    """Paint all cells into `files`; what is in them."""
    given = lam.config.past_window
    vectors = lam.quantizer.vector_of(torch.tensor(codes, device=windows[0].frames.device))
    films = torch.stack([_hold(lam, window.frames[:, :given], vectors, num_steps) for window in windows])
    change = rearrange(films - films.mean(dim=1, keepdim=True), "s n t c h w -> s n t h w c").mean(dim=-1)
    strongest = float(change.abs().amax())
    pixels, colours = to_pixels(films), _coloured(change / max(strongest, LEAST_SCALE))
    starts = [
        {
            "source": window.source,
            "frame_index": window.frame_index[given - 1] if window.frame_index else None,
            "still": _put(
                files, f"start-{row}.png", strip_png(to_pixels(_shrink(window.frames[0, given - 1 : given])))
            ),
            "cells": [
                {
                    "film": _put(files, f"cell-{row}-{code}.webp", sheet_webp(pixels[row, place], QUALITY)),
                    "change": _put(files, f"change-{row}-{code}.webp", sheet_webp(colours[row, place])),
                }
                for place, code in enumerate(codes)
            ],
        }
        for row, window in enumerate(windows)
    ]
    cells = tile(rearrange(pixels, "s n t h w c -> (s n) t h w c"), columns=len(codes))
    return {
        "frames": num_steps + 1,
        "starts": starts,
        "strongest_change": strongest,
        "is_same": strongest < LEAST_SCALE / 2,
        "together": _put(files, "codes.webp", animation_webp(cells, rate_hz)),
    }


def _hold(
    lam: LatentActionModel, prompt: Float[Tensor, "1 t c h w"], vectors: Float[Tensor, "n e"], num_steps: int
) -> Float[Tensor, "n k c h2 w2"]:
    """Each vector held down from the same prompt; first the prompt's last frame."""
    prompts = repeat(prompt, "1 t c h w -> n t c h w", n=len(vectors))
    foretold = drive(lam, prompts, repeat(vectors, "n e -> n k e", k=num_steps))
    return _shrink(torch.cat([prompts[:, -1:], foretold], dim=1))


def _coloured(change: Float[Tensor, "*rows h w"]) -> np.ndarray:
    """Differences in [-1, 1] as uint8 `*rows h w 4`: the sign is the colour, the size how opaque it is."""
    value = change.float().cpu().numpy()[..., None]
    size = np.maximum(np.abs(value) - DRAWN, 0) / (1 - DRAWN)
    colour = np.where(value > 0, np.array(LIGHTER), np.array(DARKER))
    # The root lets weak differences be seen beside strong ones. Few levels, so that files stay small.
    opacity = np.round(np.sqrt(size) * 31) / 31 * 255
    return np.where(opacity > 0, np.concatenate([colour, opacity], axis=-1), 0).round().astype(np.uint8)


def _transfers(
    lam: LatentActionModel, windows: Sequence[_Window], num: int, files: dict[str, bytes]
) -> list[dict[str, Any]]:
    """Pairs of episodes: the codes of the first, from the first frames of both."""
    pairs = list(zip(windows[0::2], windows[1::2], strict=False))[:num]
    return [_transfer(lam, a, b, f"transfer-{number}", files) for number, (a, b) in enumerate(pairs)]


def _transfer(
    lam: LatentActionModel, a: _Window, b: _Window, name: str, files: dict[str, bytes]
) -> dict[str, Any]:
    given = lam.config.past_window
    num_steps = min(a.frames.shape[1] - given, b.frames.shape[1] - given, TRANSFER_STEPS)
    first, last = given - 1, given - 1 + num_steps  # row k of the codes describes frame k -> k + 1
    code = lam.encode(a.frames)
    vectors = code.vector[:, first:last]

    def from_start_of(window: _Window) -> Tensor:
        foretold = drive(lam, window.frames[:, :given], vectors)
        return torch.cat([window.frames[:, first:given], foretold], dim=1)

    films = {
        "a": a.frames[:, first : last + 1],
        "a_foretold": from_start_of(a),
        "b_driven": from_start_of(b),
        "b": b.frames[:, first : last + 1],
    }
    return {
        "a": a.source,
        "b": b.source,
        "codes": code.index[0, first:last].tolist(),
        "frames": num_steps + 1,
        "films": {
            key: _put(files, f"{name}-{key}.webp", sheet_webp(to_pixels(_shrink(film[0])), QUALITY))
            for key, film in films.items()
        },
    }


def _shrink(frames: Float[Tensor, "*rows c h w"]) -> Float[Tensor, "*rows c h2 w2"]:
    """Frames of at most MOST_PX on their longer side, by averaging."""
    factor = MOST_PX / max(frames.shape[-2:])
    if factor >= 1:
        return frames
    size = [max(1, round(factor * side)) for side in frames.shape[-2:]]
    small = functional.interpolate(frames.reshape(-1, *frames.shape[-3:]), size=size, mode="area")
    return small.reshape(*frames.shape[:-2], *size)


def _put(files: dict[str, bytes], name: str, data: bytes) -> str:
    files[name] = data
    return name
