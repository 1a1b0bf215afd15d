"""A tiny run to train in tests: shards of moving squares, and stages that take a second each."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from genie_lite.artifact import Artifact
from genie_lite.data.shards.index import index_of
from genie_lite.data.shards.shards import Sample, ShardSet, ShardWriter
from genie_lite.data.video.codec import encode_mp4
from genie_lite.files import write_json
from genie_lite.models.dynamics import DynamicsConfig
from genie_lite.models.lam import LAMConfig
from genie_lite.models.tokenizer import TokenizerConfig
from genie_lite.nn.quantize import FSQConfig, VQConfig
from genie_lite.train.config import (
    DynamicsStage,
    LAMStage,
    StageConfig,
    StageName,
    TokenizerStage,
    TrainConfig,
)
from genie_lite.train.fit import fit
from tests.videos import wandering_square

SIZE_PX = 32
STEPS = 8
CPU = {"accelerator": "cpu", "devices": 1}


def write_shards(
    folder: Path,
    num_train: int = 3,
    num_test: int = 1,
    encode: Callable[[np.ndarray, float], bytes] = encode_mp4,
) -> ShardSet:
    """Shards of two samples each; every sample is a shot of 7 or 9 frames, as `encode(frames, rate_hz)` stores it."""
    folder.mkdir(parents=True)
    shards = []
    for split, count in (("train", num_train), ("test", num_test)):
        for number in range(count):
            with ShardWriter(folder, split, number) as writer:
                for part, length in enumerate((9, 7)):
                    writer.add(_sample(f"{split}-{number}-{part}", split, length, encode))
                shards.append(writer.close())
    write_json(folder / "shards.json", index_of(shards, {"size_px": SIZE_PX, "rate_hz": 10.0}))
    return ShardSet.open(folder)


def stage_config(stage: StageName, **train: object) -> StageConfig:
    """A stage of a few thousand weights; keywords change its training."""
    settings = {
        "steps": STEPS,
        "batch": 4,
        "clip_frames": 4,
        "warmup_steps": 2,
        "val_every": 4,
        "val_clips": 2,
        "checkpoint_every": 3,
        "log_every": 1,
        "precision": "32-true",
        "ema_decay": 0.9,
        "lr": 0.01,
    }
    config = TrainConfig.model_validate(settings | train)
    width, depth, heads, window = 16, 1, 2, 3
    if stage == "dynamics":
        shape = DynamicsConfig(width=width, depth=depth, heads=heads, window=window)
        return DynamicsStage(model=shape, train=config)
    frame_hw = (SIZE_PX, SIZE_PX)
    if stage == "tokenizer":
        code = FSQConfig(levels=(4, 4))
        shape = TokenizerConfig(
            frame_hw=frame_hw, patch=16, width=width, depth=depth, heads=heads, window=window, code=code
        )
        return TokenizerStage(model=shape, train=config)
    code = VQConfig(num_codes=4, dim=4, restart_below=0.9)
    shape = LAMConfig(
        frame_hw=frame_hw, patch=16, width=width, depth=depth, heads=heads, window=window, code=code
    )
    return LAMStage(model=shape, train=config)


def train(
    stage: StageName, shards: ShardSet, run: Path, config: StageConfig | None = None, **settings: Any
) -> Artifact:
    """Train a stage on one CPU, or go on where it was broken off; `settings` change how `stage_config` trains."""
    config = config or stage_config(stage, **settings)
    return fit(stage, config, shards, run, seed=0, wandb="off", trainer=CPU, recipe_text="name: tiny\n")


def rows(run: Path, stage: StageName, split: str) -> list[dict[str, float]]:
    """What a stage's metrics.jsonl says of a split, in order."""
    lines = (run / stage / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["split"] == split]


def _sample(key: str, split: str, length: int, encode: Callable[[np.ndarray, float], bytes]) -> Sample:
    meta = {
        "source": f"{key}.mp4",
        "split": split,
        "episode": f"{key}.mp4",
        "segment": 0,
        "rate_hz": 10.0,
        "source_rate_hz": 10.0,
        "source_frames": list(range(length)),
        "height": SIZE_PX,
        "width": SIZE_PX,
        "num_frames": length,
        "sha256": "0" * 64,
    }
    return Sample(key, encode(wandering_square(key, length, SIZE_PX), 10.0), meta)
