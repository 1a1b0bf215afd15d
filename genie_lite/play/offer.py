"""Everything that a run has for players, opened once and shared by all of them.

    world · controls · starts · names · previews · policies · the real game

Models are loaded here. Of the rest nothing is read, decoded, computed or started before somebody asks for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from genie_lite.artifact import read_artifact
from genie_lite.controls import Controls, action_controls, code_controls
from genie_lite.device import usual_device
from genie_lite.errors import UserError
from genie_lite.evaluation import load_world
from genie_lite.folder import frames_of, recipe_of
from genie_lite.models.sampling import SamplingConfig
from genie_lite.models.world import World
from genie_lite.play.drive import Driver, chance, drivers_of
from genie_lite.play.names import Names
from genie_lite.play.own_start import OwnStarts
from genie_lite.play.previews import Previews
from genie_lite.play.shelf import Shelf
from genie_lite.play.starts import Starts, starts_of
from genie_lite.play.twin import Twin, Twins, why_no_twin
from genie_lite.recipe import Recipe


@dataclass(frozen=True)
class Offer:
    """What one run offers. Safe from several threads.

    run: its folder. title: its name. rate_hz, frame_hw: of its frames. world: to step. controls: true actions where
    the run was adapted, codes where it was not; code_controls: codes in any case. starts: frames to begin from.
    own_starts: makes frames of an image or a short video that somebody brings; see `OwnStarts`. names: what codes are
    called. previews: what codes do. policies: who can play, by name. twins: opens the real game, None where there is
    none; no_twin says why.
    """

    run: Path
    title: str
    rate_hz: float
    frame_hw: tuple[int, int]
    world: World
    controls: Controls
    code_controls: Controls
    starts: Starts
    own_starts: OwnStarts
    names: Names
    previews: Previews
    policies: Mapping[str, Driver]
    twins: Twins | None
    no_twin: str | None

    @property
    def game(self) -> str | None:
        """The real game that can be played beside the world; None where there is none."""
        return None if self.twins is None else self.twins.game

    def preview(self, code: int) -> bytes:
        """A code's animated WebP, made when it is first asked for; raises as `Previews.get`."""
        return self.previews.get(code)

    def own_start(self, data: bytes) -> UInt8[np.ndarray, "t h w c"]:
        """Frames to begin from, of an image or a short video; raises as `OwnStarts`."""
        return self.own_starts(data)

    def twin(self, level: int) -> Twin:
        """The real game at the beginning of a level; close it.

        Raises:
            UserError: there is none, no such level, or too many are open.
        """
        if self.twins is None:
            raise UserError(f"no real game is offered: {self.no_twin}")
        return self.twins.open(level)

    def close(self) -> None:
        """Let nothing go on in the background."""
        self.previews.close()


def open_offer(
    run: Path, sampling: SamplingConfig | None = None, *, device: str | None = None, compiled: bool = False
) -> Offer:
    """Load a run for players.

    Args:
        run: a run, an exported one, or one that comes with the toolkit.
        sampling: how frames are drawn; as the run's recipe says, if not given.
        device: where to compute; a GPU, if there is one, if not given.
        compiled: see `World`.

    Raises:
        UserError: no finished run here, or something in it is damaged.
    """
    recipe = recipe_of(run)
    world = load_world(recipe, device or usual_device(), sampling, compiled=compiled)
    sha256 = {stage: read_artifact(run / stage, stage).sha256 for stage in ("lam", "dynamics")}
    config = frames_of(recipe)
    codes = code_controls(world)
    controls = action_controls(run) or codes
    starts, shelf = starts_of(recipe), Shelf(run, sha256["dynamics"][:16])
    twins, no_twin = _twins(recipe, config.rate_hz, world, controls)
    return Offer(
        run=run,
        title=recipe.name,
        rate_hz=config.rate_hz,
        frame_hw=world.tokenizer.config.frame_hw,
        world=world,
        controls=controls,
        code_controls=codes,
        starts=starts,
        own_starts=OwnStarts(config, recipe.evaluate.prompt_frames),
        names=Names(shelf, sha256["lam"], world.num_codes),
        previews=Previews(world, starts, shelf, sha256["dynamics"], config.rate_hz),
        policies=_policies(recipe, world, controls),
        twins=twins,
        no_twin=no_twin,
    )


def _policies(recipe: Recipe, world: World, controls: Controls) -> dict[str, Driver]:
    frame_hw, temperature = world.tokenizer.config.frame_hw, recipe.adapt.temperature
    known = controls.kind != "code"
    found = drivers_of(recipe.folder / "adapt", controls.names, frame_hw, temperature) if known else {}
    anything = chance(len(controls.names))
    return found if controls.kind == "continuous" else found | {anything.name: anything}


def _twins(
    recipe: Recipe, rate_hz: float, world: World, controls: Controls
) -> tuple[Twins | None, str | None]:
    """What opens the real game, or why it is not offered."""
    if recipe.record is None:
        return None, "the run was not recorded from a game"
    game = recipe.record.game
    if (reason := why_no_twin(game, rate_hz, controls)) is not None:
        return None, reason
    frame_hw, resize = world.tokenizer.config.frame_hw, recipe.data.ingest.resize
    return Twins(game, controls.names, frame_hw, resize), None
