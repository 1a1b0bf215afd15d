"""A stage that is broken off and started again ends where the uninterrupted one ends, bit for bit."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from genie_lite.data.shards.shards import ShardSet
from genie_lite.errors import UserError
from genie_lite.train.config import StageName
from genie_lite.train.logging import MetricsFile
from tests.forked import TRAINER, run_forked
from tests.training import STEPS, train, write_shards

STAGES: tuple[StageName, ...] = get_args(StageName)


class BrokenOffError(Exception):
    """Stands for a power cut."""


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return write_shards(tmp_path_factory.mktemp("data") / "shards")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, shards: ShardSet) -> Path:
    run = tmp_path_factory.mktemp("runs") / "whole"
    for stage in STAGES:
        train(stage, shards, run)
    return run


def break_off(
    monkeypatch: pytest.MonkeyPatch,
    stage: StageName,
    shards: ShardSet,
    run: Path,
    step: int,
    **settings: Any,
) -> None:
    """Train until `step` is recorded and perhaps saved, then die."""
    from genie_lite.train.callbacks import ShowProgress

    def die(self: object, trainer: object, *_: object) -> None:
        if getattr(trainer, "global_step", None) == step:
            raise BrokenOffError

    with monkeypatch.context() as patch:
        patch.setattr(ShowProgress, "on_train_batch_end", die)
        with pytest.raises(BrokenOffError):
            train(stage, shards, run, **settings)


def assert_same(stage: StageName, run: Path, expected: Path) -> None:
    found, wanted = ((each / stage / "metrics.jsonl").read_text().splitlines() for each in (run, expected))
    for found_row, wanted_row in zip(found, wanted, strict=True):
        assert found_row == wanted_row
    assert (run / stage / "model.safetensors").read_bytes() == (
        expected / stage / "model.safetensors"
    ).read_bytes()
    found_state, wanted_state = (dict(leaves(load(each / stage / "last.ckpt"))) for each in (run, expected))
    assert found_state.keys() == wanted_state.keys()
    different = [name for name in found_state if not same(found_state[name], wanted_state[name])]
    assert different == ["callbacks.Stopwatch.seconds"]


def load(path: Path) -> dict[str, object]:
    return torch.load(path, weights_only=True)


def leaves(tree: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    pairs = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list | tuple)
        else None
    )
    if pairs is None:
        yield prefix.removeprefix("."), tree
    else:
        for name, value in pairs:
            yield from leaves(value, f"{prefix}.{name}")


def same(found: object, wanted: object) -> bool:
    if isinstance(found, torch.Tensor) and isinstance(wanted, torch.Tensor):
        return torch.equal(found, wanted)
    return found == wanted


@pytest.mark.parametrize("stage", STAGES)
def test_resumed_equals_uninterrupted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shards: ShardSet, uninterrupted: Path, stage: StageName
) -> None:
    """D12: without a logger a peer saves nothing, and it forgets the optimizer and the random numbers."""
    run = tmp_path / "broken"
    if stage == "dynamics":
        run.mkdir()
        for parent in ("tokenizer", "lam"):
            (run / parent).symlink_to(uninterrupted / parent)
    break_off(monkeypatch, stage, shards, run, step=2)  # before the first checkpoint
    break_off(
        monkeypatch, stage, shards, run, step=4
    )  # after a validation that the checkpoint knows nothing of
    break_off(monkeypatch, stage, shards, run, step=6)  # right after a checkpoint
    break_off(monkeypatch, stage, shards, run, step=STEPS)  # trained, but no artifact written
    train(stage, shards, run)
    assert_same(stage, run, uninterrupted)


@pytest.mark.parametrize("setting", [{"accumulate": 2}, {"num_workers": 1}, {"precision": "bf16-mixed"}])
def test_resumed_equals_uninterrupted_in_every_way_of_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shards: ShardSet, setting: dict[str, Any]
) -> None:
    train("lam", shards, tmp_path / "whole", **setting)
    break_off(monkeypatch, "lam", shards, tmp_path / "broken", step=5, **setting)
    train("lam", shards, tmp_path / "broken", **setting)
    assert_same("lam", tmp_path / "broken", tmp_path / "whole")


def test_a_stage_that_lightning_stopped_early_is_not_finished(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shards: ShardSet
) -> None:
    from genie_lite.train.callbacks import ShowProgress

    def stop(self: object, trainer: Any, *_: object) -> None:
        trainer.should_stop = trainer.global_step == 5

    with monkeypatch.context() as patch:
        patch.setattr(ShowProgress, "on_train_batch_end", stop)
        with pytest.raises(UserError, match=r"lam: stopped at step 5 of 8; run it again to go on"):
            train("lam", shards, tmp_path)
    assert not (tmp_path / "lam" / "artifact.json").exists()
    train("lam", shards, tmp_path)
    assert (tmp_path / "lam" / "artifact.json").exists()


def test_ctrl_c_stays_an_interruption_and_works_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shards: ShardSet
) -> None:
    from genie_lite.train.callbacks import ShowProgress

    monkeypatch.setattr(ShowProgress, "on_train_batch_end", lambda *_: signal.raise_signal(signal.SIGINT))
    # A shell that starts the tests in the background lets them ignore Ctrl-C.
    given = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            train("lam", shards, tmp_path)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, given)


@pytest.mark.parametrize("share", [0.0, 0.6])
def test_a_damaged_checkpoint_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shards: ShardSet, share: float
) -> None:
    break_off(monkeypatch, "lam", shards, tmp_path, step=4)
    path = tmp_path / "lam" / "last.ckpt"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(
        UserError, match=r"last\.ckpt: damaged or cut off; delete it to start the stage again"
    ):
        train("lam", shards, tmp_path)


SCRIPT = """
import os, sys
from pathlib import Path
from genie_lite.data.shards.shards import ShardSet
from genie_lite.train.callbacks import ShowProgress
from genie_lite.train.fit import fit
from tests.training import CPU, stage_config

def stop(self, trainer, *_):
    if trainer.global_step == 5:
        os.kill(os.getpid(), 9)

ShowProgress.on_train_batch_end = stop
shards = ShardSet.open(Path(sys.argv[1]))
fit("lam", stage_config("lam"), shards, Path(sys.argv[2]), seed=0, wandb="off", trainer=CPU)
"""


def test_kill_9_and_start_again(tmp_path: Path, shards: ShardSet, uninterrupted: Path) -> None:
    killed = run_forked(["-c", SCRIPT, str(shards.folder), str(tmp_path)], Path(__file__).parents[2], TRAINER)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    train("lam", shards, tmp_path)
    assert_same("lam", tmp_path, uninterrupted)


def test_metrics_beyond_the_checkpoint_and_half_a_line_are_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path)
    for step in (1, 2, 2, 3):
        metrics.append({"step": step, "split": "train", "loss": 0.5})
    with path.open("a") as file:
        file.write('{"step": 2, "spl')
    metrics.truncate(2)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 2]
    metrics.truncate(0)
    assert path.read_text() == ""
