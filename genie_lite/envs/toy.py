"""A made-up world with five known actions: walk over a textured ground, around walls, to the green goal.

8 x 8 cells of 4 x 4 pixels, seen from above; one action moves the player by one cell. It needs no engine and
is small enough for tests and for the whole pipeline within a minute.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from genie_lite.envs.expert import distances
from genie_lite.envs.protocol import Layout, Step

SIDE, CELL_PX = 8, 4
WALL_SHARE = 0.2
_STATE = struct.Struct("<q2B")  # level, row, column
NEAREST_GOAL = 6  # actions from the start: an episode should be worth a video
MOVES = {"noop": (0, 0), "left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
WALL, PLAYER, GOAL = (150, 90, 60), (250, 220, 60), (60, 220, 90)  # RGB


@dataclass(frozen=True)
class _Stream:
    level: int
    free: np.ndarray
    cell: tuple[int, int]
    goal: tuple[int, int]

    @property
    def solved(self) -> bool:
        return self.cell == self.goal

    def moved(self, move: tuple[int, int]) -> "_Stream":
        cell = (self.cell[0] + move[0], self.cell[1] + move[1])
        inside = 0 <= cell[0] < SIDE and 0 <= cell[1] < SIDE
        return replace(self, cell=cell) if inside and self.free[cell] else self


class ToyEnv:
    """See `Env` and `GridEnv`. An episode ends at the goal only."""

    action_names = tuple(MOVES)
    num_actions = len(MOVES)
    rate_hz = 10.0
    shows_end = True

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self._streams: list[_Stream] = []

    def reset(self, levels: Sequence[int]) -> np.ndarray:
        """Start one level per stream."""
        assert len(levels) == self.num_envs, (len(levels), self.num_envs)
        self._streams = [_build(int(level)) for level in levels]
        return self._frames()

    def step(self, action: np.ndarray) -> Step:
        """Move every player that has not arrived; walls and edges stop it."""
        assert len(action) == self.num_envs, (len(action), self.num_envs)
        before = np.array([stream.solved for stream in self._streams])
        moves = [MOVES[self.action_names[int(each)]] for each in action]
        self._streams = [
            stream if stream.solved else stream.moved(move)
            for stream, move in zip(self._streams, moves, strict=True)
        ]
        solved = np.array([stream.solved for stream in self._streams])
        return Step(self._frames(), (solved & ~before).astype(np.float32), solved, solved.copy())

    def layouts(self) -> list[Layout]:
        """The map of each stream."""
        return [Layout(stream.free, stream.cell, stream.goal) for stream in self._streams]

    def save(self) -> list[bytes]:
        """Level and player; the rest follows from the level."""
        return [_STATE.pack(stream.level, *stream.cell) for stream in self._streams]

    def restore(self, states: Sequence[bytes]) -> np.ndarray:
        """Set each stream to a saved state."""
        assert len(states) == self.num_envs, (len(states), self.num_envs)
        unpacked = [_STATE.unpack(state) for state in states]
        self._streams = [replace(_build(level), cell=(row, column)) for level, row, column in unpacked]
        return self._frames()

    def close(self) -> None:
        """Nothing is held."""

    def _frames(self) -> np.ndarray:
        return np.stack([_paint(stream) for stream in self._streams])


def _build(level: int) -> _Stream:
    """The level's map; the first of its random maps that has a goal far enough away."""
    rng = np.random.default_rng(level)
    while True:
        free = rng.random((SIDE, SIDE)) >= WALL_SHARE
        row, column = (int(each) for each in rng.integers(SIDE, size=2))
        free[row, column] = True
        far = np.argwhere(distances(free, (row, column)) >= NEAREST_GOAL)
        if len(far):
            goal = far[rng.integers(len(far))]
            return _Stream(level, free, (row, column), (int(goal[0]), int(goal[1])))


def _ground() -> np.ndarray:
    """The same dark bluish grain under every level, `h w c`."""
    grain = np.random.default_rng(0).integers(0, 24, size=(SIDE * CELL_PX, SIDE * CELL_PX, 1))
    return (np.array([36, 44, 70]) + grain).astype(np.uint8)


_GROUND = _ground()


def _paint(stream: _Stream) -> np.ndarray:
    walls = np.kron(~stream.free, np.ones((CELL_PX, CELL_PX), dtype=bool))
    frame = np.where(walls[:, :, None], np.array(WALL, dtype=np.uint8), _GROUND)
    for (row, column), colour in ((stream.goal, GOAL), (stream.cell, PLAYER)):
        frame[row * CELL_PX : (row + 1) * CELL_PX, column * CELL_PX : (column + 1) * CELL_PX] = colour
    return frame
