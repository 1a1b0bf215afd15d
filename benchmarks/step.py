"""Cost of one training step of every stage of a recipe, on random frames of the recipe's shapes.

    python benchmarks/step.py recipes/maze/demo.yaml [RECIPE ...] [key=value ...] [--repeats 5]

Prints one JSON line per stage: median wall and process CPU seconds of a step (forward, backward, AdamW),
parameters, and the hours that the recipe's steps would take at that speed. Give it the machine for itself:
two busy processes on two cores slow each other many times over.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from genie_lite.recipe import Recipe, load_recipe
from genie_lite.train.config import TrainConfig
from genie_lite.train.module import DynamicsModule, LAMModule, StageModule, TokenizerModule
from genie_lite.train.optim import build_optimizer


def main() -> None:
    """Parse the command line and print a row per stage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipes", nargs="+", help="recipes, and changes of all of them as key=value")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    overrides = [each for each in arguments.recipes if "=" in each]
    for path in (each for each in arguments.recipes if "=" not in each):
        recipe = load_recipe(Path(path), overrides)
        for row in measure(recipe, arguments.repeats):
            print(json.dumps({"recipe": path, "name": recipe.name, **row}), flush=True)


def measure(recipe: Recipe, repeats: int) -> Iterator[dict[str, object]]:
    """One row per stage."""
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    tokenizer, lam = TokenizerModule(recipe.tokenizer), LAMModule(recipe.lam)
    dynamics = DynamicsModule(recipe.dynamics, (tokenizer.model, lam.model), recipe.seed)
    stages = (("tokenizer", tokenizer), ("lam", lam), ("dynamics", dynamics))
    for name, module in stages:
        train: TrainConfig = getattr(recipe, name).train
        wall, cpu = _median_seconds(_stepper(module, train, _batch(recipe, name, dynamics)), repeats)
        yield {
            "stage": name,
            "step_s": round(wall, 4),
            "step_cpu_s": round(cpu, 4),
            "parameters": sum(parameter.numel() for parameter in module.model.parameters()),
            "batch": train.batch,
            "clip_frames": train.clip_frames,
            "steps": train.steps,
            "recipe_hours": round(wall * train.steps / 3600, 3),
            "threads": torch.get_num_threads(),
        }


def _batch(recipe: Recipe, stage: str, dynamics: DynamicsModule) -> tuple[torch.Tensor, ...]:
    train: TrainConfig = getattr(recipe, stage).train
    shape = (train.batch, train.clip_frames)
    if stage != "dynamics":
        return (torch.rand(*shape, 3, *recipe.tokenizer.model.frame_hw),)
    sizes = dynamics.model.sizes
    tokens = torch.randint(sizes.vocabulary, (*shape, sizes.num_tokens))
    return tokens, torch.randn(train.batch, train.clip_frames - 1, sizes.code_dim)


def _stepper(module: StageModule, train: TrainConfig, batch: tuple[torch.Tensor, ...]) -> Callable[[], None]:
    from genie_lite.models import dynamics, lam, tokenizer

    optimizer, _ = build_optimizer(module.model, train)
    generator = torch.Generator().manual_seed(0)

    def loss() -> torch.Tensor:
        if isinstance(module, TokenizerModule):
            return tokenizer.objective(module.model(*batch), batch[0], module.weights).total
        if isinstance(module, LAMModule):
            return lam.objective(module.model(*batch), batch[0], module.weights).total
        assert isinstance(module, DynamicsModule)
        return dynamics.objective(module.model(*batch, generator), batch[0], module.weights).total

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=train.precision == "bf16-mixed"):
            value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    return step


def _median_seconds(step: Callable[[], None], repeats: int) -> tuple[float, float]:
    """Wall and CPU seconds after two warm-up steps."""
    rows = []
    for number in range(2 + repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        if number >= 2:
            rows.append((time.perf_counter() - wall, time.process_time() - cpu))
    walls, cpus = zip(*rows, strict=True)
    return statistics.median(walls), statistics.median(cpus)


if __name__ == "__main__":
    main()
