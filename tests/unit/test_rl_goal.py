"""A goal image: what is near, what counts as arrived, and that a batch is scored as one frame is."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from genie_lite.models.world import World
from genie_lite.recipe import load_recipe
from genie_lite.rl.goal import GoalDistance, GoalReward
from genie_lite.rl.scorer import NoReward
from genie_lite.rl.world_env import WorldEnv
from tests.dreams import write_run

GENERATOR = np.random.default_rng(0)
GOAL = GENERATOR.integers(0, 256, (32, 32, 3), dtype=np.uint8)
FRAMES = np.stack([GOAL, 255 - GOAL, *GENERATOR.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="module")
def world(run: Path) -> World:
    return World.load(run, load_recipe(run / "recipe.yaml").sampling)


def test_pixels_are_compared_as_they_are_seen(world: World) -> None:
    black, white = np.zeros((1, 32, 32, 3), np.uint8), np.full((1, 32, 32, 3), 255, np.uint8)
    score = GoalReward(white[0], world)
    assert score.distance(white).tolist() == [0.0]
    assert score.distance(black).tolist() == [1.0]
    half = black.copy()
    half[:, :16] = 255
    assert score.distance(half).tolist() == [0.5]


@pytest.mark.parametrize("by", get_args(GoalDistance))
def test_the_goal_is_nearest_to_itself_and_batches_change_nothing(world: World, by: str) -> None:
    score = GoalReward(GOAL, world, by)
    distance = score.distance(FRAMES)
    assert distance[0] == 0
    assert (distance >= 0).all()
    assert distance.max() > 0
    assert [score.distance(frame[None])[0] for frame in FRAMES] == distance.tolist()


def test_reward_is_minus_the_distance_and_a_bonus_where_it_arrives(world: World) -> None:
    score = GoalReward(GOAL, world, within=0.05, bonus=3.0)
    reward, ended = score(FRAMES, FRAMES)
    assert ended.tolist() == [True, False, False, False, False]
    assert reward[0] == 3.0
    assert reward[1:].tolist() == (-score.distance(FRAMES[1:])).tolist()
    assert not GoalReward(GOAL, world)(FRAMES, FRAMES)[1].any()


def test_without_a_reward_nothing_ends() -> None:
    reward, ended = NoReward()(FRAMES, FRAMES)
    assert not reward.any()
    assert not ended.any()


def test_an_environment_ends_at_its_goal(run: Path, tmp_path: Path) -> None:
    """An image of any size, as a file: what it shows after a code is where that code leads to."""
    plain = WorldEnv(run)
    plain.reset(seed=0)
    Image.fromarray(plain.step(2)[0]).save(tmp_path / "goal.png")
    env = WorldEnv(run, goal=tmp_path / "goal.png", goal_within=1e-6, goal_bonus=2.0)
    env.reset(seed=0)
    _, reward, terminated, _, _ = env.step(2)
    assert (reward, terminated) == (2.0, True)
    env.reset(seed=0)
    _, reward, terminated, _, _ = env.step(0)
    assert reward < 0
    assert not terminated
