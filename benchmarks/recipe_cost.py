"""Cost of one training step of every stage of a recipe, on random frames of the recipe's shapes.

    python benchmarks/recipe_cost.py recipes/maze/demo.yaml [RECIPE ...] [key=value ...] [--repeats 5]

Prints one JSON line per stage: median wall and process CPU seconds of a step (forward, backward, AdamW),
parameters, and the hours that the recipe's steps would take at that speed. Give it the machine for itself:
two busy processes on two cores slow each other many times over.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from measure import Row, take_turns, tell
from step import our_job, random_batch

from genie_lite.recipe import Recipe, load_recipe
from genie_lite.train.config import TrainConfig
from genie_lite.train.module import DynamicsModule, LAMModule, TokenizerModule


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
            tell({"recipe": path, "name": recipe.name, **row})


def measure(recipe: Recipe, repeats: int) -> Iterator[Row]:
    """One row per stage."""
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    tokenizer, lam = TokenizerModule(recipe.tokenizer), LAMModule(recipe.lam)
    dynamics = DynamicsModule(recipe.dynamics, (tokenizer.model, lam.model), recipe.seed)
    for name, module in (("tokenizer", tokenizer), ("lam", lam), ("dynamics", dynamics)):
        train: TrainConfig = getattr(recipe, name).train
        batch = random_batch(module, train, recipe.tokenizer.model.frame_hw)
        job = our_job(module, train, batch)
        cost = take_turns({name: job}, repeats)[name]
        yield {
            "stage": name,
            "step_s": round(cost.wall_s, 4),
            "step_cpu_s": round(cost.cpu_s, 4),
            "parameters": job.parameters,
            "batch": train.batch,
            "clip_frames": train.clip_frames,
            "steps": train.steps,
            "recipe_hours": round(cost.wall_s * train.steps / 3600, 3),
            "threads": torch.get_num_threads(),
        }


if __name__ == "__main__":
    main()
