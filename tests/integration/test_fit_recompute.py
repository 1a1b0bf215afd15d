"""A stage trained with `train.recompute` is the stage trained without, byte for byte."""

from pathlib import Path

import pytest

from genie_lite.data.shards.shards import ShardSet
from genie_lite.train.callbacks import ShowProgress
from genie_lite.train.config import StageName
from tests.processes import STAGES, link_parents
from tests.training import train, write_shards


class BrokenOffError(Exception):
    """Stands for a power cut."""


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return write_shards(tmp_path_factory.mktemp("data") / "shards")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, shards: ShardSet) -> Path:
    run = tmp_path_factory.mktemp("runs") / "plain"
    for stage in STAGES:
        train(stage, shards, run)
    return run


def assert_same(stage: StageName, run: Path, expected: Path) -> None:
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (run / stage / name).read_bytes() == (expected / stage / name).read_bytes()


@pytest.mark.parametrize("stage", STAGES)
def test_recomputed_equals_kept(tmp_path: Path, shards: ShardSet, plain: Path, stage: StageName) -> None:
    if stage == "dynamics":
        link_parents(tmp_path, plain)
    train(stage, shards, tmp_path, recompute=True)
    assert_same(stage, tmp_path, plain)


def test_a_stage_that_ran_out_of_memory_goes_on_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shards: ShardSet, plain: Path
) -> None:
    def die(self: object, trainer: object, *_: object) -> None:
        if getattr(trainer, "global_step", None) == 5:
            raise BrokenOffError

    with monkeypatch.context() as patch:
        patch.setattr(ShowProgress, "on_train_batch_end", die)
        with pytest.raises(BrokenOffError):
            train("lam", shards, tmp_path)
    train("lam", shards, tmp_path, recompute=True)
    assert_same("lam", tmp_path, plain)
