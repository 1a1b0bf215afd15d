"""Both notebooks run from the first cell to the last, on a run of a few steps."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from genie_lite.pipeline import train_stage
from genie_lite.recipe import load_recipe

ROOT = Path(__file__).parents[2]
FEW = [f"{stage}.train.steps=12" for stage in ("tokenizer", "lam", "dynamics")]


def execute(name: str) -> list[str]:
    """Run a notebook in its folder; what its cells printed, a text per cell."""
    notebook = nbformat.read(ROOT / "notebooks" / name, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(ROOT / "notebooks")}}).execute()
    return [
        "".join(output.get("text", "") for output in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def test_what_a_latent_action_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe(ROOT / "recipes" / "toy" / "demo.yaml", [f"out={tmp_path}", "wandb=off", *FEW])
    for stage in ("tokenizer", "lam", "dynamics"):
        train_stage(recipe, stage)
    monkeypatch.setenv("GENIE_LITE_RUN", str(recipe.folder))
    printed = execute("01-what-a-latent-action-is.ipynb")
    assert f"{recipe.lam.model.code.num_codes} codes" in printed[0]  # pyright: ignore[reportAttributeAccessIssue]
    assert any("a dictionary from code to action would be right" in text for text in printed)


def test_your_own_videos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GENIE_LITE_VIDEOS", raising=False)
    printed = execute("02-your-own-videos.ipynb")
    assert any("ingested=12" in text and "quarantined=1" in text for text in printed)


def test_notebooks_are_committed_without_output() -> None:
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            assert cell.cell_type != "code" or (not cell.outputs and cell.execution_count is None), path.name
