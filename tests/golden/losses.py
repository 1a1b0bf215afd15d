"""What the golden files hold: fifty recorded steps of every stage, through the path that users train on.

    squares ──npy──▶ shards ──loader──▶ fit(stage) ──▶ metrics.jsonl ──▶ {stage}.txt, {stage}.bf16.txt

Two things are stood in for, so that no number hangs on a video codec or on how well a parent was trained:
samples are stored as arrays instead of MP4, and the tokens and codes of the dynamics stage are counted from the
pixels. Shards, loader, files of tokens, Lightning, schedule and clipping are the real ones.

Source: torchtitan, tests/assets/losses (a line per step, remade by hand only).
Differs: every term of the loss and the norm of the gradient are kept beside it.
"""

import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args
from unittest.mock import patch

import numpy as np
import torch
from einops import reduce
from torch import Tensor

import genie_lite.data.shards.shards
import genie_lite.train.tokens
from genie_lite.artifact import write_artifact
from genie_lite.data.shards.token_shards import NO_CODE
from genie_lite.models.dynamics import DynamicsConfig
from genie_lite.models.lam import LAMConfig, LAMWeights, LatentActionModel
from genie_lite.models.tokenizer import TokenizerConfig, VideoTokenizer
from genie_lite.nn.quantize import FSQConfig, VQConfig
from genie_lite.train.callbacks import ShowProgress
from genie_lite.train.config import (
    DynamicsStage,
    LAMStage,
    StageConfig,
    StageName,
    TokenizerStage,
    TrainConfig,
)
from tests.training import SIZE_PX, rows, train, write_shards

Precision = Literal["32-true", "bf16-mixed"]
STAGES: tuple[StageName, ...] = get_args(StageName)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

STEPS = 50
PATCH_PX = 8
FRAME_HW = (SIZE_PX, SIZE_PX)
WIDTH, DEPTH, HEADS, WINDOW = 32, 2, 2, 3

Losses = list[dict[str, float]]  # one row per step, the same names in each


def path_of(stage: StageName, precision: Precision) -> Path:
    """The file that holds a stage's losses."""
    suffix = {"32-true": ".txt", "bf16-mixed": ".bf16.txt"}[precision]
    return Path(__file__).with_name(f"{stage}{suffix}")


def stage_config(stage: StageName, precision: Precision) -> StageConfig:
    """Two blocks of every kind, clips longer than the window, every term of pixels with a weight.

    Batches are large and rates low where codes are learnt: rounding that moves one row to another code is then
    one among many. With 4 clips and a rate of 0.003 the latent action model's losses spread by 1 % in float32.
    """
    is_dynamics = stage == "dynamics"
    training = TrainConfig(
        steps=STEPS,
        batch=4 if is_dynamics else 16,
        clip_frames=5,
        lr=0.003 if is_dynamics else 0.001,
        warmup_steps=5,
        precision=precision,
        log_every=1,
        val_every=STEPS,
        val_clips=8,
        checkpoint_every=STEPS,
    )
    if stage == "tokenizer":
        code = VQConfig(num_codes=16, dim=8, restart_below=0.5)
        return TokenizerStage(model=_tokenizer(WIDTH, DEPTH, code), train=training)
    if stage == "lam":
        code = VQConfig(num_codes=4, dim=8, restart_below=0.5)
        return LAMStage(model=_lam(WIDTH, DEPTH, code), weights=LAMWeights(motion=0.5), train=training)
    shape = DynamicsConfig(width=WIDTH, depth=DEPTH, heads=HEADS, window=WINDOW)
    return DynamicsStage(model=shape, train=training)


def train_golden(stage: StageName, config: StageConfig, folder: Path, last: int = STEPS) -> Losses:
    """Train a stage in an empty folder, and return what it recorded of every step until it is broken off."""

    shown = ShowProgress.on_train_batch_end

    def stop(self: ShowProgress, trainer: Any, *rest: Any) -> None:
        shown(self, trainer, *rest)
        if trainer.global_step == last < STEPS:
            raise InterruptedError

    with (
        suppress(InterruptedError),
        patch.object(ShowProgress, "on_train_batch_end", stop),
        patch.object(genie_lite.data.shards.shards, "read_frames", _read_array),
        patch.object(genie_lite.train.tokens, "encode_shot", _count_shot),
    ):
        shards = write_shards(folder / "shards", encode=_write_array)
        if stage == "dynamics":
            _write_parents(folder)
        train(stage, shards, folder, config)
    kept = [name for name in rows(folder, stage, "train")[0] if name not in ("split", "lr")]
    return [{name: row[name] for name in kept} for row in rows(folder, stage, "train")]


def read_losses(path: Path) -> Losses:
    """The rows of a golden file; its last comment names the columns."""
    lines = path.read_text().splitlines()
    names = [line for line in lines if line.startswith("#")][-1].removeprefix("#").split()
    numbers = [[float(number) for number in line.split()] for line in lines if not line.startswith("#")]
    return [dict(zip(names, row, strict=True)) for row in numbers]


def write_losses(path: Path, losses: Sequence[Mapping[str, float]], title: str) -> None:
    """Write rows so that `read_losses` gives the same float32 numbers."""
    head = [f"# {title}", "# " + " ".join(losses[0])]
    lines = [" ".join(f"{number:.9g}" for number in row.values()) for row in losses]
    path.write_text("\n".join([*head, *lines]) + "\n")


# --- what stands in for codecs and parents -----------------------------------------------------------------


def _write_array(frames: np.ndarray, rate_hz: float) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, frames, allow_pickle=False)
    return buffer.getvalue()


def _read_array(data: bytes, indices: Sequence[int] | None = None) -> np.ndarray:
    frames = np.load(io.BytesIO(data), allow_pickle=False)
    return frames if indices is None else frames[list(indices)]


def _count_shot(frames: Tensor, tokenizer: object, lam: object) -> tuple[np.ndarray, np.ndarray]:
    """Tokens: how many pixels of the square lie in each patch, at most 15. Codes: the way it went, one of nine."""
    square = (frames[:, 0] > 0.5).long()
    tokens = reduce(square, "t (y h) (x w) -> t (y x)", "sum", h=PATCH_PX, w=PATCH_PX).clamp_max(15)
    place = torch.stack([square.amax(dim=2).argmax(dim=1), square.amax(dim=1).argmax(dim=1)])
    down, right = place.diff(dim=1).sign() + 1
    codes = np.full(len(frames), NO_CODE, dtype=np.uint16)
    codes[:-1] = (3 * down + right).numpy()
    return tokens.numpy().astype(np.uint16), codes


def _write_parents(folder: Path) -> None:
    """An untrained tokenizer and latent action model: of the first only sizes are read, of the second fixed codes."""
    torch.manual_seed(0)
    tokens = _tokenizer(width=4, depth=1, code=FSQConfig(levels=(4, 4)))
    codes = _lam(width=4, depth=1, code=FSQConfig(levels=(3, 3)))
    nothing = {"recipe": "name: golden\n", "parents": {}, "data": {}, "metrics": {}, "seconds": 0.0}
    write_artifact(folder / "tokenizer", "tokenizer", VideoTokenizer(tokens), tokens, **nothing)
    write_artifact(folder / "lam", "lam", LatentActionModel(codes), codes, **nothing)


def _tokenizer(width: int, depth: int, code: VQConfig | FSQConfig) -> TokenizerConfig:
    return TokenizerConfig(
        frame_hw=FRAME_HW, patch=PATCH_PX, width=width, depth=depth, heads=HEADS, window=WINDOW, code=code
    )


def _lam(width: int, depth: int, code: VQConfig | FSQConfig) -> LAMConfig:
    return LAMConfig(
        frame_hw=FRAME_HW,
        patch=PATCH_PX,
        width=width,
        depth=depth,
        heads=HEADS,
        window=WINDOW,
        past_window=2,
        code=code,
    )
