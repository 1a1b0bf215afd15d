"""Experts: who plays when a game is recorded. They look into the engine; a policy never does.

On a grid the shortest way is known from every cell, so the expert walks it, strays for a few exploratory
actions now and then, and goes on from wherever it ended up.
"""

from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

from genie_lite.envs.protocol import Env, GridEnv, Layout, fill

LONGEST_STRAY = 3  # actions; one exploratory action is held for 1 to this many
_NEIGHBOURS = ((0, -1), (0, 1), (-1, 0), (1, 0))


def distances(free: np.ndarray, start: tuple[int, int]) -> np.ndarray:
    """Number of moves from `start` to every cell of a grid, int `h w`; -1 where no way leads.

    Args:
        free: bool `h w`, where one can walk.
        start: (row, column).
    """
    away = np.full(free.shape, -1)
    away[start] = 0
    queue = deque([start])
    while queue:
        row, column = queue.popleft()
        for down, right in _NEIGHBOURS:
            cell = (row + down, column + right)
            if _is_free(free, cell) and away[cell] < 0:
                away[cell] = away[row, column] + 1
                queue.append(cell)
    return away


class Stray:
    """Says at every action whether to explore; in the long run a share `explore` of all actions is exploratory.

    An exploratory action is drawn from all actions of the game and held for 1 to LONGEST_STRAY actions.
    """

    def __init__(self, explore: float, num_actions: int, rng: np.random.Generator) -> None:
        held = (1 + LONGEST_STRAY) / 2
        # With a chance p per free choice, exploratory actions have a share p held / (p held + 1 - p).
        self._chance = explore / (explore + held * (1 - explore))
        self._num_actions, self._rng = num_actions, rng
        self._action, self._left = 0, 0

    def next(self) -> int | None:
        """The exploratory action to take now, or None: the expert decides."""
        if not self._left and self._rng.random() < self._chance:
            self._action = int(self._rng.integers(self._num_actions))
            self._left = int(self._rng.integers(1, LONGEST_STRAY + 1))
        if not self._left:
            return None
        self._left -= 1
        return self._action


class WalkExpert:
    """Plans episodes on a grid; see `Planner`.

    Args:
        moves: of each action, in the order of the game's actions: (rows down, columns right) it walks.
        wander_cells: if given, a stroll: the goal is a random cell at most so many moves away, and another
            one once it is reached. The level's own goal still ends the episode.
    """

    def __init__(self, moves: Mapping[str, tuple[int, int]], wander_cells: int | None = None) -> None:
        self._moves, self._wander_cells = tuple(moves.values()), wander_cells

    def __call__(
        self, env: Env, levels: Sequence[int], seed: int, explore: float, max_actions: int
    ) -> list[np.ndarray]:
        """Shortest ways with strays."""
        assert isinstance(env, GridEnv)
        env.reset(fill(levels, env.num_envs))
        # One stream of randomness per level: an episode does not depend on the levels beside it.
        return [
            self._walk(layout, explore, np.random.default_rng([seed, level]), max_actions)
            for level, layout in zip(levels, env.layouts(), strict=False)  # the filling is not planned
        ]

    def _walk(self, layout: Layout, explore: float, rng: np.random.Generator, max_actions: int) -> np.ndarray:
        stray = Stray(explore, len(self._moves), rng)
        cell, target, away = layout.cell, layout.goal, distances(layout.free, layout.goal)
        if self._wander_cells is not None:
            target = cell
        actions = []
        while cell != layout.goal and len(actions) < max_actions:
            if cell == target:
                target = self._somewhere(layout.free, cell, rng)
                away = distances(layout.free, target)
            action = stray.next()
            action = self._nearer(away, cell) if action is None else action
            cell = self._after(layout.free, cell, action)
            actions.append(action)
        return np.array(actions, dtype=np.int64)

    def _somewhere(
        self, free: np.ndarray, cell: tuple[int, int], rng: np.random.Generator
    ) -> tuple[int, int]:
        """A random cell near by, or this one if there is no other."""
        away = distances(free, cell)
        near = np.argwhere((away > 0) & (away <= (self._wander_cells or 0)))
        if not len(near):
            return cell
        row, column = near[rng.integers(len(near))]
        return int(row), int(column)

    def _nearer(self, away: np.ndarray, cell: tuple[int, int]) -> int:
        reached = [away[self._after(away >= 0, cell, action)] for action in range(len(self._moves))]
        return int(np.argmin(reached))

    def _after(self, free: np.ndarray, cell: tuple[int, int], action: int) -> tuple[int, int]:
        down, right = self._moves[action]
        ahead = (cell[0] + down, cell[1] + right)
        return ahead if _is_free(free, ahead) else cell


def drift(env: Env, levels: Sequence[int], seed: int, explore: float, max_actions: int) -> list[np.ndarray]:
    """Plans nothing but random actions, each held for a while; see `Planner`. For games without a grid."""
    plans = []
    for level in levels:
        stray = Stray(1.0, env.num_actions, np.random.default_rng([seed, level]))
        plans.append(np.array([stray.next() for _ in range(max_actions)], dtype=np.int64))
    return plans


def _is_free(free: np.ndarray, cell: tuple[int, int]) -> bool:
    return 0 <= cell[0] < free.shape[0] and 0 <= cell[1] < free.shape[1] and bool(free[cell])
