"""Every shipped recipe loads, builds and can take a step; its header says how to run it."""

import shlex
from pathlib import Path

import pytest
import torch
import yaml

from genie_lite.config import dump, load
from genie_lite.models import dynamics, lam, tokenizer
from genie_lite.nn.quantize import VQConfig
from genie_lite.recipe import Recipe, load_recipe
from tests.command_line import parse

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").rglob("*.yaml"))
COINRUN = ROOT / "recipes" / "coinrun" / "run.yaml"
HEADER = ("run", "needs", "takes", "expect")

SIZED = [
    (path, overrides)
    for path in RECIPES
    for overrides in [[f"size={size}"] for size in yaml.safe_load(path.read_text()).get("sizes", ())] or [[]]
]

every_recipe = pytest.mark.parametrize("path", RECIPES, ids=[str(path.relative_to(ROOT)) for path in RECIPES])
every_size = pytest.mark.parametrize(
    "recipe",
    [load_recipe(path, overrides) for path, overrides in SIZED],
    ids=[" ".join([str(path.relative_to(ROOT)), *overrides]) for path, overrides in SIZED],
)


def test_recipes_are_found() -> None:
    assert len(RECIPES) >= 5
    assert len({load_recipe(path).name for path in RECIPES}) == len(RECIPES), "two recipes share a run folder"


@every_size
def test_it_loads_and_survives_being_written(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(dump(recipe))
    assert load(tmp_path / "recipe.yaml", Recipe) == recipe


@every_recipe
def test_its_header_says_how_to_run_it(path: Path) -> None:
    lines = [line.removeprefix("#").strip() for line in path.read_text().splitlines() if line.startswith("#")]
    said = {line.partition(":")[0]: line.partition(":")[2].strip() for line in lines if ":" in line}
    assert all(said.get(part) for part in HEADER), f"expected {HEADER}, found {list(said)}"
    program, command, recipe, *_ = shlex.split(said["run"])
    assert (program, command, recipe) == ("genie-lite", "run", str(path.relative_to(ROOT)))
    parse(said["run"])


def dynamics_of(
    tokens: tokenizer.VideoTokenizer, actions: lam.LatentActionModel, shape: dynamics.DynamicsConfig
) -> dynamics.DynamicsModel:
    """Between its parents; labels, which name true actions, are made up."""
    names = ("left", "right") if shape.condition.kind == "actions" else ()
    sizes = dynamics.DynamicsSizes(
        vocabulary=tokens.num_codes, num_tokens=tokens.num_tokens, code_dim=actions.code_dim, actions=names
    )
    return dynamics.DynamicsModel(dynamics.DynamicsSpec(model=shape, sizes=sizes))


@every_size
def test_its_models_can_be_built(recipe: Recipe) -> None:
    kinds = {recipe.tokenizer.model.code.kind, recipe.lam.model.code.kind}
    # Full size without memory for it; the library's FSQ counts its codes on the way, which needs numbers.
    with torch.device("cpu" if "fsq" in kinds else "meta"):
        tokens, actions = (
            tokenizer.VideoTokenizer(recipe.tokenizer.model),
            lam.LatentActionModel(recipe.lam.model),
        )
        world = dynamics_of(tokens, actions, recipe.dynamics.model)
    assert (
        min(sum(weight.numel() for weight in model.parameters()) for model in (tokens, actions, world)) > 1000
    )


@every_size
def test_its_models_take_a_step_at_a_tiny_size(recipe: Recipe) -> None:
    """The recipe's kinds and weights, with few and narrow layers on small frames."""
    torch.manual_seed(0)
    frames = torch.rand(2, 3, 3, 32, 32)
    small = {"frame_hw": (32, 32), "width": 32, "depth": 1, "heads": 2}
    tokens = tokenizer.VideoTokenizer(recipe.tokenizer.model.model_copy(update=small))
    actions = lam.LatentActionModel(recipe.lam.model.model_copy(update=small))
    shape = recipe.dynamics.model.model_copy(update={"width": 32, "depth": 1, "heads": 2})
    world = dynamics_of(tokens, actions, shape)
    index, codes = tokens.encode(frames).index, actions.encode(frames).vector.detach()
    generator = torch.Generator().manual_seed(0)
    losses = {
        tokens: lambda: tokenizer.objective(tokens(frames), frames, recipe.tokenizer.weights),
        actions: lambda: lam.objective(actions(frames), frames, recipe.lam.weights),
        world: lambda: dynamics.objective(world(index, codes, generator), index, recipe.dynamics.weights),
    }
    for model, loss in losses.items():
        before = {name: weight.clone() for name, weight in model.named_parameters()}
        loss().total.backward()
        torch.optim.AdamW(model.parameters(), lr=0.1).step()
        assert any(not torch.equal(before[name], weight) for name, weight in model.named_parameters())


@every_size
def test_it_can_be_ingested_and_measured(recipe: Recipe) -> None:
    """What a recipe measures must fit into the shortest shots that it keeps, or nothing may be left to measure."""
    asked = recipe.evaluate.prompt_frames + recipe.evaluate.horizon
    assert asked <= recipe.data.ingest.min_frames
    for stage in (recipe.tokenizer, recipe.lam, recipe.dynamics):
        assert stage.train.clip_frames <= recipe.data.ingest.min_frames


def test_coinrun_grows_from_size_to_size() -> None:
    sizes = [load_recipe(COINRUN, [f"size={size}"]) for size in ("tiny", "small", "paper")]
    assert sizes[0] == load_recipe(COINRUN), "the smallest is what one gets without asking"
    assert len({recipe.name for recipe in sizes}) == len(sizes), "two sizes share a run folder"
    widths = [recipe.dynamics.model.width for recipe in sizes]
    assert widths == sorted(set(widths))
    assert len({recipe.record.game for recipe in sizes if recipe.record}) == 1


def test_the_paper_recipe_has_the_papers_sizes() -> None:
    """Genie, arXiv:2402.15391, appendix F."""
    recipe = load_recipe(COINRUN, ["size=paper"])
    models = (recipe.tokenizer.model, recipe.lam.model, recipe.dynamics.model)
    assert [(model.depth, model.width, model.heads) for model in models] == [
        (8, 512, 8),
        (8, 512, 8),
        (12, 512, 8),
    ]
    for code, num_codes in ((recipe.tokenizer.model.code, 1024), (recipe.lam.model.code, 6)):
        assert isinstance(code, VQConfig)
        assert (code.num_codes, code.dim) == (num_codes, 32)
    assert (recipe.tokenizer.model.patch, recipe.lam.model.patch) == (4, 16)
    assert [stage.train.batch for stage in (recipe.tokenizer, recipe.lam, recipe.dynamics)] == [48, 36, 36]
    assert recipe.adapt.labels_budget == 200
