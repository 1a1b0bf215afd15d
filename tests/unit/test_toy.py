"""The made-up world: what its actions do, and that its expert does what it is asked to."""

import numpy as np
import pytest

from genie_lite.envs.expert import Stray, WalkExpert, distances
from genie_lite.envs.games import GAMES, game_of
from genie_lite.envs.protocol import Env, GridEnv
from genie_lite.envs.toy import CELL_PX, MOVES, NEAREST_GOAL, PLAYER, SIDE, ToyEnv
from genie_lite.errors import UserError

LEVELS = list(range(40))


def player_in(frame: np.ndarray) -> tuple[int, int]:
    """Cell of the player, read off the picture."""
    pixels = np.argwhere((frame == np.array(PLAYER)).all(-1))
    assert len(pixels) == CELL_PX**2
    row, column = pixels.min(0) // CELL_PX
    return int(row), int(column)


def test_it_is_an_env_with_a_map() -> None:
    env = game_of("toy").open(3)
    assert isinstance(env, Env)
    assert isinstance(env, GridEnv)
    assert env.action_names[0] == "noop"
    frames = env.reset([1, 2, 3])
    assert (frames.shape, frames.dtype) == ((3, 32, 32, 3), np.uint8)
    step = env.step(np.zeros(3, np.int64))
    assert (step.reward.dtype, step.done.dtype, step.success.dtype) == (np.float32, bool, bool)


@pytest.mark.parametrize("action", range(len(MOVES)))
def test_an_action_moves_the_player_by_one_cell_unless_something_is_in_the_way(action: int) -> None:
    env = ToyEnv(len(LEVELS))
    before = env.reset(LEVELS)
    layouts = env.layouts()
    after = env.step(np.full(len(LEVELS), action)).frames
    moved = 0
    for first, then, layout in zip(before, after, layouts, strict=True):
        assert player_in(first) == layout.cell
        down, right = list(MOVES.values())[action]
        ahead = (layout.cell[0] + down, layout.cell[1] + right)
        is_open = all(0 <= each < SIDE for each in ahead) and layout.free[ahead]
        assert player_in(then) == (ahead if is_open else layout.cell)
        moved += player_in(then) != player_in(first)
    assert (moved > 10) == (env.action_names[action] != "noop")


def test_levels_are_the_same_every_time_and_differ() -> None:
    first, second = ToyEnv(4).reset([3, 5, 3, 7]), ToyEnv(4).reset([3, 3, 5, 7])
    np.testing.assert_array_equal(first[[0, 1, 2, 3]], second[[0, 2, 1, 3]])
    assert len({frame.tobytes() for frame in ToyEnv(40).reset(LEVELS)}) == 40


def test_a_saved_state_goes_on_the_same_way_in_any_stream() -> None:
    env, other = ToyEnv(2), ToyEnv(2)
    env.reset([1, 2])
    env.step(np.array([2, 4]))
    states = env.save()
    restored = other.restore(states[::-1])
    actions = np.random.default_rng(0).integers(5, size=(20, 2))
    frames = [env.step(action) for action in actions]
    again = [other.step(action[::-1]) for action in actions]
    np.testing.assert_array_equal(restored[::-1], env.restore(states))
    for one, two in zip(frames, again, strict=True):
        np.testing.assert_array_equal(one.frames, two.frames[::-1])
        np.testing.assert_array_equal(one.done, two.done[::-1])


def test_the_expert_takes_a_shortest_way_and_the_end_stays() -> None:
    env = ToyEnv(len(LEVELS))
    plans = game_of("toy").plan(env, LEVELS, 0, 0.0, 200)
    env.reset(LEVELS)
    shortest = [distances(layout.free, layout.cell)[layout.goal] for layout in env.layouts()]
    assert [len(plan) for plan in plans] == shortest
    assert min(shortest) >= NEAREST_GOAL
    step, reward = env.step(np.zeros(len(LEVELS), np.int64)), np.zeros(len(LEVELS))
    for k in range(max(shortest) + 3):
        step = env.step(np.array([plan[k] if k < len(plan) else 1 for plan in plans]))
        reward += step.reward
        np.testing.assert_array_equal(step.done, k + 1 >= np.array(shortest))
        np.testing.assert_array_equal(step.success, step.done)
    np.testing.assert_array_equal(reward, 1)
    assert [player_in(frame) for frame in step.frames] == [layout.goal for layout in env.layouts()]


def test_an_expert_that_strays_still_arrives() -> None:
    env = ToyEnv(len(LEVELS))
    plans = game_of("toy").plan(env, LEVELS, 0, 0.5, 400)
    env.reset(LEVELS)
    solved = np.zeros(len(LEVELS), bool)
    for k in range(400):
        solved = env.step(np.array([plan[k] if k < len(plan) else 0 for plan in plans])).success
    assert solved.all()


def test_a_plan_does_not_depend_on_the_levels_beside_it() -> None:
    together = game_of("toy").plan(ToyEnv(8), [1, 2, 3, 4, 5, 6, 7, 8], 7, 0.3, 40)
    alone = game_of("toy").plan(ToyEnv(3), [5, 6], 7, 0.3, 40)
    assert [plan.tolist() for plan in alone] == [plan.tolist() for plan in together[4:6]]
    other_seed = game_of("toy").plan(ToyEnv(3), [5, 6], 8, 0.3, 40)
    assert [plan.tolist() for plan in alone] != [plan.tolist() for plan in other_seed]


@pytest.mark.parametrize("explore", [0.0, 0.3, 1.0])
def test_explore_is_the_share_of_actions_that_are_exploratory(explore: float) -> None:
    stray = Stray(explore, num_actions=5, rng=np.random.default_rng(0))
    drawn = [stray.next() for _ in range(20_000)]
    assert np.mean([action is not None for action in drawn]) == pytest.approx(explore, abs=0.02)
    if explore:
        share = np.bincount([action for action in drawn if action is not None], minlength=5)
        assert share.min() > 0.15 * share.sum()  # every action of the game


def test_where_no_way_leads_the_expert_stays_within_its_limit() -> None:
    free = np.zeros((3, 3), bool)
    free[0, 0] = free[2, 2] = True
    assert distances(free, (0, 0)).tolist() == [[0, -1, -1], [-1, -1, -1], [-1, -1, -1]]


def test_every_game_has_the_actions_of_its_blind_policy() -> None:
    assert GAMES.keys() == {"maze", "coinrun", "toy"}
    assert isinstance(game_of("maze").plan, WalkExpert)
    assert set(GAMES["toy"].blind) <= set(ToyEnv.action_names)


def test_an_unknown_game_names_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown game 'mace', did you mean 'maze'"):
        game_of("mace")
