"""Which latent action models stand in the table of `latent_actions.py`, and the recipe that each is trained by.

A plan is a YAML file (`plans/`) over an ordinary recipe, which says what is recorded, at what size, and every setting
that a cell does not change:

    recipe        the recipe's file        change   what is other in all cells, as key=value
    backgrounds   a folder of shards with other footage, where a video asks for it
    bottlenecks   name: [key=value, ...]   what a cell of that name changes
    inputs        likewise
    tables        each the product of its bottlenecks, inputs, labels and videos
                  world: whether its cells train a world, too; arms: of `adapt`, which policies play

A video is `clean`, or a distractor and its strength, such as `shake-2`. A cell that two tables name is one cell, with
all that either asks of it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import get_args

from measure import ROOT
from pydantic import Field, model_validator

from genie_lite.adapt.adapt import Arm
from genie_lite.config import Config, load
from genie_lite.data.distract.distractor import DistractConfig, Kind
from genie_lite.errors import UserError
from genie_lite.recipe import Recipe, load_recipe

CLEAN = "clean"
PLANS = Path(__file__).parent / "plans"
_VIDEO = re.compile(rf"({'|'.join(kind for kind in get_args(Kind) if kind != 'none')})-([123])")


class Table(Config):
    """Cells: every combination of the four lists."""

    bottlenecks: list[str] = Field(min_length=1)
    inputs: list[str] = ["pixels"]
    labels: list[int] = [0]
    videos: list[str] = [CLEAN]
    world: bool = False
    arms: list[Arm] = []


class Plan(Config):
    """See the head of this file. clips: held-out clips that worlds continue. shots: of a split, for the probe."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    recipe: str
    change: list[str] = []
    backgrounds: str | None = None
    bottlenecks: dict[str, list[str]]
    inputs: dict[str, list[str]] = {"pixels": []}
    tables: list[Table] = Field(min_length=1)
    clips: int = Field(default=32, ge=2)
    shots: int = Field(default=128, ge=2)

    @model_validator(mode="after")
    def _names_are_known(self) -> "Plan":
        for table in self.tables:
            for kind, named, known in (
                ("bottlenecks", table.bottlenecks, self.bottlenecks),
                ("inputs", table.inputs, self.inputs),
            ):
                if unknown := [name for name in named if name not in known]:
                    raise ValueError(
                        f"tables: {kind}: unknown '{unknown[0]}', expected one of {', '.join(known)}"
                    )
            if unknown := [name for name in table.videos if name != CLEAN and not _VIDEO.fullmatch(name)]:
                raise ValueError(
                    f"tables: videos: unknown '{unknown[0]}', expected {CLEAN} or such as shake-2"
                )
        return self


@dataclass(frozen=True)
class Cell:
    """One latent action model. labels: transitions with a label in its training. world, arms: see `Plan`."""

    bottleneck: str
    input: str
    labels: int
    video: str
    world: bool = False
    arms: tuple[Arm, ...] = ()

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.bottleneck}_{self.input}_{self.labels}_{self.video}"


def load_plan(place: str, overrides: Sequence[str] = ()) -> Plan:
    """A plan by its file, or one of `plans/` by its name.

    Raises:
        UserError: there is none, or anything that is wrong with it.
    """
    path = Path(place) if place.endswith((".yaml", ".yml")) else PLANS / f"{place}.yaml"
    if not path.is_file():
        ours = ", ".join(sorted(each.stem for each in PLANS.glob("*.yaml")))
        raise UserError(f"{place}: no such plan; expected a YAML file, or one of {ours}")
    return load(path, Plan, overrides)


def cells_of(plan: Plan) -> list[Cell]:
    """All cells of a plan, each once, in its order."""
    found: dict[str, Cell] = {}
    for table in plan.tables:
        for names in product(table.bottlenecks, table.inputs, table.labels, table.videos):
            cell = Cell(*names, world=table.world, arms=tuple(table.arms))
            before = found.get(cell.name, cell)
            arms = tuple(dict.fromkeys((*before.arms, *cell.arms)))
            found[cell.name] = replace(cell, world=before.world or cell.world, arms=arms)
    return list(found.values())


def distractor_of(video: str) -> DistractConfig:
    """What a video's name stands for; the course of its distractors is the same whatever is trained on it."""
    match = _VIDEO.fullmatch(video)
    if match is None:
        return DistractConfig(kind="none")
    return DistractConfig.model_validate({"kind": match[1], "strength": int(match[2])})


def recipe_of_base(plan: Plan, out: Path) -> Recipe:
    """What is recorded and ingested, in `out/base`."""
    return _recipe(plan, out, "base", [])


def recipe_of_cell(plan: Plan, cell: Cell, seed: int, out: Path) -> Recipe:
    """How a cell is trained, adapted and measured; its folder is `out/cells/<name>/seed-<seed>`."""
    labels = [f"lam.labels.budget={cell.labels}"] if cell.labels else []
    changes = [*plan.bottlenecks[cell.bottleneck], *plan.inputs[cell.input], *labels, f"seed={seed}"]
    return _recipe(plan, out / "cells" / cell.name, f"seed-{seed}", changes)


def _recipe(plan: Plan, out: Path, name: str, changes: Sequence[str]) -> Recipe:
    path = Path(plan.recipe)
    own: Mapping[str, object] = {"out": out, "name": name, "wandb": '"off"'}
    placed = [f"{key}={value}" for key, value in own.items()]
    return load_recipe(path if path.is_file() else ROOT / path, [*plan.change, *changes, *placed])
