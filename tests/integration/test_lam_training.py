"""The latent action model trained with labels, views, frozen eyes and relations, through the path users train on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from genie_lite.adapt.footage import load_footage
from genie_lite.data.labels import Labels, write_labels
from genie_lite.data.shards.shards import ShardSet
from genie_lite.errors import UserError
from genie_lite.models.heads import read_heads
from genie_lite.models.lam import LAMWeights, load_lam
from genie_lite.nn.augment import AugmentConfig, AugmentPair
from genie_lite.nn.features import TimmFeatures
from genie_lite.nn.quantize import VAEConfig
from genie_lite.train.config import LabelsConfig, LAMStage
from genie_lite.train.fit import fit, origin_of
from tests.forked import TRAINER, of_two, run_forked
from tests.training import CPU, STEPS, rows, stage_config, write_shards

VIEWS = AugmentPair(
    inverse=AugmentConfig(shift_px=2.0, noise=0.02), forward=AugmentConfig(shift_px=1.0, contrast=0.2)
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return write_shards(tmp_path_factory.mktemp("data") / "shards")


@pytest.fixture(scope="module")
def labels(shards: ShardSet) -> dict[str, Labels]:
    """Two robots: of some shots where the square is, of the others which way of two it goes."""
    shown = load_footage([*shards.samples("train"), *shards.samples("test")])
    square = (shown.frames[..., 0] > 150).astype(np.float32)
    place = np.stack([square.max(axis=1).argmax(axis=1), square.max(axis=2).argmax(axis=1)], axis=1)
    goes_right = (np.diff(place[:, 0], append=0) > 0).astype(np.int64)
    is_game = np.char.endswith(shown.source, "-1.mp4")
    game = Labels(shown.source, shown.frame_index, goes_right, "discrete", ("left", "right"))
    arm = Labels(shown.source, shown.frame_index, place.astype(np.float32), "continuous", ("x", "y"))
    return {"arm": arm.select(~is_game), "game": game.select(is_game)}


FEW = LabelsConfig(budget=12, batch=4)


def stage(config: LabelsConfig | None = FEW, **train: Any) -> LAMStage:
    """With all that the variants add, but for frozen eyes, in a bottleneck with noise, and a menu that starts anew."""
    plain = stage_config("lam", **train)
    assert isinstance(plain, LAMStage)
    model = plain.model.model_copy(update={"code": VAEConfig(dim=4)})
    weights = LAMWeights(additivity=0.1, reversal=0.1)
    return plain.model_copy(update={"model": model, "weights": weights, "augment": VIEWS, "labels": config})


def with_eyes(config: LAMStage) -> LAMStage:
    eye = TimmFeatures(name="test_vit", pretrained=False, size_px=32)
    return config.model_copy(update={"model": config.model.model_copy(update={"input": eye})})


def train(run: Path, shards: ShardSet, config: LAMStage, labels: Any, seed: int = 0) -> None:
    fit("lam", config, shards, run, seed=seed, wandb="off", trainer=CPU, labels=labels)


def test_labels_are_learnt_and_can_be_read_off_the_finished_model(
    tmp_path: Path, shards: ShardSet, labels: dict[str, Labels]
) -> None:
    train(tmp_path, shards, stage(), labels)
    found = rows(tmp_path, "lam", "train")
    assert [row["label"] > 0 for row in found] == [True] * STEPS
    assert {"additivity", "reversal"} <= found[0].keys()
    assert "label" not in rows(tmp_path, "lam", "val")[0]
    lam, heads = load_lam(tmp_path / "lam"), read_heads(tmp_path / "lam")
    assert [robot.name for robot in heads.spec.robots] == ["arm", "game"]
    embedding = lam.encode(torch.rand(1, 5, 3, 32, 32)).embedding
    assert heads.answer(embedding, "arm").shape == (1, 4, 2)
    torch.testing.assert_close(heads.answer(embedding, "game").sum(dim=-1), torch.ones(1, 4))
    assert not any("heads" in name for name in load_file(tmp_path / "lam" / "model.safetensors"))


def test_labels_reach_the_encoder(tmp_path: Path, shards: ShardSet, labels: dict[str, Labels]) -> None:
    train(tmp_path / "with", shards, stage(steps=2), labels)
    train(tmp_path / "without", shards, stage(None, steps=2), labels)
    first, second = (
        load_file(tmp_path / name / "lam" / "model.safetensors")["encoder.norm.weight"]
        for name in ("with", "without")
    )
    assert not torch.equal(first, second)
    assert not (tmp_path / "without" / "lam" / "heads.json").exists()
    assert "label" not in rows(tmp_path / "without", "lam", "train")[0]


def test_labels_that_are_not_looked_at_change_nothing(shards: ShardSet, labels: dict[str, Labels]) -> None:
    """A run that was trained before there were such settings is still the run of its recipe."""
    off, on = stage(None), stage()
    assert origin_of(off, shards, 0, labels) == origin_of(off, shards, 0)
    assert origin_of(on, shards, 0, labels) != origin_of(on, shards, 0, {"arm": labels["arm"]})
    unweighted = on.model_copy(update={"weights": LAMWeights(label=0.0)})
    assert "labelled" not in origin_of(unweighted, shards, 0, labels)


def test_labels_that_are_wanted_and_missing_are_told_before_anything_is_read(
    tmp_path: Path, shards: ShardSet
) -> None:
    with pytest.raises(UserError, match=r"lam\.labels: is set, but there are no labels; name them"):
        train(tmp_path, shards, stage(), ())
    assert not (tmp_path / "lam").exists()


def test_resumed_with_everything_on_equals_uninterrupted(
    tmp_path: Path, shards: ShardSet, labels: dict[str, Labels], monkeypatch: pytest.MonkeyPatch
) -> None:
    from genie_lite.train.callbacks import ShowProgress

    config = with_eyes(stage(accumulate=2))
    train(tmp_path / "whole", shards, config, labels)

    def die(self: object, trainer: Any, *_: object) -> None:
        if trainer.global_step == 5:
            raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(ShowProgress, "on_train_batch_end", die)
        with pytest.raises(InterruptedError):
            train(tmp_path / "broken", shards, config, labels)
    train(tmp_path / "broken", shards, config, labels)
    for name in ("model.safetensors", "heads.safetensors", "heads.json", "metrics.jsonl"):
        found, wanted = ((tmp_path / run / "lam" / name).read_bytes() for run in ("broken", "whole"))
        assert found == wanted, name
    weights = load_file(tmp_path / "whole" / "lam" / "model.safetensors")
    assert any(name.startswith("eye.backbone.") for name in weights), "complete without timm's weights"
    with pytest.raises(UserError, match="labelled"):
        train(tmp_path / "whole", shards, config, {"arm": labels["arm"]})


SCRIPT = """
import sys
from pathlib import Path
from genie_lite.data.labels import read_labels
from genie_lite.data.shards.shards import ShardSet
from genie_lite.train.config import LAMStage
from genie_lite.train.fit import fit

shards, run, config = ShardSet.open(Path(sys.argv[1])), Path(sys.argv[2]), LAMStage.model_validate_json(sys.argv[3])
labels = {path.stem: read_labels(path) for path in sorted(run.glob("*.parquet"))}
fit("lam", config, shards, run, seed=0, wandb="off", trainer={"accelerator": "cpu", "devices": 2}, labels=labels)
"""


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes_draw_what_one_draws(
    tmp_path: Path, shards: ShardSet, labels: dict[str, Labels], strategy: str
) -> None:
    """Labelled clips and views: a process that drew its own would have another loss from the first step on."""
    two, one = tmp_path / "two", tmp_path / "one"
    two.mkdir()
    for name, each in labels.items():
        write_labels(
            two / f"{name}.parquet",
            each.sources,
            each.frame_index,
            each.action,
            kind=each.kind,
            names=each.names,
        )
    (two / "script.py").write_text(SCRIPT)
    config = stage(strategy=strategy, steps=2, lr=0.001)
    argv = [str(two / "script.py"), str(shards.folder), str(two), config.model_dump_json()]
    done = run_forked(argv, two, TRAINER, of_two())
    assert done.returncode == 0, done.stderr
    train(one, shards, stage(steps=2, lr=0.001), labels)
    for found, wanted in zip(rows(two, "lam", "train"), rows(one, "lam", "train"), strict=True):
        for name in ("loss", "label", "pixel", "additivity", "reversal", "gradient_norm"):
            assert found[name] == pytest.approx(wanted[name], rel=5e-3), (found["step"], name)
    for name in ("heads.safetensors", "model.safetensors"):
        few, many = (load_file(run / "lam" / name) for run in (two, one))
        for key in many:
            assert (few[key].float() - many[key].float()).norm() <= 1e-3 * many[key].float().norm() + 1e-5, (
                key
            )
    assert json.loads((two / "lam" / "heads.json").read_text())["config"]["width"] == 4
