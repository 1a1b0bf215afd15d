"""Two processes on one machine, over gloo: the same training, in halves."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from genie_lite.data.shards import ShardSet
from genie_lite.errors import UserError
from genie_lite.models.lam import LAMWeights
from genie_lite.nn.quantize import VQConfig
from genie_lite.train.config import LAMStage, StageConfig, StageName, TokenizerStage
from tests.training import rows, stage_config, train, write_shards

ROOT = Path(__file__).parents[2]
NEVER = "-1"

# Lightning starts the second process with the same command line, so this has to be a file.
SCRIPT = """
import os, sys
from pathlib import Path
from genie_lite.data.shards import ShardSet
from genie_lite.train.callbacks import ShowProgress
from genie_lite.train.config import STAGES
from genie_lite.train.fit import fit

shards, run, last = ShardSet.open(Path(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3])

def die(self, trainer, *_):
    if trainer.global_step == last:
        trainer.strategy.barrier()
        os._exit(9)

ShowProgress.on_train_batch_end = die
for stage, config in zip(sys.argv[4::2], sys.argv[5::2], strict=True):
    config = STAGES[stage].model_validate_json(config)
    fit(stage, config, shards, run, seed=0, wandb="off", trainer={"accelerator": "cpu", "devices": 2})
"""


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return write_shards(tmp_path_factory.mktemp("data") / "shards")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, shards: ShardSet) -> Path:
    """All three stages, one after another, by the same two processes."""
    run = tmp_path_factory.mktemp("runs") / "two"
    done = train_with_two(shards, run, NEVER, "tokenizer", "lam", "dynamics")
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    return run


def tiny(stage: StageName, strategy: str = "ddp") -> StageConfig:
    """A stage with all that processes have to agree on: restarts of codes, the loss of moving pixels, masks."""
    config = stage_config(stage, strategy=strategy)
    if isinstance(config, LAMStage):
        return with_vq(config).model_copy(update={"weights": LAMWeights(motion=1.0)})
    return config


def with_vq(config: StageConfig) -> StageConfig:
    """With a codebook that forgets so fast that codes restart from the first step on."""
    assert isinstance(config, TokenizerStage | LAMStage)
    code = VQConfig(num_codes=8, dim=4, decay=0.5, restart_below=0.9)
    return config.model_copy(update={"model": config.model.model_copy(update={"code": code})})


def train_with_two(
    shards: ShardSet, run: Path, die_at: str, *stages: StageName, **configs: StageConfig
) -> subprocess.CompletedProcess[str]:
    run.mkdir(exist_ok=True)
    script = run / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(shards.folder), str(run), die_at]
    for stage in stages:
        command += [stage, configs.get(stage, tiny(stage)).model_dump_json()]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def losses(run: Path, stage: StageName) -> list[float]:
    return [row["loss"] for row in rows(run, stage, "train")]


def assert_same_first_steps(stage: StageName, found: Path, wanted: Path) -> None:
    """Loss and gradient: a step that is another one shows in the next loss at the latest."""
    for name in ("loss", "gradient_norm"):
        few, many = ([row[name] for row in rows(run, stage, "train")][:4] for run in (found, wanted))
        assert few == pytest.approx(many, rel=1e-4), name


@pytest.mark.parametrize("stage", ["tokenizer", "lam", "dynamics"])
def test_two_processes_take_the_first_steps_of_one(
    tmp_path: Path, shards: ShardSet, two: Path, stage: StageName
) -> None:
    if stage == "dynamics":
        for parent in ("tokenizer", "lam"):
            (tmp_path / parent).symlink_to(two / parent)
    train(stage, shards, tmp_path, tiny(stage, strategy="auto"))
    assert_same_first_steps(stage, two, tmp_path)


def test_two_processes_learn_the_codebook_of_one(tmp_path: Path, shards: ShardSet) -> None:
    """As their first stage: Lightning builds the model before the processes know of one another."""
    done = train_with_two(shards, tmp_path / "two", NEVER, "tokenizer", tokenizer=with_vq(tiny("tokenizer")))
    assert done.returncode == 0, done.stderr
    train("tokenizer", shards, tmp_path / "one", with_vq(tiny("tokenizer", strategy="auto")))
    assert_same_first_steps("tokenizer", tmp_path / "two", tmp_path / "one")


def test_two_processes_end_where_one_does(tmp_path: Path, shards: ShardSet, two: Path) -> None:
    train("tokenizer", shards, tmp_path)
    found, wanted = (load_file(run / "tokenizer" / "model.safetensors") for run in (two, tmp_path))
    assert found.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-3, atol=1e-4)


def test_every_stage_finishes_with_one_row_per_step(two: Path) -> None:
    for stage in ("tokenizer", "lam", "dynamics"):
        assert (two / stage / "artifact.json").is_file()
        assert len(losses(two, stage)) == 8


def test_two_resumed_processes_equal_two_uninterrupted(tmp_path: Path, shards: ShardSet, two: Path) -> None:
    (tmp_path / "tokenizer").symlink_to(two / "tokenizer")
    (tmp_path / "lam").symlink_to(two / "lam")
    assert train_with_two(shards, tmp_path, "5", "dynamics").returncode == 9
    assert len(losses(tmp_path, "dynamics")) == 5
    assert train_with_two(shards, tmp_path, NEVER, "dynamics").returncode == 0
    assert losses(tmp_path, "dynamics") == losses(two, "dynamics")
    found, wanted = (run / "dynamics" / "model.safetensors" for run in (tmp_path, two))
    assert found.read_bytes() == wanted.read_bytes()


def test_one_process_does_not_go_on_for_two(tmp_path: Path, shards: ShardSet) -> None:
    assert train_with_two(shards, tmp_path, "5", "lam").returncode == 9
    with pytest.raises(
        UserError, match=r"written by 2 processes, this run has 1; resume with trainer\.devices=2"
    ):
        train("lam", shards, tmp_path, tiny("lam"))
