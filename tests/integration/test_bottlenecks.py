"""Every kind of bottleneck from a recipe to a world that is stepped, and what it learns on the way."""

from pathlib import Path
from typing import Any

import pytest
import torch

from genie_lite.artifact import read_artifact
from genie_lite.data.shards.shards import ShardSet
from genie_lite.errors import UserError
from genie_lite.inspect.config import InspectConfig
from genie_lite.inspect.inspect import inspect_lam
from genie_lite.models.lam import LAMWeights, LatentActionModel, load_lam, objective
from genie_lite.models.sampling import SamplingConfig
from genie_lite.models.tokenizer import load_tokenizer
from genie_lite.models.world import World
from genie_lite.nn.quantize import FSQConfig, NoneConfig, ResidualVQConfig, VAEConfig, VQConfig
from genie_lite.pipeline import run, train_stage
from genie_lite.recipe import load_recipe
from genie_lite.train.alarm import CodeAlarm
from genie_lite.train.validation import bottleneck_health
from tests import models
from tests.training import SIZE_PX, rows, stage_config, train, write_shards
from tests.unit.test_lam import bars_moving

PIPELINE: list[Any] = [
    VQConfig(num_codes=16, dim=2, tokens=4, restart_below=0.5),  # as many codes as there may be
    ResidualVQConfig(num_codes=4, dim=4, depth=2, share=True),
    FSQConfig(levels=(4, 3)),
    VAEConfig(dim=4, menu=5),
    NoneConfig(dim=4, menu=5),
]
HUGE: list[Any] = [
    VQConfig(num_codes=64, dim=2, tokens=8, restart_below=1.0),
    FSQConfig(levels=(8, 8, 8, 8, 5, 5, 5, 3)),
]
LEARNERS: list[Any] = [
    VQConfig(num_codes=2, dim=4, tokens=2, restart_below=1.0),
    ResidualVQConfig(num_codes=3, dim=4, depth=2),
    FSQConfig(levels=(3, 3)),
    VAEConfig(dim=4, menu=4),
    NoneConfig(dim=4, menu=4),
]

TOY = Path(__file__).parents[2] / "recipes" / "toy" / "demo.yaml"


class BrokenOffError(Exception):
    """Stands for a power cut."""


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return write_shards(tmp_path_factory.mktemp("data") / "shards", num_train=1)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory, shards: ShardSet) -> Path:
    run = tmp_path_factory.mktemp("runs") / "tokenizer"
    train("tokenizer", shards, run, steps=1, warmup_steps=0, checkpoint_every=1)
    return run / "tokenizer"


def train_lam(code: Any, shards: ShardSet, run: Path) -> None:
    config: Any = stage_config("lam", steps=4, batch=2, val_every=4, checkpoint_every=2)
    model = config.model.model_copy(update={"code": code})
    train("lam", shards, run, config.model_copy(update={"model": model}))


@pytest.mark.parametrize("code", PIPELINE, ids=lambda code: code.kind)
def test_a_world_is_steered_by_codes_of_every_kind(
    tmp_path: Path, shards: ShardSet, tokenizer: Path, code: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from genie_lite.train.callbacks import ShowProgress

    def die(self: object, trainer: Any, *_: object) -> None:
        if trainer.global_step == 3:
            raise BrokenOffError

    whole, run = tmp_path / "whole", tmp_path / "run"
    train_lam(code, shards, whole)
    with monkeypatch.context() as patch:
        patch.setattr(ShowProgress, "on_train_batch_end", die)
        with pytest.raises(BrokenOffError):
            train_lam(code, shards, run)
    train_lam(code, shards, run)
    assert rows(run, "lam", "train") == rows(whole, "lam", "train"), (
        "the noise of a step, too, is drawn again"
    )
    weights = [(each / "lam" / "model.safetensors").read_bytes() for each in (run, whole)]
    assert weights[0] == weights[1]

    lam = load_lam(run / "lam")
    frames = torch.rand(1, 3, 3, SIZE_PX, SIZE_PX)
    out = lam.encode(frames)
    by_index = lam.quantizer.vector_of(out.index)
    assert lam.decode(frames[:, :-1], by_index).shape == (1, 2, 3, SIZE_PX, SIZE_PX)
    assert torch.equal(by_index, out.vector) != lam.quantizer.is_continuous

    (run / "tokenizer").symlink_to(tokenizer)
    train("dynamics", shards, run, steps=2, warmup_steps=0, val_every=2, checkpoint_every=2)
    world = World.load(run)
    state = world.reset(frames[:, :2], seed=0)
    last = torch.tensor([world.num_codes - 1])
    _, frame = world.step(state, last)
    _, other = world.step(state, last * 0)
    assert frame.shape == other.shape == (1, 3, SIZE_PX, SIZE_PX)


def learn(code: Any) -> tuple[LatentActionModel, torch.Tensor, Any]:
    """Train on the bar that moves left or right; returns the model, whether it goes right, and what it says."""
    torch.manual_seed(0)
    config = models.lam().config.model_copy(update={"code": code, "past_window": 1})
    model = LatentActionModel(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(120):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / 120)
        frames = bars_moving(seed=step)
        torch.manual_seed(step)
        loss = objective(model(frames), frames, LAMWeights()).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    frames = bars_moving(num=64, seed=1000)
    with torch.no_grad():
        return model, frames[:, 1, 0, 0, 12] > 0, model.encode(frames)


@pytest.mark.parametrize("code", LEARNERS, ids=lambda code: code.kind)
def test_every_kind_learns_directions(code: Any) -> None:
    _, goes_right, out = learn(code)
    for index in out.index.unique():
        share = goes_right[out.index[:, 0] == index].float().mean()
        assert share < 0.1 or share > 0.9
    assert out.index.unique().numel() > 1


def test_a_vae_whose_prior_counts_too_much_collapses_and_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    model, _, out = learn(VAEConfig(dim=4, beta=1.0))
    health = bottleneck_health([out], model.quantizer)
    assert health["active_units"] == 0
    CodeAlarm("runs/lam").look("vae", health, step=9, steps=10)
    (message,) = [record.getMessage() for record in caplog.records]
    assert "0 units active" in message
    assert "lower model.code.beta" in message


@pytest.mark.parametrize("code", HUGE, ids=lambda code: code.kind)
def test_an_alphabet_that_nobody_could_list_is_trained_measured_and_inspected_but_steers_no_world(
    tmp_path: Path, shards: ShardSet, tokenizer: Path, code: Any
) -> None:
    train_lam(code, shards, tmp_path / "run")
    lam = load_lam(tmp_path / "run" / "lam")
    metrics = read_artifact(tmp_path / "run" / "lam", "lam").metrics
    assert {f"token_{at}_perplexity" for at in range(8)} <= metrics.keys()
    assert 0 < metrics["code_usage"] < 1e-3
    found = inspect_lam(lam, shards, options=InspectConfig(clips=8, shots=4, batch=4, control_draws=1))
    assert {"codes_used", "perplexity", "one_step", "effect"} <= {check.name for check in found.checks}
    with pytest.raises(UserError, match="expected at most 65536 for a world"):
        World(load_tokenizer(tokenizer), lam, models.dynamics(), SamplingConfig())


def test_what_needs_a_list_of_all_codes_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    recipe = load_recipe(
        TOY, [f"out={tmp_path}", "lam.model.code={kind: vq, num_codes: 64, dim: 2, tokens: 8}"]
    )
    said = r"lam.model.code: 64 x 64 x .* make 281474976710656 codes, expected at most 65536 for a world"
    with pytest.raises(UserError, match=said):
        run(recipe)
    with pytest.raises(UserError, match=said):
        train_stage(recipe, "dynamics")
    assert not any(tmp_path.iterdir())
