"""Two training processes on one machine, over gloo, and how to compare what they do with what one does."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import pytest
from safetensors.torch import load_file

from genie_lite.data.shards.shards import ShardSet
from genie_lite.models.lam import LAMWeights
from genie_lite.nn.quantize import VQConfig
from genie_lite.train.config import LAMStage, StageConfig, StageName, TokenizerStage
from tests.forked import TRAINER, of_two, run_forked
from tests.training import rows, stage_config

STAGES: tuple[StageName, ...] = get_args(StageName)
NEVER = "-1"

# Run by both processes.
SCRIPT = """
import os, sys
from pathlib import Path
from genie_lite.data.shards.shards import ShardSet
from genie_lite.train.callbacks import ShowProgress
from genie_lite.train.config import STAGES
from genie_lite.train.fit import fit

shards, run, last = ShardSet.open(Path(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3])

def keep_count_and_die(self, trainer, module, *_):
    kept = [getattr(each, "_local_tensor", each).numel() for each in module.model.parameters()]
    (run / f"{stage}-{trainer.global_rank}.kept").write_text(str(sum(kept)))
    if trainer.global_step == last:
        trainer.strategy.barrier()
        os._exit(9)

ShowProgress.on_train_batch_end = keep_count_and_die
for stage, config in zip(sys.argv[4::2], sys.argv[5::2], strict=True):
    config = STAGES[stage].model_validate_json(config)
    fit(stage, config, shards, run, seed=0, wandb="off", trainer={"accelerator": "cpu", "devices": 2})
"""

# How far a tensor may be from that of one process, as a share of its norm. Sums in another order differ by rounding,
# which a code that restarts magnifies about tenfold a step; only the latent action model has such codes here.
FAR = {"tokenizer": 1e-4, "lam": 1e-2, "dynamics": 1e-4}


def tiny(stage: StageName, strategy: str, **train: object) -> StageConfig:
    """A stage with all that processes have to agree on: restarts of codes, the loss of moving pixels, masks."""
    config = stage_config(stage, strategy=strategy, **train)
    if isinstance(config, LAMStage):
        return with_vq(config).model_copy(update={"weights": LAMWeights(motion=1.0)})
    return config


def with_vq(config: StageConfig) -> StageConfig:
    """With a codebook that forgets so fast that codes restart from the first step on."""
    assert isinstance(config, TokenizerStage | LAMStage)
    code = VQConfig(num_codes=8, dim=4, decay=0.5, restart_below=0.9)
    return config.model_copy(update={"model": config.model.model_copy(update={"code": code})})


def train_with_two(
    shards: ShardSet, run: Path, configs: Mapping[StageName, StageConfig], die_at: str = NEVER
) -> subprocess.CompletedProcess[str]:
    """Train stages in order with the same two processes, which are gone after step `die_at`."""
    run.mkdir(exist_ok=True)
    script = run / "script.py"
    script.write_text(SCRIPT)
    argv = [str(script), str(shards.folder), str(run), die_at]
    for stage, config in configs.items():
        argv += [stage, config.model_dump_json()]
    return run_forked(argv, run, TRAINER, of_two())


def train_all_with_two(shards: ShardSet, run: Path, strategy: str) -> None:
    """All three stages, one after another, by the same two processes, without a word of warning."""
    done = train_with_two(shards, run, {stage: tiny(stage, strategy) for stage in STAGES})
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr


def kept(run: Path, stage: StageName) -> list[int]:
    """How many of the model's weights each of the two processes kept."""
    return [int((run / f"{stage}-{rank}.kept").read_text()) for rank in range(2)]


def losses(run: Path, stage: StageName) -> list[float]:
    return [row["loss"] for row in rows(run, stage, "train")]


def link_parents(run: Path, parents: Path) -> None:
    """Let a dynamics model be trained in `run` from the parents of another run."""
    run.mkdir(exist_ok=True)
    for parent in ("tokenizer", "lam"):
        (run / parent).symlink_to(parents / parent)


def assert_same_first_steps(stage: StageName, found: Path, wanted: Path) -> None:
    """Loss and gradient: a step that is another one shows in the next loss at the latest."""
    for name in ("loss", "gradient_norm"):
        few, many = ([row[name] for row in rows(run, stage, "train")][:4] for run in (found, wanted))
        assert few == pytest.approx(many, rel=1e-4), name


def assert_same_end(stage: StageName, found: Path, wanted: Path) -> None:
    """Every tensor of the finished model, by its distance as a share of its norm."""
    few, many = (load_file(run / stage / "model.safetensors") for run in (found, wanted))
    assert few.keys() == many.keys()
    for name in many:
        away = (few[name].float() - many[name].float()).norm()
        assert away <= FAR[stage] * many[name].float().norm() + 1e-6, name
