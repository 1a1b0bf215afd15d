"""A game seen through a distractor: a policy that was cloned from distracted video meets the like at play."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from genie_lite.data.distract.distractor import Distractor
from genie_lite.envs.protocol import Env, Step

Draw = Callable[[int], Distractor]  # level -> what goes over its frames


class DistractedEnv:
    """See `Env`: the same game, whose frames alone are others. Time passes with the steps since `reset`.

    A frame is shown before the ones that follow are known, so a background shines through all of it (`background.py`).

    Args:
        env: the game.
        draw: the distractor of a level.
    """

    def __init__(self, env: Env, draw: Draw) -> None:
        self._env, self._draw = env, draw
        self._drawn: list[Distractor] = []
        self._steps = 0
        self.num_envs, self.num_actions = env.num_envs, env.num_actions
        self.action_names, self.rate_hz, self.shows_end = env.action_names, env.rate_hz, env.shows_end

    def reset(self, levels: Sequence[int]) -> np.ndarray:
        """Start one level per stream, each with its own distractor."""
        self._drawn, self._steps = [self._draw(int(level)) for level in levels], 0
        return self._shown(self._env.reset(levels))

    def step(self, action: np.ndarray) -> Step:
        """Take one action per stream."""
        step = self._env.step(action)
        self._steps += 1
        return replace(step, frames=self._shown(step.frames))

    def save(self) -> list[bytes]:
        """The states of the game; what goes over its frames is not part of them."""
        return self._env.save()

    def restore(self, states: Sequence[bytes]) -> np.ndarray:
        """Set the game to other states, at the present time of the distractors."""
        return self._shown(self._env.restore(states))

    def close(self) -> None:
        """Close the game."""
        self._env.close()

    def _shown(self, frames: np.ndarray) -> np.ndarray:
        time_s = np.array([self._steps / self.rate_hz])
        return np.concatenate(
            [drawn(each[None], time_s) for drawn, each in zip(self._drawn, frames, strict=True)]
        )
