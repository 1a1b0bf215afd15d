"""Policies in an engine: what counts as solved, on which levels, and how arms are compared."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from genie_lite.evals.score import (
    Plays,
    failed_levels,
    join_plays,
    paired_difference,
    play_policy,
    score_policies,
    success_rate,
)


@dataclass(frozen=True)
class Step:
    frames: np.ndarray
    reward: np.ndarray
    done: np.ndarray
    success: np.ndarray


class Doors:
    """Level n is solved by pressing n % 3 at the third action; every episode ends after the fourth.

    This engine then starts another episode by itself: pressing on must not count.
    """

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.resets: list[list[int]] = []

    def reset(self, levels: Sequence[int]) -> np.ndarray:
        assert len(levels) == self.num_envs
        self.resets.append(list(levels))
        self.level, self.time = np.asarray(levels), np.zeros(self.num_envs, int)
        return self._frames()

    def step(self, action: np.ndarray) -> Step:
        self.time += 1
        solved = (self.time == 3) & (action == self.level % 3)
        done = solved | (self.time == 4)
        self.time[done] = 0
        return Step(frames=self._frames(), reward=solved.astype(np.float32), done=done, success=solved)

    def _frames(self) -> np.ndarray:
        return np.stack(
            [
                np.full((4, 4, 3), 10 * level + time, np.uint8)
                for level, time in zip(self.level, self.time, strict=True)
            ]
        )


class Always:
    def __init__(self, action: int) -> None:
        self.action, self.fresh = action, []

    def act(self, frames: np.ndarray, fresh: np.ndarray) -> np.ndarray:
        self.fresh.append(fresh.tolist())
        return np.full(len(frames), self.action)


class Seeing:
    def act(self, frames: np.ndarray, fresh: np.ndarray) -> np.ndarray:
        return frames[:, 0, 0, 0] // 10 % 3


def test_levels_are_played_once_each_and_the_filling_is_not_counted() -> None:
    env = Doors(num_envs=4)
    plays = play_policy(env, Always(0), [0, 1, 2, 3, 4, 6], step_limit=10)
    assert env.resets == [[0, 1, 2, 3], [4, 6, 6, 6]]
    assert plays.level.tolist() == [0, 1, 2, 3, 4, 6]
    assert plays.success.tolist() == [True, False, False, True, False, True]
    assert plays.num_steps.tolist() == [3, 4, 4, 3, 4, 3]
    assert plays.reward.tolist() == [1, 0, 0, 1, 0, 1]


def test_what_happens_after_the_end_does_not_count() -> None:
    """Level 1 is never solved by 0; level 0 is solved at 3 and would be again at 6 and 9."""
    plays = play_policy(Doors(num_envs=2), Always(0), [0, 1], step_limit=50)
    assert plays.reward.tolist() == [1, 0]
    assert plays.num_steps.tolist() == [3, 4]


def test_a_step_limit_ends_an_episode_unsolved() -> None:
    plays = play_policy(Doors(num_envs=1), Seeing(), [0], step_limit=2)
    assert not plays.success[0]
    assert plays.num_steps.tolist() == [2]


def test_a_player_is_told_where_an_episode_begins() -> None:
    player = Always(0)
    play_policy(Doors(num_envs=2), player, [0, 1, 2, 4], step_limit=10)
    begun = [number for number, fresh in enumerate(player.fresh) if any(fresh)]
    assert begun == [0, 4]  # the first two levels take four actions
    assert player.fresh[0] == player.fresh[4] == [True, True]


def rows(level: Sequence[int], success: Sequence[bool]) -> Plays:
    zeros = np.zeros(len(level))
    return Plays(np.asarray(level), np.asarray(success), zeros, zeros.astype(int))


def test_no_success_in_200_levels_is_not_certain_failure() -> None:
    rate = success_rate(rows(range(200), [False] * 200))
    assert rate.mean == rate.low == 0
    assert rate.high == pytest.approx(0.0188, abs=1e-3)


def test_playing_a_level_again_does_not_narrow_the_interval() -> None:
    once = rows(range(50), [level % 3 == 0 for level in range(50)])
    many = success_rate(join_plays([once] * 20))
    assert many.num == 50
    assert many.high - many.low == pytest.approx(success_rate(once).high - success_rate(once).low, rel=0.15)


def test_arms_are_compared_level_by_level() -> None:
    """Both arms solve half of the levels; one level is solved by the first arm alone."""
    levels = range(100)
    first = rows(levels, [level < 51 for level in levels])
    second = rows(list(reversed(levels)), [level < 50 for level in reversed(levels)])
    difference = paired_difference(first, second)
    assert difference.mean == pytest.approx(0.01)
    assert difference.high < 0.04  # unpaired it would be 0.15


def test_hard_levels_are_those_the_blind_player_fails() -> None:
    env, levels = Doors(num_envs=3), list(range(12))
    arms = {
        name: play_policy(env, player, levels, 10)
        for name, player in {"latent": Seeing(), "blind": Always(0), "random": Always(1)}.items()
    }
    assert failed_levels(arms["blind"]) == [1, 2, 4, 5, 7, 8, 10, 11]
    score = score_policies(arms)
    assert score.success["latent"].mean == 1
    assert score.success["blind"].mean == pytest.approx(1 / 3)
    assert score.hard["blind"].mean == 0
    assert score.hard["random"].mean == 0.5
    assert score.gain.keys() == {"latent_over_blind", "latent_over_random"}
    tree = score.tree()
    assert tree["policy"]["random"].keys() == {"mean", "low", "high", "num", "episodes"}
    assert (tree["policy"]["random"]["episodes"], tree["policy_hard"]["random"]["episodes"]) == (12, 8)


def test_without_a_blind_player_no_level_is_called_hard() -> None:
    assert "policy_hard" not in score_policies({"latent": rows([1, 2], [True, False])}).tree()
