"""The numbers of training stay what they are: fifty steps of every stage against the files in tests/golden."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from genie_lite.train.config import StageConfig, StageName
from tests.golden.losses import (
    PRECISIONS,
    STAGES,
    STEPS,
    Losses,
    Precision,
    path_of,
    read_losses,
    stage_config,
    train_golden,
    write_losses,
)

# Largest relative difference, at any step, of the loss and of what stands beside it. Rounding alone (other orders
# of sums, LayerNorm in float64, products in two halves) moved the loss by up to 6e-6 in 32-true and 0.018 in
# bf16-mixed, the terms and the norm of the gradient by 4e-4 and 0.55; a learning rate 5 % higher moved the loss by
# at least 0.03 in both. So in bf16-mixed only the loss says anything.
TOLERANCE: dict[Precision, tuple[float, float]] = {
    "32-true": (1e-4, 5e-3),
    "bf16-mixed": (0.03, math.inf),
}


SOON = 12  # steps, within which another computation shows


def departure(found: Losses, expected: Losses, precision: Precision) -> str | None:
    """Where two runs first differ by more than the tolerance, in words; None if they do nowhere."""
    assert [row.keys() for row in found] == [row.keys() for row in expected]
    of_loss, of_rest = TOLERANCE[precision]
    for row, wanted in zip(found, expected, strict=True):
        assert row["step"] == wanted["step"]
        for name, number in row.items():
            tolerance = of_loss if name == "loss" else of_rest
            if not math.isclose(number, wanted[name], rel_tol=tolerance):
                return f"step {row['step']:g}: {name} is {number:.6g}, on file {wanted[name]:.6g}"
    return None


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("stage", STAGES)
def test_fifty_steps_record_the_numbers_on_file(
    tmp_path: Path, stage: StageName, precision: Precision
) -> None:
    path = path_of(stage, precision)
    found = train_golden(stage, stage_config(stage, precision), tmp_path)
    assert len(found) == STEPS
    first = departure(found, read_losses(path), precision)
    assert first is None, f"{path}: {first}"


def higher_rate(config: StageConfig) -> StageConfig:
    return config.model_copy(update={"train": config.train.model_copy(update={"lr": 1.05 * config.train.lr})})


def wider_mask(config: StageConfig) -> StageConfig:
    return config.model_copy(
        update={"model": config.model.model_copy(update={"window": config.model.window + 1})}
    )


@pytest.mark.parametrize("change", [higher_rate, wider_mask])
@pytest.mark.parametrize("stage", STAGES)
def test_another_computation_is_noticed(
    tmp_path: Path, stage: StageName, change: Callable[[StageConfig], StageConfig]
) -> None:
    """A learning rate 5 % too high; a temporal mask that reaches one frame too far."""
    found = train_golden(stage, change(stage_config(stage, "32-true")), tmp_path, last=SOON)
    assert departure(found, read_losses(path_of(stage, "32-true"))[: len(found)], "32-true")


def test_files_keep_every_digit(tmp_path: Path) -> None:
    losses = [{"step": 1, "loss": 0.100000001, "pixel": 1.25e-7}, {"step": 2, "loss": 3.0, "pixel": 0.0}]
    write_losses(tmp_path / "tiny.txt", losses, "two steps")
    assert read_losses(tmp_path / "tiny.txt") == losses
