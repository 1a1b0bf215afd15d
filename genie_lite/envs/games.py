"""The games there are: how each is opened, who plays it for a recording, and what plays it without eyes."""

from collections.abc import Callable
from dataclasses import dataclass

from genie_lite.envs.expert import WalkExpert, drift
from genie_lite.envs.lookahead import JumpExpert
from genie_lite.envs.procgen import ProcgenEnv
from genie_lite.envs.protocol import Env, Planner
from genie_lite.envs.toy import CELL_PX as TOY_CELL_PX
from genie_lite.envs.toy import MOVES as TOY_MOVES
from genie_lite.envs.toy import SIDE as TOY_SIDE
from genie_lite.envs.toy import ToyEnv
from genie_lite.errors import UserError, suggestion

# The engine's numbers of its key combinations.
MAZE_ACTIONS = {"noop": 4, "left": 1, "right": 7, "up": 5, "down": 3}
COINRUN_ACTIONS = {"noop": 4, "left": 1, "right": 7, "up": 5, "left+up": 2, "right+up": 8}
# The engine's rows count upwards.
MAZE_MOVES = {"noop": (0, 0), "left": (0, -1), "right": (0, 1), "up": (1, 0), "down": (-1, 0)}


@dataclass(frozen=True)
class Game:
    """One game.

    open: an env with that many streams, to be closed after use. rate_hz, size_px: of its videos, and the side
    of its frames, known before any engine is started. plan: its expert. wander: somebody who strolls
    about. step_limit: actions that an episode may take when policies are scored. blind: actions of which the
    best one, always repeated, is the policy without eyes.
    """

    open: Callable[[int], Env]
    rate_hz: float
    size_px: int
    plan: Planner
    wander: Planner
    step_limit: int
    blind: tuple[str, ...]


def _maze(num_envs: int) -> Env:
    """Memory mode: one sees 8 x 8 cells around oneself; one action is one cell, 8 pixels."""
    return ProcgenEnv("maze", "memory", MAZE_ACTIONS, num_envs, has_grid=True)


def _coinrun(num_envs: int) -> Env:
    return ProcgenEnv("coinrun", "easy", COINRUN_ACTIONS, num_envs)


PROCGEN_PX = 64  # the engine knows no other size
WANDER_CELLS = 5
_RUN, _JUMP = (list(COINRUN_ACTIONS).index(name) for name in ("right", "right+up"))
GAMES = {
    "maze": Game(
        _maze,
        ProcgenEnv.rate_hz,
        PROCGEN_PX,
        WalkExpert(MAZE_MOVES),
        WalkExpert(MAZE_MOVES, WANDER_CELLS),
        200,
        ("left", "right", "up", "down"),
    ),
    "coinrun": Game(
        _coinrun, ProcgenEnv.rate_hz, PROCGEN_PX, JumpExpert(_RUN, _JUMP), drift, 200, ("right+up",)
    ),
    "toy": Game(
        ToyEnv,
        ToyEnv.rate_hz,
        TOY_SIDE * TOY_CELL_PX,
        WalkExpert(TOY_MOVES),
        WalkExpert(TOY_MOVES, WANDER_CELLS),
        40,
        ("left", "right", "up", "down"),
    ),
}


def game_of(name: str) -> Game:
    """The game of that name.

    Raises:
        UserError: there is none; names the nearest.
    """
    if name not in GAMES:
        raise UserError(f"unknown game '{name}', {suggestion(name, GAMES)}")
    return GAMES[name]
