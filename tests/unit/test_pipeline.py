"""The order of a run: what is written when, and what is refused before it does harm."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genie_lite import pipeline
from genie_lite.data.labels import Labels
from genie_lite.errors import UserError
from genie_lite.evaluation import measure_policies
from genie_lite.files import write_json
from genie_lite.folder import keep_recipe, recipe_of, shards_of
from genie_lite.recipe import Recipe, load_recipe
from tests.unit.test_folder import TOY, begin
from tests.videos import moving_square, write


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with somebody's videos, in which commands are given."""
    for ground in ("blue", "green"):
        write(tmp_path / "mine" / f"{ground}.mp4", moving_square(30, ground=ground))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def kill(*_: Any, **__: Any) -> None:
    """What Ctrl-C does to training."""
    raise KeyboardInterrupt


def own(*changes: str) -> Recipe:
    """The toy's recipe for these videos."""
    return load_recipe(TOY, ["record=null", "data.source=mine", *changes])


def test_a_run_that_is_killed_while_it_trains_is_a_run(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "fit", kill)
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(own())
    assert recipe_of(Path("runs") / "toy-demo").lam == own().lam
    with pytest.raises(UserError, match="no finished tokenizer here"):
        pipeline.evaluate(Path("runs") / "toy-demo")


def test_a_recipe_that_is_refused_does_not_become_the_runs(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage that is asked for has not begun, but another one was trained from something else."""
    monkeypatch.setattr(pipeline, "fit", kill)
    recipe = own()
    with pytest.raises(KeyboardInterrupt):
        pipeline.train_stage(recipe, "tokenizer")
    begin(recipe.folder / "tokenizer", recipe, shards_of(recipe), "artifact.json")
    with pytest.raises(UserError, match=r"tokenizer: was trained with model\.width=64, now it is 32"):
        pipeline.train_stage(own("tokenizer.model.width=32"), "lam")
    assert recipe_of(recipe.folder).tokenizer == recipe.tokenizer


@pytest.mark.parametrize("out", ["runs/toy-demo/adapt", "runs/toy-demo/adapt/mine"])
def test_policies_of_other_labels_are_kept_apart_from_the_runs_own(place: Path, out: str) -> None:
    keep_recipe(own())
    with pytest.raises(UserError, match=r"--out: .* give another folder"):
        pipeline.adapt(Path("runs") / "toy-demo", Path("labels"), 50, Path(out))


def test_a_budget_from_the_command_line_is_checked(place: Path) -> None:
    keep_recipe(own())
    with pytest.raises(UserError, match=r"--labels-budget: labels_budget: found 1; .* 2"):
        pipeline.adapt(Path("runs") / "toy-demo", Path("labels"), 1, Path("policy"))


def test_policies_of_an_attempt_that_was_broken_off_are_not_played(tmp_path: Path) -> None:
    recipe = load_recipe(TOY, [f"out={tmp_path}", "evaluate.levels=[2000, 2002]"])
    write_json(recipe.folder / "adapt" / "policy.json", {})
    names = ("noop", "left", "right", "up", "down")
    labels = Labels(np.array(["a.mp4"]), np.array([0]), np.array([1]), "discrete", names)
    findings = measure_policies(recipe, labels, "cpu", lambda *_: None)
    assert findings.sections["policy"].keys() == {"random", "blind"}
    assert findings.sections["policy_about"] == {"demonstrations": "*"}
    assert "The policy 'latent' is not played: run genie-lite run to train it." in findings.left_out
