"""stable-baselines3 learns inside a world: 10,000 frames, and it gets where it is rewarded."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from stable_baselines3 import PPO

from genie_lite.errors import UserError
from genie_lite.rl.register import ENV_ID
from genie_lite.rl.sb3 import WorldVecEnv
from genie_lite.rl.vector_env import WorldVectorEnv
from genie_lite.rl.world_env import WorldEnv
from tests.dreams import NUM_CODES, write_run

NUM_ENVS = 32
GOAL_CODE = 2


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="module")
def settings(run: Path) -> dict[str, Any]:
    """What one code leads to is the goal; starts lie in memory, and all streams are computed together."""
    start = np.full((32, 32, 3), 90, np.uint8)
    env = WorldEnv(run, starts=start)
    env.reset(seed=0)
    goal = [env.step(GOAL_CODE)[0] for _ in range(3)][-1]
    return {"run": run, "starts": start, "goal": goal, "max_frames": 16}


def make(settings: dict[str, Any], num: int = NUM_ENVS, **more: Any) -> WorldVecEnv:
    sampling = {"micro_batch": num, "refinements": 1}
    envs = gymnasium.make_vec(
        ENV_ID, num_envs=num, autoreset_mode="SameStep", sampling=sampling, **settings, **more
    )
    assert isinstance(envs, WorldVectorEnv)
    return WorldVecEnv(envs)


def mean_reward(envs: WorldVecEnv, act: Any) -> float:
    """Of an episode's frames, over all streams."""
    envs.seed(1000)
    frames, rewards = envs.reset(), []
    for _ in range(16):
        frames, reward, *_ = envs.step(act(frames))
        rewards.append(reward)
    return float(np.mean(rewards))


def test_ppo_learns_inside_the_world(settings: dict[str, Any]) -> None:
    envs = make(settings)
    generator = np.random.default_rng(0)
    at_random = mean_reward(envs, lambda frames: generator.integers(NUM_CODES, size=len(frames)))
    model = PPO(
        "MlpPolicy",
        envs,
        n_steps=32,
        batch_size=256,
        n_epochs=4,
        learning_rate=3e-3,
        gamma=0.5,
        policy_kwargs={"net_arch": [16]},
        seed=0,
        device="cpu",
    )
    model.learn(10_000)
    learnt = mean_reward(envs, lambda frames: model.predict(frames, deterministic=True)[0])
    assert at_random < -0.1
    assert learnt > at_random / 4


def test_an_episodes_last_frame_and_the_reason_for_its_end_are_told(settings: dict[str, Any]) -> None:
    sampling = {"micro_batch": 2, "refinements": 1}
    env = WorldEnv(settings["run"], starts=settings["starts"], sampling=sampling)
    env.reset(seed=0)
    goal = [env.step(code)[0] for code in (0, GOAL_CODE)][-1]
    settings = settings | {"max_frames": 2, "goal": goal}
    envs = make(settings, num=2, goal_within=1e-6, render_mode="rgb_array")
    envs.seed(3)
    envs.set_options([{"start": 0}, {"start": 0}])
    envs.reset()
    assert [info["frame"] for info in envs.reset_infos] == [0, 0]
    # The first stream does not come near the goal; the second does with its second frame.
    envs.step(np.array([0, 0]))
    plain = make(settings, num=2)
    plain.seed(3)
    plain.reset()
    plain.step(np.array([0, 0]))
    frames, _, over, infos = envs.step(np.array([1, GOAL_CODE]))
    *_, others = plain.step(np.array([1, GOAL_CODE]))
    assert over.all()
    for info, other in zip(infos, others, strict=True):
        assert np.array_equal(info["terminal_observation"], other["terminal_observation"])
        assert info["frame"] == 0
    assert [info["TimeLimit.truncated"] for info in infos] == [True, False]
    assert np.array_equal(infos[1]["terminal_observation"], goal)
    assert isinstance(frames, np.ndarray)
    for picture, frame in zip(envs.get_images(), frames, strict=True):
        assert picture is not None
        assert np.array_equal(picture, frame)


def test_what_streams_do_not_have_is_refused(settings: dict[str, Any]) -> None:
    other = gymnasium.make_vec(ENV_ID, num_envs=2, **settings)
    assert isinstance(other, WorldVectorEnv)
    with pytest.raises(UserError, match="autoreset_mode: found NextStep, stable-baselines3 expects SameStep"):
        WorldVecEnv(other)
    envs = make(settings, num=2)
    assert envs.get_attr("num_envs", [0]) == [2]
    assert envs.env_is_wrapped(gymnasium.Wrapper) == [False, False]
    envs.set_options({"begin": 0})
    with pytest.raises(UserError, match="options: found 'begin', expected 'start'"):
        envs.reset()
    with pytest.raises(UserError, match="share 'goal'"):
        envs.set_attr("goal", None)
    with pytest.raises(UserError, match=r"call that of \.envs"):
        envs.env_method("save_state")
    envs.close()
