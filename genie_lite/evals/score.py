"""How often a policy succeeds in the real engine, on levels it has never seen.

Every arm plays the same levels, so two arms are compared level by level. A blind policy that ignores the
picture solves part of many games; the levels where it fails are scored apart, and only those need eyes.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from genie_lite.evals.interval import mean_over, wilson
from genie_lite.evals.tree import to_tree
from genie_lite.types import Interval

OURS, BLIND = "latent", "blind"


@runtime_checkable
class Step(Protocol):
    """What an engine returns: the next frames (uint8 `b h w c`) and one number or flag per stream."""

    @property
    def frames(self) -> np.ndarray: ...
    @property
    def reward(self) -> np.ndarray: ...
    @property
    def done(self) -> np.ndarray: ...
    @property
    def success(self) -> np.ndarray: ...


@runtime_checkable
class Env(Protocol):
    """The part of a vectorised engine that scoring needs; engines live in genie_lite.envs."""

    @property
    def num_envs(self) -> int: ...
    def reset(self, levels: Sequence[int]) -> np.ndarray: ...
    def step(self, action: np.ndarray) -> Step: ...


@runtime_checkable
class Player(Protocol):
    """Whatever plays: chooses one action per stream and keeps its own memory and randomness."""

    def act(self, frames: np.ndarray, fresh: np.ndarray) -> np.ndarray:
        """Frames uint8 `b h w c` and, per stream, whether this is an episode's first -> actions, int `b`."""
        ...


@dataclass(frozen=True)
class Plays:
    """One row per episode played. level: which. success: bool. reward: summed. num_steps: until it ended."""

    level: np.ndarray
    success: np.ndarray
    reward: np.ndarray
    num_steps: np.ndarray

    def on(self, levels: Collection[int]) -> "Plays":
        """The episodes of the given levels."""
        kept = np.isin(self.level, sorted(levels))
        return Plays(self.level[kept], self.success[kept], self.reward[kept], self.num_steps[kept])


@dataclass(frozen=True)
class PolicyScore:
    """Success rates in [0, 1], intervals over levels.

    success: of each arm on all levels. hard: of each arm on the levels where the blind arm fails.
    gain: our arm's rate minus each other arm's, level by level. episodes: played per arm, hard ones apart.
    """

    success: dict[str, Interval]
    hard: dict[str, Interval]
    gain: dict[str, Interval]
    episodes: dict[str, int]
    hard_episodes: dict[str, int]

    def tree(self) -> dict[str, Any]:
        """The sections `policy`, `policy_hard` and `policy_gain` of the report."""
        sections = {
            "policy": _with_episodes(self.success, self.episodes),
            "policy_hard": _with_episodes(self.hard, self.hard_episodes),
            "policy_gain": to_tree(self.gain),
        }
        return {name: section for name, section in sections.items() if section}


def play_policy(
    env: Env,
    player: Player,
    levels: Sequence[int],
    step_limit: int,
    progress: Callable[[int, int], None] | None = None,
) -> Plays:
    """Play each level once; an episode ends when the engine says so or after `step_limit` actions, unsolved.

    Args:
        env: plays `env.num_envs` levels side by side.
        player: chooses the actions.
        levels: which to play, in this order.
        step_limit: longest episode, in actions.
        progress: called with (levels played, levels in all).
    """
    parts = []
    for start in range(0, len(levels), env.num_envs):
        batch = list(levels[start : start + env.num_envs])
        parts.append(_play_batch(env, player, batch, step_limit))
        if progress is not None:
            progress(start + len(batch), len(levels))
    return join_plays(parts)


def join_plays(parts: Sequence[Plays]) -> Plays:
    """Episodes of several rounds, such as several seeds, as one."""
    return Plays(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("level", "success", "reward", "num_steps")
        )
    )


def _play_batch(env: Env, player: Player, levels: list[int], step_limit: int) -> Plays:
    num = len(levels)
    # An engine plays a fixed number of streams: the last batch is filled up, and the filling not counted.
    frames = env.reset(levels + levels[-1:] * (env.num_envs - num))
    fresh, playing = np.ones(env.num_envs, dtype=bool), np.ones(env.num_envs, dtype=bool)
    success, reward = np.zeros(env.num_envs, dtype=bool), np.zeros(env.num_envs)
    num_steps = np.zeros(env.num_envs, dtype=np.int64)
    for _ in range(step_limit):
        step = env.step(player.act(frames, fresh))
        reward += np.where(playing, step.reward, 0.0)
        success |= playing & step.success
        num_steps += playing
        playing &= ~step.done
        if not playing[:num].any():
            break
        frames, fresh = step.frames, np.zeros(env.num_envs, dtype=bool)
    return Plays(np.asarray(levels), success[:num], reward[:num], num_steps[:num])


def success_rate(plays: Plays) -> Interval:
    """Share of episodes solved; interval over levels (Wilson's, if every level was played once)."""
    successes, levels = int(plays.success.sum()), np.unique(plays.level)
    if len(levels) == len(plays.level) or successes in (0, len(plays.level)):
        # The bootstrap of an unbroken row of failures, or successes, has no width; Wilson's interval has.
        return wilson(successes * len(levels) // len(plays.level), len(levels))
    return mean_over(plays.success, plays.level)


def paired_difference(first: Plays, second: Plays) -> Interval:
    """Success rate of `first` minus that of `second` on the levels both played, interval over levels."""
    shared = np.intersect1d(first.level, second.level)
    assert len(shared), "the two arms share no level"
    rates = [
        np.array([plays.success[plays.level == level].mean() for level in shared])
        for plays in (first, second)
    ]
    return mean_over(rates[0] - rates[1], shared.astype(str))


def failed_levels(plays: Plays) -> list[int]:
    """The levels that were never solved."""
    return sorted(set(plays.level.tolist()) - set(plays.level[plays.success].tolist()))


def score_policies(arms: Mapping[str, Plays]) -> PolicyScore:
    """Rates of all arms, and `latent` against each of the others.

    Args:
        arms: name to episodes on the same levels. `latent` is the policy under test; `blind`, if present,
            decides which levels are hard.
    """
    hard_levels = failed_levels(arms[BLIND]) if BLIND in arms else []
    hard = {name: plays.on(hard_levels) for name, plays in arms.items()} if hard_levels else {}
    return PolicyScore(
        success={name: success_rate(plays) for name, plays in arms.items()},
        hard={name: success_rate(plays) for name, plays in hard.items()},
        gain={
            f"{OURS}_over_{name}": paired_difference(arms[OURS], plays)
            for name, plays in arms.items()
            if OURS in arms and name != OURS
        },
        episodes={name: len(plays.level) for name, plays in arms.items()},
        hard_episodes={name: len(plays.level) for name, plays in hard.items()},
    )


def _with_episodes(rates: Mapping[str, Interval], episodes: Mapping[str, int]) -> dict[str, Any]:
    return {name: to_tree(rate) | {"episodes": episodes[name]} for name, rate in rates.items()}
