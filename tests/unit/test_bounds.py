"""A setting that cannot work is refused when the recipe is read, in one line, and not after hours of training."""

import math
from pathlib import Path

import pytest

from genie_lite.artifact import write_artifact
from genie_lite.config import dump, parse
from genie_lite.data.shards.shards import ShardSet
from genie_lite.data.shards.token_shards import MOST_NUMBERS
from genie_lite.envs.games import game_of
from genie_lite.envs.procgen import MAX_LEVEL
from genie_lite.errors import UserError
from genie_lite.files import read_json
from genie_lite.models.dynamics import DynamicsConfig
from genie_lite.models.lam import LAMConfig
from genie_lite.nn.quantize import MOST_CODES
from genie_lite.recipe import Recipe, load_recipe
from genie_lite.train.config import DynamicsStage, LAMStage, StageConfig, TrainConfig
from genie_lite.train.fit import fit
from genie_lite.train.module import build_module
from tests import models

TOY = Path(__file__).parents[2] / "recipes" / "toy" / "demo.yaml"
FSQ = "lam.model.code={kind: fsq, levels: %s}"


def refusal(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_recipe(TOY, overrides)
    message = str(caught.value)
    assert message.startswith(f"{TOY}: ")
    assert "\n" not in message
    assert len(message) < len(str(TOY)) + 200, "a whole section is quoted"
    return message


@pytest.mark.parametrize("stage", ["tokenizer", "lam", "dynamics"])
@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.heads=0", "model.heads: found 0; expected at least 1"),
        ("model.heads=3", "model: width 64 cannot be split into 3 heads of an even width"),
        ("model.heads=64", "model: width 64 cannot be split into 64 heads of an even width"),
        ("model.width=0", "model.width: found 0; expected at least 2"),
        ("model.depth=0", "model.depth: found 0; expected at least 1"),
        ("train.betas=[2, 3]", "train.betas.0: found 2; expected less than 1"),
        ("train.betas=[0.9, -0.1]", "train.betas.1: found -0.1; expected at least 0"),
        ("train.betas=[0.9, 0.9, 0.9]", "train.betas: found [0.9, 0.9, 0.9]; expected at most 2 of them"),
        ("train.lr=.inf", "train.lr: found inf; expected a finite number"),
        ("train.lr_end=.nan", "train.lr_end: found nan; expected a finite number"),
        ("train.ema_decay=1.0", "train.ema_decay: found 1.0; expected less than 1"),
    ],
)
def test_what_no_stage_can_be_trained_with(stage: str, override: str, words: str) -> None:
    assert f"{stage}.{words}" in refusal(f"{stage}.{override}")


@pytest.mark.parametrize("stage", ["tokenizer", "lam"])
@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.patch=0", "model.patch: found 0; expected at least 1"),
        ("model.patch=24", "model: frame_hw 32x32 is not divisible by patch 24"),
        ("model.patch=64", "model: frame_hw 32x32 is not divisible by patch 64"),
        ("model.code.num_codes=0", "num_codes: found 0; expected at least 2"),
        ("model.code.num_codes=1", "num_codes: found 1; expected at least 2"),
        ("model.code.num_codes=65537", "num_codes: found 65537; expected at most 65536"),
        ("model.code.dim=0", "dim: found 0; expected at least 1"),
        ("model.code.decay=1.5", "decay: found 1.5; expected less than 1"),
        ("model.code.decay=-0.5", "decay: found -0.5; expected at least 0"),
        ("model.code.restart_below=-1", "restart_below: found -1; expected at least 0"),
        ("weights.pixel=-1", "weights.pixel: found -1; expected at least 0"),
        ("weights.commitment=-0.1", "weights.commitment: found -0.1; expected at least 0"),
    ],
)
def test_what_no_bottleneck_can_be_trained_with(stage: str, override: str, words: str) -> None:
    message = refusal(f"{stage}.{override}")
    assert f"{stage}." in message
    assert words in message


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([FSQ % "[]"], "lam.model.code.levels: found []; expected at least 1 of them"),
        ([FSQ % "[1]"], "lam.model.code.levels.0: found 1; expected at least 3"),
        ([FSQ % "[8, 2]"], "lam.model.code.levels.1: found 2; expected at least 3"),
        (
            [FSQ % ([256] * 8)],
            "lam.model.code: levels: [256, 256, 256, 256, 256, 256, 256, 256] make more than 2^63",
        ),
        (["lam.weights.motion=-1"], "lam.weights.motion: found -1; expected at least 0"),
        (["lam.weights.features=-1"], "lam.weights.features: found -1; expected at least 0"),
        (
            ["dynamics.weights.cross_entropy=0"],
            "dynamics.weights.cross_entropy: found 0; expected more than 0",
        ),
        (["dynamics.model.corruption=7"], "dynamics.model.corruption: found 7; expected at most 1"),
        (["dynamics.model.corruption=-1"], "dynamics.model.corruption: found -1; expected at least 0"),
        (["sampling.refinements=0"], "sampling.refinements: found 0; expected at least 1"),
        (["sampling.refinements=-1"], "sampling.refinements: found -1; expected at least 1"),
        (["sampling.refinements=99"], "sampling.refinements: found 99; expected at most 25"),
        (["sampling.temperature=-1"], "sampling.temperature: found -1; expected at least 0"),
        (["evaluate.levels=[5, 3]"], "evaluate: levels: expected first:end with 0 <= first < end"),
        (["evaluate.levels=[3000, 3000]"], "found 3000:3000"),
        (["evaluate.levels=[-5, 3]"], "found -5:3"),
        ([f"evaluate.levels=[2000, {MAX_LEVEL + 2}]"], "evaluate: levels: expected first:end"),
        (["evaluate.horizon=64"], "evaluate.prompt_frames and horizon are 65 together"),
        (["record.max_frames=501"], "record.max_frames: found 501; expected at most 500"),
        (["record.seed=-1"], "record.seed: found -1; expected at least 0"),
        (["record.test_levels=[7, 7]"], "record: test_levels: expected first:end with 0 <= first < end"),
        (["record.test_episodes=11"], "record: test_levels: 11 episodes need as many levels"),
        (["record.game=toyy"], "record.game: found 'toyy'; unknown game 'toyy', did you mean 'toy'?"),
        (
            ["record.game=toyy", "evaluate.levels=null"],
            "record.game: found 'toyy'; unknown game 'toyy', did you mean 'toy'?",
        ),
        (["seed=18446744073709551616"], "seed: found 18446744073709551616; expected less than"),
        (["adapt.policy.patch=5"], "adapt.policy: patch 5 times merge 2 must divide data.ingest.size_px 32"),
    ],
)
def test_what_no_run_can_be_made_of(overrides: list[str], words: str) -> None:
    assert words in refusal(*overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ["sampling.refinements=1", "sampling.temperature=0"],
        ["sampling.refinements=25", "dynamics.model.corruption=1", "lam.weights.commitment=0"],
        ["lam.model.heads=32", "lam.model.patch=32", "lam.model.code.num_codes=2"],
        [FSQ % "[3]", f"tokenizer.model.code.num_codes={MOST_CODES}"],
        ["record.max_frames=500", "evaluate.levels=[2000, 2001]", "lam.train.betas=[0, 0]"],
        [f"evaluate.levels=[{MAX_LEVEL}, {MAX_LEVEL + 1}]"],
    ],
)
def test_the_ends_of_what_is_allowed_are_allowed(overrides: list[str]) -> None:
    assert isinstance(load_recipe(TOY, overrides), Recipe)


def test_a_code_fits_where_training_keeps_it() -> None:
    assert MOST_CODES <= MOST_NUMBERS


SMALLER = [f"{stage}.model.frame_hw=[16, 16]" for stage in ("tokenizer", "lam")] + ["data.ingest.size_px=16"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            ["data.ingest.rate_hz=5.0"],
            "data.ingest.rate_hz is 5, but policies are to play toy at 10; make it 10",
        ),
        (SMALLER, "data.ingest.size_px is 16, but policies are to play toy at 32; make it 32"),
    ],
)
def test_policies_play_the_game_as_it_was_watched(changes: list[str], words: str) -> None:
    assert words in refusal(*changes)
    assert load_recipe(TOY, [*changes, "evaluate.levels=null"]).evaluate.levels is None  # nobody plays


def test_what_is_known_of_a_game_is_what_its_engine_does() -> None:
    game = game_of("toy")
    env = game.open(1)
    assert env.reset([0]).shape == (1, game.size_px, game.size_px, 3)
    assert env.rate_hz == game.rate_hz


def test_a_trainers_own_infinity_survives_being_written() -> None:
    recipe = load_recipe(TOY, ["trainer.gradient_clip_val=.inf"])
    assert recipe.trainer["gradient_clip_val"] == math.inf
    assert "gradient_clip_val: .inf" in dump(recipe)


def keep_parents(run: Path) -> None:
    for stage, model in (("tokenizer", models.tokenizer()), ("lam", models.lam())):
        write_artifact(run / stage, stage, model, model.config, "", {}, {}, {}, 0.0)


TRAIN = TrainConfig(steps=1)
UNCHECKED: dict[str, StageConfig] = {
    "lam": LAMStage(train=TRAIN).model_copy(update={"model": LAMConfig().model_copy(update={"heads": 3})}),
    "dynamics": DynamicsStage(train=TRAIN).model_copy(
        update={"model": DynamicsConfig().model_copy(update={"heads": 3})}
    ),
}


@pytest.mark.parametrize("stage", UNCHECKED)
def test_sizes_that_make_no_model_are_told_without_a_recipe_too(stage: str, tmp_path: Path) -> None:
    keep_parents(tmp_path)
    with pytest.raises(UserError, match=r"^model: .*width 256 cannot be split into 3 heads") as caught:
        build_module(UNCHECKED[stage], tmp_path, 0)
    assert "\n" not in str(caught.value)


def test_a_missing_parent_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished tokenizer here") as caught:
        build_module(DynamicsStage(train=TRAIN), tmp_path, 0)
    assert str(caught.value).startswith(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"a": 1', "no valid JSON"),
        (b"\xff\xfe\x00", "no valid JSON"),
        (b"", "no valid JSON"),
        (b"[" * 100_000, "no valid JSON"),
        (b"[1]", "expected an object, found list"),
        (b"null", "expected an object, found NoneType"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "card.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_json(path, "a card", "draw another")
    message = str(caught.value)
    assert message.startswith(f"{path}: not a card, {words}")
    assert message.endswith("; draw another")
    assert "\n" not in message


def test_a_damaged_list_of_what_a_stage_was_trained_from_is_named(tmp_path: Path) -> None:
    keep_parents(tmp_path)
    (tmp_path / "lam" / "stage.json").write_text('{"seed": 0, "sha')
    with pytest.raises(
        UserError, match=r"stage\.json: not a list .* delete this folder to train the stage again"
    ):
        fit("lam", LAMStage(train=TRAIN), ShardSet(tmp_path, {}, "f" * 64, ()), tmp_path, seed=0)


def test_a_kept_configuration_is_checked_as_a_recipe_is() -> None:
    with pytest.raises(UserError, match=r"runs/a/lam: heads: found 0; expected at least 1"):
        parse({"heads": 0}, LAMConfig, "runs/a/lam")
