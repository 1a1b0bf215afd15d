"""What every real engine looks like from outside: many streams side by side, each playing a chosen level.

    reset(levels) -> frames          step(action) -> Step          save() / restore(states)

Engines are deterministic: the same level and the same actions give the same frames. The recorder plans an
episode first and plays it afterwards, and relies on that.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np


@dataclass(frozen=True)
class Step:
    """What one action led to, in every stream.

    A stream whose episode has ended stays as it is until the next `reset` or `restore`: further actions do
    nothing to it, its frame is repeated, its reward is 0, and `done` and `success` keep their values.

    frames: uint8 `b h w c`, after the action. reward: float32 `b`. done, success: bool `b`.
    """

    frames: np.ndarray
    reward: np.ndarray
    done: np.ndarray
    success: np.ndarray


@dataclass(frozen=True)
class Layout:
    """The map of a level that is a grid of cells, and where things are in it: what an expert may look at.

    free: bool `h w`, where one can walk. cell, goal: (row, column) of the player and of what it is after.
    """

    free: np.ndarray
    cell: tuple[int, int]
    goal: tuple[int, int]


@runtime_checkable
class Env(Protocol):
    """A vectorised engine.

    num_envs: streams played side by side. action_names: one name per action; action 0 is "noop".
    rate_hz: of the videos recorded from it; an engine has no clock of its own.
    shows_end: whether the frame returned when an episode is solved is the end itself. Where it is not, the
        engine went on to its next level unseen and the frame before the end is repeated.
    """

    @property
    def num_envs(self) -> int: ...
    @property
    def num_actions(self) -> int: ...
    @property
    def action_names(self) -> tuple[str, ...]: ...
    @property
    def rate_hz(self) -> float: ...
    @property
    def shows_end(self) -> bool: ...

    def reset(self, levels: Sequence[int]) -> np.ndarray:
        """Start one level per stream, `num_envs` of them; returns the first frames, uint8 `b h w c`."""
        ...

    def step(self, action: np.ndarray) -> Step:
        """Take one action per stream, integers `b` in [0, num_actions)."""
        ...

    def save(self) -> list[bytes]:
        """The state of each stream; any stream of any env of the same game can be set to it."""
        ...

    def restore(self, states: Sequence[bytes]) -> np.ndarray:
        """Set each stream to a state; returns its frames, uint8 `b h w c`."""
        ...

    def close(self) -> None:
        """Give back what the engine holds; may be called twice."""
        ...


@runtime_checkable
class GridEnv(Env, Protocol):
    """An engine whose levels are grids that one walks cell by cell."""

    def layouts(self) -> list[Layout]:
        """The map of each stream as it is now."""
        ...


Planner = Callable[[Env, Sequence[int], int, float, int], list[np.ndarray]]
"""(env, levels, seed, explore, max_actions) -> the actions of one episode per level, at most `max_actions`.

`explore` is the share of actions that are exploratory. What is planned for a level depends on the seed and the
level alone, never on the levels beside it. The env is left in any state.
"""


def fill(levels: Sequence[int], num_envs: int) -> list[int]:
    """At most `num_envs` levels, the last one repeated until every stream has one."""
    assert 0 < len(levels) <= num_envs, (len(levels), num_envs)
    return [*levels, *[levels[-1]] * (num_envs - len(levels))]
