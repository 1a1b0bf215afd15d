"""Who plays when a game is recorded: agents good enough to show every move.

They may look into the engine, which the models never may. Random play shows little: it stays where it
starts, and a world learnt from it obeys badly. An `expert` goes for the goal; an `explorer` wanders, turns
back and repeats itself, so that no move can be told from the moves before.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np

from genie_lite.envs.protocol import Env, Grid, GridEnv
from genie_lite.envs.toy import distances

Manner = Literal["expert", "explorer"]
WANDER_CELLS = 5  # an explorer picks its next goal within so many cells
LONGEST_HOLD = 3  # a random action is held for up to so many frames


class Agent(Protocol):
    """Plays one level in each engine."""

    def begin(self, env: Env, levels: Sequence[int], seed: int) -> None:
        """The engines have just started these levels."""
        ...

    def act(self) -> np.ndarray:
        """The next action of each engine."""
        ...


class GridAgent:
    """Plays games on a grid by the shortest path; with probability `explore` a random action is held instead."""

    def __init__(self, env: GridEnv, manner: Manner, explore: float) -> None:
        self._moves, self._manner, self._explore = env.moves(), manner, explore
        self._env = env

    def begin(self, env: Env, levels: Sequence[int], seed: int) -> None:
        """See `Agent.begin`."""
        grids = self._env.grids()[: len(levels)]
        # One stream of randomness per level: an episode does not depend on the batch it is recorded in.
        self._walkers = [
            _Walker(grid, self._moves, self._manner, self._explore, np.random.default_rng([seed, level]))
            for grid, level in zip(grids, levels, strict=True)
        ]
        self._idle = env.num_envs - len(levels)

    def act(self) -> np.ndarray:
        """See `Agent.act`."""
        return np.array([walker.act() for walker in self._walkers] + [0] * self._idle)


class _Walker:
    def __init__(
        self, grid: Grid, moves: Sequence[tuple[int, int]], manner: Manner, explore: float, rng: np.random.Generator
    ) -> None:
        self._grid, self._moves, self._manner, self._explore, self._rng = grid, moves, manner, explore, rng
        self._at, self._goal = grid.agent, grid.goal
        self._way = distances(grid.is_free, grid.goal)
        self._held, self._frames_left = 0, 0
        if manner == "explorer":
            self._wander()

    def act(self) -> int:
        if self._manner == "explorer" and self._at == self._goal:
            self._wander()
        action = self._choose()
        target = self._to(action)
        if self._is_free(target):
            self._at = target
        return action

    def _choose(self) -> int:
        if self._frames_left == 0 and self._rng.random() < self._explore:
            self._held = int(self._rng.integers(len(self._moves)))
            self._frames_left = int(self._rng.integers(1, LONGEST_HOLD + 1))
        if self._frames_left > 0:
            self._frames_left -= 1
            return self._held
        far = len(self._way)
        return min(range(len(self._moves)), key=lambda action: self._way.get(self._to(action), far))

    def _wander(self) -> None:
        near = [cell for cell, steps in distances(self._grid.is_free, self._at).items() if 0 < steps <= WANDER_CELLS]
        if near:
            self._goal = near[int(self._rng.integers(len(near)))]
            self._way = distances(self._grid.is_free, self._goal)

    def _to(self, action: int) -> tuple[int, int]:
        return self._at[0] + self._moves[action][0], self._at[1] + self._moves[action][1]

    def _is_free(self, cell: tuple[int, int]) -> bool:
        height, width = self._grid.is_free.shape
        return 0 <= cell[0] < height and 0 <= cell[1] < width and bool(self._grid.is_free[cell])


class SearchAgent:
    """Plays CoinRun by trying: many jittery rollouts of each level, then the fewest-jumps solution is replayed.

    A random prefix (of the `explore` share of a typical solution) shows other moves and other places; an
    explorer never stops being random.
    """

    def __init__(self, planner: Env, manner: Manner, explore: float, longest: int = 120) -> None:
        self._planner, self._manner, self._explore, self._longest = planner, manner, explore, longest
        names = list(planner.action_names)
        self._right, self._jump = names.index("right"), names.index("right_up")

    def begin(self, env: Env, levels: Sequence[int], seed: int) -> None:
        """See `Agent.begin`."""
        self._plans = [self._plan(level, np.random.default_rng([seed, level])) for level in levels]
        self._num, self._clock = env.num_envs, 0

    def act(self) -> np.ndarray:
        """See `Agent.act`."""
        action = np.zeros(self._num, dtype=np.int64)
        for number, plan in enumerate(self._plans):
            action[number] = plan[min(self._clock, len(plan) - 1)]
        self._clock += 1
        return action

    def _plan(self, level: int, rng: np.random.Generator) -> np.ndarray:
        num_actions = len(self._planner.action_names)
        wild = _hold(rng, self._longest, num_actions)
        if self._manner == "explorer":
            return wild
        prefix = wild[: int(rng.integers(0, 1 + int(2 * self._explore * 50)))]
        self._planner.reset([level] * self._planner.num_envs)
        for action in prefix:
            self._planner.step(np.full(self._planner.num_envs, action))
        tries = np.stack([self._rush(rng) for _ in range(self._planner.num_envs)])
        return np.concatenate([prefix, self._best(tries)])

    def _rush(self, rng: np.random.Generator) -> np.ndarray:
        """Right all the way, with jumps of random length at random times."""
        return np.array([self._right, self._jump])[_hold(rng, self._longest, 2, longest=8)]

    def _best(self, tries: np.ndarray) -> np.ndarray:
        num, length = tries.shape
        ended, solved = np.full(num, length), np.zeros(num, dtype=bool)
        for time in range(length):
            step = self._planner.step(tries[:, time])
            ended = np.minimum(ended, np.where(step.done, time + 1, length))
            solved = step.success
            if step.done.all():
                break
        jumps = np.array([(tries[row, : ended[row]] == self._jump).sum() for row in range(num)])
        cost = np.where(solved, jumps + 1e-3 * ended, np.inf)
        best = int(cost.argmin()) if solved.any() else int(ended.argmax())
        return tries[best, : ended[best]]


def _hold(rng: np.random.Generator, length: int, num_actions: int, longest: int = LONGEST_HOLD) -> np.ndarray:
    """Random actions, each held for a random time."""
    drawn = rng.integers(num_actions, size=length)
    held = rng.integers(1, longest + 1, size=length)
    return np.repeat(drawn, held)[:length]
