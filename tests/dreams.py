"""A tiny finished run for the tests of environments: untrained models, shards of moving squares."""

from pathlib import Path

import torch

from genie_lite.artifact import Artifact, write_artifact
from genie_lite.config import dump
from genie_lite.models.dynamics import DynamicsConfig, DynamicsModel, DynamicsSizes, DynamicsSpec
from genie_lite.models.lam import LAMConfig, LatentActionModel
from genie_lite.models.tokenizer import TokenizerConfig, VideoTokenizer
from genie_lite.nn.quantize import VQConfig
from genie_lite.recipe import load_recipe
from tests.training import SIZE_PX, write_shards

TOY = Path(__file__).parents[1] / "recipes" / "toy" / "demo.yaml"
NUM_CODES = 4


def write_run(folder: Path, *, size_px: int = SIZE_PX, seed: int = 1) -> Path:
    """A run of 4 tokens a frame and 4 codes, that draws the likeliest tokens.

    Args:
        folder: to be made.
        size_px: side of its frames; only of 32 pixels there are shards to begin from.
        seed: of all weights; with the default every code leads to a picture of its own.
    """
    if size_px == SIZE_PX:
        write_shards(folder / "shards")
    torch.manual_seed(seed)
    frame_hw = (size_px, size_px)
    shape = {"frame_hw": frame_hw, "patch": size_px // 2, "width": 16, "depth": 1, "heads": 2, "window": 3}
    tokenizer = VideoTokenizer(TokenizerConfig(**shape, code=VQConfig(num_codes=16, dim=4)))
    lam = LatentActionModel(LAMConfig(**shape, code=VQConfig(num_codes=NUM_CODES, dim=4, restart_below=1.0)))
    sizes = DynamicsSizes(vocabulary=16, num_tokens=4, code_dim=4)
    model = DynamicsConfig(width=16, depth=1, heads=2, window=3, inject="add")
    dynamics = DynamicsModel(DynamicsSpec(model=model, sizes=sizes))
    with torch.no_grad():
        tokenizer.to_pixels.weight.mul_(4)
        tokenizer.to_pixels.bias.fill_(0.5)
    _write(folder, tokenizer, lam, dynamics)
    changes = [
        f"data.ingest.size_px={size_px}",
        f"tokenizer.model.frame_hw=[{size_px}, {size_px}]",
        f"lam.model.frame_hw=[{size_px}, {size_px}]",
        "sampling.temperature=0",
        "sampling.refinements=2",
        *([] if size_px == SIZE_PX else ["evaluate.levels=null"]),
    ]
    (folder / "recipe.yaml").write_text(dump(load_recipe(TOY, changes)))
    return folder


def _write(folder: Path, tokenizer: VideoTokenizer, lam: LatentActionModel, dynamics: DynamicsModel) -> None:
    parents: dict[str, Artifact] = {}
    for stage, model, config in (
        ("tokenizer", tokenizer, tokenizer.config),
        ("lam", lam, lam.config),
        ("dynamics", dynamics, dynamics.spec),
    ):
        of = dict(parents) if stage == "dynamics" else {}
        parents[stage] = write_artifact(folder / stage, stage, model, config, "", of, {}, {}, 0.0)
