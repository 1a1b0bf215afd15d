"""A run to be played in tests: untrained models of 16 x 16 pixels, and what else a run's folder holds."""

from pathlib import Path

import numpy as np

from genie_lite.controls import Controls
from genie_lite.envs.toy import MOVES
from genie_lite.folder import keep_recipe
from genie_lite.recipe import load_recipe
from tests.footage import write_shards
from tests.unit import test_replay

TOY = Path(__file__).parents[1] / "recipes" / "toy" / "demo.yaml"
SMALL = (
    "data.ingest.size_px=16",
    "tokenizer.model.frame_hw=[16,16]",
    "lam.model.frame_hw=[16,16]",
    "evaluate.levels=null",
    "sampling.refinements=2",
)
NOT_RECORDED = ("record=null", "data.source=nowhere")
MOVES_OF_TOY = Controls("discrete", tuple(MOVES), (), (), 4)


def write_run(
    folder: Path, *changes: str, splits: tuple[str, ...] = ("train", "test"), seed: int = 0
) -> Path:
    """A finished run; `splits` are those of its shards, of two shots each (9 and 7 frames).

    Args:
        folder: of the run.
        changes: to the recipe.
        splits: of the shards; without any there are none.
        seed: of the weights.
    """
    keep_recipe(load_recipe(TOY, [f"out={folder.parent}", f"name={folder.name}", *SMALL, *changes]))
    if splits:
        write_shards(folder / "shards", splits)
    return test_replay.write_run(folder, seed)


def noise(num: int = 1, size: int = 16, seed: int = 0) -> np.ndarray:
    """Random frames, uint8 `t h w c`."""
    return np.random.default_rng(seed).integers(0, 256, (num, size, size, 3), dtype=np.uint8)
