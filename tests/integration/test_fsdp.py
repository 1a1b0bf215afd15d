"""FSDP2: two processes over gloo, each with a part of every weight, train as one with all of them."""

from pathlib import Path

import pytest

from genie_lite.artifact import read_artifact
from genie_lite.data.shards.shards import ShardSet
from genie_lite.errors import UserError
from genie_lite.nn.features import TimmFeatures
from genie_lite.nn.quantize import FSQConfig
from genie_lite.train.config import StageConfig, StageName
from tests.processes import (
    STAGES,
    assert_same_end,
    assert_same_first_steps,
    kept,
    link_parents,
    losses,
    tiny,
    train_all_with_two,
    train_with_two,
)
from tests.training import rows, stage_config, train, write_shards

FSDP2 = "fsdp2"


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return write_shards(tmp_path_factory.mktemp("data") / "shards")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, shards: ShardSet) -> Path:
    run = tmp_path_factory.mktemp("runs") / "two"
    train_all_with_two(shards, run, FSDP2)
    return run


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, shards: ShardSet, two: Path) -> Path:
    """The same stages by one process, the dynamics model from the parents of `two`."""
    run = tmp_path_factory.mktemp("runs") / "one"
    for stage in ("tokenizer", "lam"):
        train(stage, shards, run, tiny(stage, "auto"))
    link_parents(run / "from_two", two)
    train("dynamics", shards, run / "from_two", tiny("dynamics", "auto"))
    (run / "dynamics").symlink_to(run / "from_two" / "dynamics")
    return run


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_take_the_first_steps_of_one(two: Path, one: Path, stage: StageName) -> None:
    assert_same_first_steps(stage, two, one)


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_end_where_one_does(two: Path, one: Path, stage: StageName) -> None:
    assert_same_end(stage, two, one)


@pytest.mark.parametrize("stage", STAGES)
def test_each_process_keeps_its_part_of_the_weights(two: Path, stage: StageName) -> None:
    every = read_artifact(two / stage, stage).meta["parameters"]
    assert sum(kept(two, stage)) == every
    assert max(kept(two, stage)) < 0.6 * every


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_measured_and_written_is_what_one_process_writes(
    two: Path, one: Path, stage: StageName
) -> None:
    found, wanted = (read_artifact(run / stage, stage) for run in (two, one))
    assert found.meta == wanted.meta
    assert found.config == wanted.config
    assert found.metrics == pytest.approx(wanted.metrics, rel=1e-2)
    for split, count in (("train", 8), ("val", 2)):
        assert len(rows(two, stage, split)) == count


@pytest.mark.parametrize("stage", ["lam", "dynamics"])
def test_resumed_equals_uninterrupted(tmp_path: Path, shards: ShardSet, two: Path, stage: StageName) -> None:
    if stage == "dynamics":
        link_parents(tmp_path, two)
    config: dict[StageName, StageConfig] = {stage: tiny(stage, FSDP2)}
    broken = train_with_two(shards, tmp_path, config, die_at="5")
    assert broken.returncode == 9, broken.stderr
    assert len(losses(tmp_path, stage)) == 5
    done = train_with_two(shards, tmp_path, config)
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path, stage) == losses(two, stage)
    found, wanted = (run / stage / "model.safetensors" for run in (tmp_path, two))
    assert found.read_bytes() == wanted.read_bytes()


def test_with_features_parts_and_blocks_worked_out_again_it_is_the_same_training(
    tmp_path: Path, shards: ShardSet
) -> None:
    """Weights beside the model's, frozen ones among them; the block's second pass needs whole weights again."""
    two = with_features(stage_config("lam", strategy=FSDP2, accumulate=2, recompute=True))
    assert train_with_two(shards, tmp_path / "two", {"lam": two}, die_at="5").returncode == 9
    done = train_with_two(shards, tmp_path / "two", {"lam": two})
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    train("lam", shards, tmp_path / "one", with_features(stage_config("lam", accumulate=2)))
    assert_same_first_steps("lam", tmp_path / "two", tmp_path / "one")
    assert losses(tmp_path / "two", "lam") == pytest.approx(losses(tmp_path / "one", "lam"), rel=1e-4)


def with_features(config: StageConfig) -> StageConfig:
    """With a frozen image model of random weights, and codes that do not restart: a restart magnifies rounding."""
    parts = {"features": TimmFeatures(name="test_vit", pretrained=False), "code": FSQConfig(levels=(4, 4))}
    return config.model_copy(update={"model": config.model.model_copy(update=parts)})


def test_an_unknown_strategy_is_told_in_a_line(tmp_path: Path, shards: ShardSet) -> None:
    with pytest.raises(UserError, match=r"^trainer: .*invalid strategy name: `strategy='fsdp3'`") as told:
        train("lam", shards, tmp_path, strategy="fsdp3")
    assert "\n" not in str(told.value)
