"""What an environment plays in: the world of a run, what one can do in it, where it begins, what is rewarded."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict, get_args

import numpy as np
from gymnasium import spaces
from numpy import ndarray

from genie_lite.config import parse
from genie_lite.controls import Controls, action_controls, code_controls
from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.errors import UserError, suggestion
from genie_lite.evaluation import load_world
from genie_lite.folder import frames_of, recipe_of
from genie_lite.models.sampling import SamplingConfig
from genie_lite.models.world import World
from genie_lite.replay import weights_of
from genie_lite.rl.fit import reward_of
from genie_lite.rl.goal import GoalDistance, GoalReward
from genie_lite.rl.reward import LearnedReward
from genie_lite.rl.scorer import NoReward, Scorer
from genie_lite.rl.starts import Given, Start, Starts, open_starts, picture_of, start_of

Actions = Literal["code", "real"]
OTHERS = ("max_frames", "render_mode")  # settings that both environments take themselves


class DreamSettings(TypedDict, total=False):
    """What `gymnasium.make` and `make_vec` take beside the run; all of it may be left out.

    actions: "code", one of the latent actions; "real", a true action of the game or the robot, of a run that was
        adapted. starts: "train" (shots that the world was trained on), "test" (held-out ones, to measure in), "levels",
        "levels:A:B", files, or frames; see `starts`.
    prompt_frames: to begin from; more tell what moves.
    reward: None, 0 and never ended; "learned", by the run's reward head, which is trained if there is none yet.
    goal: an image, as a file or a uint8 array `h w c`: reward is minus the distance to it. goal_by: "pixels",
        "tokenizer" or "lam"; goal_within: distance that ends the episode; goal_bonus: reward of that; see `goal`.
    sampling: changes to how the run draws frames, such as {"refinements": 2, "temperature": 0.5, "micro_batch": 8}.
        The same frames are promised for the same settings only, and `micro_batch` is one of them.
    device: where to compute. compiled: see `World`.
    """

    actions: Actions
    starts: Given | list[Given]
    prompt_frames: int
    reward: Literal["learned"] | None
    goal: str | Path | ndarray | None
    goal_by: GoalDistance
    goal_within: float | None
    goal_bonus: float
    sampling: Mapping[str, Any]
    device: str
    compiled: bool


@dataclass(frozen=True)
class Dream:
    """Everything of a run that streams share.

    config: size and rate of its frames. weights: hashes of its stages, by which its states are known.
    """

    run: Path
    world: World
    controls: Controls
    starts: Starts
    scorer: Scorer
    config: IngestConfig
    prompt_frames: int
    weights: Mapping[str, str] = field(repr=False)

    @property
    def observation_space(self) -> spaces.Box:
        """Of one frame, uint8 `h w c`."""
        return spaces.Box(0, 255, (*self.world.tokenizer.config.frame_hw, 3), np.uint8)

    @property
    def action_space(self) -> spaces.Discrete | spaces.Box:
        """Of one action: a code, a choice, or a vector within the range of the labels."""
        controls = self.controls
        if controls.kind == "continuous":
            low, high = (np.asarray(each, dtype=np.float32) for each in (controls.low, controls.high))
            return spaces.Box(low, high, dtype=np.float32)
        return spaces.Discrete(controls.num_codes if controls.kind == "code" else len(controls.names))

    def start(self, given: Any, generator: np.random.Generator) -> Start:
        """The start that was asked for, or any one if none was."""
        if given is None:
            return self.starts.draw(generator)
        return start_of(given, self.starts, self.config, self.prompt_frames)


def open_dream(run: str | Path, settings: DreamSettings) -> Dream:
    """Load a run's world to act in.

    Raises:
        UserError: no finished run, or settings that it cannot fulfil.
    """
    _check_names(settings)
    recipe = recipe_of(Path(run))
    config = frames_of(recipe)
    num = settings.get("prompt_frames", 1)
    if num < 1:
        raise UserError(f"prompt_frames: found {num}, expected at least 1")
    changes = recipe.sampling.model_dump() | dict(settings.get("sampling", {}))
    sampling = parse(changes, SamplingConfig, "sampling")
    world = load_world(
        recipe, settings.get("device", "cpu"), sampling, compiled=settings.get("compiled", False)
    )
    return Dream(
        run=recipe.folder,
        world=world,
        controls=_controls(recipe.folder, world, settings.get("actions", "code")),
        starts=open_starts(recipe, config, settings.get("starts", "train"), num),
        scorer=_scorer(recipe.folder, world, config, settings),
        config=config,
        prompt_frames=num,
        weights=weights_of(recipe.folder),
    )


def _check_names(settings: Iterable[str]) -> None:
    """A setting that is not known would be left out in silence: Python checks no keys of a `TypedDict`."""
    known = (*DreamSettings.__annotations__, *OTHERS)
    for name in settings:
        if name not in DreamSettings.__annotations__:
            raise UserError(f"settings: found {name!r}; {suggestion(name, known)}")


def _controls(run: Path, world: World, actions: str) -> Controls:
    if actions not in get_args(Actions):
        raise UserError(f"actions: found {actions!r}, expected 'code' or 'real'")
    if actions == "code":
        return code_controls(world)
    found = action_controls(run)
    if found is None:
        raise UserError(
            f"actions: 'real' needs a run that was adapted, and of {run} no map from actions to codes can be had; run "
            "genie-lite adapt, or take 'code'"
        )
    return found


def _scorer(run: Path, world: World, config: IngestConfig, settings: DreamSettings) -> Scorer:
    reward, goal = settings.get("reward"), settings.get("goal")
    if reward not in (None, "learned"):
        raise UserError(
            f"reward: found {reward!r}, expected None or 'learned'; an image is given as goal=IMAGE"
        )
    if goal is None:
        if unused := [name for name in ("goal_by", "goal_within", "goal_bonus") if name in settings]:
            raise UserError(f"{unused[0]}: means nothing without a goal; give goal=IMAGE")
        if reward is None:
            return NoReward()
        return LearnedReward(reward_of(run, str(world.device)), world.device, world.sampling.micro_batch)
    if reward is not None:
        raise UserError("reward and goal are both given; keep one of them")
    if "goal_bonus" in settings and settings.get("goal_within") is None:
        raise UserError(
            "goal_bonus: is never paid where nothing counts as arrived; give goal_within=DISTANCE"
        )
    image = picture_of(goal, config, "goal").frames[0]
    return GoalReward(
        image,
        world,
        settings.get("goal_by", "pixels"),
        settings.get("goal_within"),
        settings.get("goal_bonus", 1.0),
    )
