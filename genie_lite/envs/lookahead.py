"""CoinRun's expert: many plans are tried in the engine itself, and the calmest one that works is played.

Every plan runs right, jumps now and then, and strays as often as it is asked to. Among those that reach the
coin the one with the fewest jumps of its own will is taken: it looks most like somebody who sees the gaps.

Source: best-of-64 rollouts, the expert of this project's CoinRun benchmark.
"""

from collections.abc import Sequence

import numpy as np

from genie_lite.envs.expert import Stray
from genie_lite.envs.procgen import ProcgenEnv
from genie_lite.envs.protocol import Env, fill

LONGEST_HOLD = 10  # actions for which a plan keeps running or jumping
JUMPINESS = (0.1, 0.9)  # share of jumps, from the calmest plan to the wildest
ENOUGH = 0.25  # share of solved plans to choose from; the slow ones are not waited for


class JumpExpert:
    """Plans episodes of a game that is won by running right and jumping in time; see `Planner`.

    As many plans are tried per level as the env has streams.

    Args:
        run, jump: the actions.
    """

    def __init__(self, run: int, jump: int) -> None:
        self._run, self._jump = run, jump

    def __call__(
        self, env: Env, levels: Sequence[int], seed: int, explore: float, max_actions: int
    ) -> list[np.ndarray]:
        """The best plan of each level."""
        assert isinstance(env, ProcgenEnv)
        env.reset(fill(levels, env.num_envs))
        starts = env.save()[: len(levels)]
        return [
            self._best(env, start, np.random.default_rng([seed, level]), explore, max_actions)
            for level, start in zip(levels, starts, strict=True)
        ]

    def _best(
        self, env: ProcgenEnv, start: bytes, rng: np.random.Generator, explore: float, max_actions: int
    ) -> np.ndarray:
        drawn = [
            self._draw(jumpiness, Stray(explore, env.num_actions, rng), rng, max_actions)
            for jumpiness in np.linspace(*JUMPINESS, env.num_envs)
        ]
        actions = np.stack([plan for plan, _ in drawn], axis=1)
        wilful = np.stack([own for _, own in drawn], axis=1)
        env.restore([start] * env.num_envs)
        num_actions, success = env.rollout(actions, max(1, round(ENOUGH * env.num_envs)))
        taken = np.arange(max_actions)[:, None] < num_actions
        jumps = (wilful & taken & (actions == self._jump)).sum(axis=0)
        # Without a success, whoever lived longest.
        best = int(np.argmin(np.where(success, jumps, np.inf) if success.any() else -num_actions))
        return actions[: num_actions[best], best]

    def _draw(
        self, jumpiness: float, stray: Stray, rng: np.random.Generator, max_actions: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """A plan, and which of its actions are of its own will and not exploratory."""
        plan = np.empty(max_actions, dtype=np.int64)
        own = np.empty(max_actions, dtype=bool)
        action, left = self._run, 0
        for k in range(max_actions):
            if not left:
                action = self._jump if rng.random() < jumpiness else self._run
                left = int(rng.integers(1, LONGEST_HOLD + 1))
            left -= 1
            strayed = stray.next()
            plan[k], own[k] = (action, True) if strayed is None else (strayed, False)
        return plan, own
