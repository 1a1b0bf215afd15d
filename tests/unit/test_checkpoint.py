"""What a checkpoint vouches for is on the disk before the checkpoint is."""

import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from genie_lite.train.callbacks import SaveLast
from genie_lite.train.framework import L
from genie_lite.train.logging import MetricsFile


def test_recorded_rows_reach_the_disk_before_the_checkpoint_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, os.replace
    name_of = {}

    def noted_fsync(handle: int) -> None:
        order.append(f"sync {name_of[os.fstat(handle).st_ino]}")
        fsync(handle)

    def noted_replace(source: Path, target: Path) -> None:
        order.append(f"name {target.name}")
        replace(source, target)

    def save_checkpoint(path: Path, weights_only: bool) -> None:
        path.write_bytes(b"state")
        name_of.update({file.stat().st_ino: file.name for file in tmp_path.iterdir()})

    MetricsFile(tmp_path / "metrics.jsonl").append({"step": 1, "split": "train", "loss": 0.5})
    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    trainer = Mock(
        spec=L.Trainer,
        global_step=1,
        accumulate_grad_batches=1,
        max_steps=9,
        is_global_zero=True,
        save_checkpoint=save_checkpoint,
    )
    SaveLast(tmp_path / "last.ckpt", 1).on_train_batch_end(
        trainer, Mock(spec=L.LightningModule), None, None, 0
    )
    assert order == ["sync metrics.jsonl", "sync last.ckpt.part", "name last.ckpt"]
