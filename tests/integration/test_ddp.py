"""Two processes on one machine, over gloo: the same training, in halves."""

from pathlib import Path

import pytest

from genie_lite.data.shards.shards import ShardSet
from genie_lite.train.config import StageConfig, StageName
from tests.processes import (
    STAGES,
    assert_same_end,
    assert_same_first_steps,
    link_parents,
    losses,
    tiny,
    train_all_with_two,
    train_with_two,
    with_vq,
)
from tests.training import train, write_shards

DDP = "ddp"


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return write_shards(tmp_path_factory.mktemp("data") / "shards")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, shards: ShardSet) -> Path:
    run = tmp_path_factory.mktemp("runs") / "two"
    train_all_with_two(shards, run, DDP)
    return run


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_take_the_first_steps_of_one_and_end_where_it_does(
    tmp_path: Path, shards: ShardSet, two: Path, stage: StageName
) -> None:
    if stage == "dynamics":
        link_parents(tmp_path, two)
    train(stage, shards, tmp_path, tiny(stage, "auto"))
    assert_same_first_steps(stage, two, tmp_path)
    assert_same_end(stage, two, tmp_path)


def test_two_processes_learn_the_codebook_of_one(tmp_path: Path, shards: ShardSet) -> None:
    """As their first stage: Lightning builds the model before the processes know of one another."""
    done = train_with_two(shards, tmp_path / "two", {"tokenizer": with_vq(tiny("tokenizer", DDP))})
    assert done.returncode == 0, done.stderr
    train("tokenizer", shards, tmp_path / "one", with_vq(tiny("tokenizer", "auto")))
    assert_same_first_steps("tokenizer", tmp_path / "two", tmp_path / "one")


def test_every_stage_finishes_with_one_row_per_step(two: Path) -> None:
    for stage in STAGES:
        assert (two / stage / "artifact.json").is_file()
        assert len(losses(two, stage)) == 8


def test_two_resumed_processes_equal_two_uninterrupted(tmp_path: Path, shards: ShardSet, two: Path) -> None:
    link_parents(tmp_path, two)
    stage: dict[StageName, StageConfig] = {"dynamics": tiny("dynamics", DDP)}
    assert train_with_two(shards, tmp_path, stage, "5").returncode == 9
    assert len(losses(tmp_path, "dynamics")) == 5
    assert train_with_two(shards, tmp_path, stage).returncode == 0
    assert losses(tmp_path, "dynamics") == losses(two, "dynamics")
    found, wanted = (run / "dynamics" / "model.safetensors" for run in (tmp_path, two))
    assert found.read_bytes() == wanted.read_bytes()
