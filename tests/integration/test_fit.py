"""Each stage from shards to a finished folder, and what a user can get wrong on the way."""

import logging
import subprocess
import zlib
from pathlib import Path
from typing import get_args

import pytest
import torch

from genie_lite.artifact import read_artifact
from genie_lite.data.shards.shards import ShardSet
from genie_lite.errors import UserError
from genie_lite.models.dynamics import load_dynamics
from genie_lite.models.lam import load_lam
from genie_lite.models.tokenizer import load_tokenizer
from genie_lite.nn.features import TimmFeatures
from genie_lite.train.config import LAMStage, StageName
from genie_lite.train.fit import fit
from genie_lite.train.logging import WandbMode
from genie_lite.train.validation import Measured
from tests.forked import run_forked
from tests.training import CPU, STEPS, rows, stage_config, train, write_shards

STAGES: tuple[StageName, ...] = get_args(StageName)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return write_shards(tmp_path_factory.mktemp("data") / "shards")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, shards: ShardSet) -> Path:
    """A run with all three stages finished."""
    run = tmp_path_factory.mktemp("runs") / "tiny"
    for stage in STAGES:
        train(stage, shards, run)
    return run


@pytest.mark.parametrize("stage", STAGES)
def test_every_step_is_recorded_once_and_validation_when_due(run: Path, stage: StageName) -> None:
    train_rows, val_rows = rows(run, stage, "train"), rows(run, stage, "val")
    assert [row["step"] for row in train_rows] == list(range(1, STEPS + 1))
    assert [row["step"] for row in val_rows] == [4, 8]
    assert train_rows[-1]["loss"] < train_rows[0]["loss"]


@pytest.mark.parametrize(
    ("stage", "names"),
    [
        ("tokenizer", {"psnr_db", "codes_used", "code_usage", "perplexity"}),
        ("lam", {"psnr_db", "copy_psnr_db", "control_db", "codes_used", "code_usage", "perplexity"}),
        ("dynamics", {"cross_entropy", "accuracy", "control_nats"}),
    ],
)
def test_the_artifact_holds_the_last_validation(run: Path, stage: StageName, names: set[str]) -> None:
    artifact = read_artifact(run / stage, stage)
    assert artifact.metrics.keys() == names
    last = rows(run, stage, "val")[-1]
    assert artifact.metrics == {name: last[name] for name in names}


def test_artifacts_name_their_data_and_parents(run: Path, shards: ShardSet) -> None:
    dynamics = read_artifact(run / "dynamics", "dynamics")
    assert dynamics.data["fingerprint"] == shards.fingerprint
    assert dynamics.parents == {name: read_artifact(run / name, name).sha256 for name in ("tokenizer", "lam")}
    assert (run / "dynamics" / "recipe.yaml").read_text() == "name: tiny\n"


def test_one_process_starts_no_process_group(run: Path) -> None:
    """D10: a peer calls for its cluster before anything else, on a laptop too."""
    assert not torch.distributed.is_initialized()


def test_a_finished_stage_loads_as_the_average_of_its_weights(run: Path) -> None:
    checkpoint = torch.load(run / "lam" / "last.ckpt", weights_only=True)
    average = checkpoint["callbacks"]["WeightAverage"]
    loaded = dict(load_lam(run / "lam").named_parameters())
    assert all(torch.equal(average[f"model.{name}"], weight) for name, weight in loaded.items())
    assert any(not torch.equal(checkpoint["state_dict"][name], average[name]) for name in average)


def test_an_average_without_memory_is_the_last_weights(tmp_path: Path, shards: ShardSet) -> None:
    train("lam", shards, tmp_path, ema_decay=0.0)
    last = torch.load(tmp_path / "lam" / "last.ckpt", weights_only=True)["state_dict"]
    for name, weight in load_lam(tmp_path / "lam").state_dict().items():
        torch.testing.assert_close(weight, last[f"model.{name}"])


def test_the_dynamics_model_takes_its_sizes_from_its_parents(run: Path) -> None:
    sizes = load_dynamics(run / "dynamics").sizes
    tokenizer, lam = load_tokenizer(run / "tokenizer"), load_lam(run / "lam")
    expected = (tokenizer.num_codes, tokenizer.num_tokens, lam.code_dim)
    assert (sizes.vocabulary, sizes.num_tokens, sizes.code_dim) == expected


@pytest.mark.parametrize("stage", ["tokenizer", "lam"])
def test_panels_are_pictures(run: Path, stage: StageName) -> None:
    paths = sorted((run / stage / "panels").iterdir())
    assert [path.name for path in paths] == ["step-0000004.png", "step-0000008.png"]
    data = paths[0].read_bytes()
    width, height = (int.from_bytes(data[start : start + 4]) for start in (16, 20))
    pixels = data.index(b"IDAT") + 4
    size = int.from_bytes(data[pixels - 8 : pixels - 4])
    assert len(zlib.decompress(data[pixels : pixels + size])) == height * (1 + 3 * width)


@pytest.mark.parametrize("stage", STAGES)
def test_a_finished_stage_is_returned_as_it_is(run: Path, shards: ShardSet, stage: StageName) -> None:
    before = {path: path.stat().st_mtime_ns for path in (run / stage).rglob("*")}
    assert train(stage, shards, run) == read_artifact(run / stage, stage)
    assert {path: path.stat().st_mtime_ns for path in (run / stage).rglob("*")} == before


def test_a_folder_is_not_used_for_another_recipe(run: Path, shards: ShardSet) -> None:
    with pytest.raises(UserError, match=r"lam: was trained with train\.steps=8, now it is 9"):
        train("lam", shards, run, steps=9)


def test_an_attempt_that_left_no_checkpoint_binds_nobody(
    tmp_path: Path, shards: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(UserError, match="wandb is not installed"):
            fit("lam", stage_config("lam"), shards, tmp_path, seed=0, wandb="offline", trainer=CPU)
    assert not (tmp_path / "lam" / "stage.json").exists()
    with pytest.raises(UserError, match="no such argument"):
        fit("lam", stage_config("lam"), shards, tmp_path, seed=0, wandb="off", trainer={"acelerator": "cpu"})
    train("lam", shards, tmp_path, steps=2)
    with pytest.raises(UserError, match=r"was trained with train\.steps=2, now it is 8"):
        train("lam", shards, tmp_path)


def test_looking_more_often_is_the_same_recipe(run: Path, shards: ShardSet) -> None:
    train("lam", shards, run, val_every=2, checkpoint_every=1)


def test_dynamics_needs_its_parents(tmp_path: Path, shards: ShardSet) -> None:
    with pytest.raises(UserError, match="no finished tokenizer here"):
        train("dynamics", shards, tmp_path / "run")


def test_frames_of_another_size_are_refused(tmp_path: Path, shards: ShardSet) -> None:
    config = stage_config("lam")
    wide = config.model_copy(update={"model": config.model.model_copy(update={"frame_hw": (64, 64)})})
    with pytest.raises(UserError, match=r"frame_hw is \(64, 64\)"):
        train("lam", shards, tmp_path / "run", wide)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_steps": 5}, r"trainer\.max_steps: is set by train\.steps"),
        ({"max_time": "00:00:00:01"}, r"trainer\.max_time: is set by train\.steps"),
        ({"fast_dev_run": True}, r"trainer\.fast_dev_run: is set by train\.steps"),
        ({"acelerator": "cpu"}, r"trainer\.acelerator: lightning\.Trainer has no such argument"),
        ({"accelerator": "foo"}, "^trainer: .*foo"),
        ({"accelerator": "cpu", "devices": 0}, "^trainer: .*0"),
    ],
)
def test_trainer_arguments_are_checked(
    tmp_path: Path, shards: ShardSet, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        fit("lam", stage_config("lam"), shards, tmp_path / "run", seed=0, wandb="off", trainer=arguments)


def test_accumulated_parts_make_the_same_step(tmp_path: Path, shards: ShardSet, run: Path) -> None:
    """Two halves of a batch make the step of the whole, but for the bottleneck's batch statistics."""
    parents = tmp_path / "run"
    train("tokenizer", shards, parents)
    train("tokenizer", shards, tmp_path / "halves", accumulate=2)
    whole, parts = rows(parents, "tokenizer", "train"), rows(tmp_path / "halves", "tokenizer", "train")
    assert [row["step"] for row in parts] == [row["step"] for row in whole]
    assert [row["loss"] for row in parts[:3]] == pytest.approx([row["loss"] for row in whole[:3]], rel=0.01)


def test_bfloat16_trains(tmp_path: Path, shards: ShardSet) -> None:
    artifact = train("lam", shards, tmp_path, precision="bf16-mixed", ema_decay=None)
    assert artifact.metrics["psnr_db"] > 0
    found = rows(tmp_path, "lam", "train")
    assert found[-1]["loss"] < found[0]["loss"]


def test_a_lam_trains_on_features_and_loads_without_the_image_model(tmp_path: Path, shards: ShardSet) -> None:
    config = stage_config("lam")
    assert isinstance(config, LAMStage)
    features = TimmFeatures(name="test_vit", pretrained=False)
    model = config.model.model_copy(update={"features": features})
    train("lam", shards, tmp_path, config.model_copy(update={"model": model}))
    learnt = [row["features"] for row in rows(tmp_path, "lam", "train")]
    assert learnt[-1] < learnt[0]
    assert load_lam(tmp_path / "lam").config.features == features


def test_a_loss_that_is_no_number_ends_with_advice(tmp_path: Path, shards: ShardSet) -> None:
    with pytest.raises(UserError, match=r"the loss is nan; lower train\.lr"):
        train("lam", shards, tmp_path, lr=1e30, warmup_steps=0)


def test_no_checkpoint_is_written_after_a_loss_that_is_no_number(tmp_path: Path, shards: ShardSet) -> None:
    with pytest.raises(UserError, match=r"step 3: the loss is nan"):
        train("lam", shards, tmp_path, lr=1e30, warmup_steps=0, log_every=1000, val_every=1000)
    assert not (tmp_path / "lam" / "last.ckpt").exists()


def test_collapsed_codes_are_told_once_with_advice(
    tmp_path: Path, shards: ShardSet, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genie_lite.train.module.measure_lam", lambda *_: Measured({"perplexity": 1.0}))
    with caplog.at_level(logging.WARNING, "genie_lite"):
        train("lam", shards, tmp_path, val_every=1)
    told = [record.getMessage() for record in caplog.records if "collapsed" in record.getMessage()]
    assert len(told) == 1
    assert "at step 3 (perplexity 1.00)" in told[0]  # the first validation after two steps of warm-up


SCRIPT = """
import sys
from pathlib import Path
from genie_lite.data.shards.shards import ShardSet
from genie_lite.train.fit import fit
from tests.training import CPU, stage_config

assert "lightning" not in sys.modules, "lightning is imported before there is anything to train"
shards = ShardSet.open(Path(sys.argv[1]))
fit("lam", stage_config("lam", steps=2), shards, Path(sys.argv[2]), seed=0, wandb=sys.argv[3], trainer=CPU)
print("wandb" in sys.modules)
"""


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = run_forked(["-c", SCRIPT, *arguments], Path(__file__).parents[2])
    done.check_returncode()
    return done


def test_without_wandb_it_is_not_imported_and_nothing_is_said(tmp_path: Path, shards: ShardSet) -> None:
    """D11: a peer crashes without wandb."""
    done = python(str(shards.folder), str(tmp_path), "off")
    assert done.stdout.strip() == "False"
    assert done.stderr == ""


def test_wandb_offline_needs_no_login(
    tmp_path: Path, shards: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    python(str(shards.folder), str(tmp_path), "offline")
    assert list((tmp_path / "lam" / "wandb").glob("offline-run-*/*.wandb"))


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_wandb_that_is_missing_is_told_before_training(
    tmp_path: Path, shards: ShardSet, monkeypatch: pytest.MonkeyPatch, mode: WandbMode
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=f"wandb: {mode}, but wandb is not installed; pip install wandb"):
        fit("lam", stage_config("lam"), shards, tmp_path, seed=0, wandb=mode, trainer=CPU)
