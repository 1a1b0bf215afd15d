"""Many streams of one world: the same as so many environments, to the last bit, in one step of the world."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from genie_lite.errors import UserError
from genie_lite.models.world import World
from genie_lite.rl.register import ENV_ID
from genie_lite.rl.vector_env import WorldVectorEnv
from genie_lite.rl.world_env import WorldEnv
from tests.dreams import NUM_CODES, write_run

SEEDS = [5, 0, 9]
GOAL = np.full((32, 32, 3), 140, np.uint8)
NOISY = {"temperature": 1.0}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "tiny")


def make(run: Path, num: int = 3, **settings: Any) -> WorldVectorEnv:
    envs = gymnasium.make_vec(ENV_ID, num_envs=num, run=run, **settings)
    assert isinstance(envs, WorldVectorEnv)
    return envs


def steps(envs: WorldVectorEnv | SyncVectorEnv, num: int, seed: int = 0) -> Iterator[tuple[Any, ...]]:
    """What so many random actions lead to, a reset first."""
    yield envs.reset(seed=[*SEEDS])
    generator = np.random.default_rng(seed)
    for _ in range(num):
        yield envs.step(generator.integers(NUM_CODES, size=envs.num_envs))


def assert_same(first: Any, second: Any) -> None:
    """Arrays, dictionaries of them and tuples, with their types."""
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for name in first:
            assert_same(first[name], second[name])
    elif isinstance(first, tuple):
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    elif isinstance(first, np.ndarray):
        assert first.dtype == second.dtype
        if first.dtype == object:
            assert_same(tuple(first), tuple(second))
        else:
            assert np.array_equal(first, second)
    else:
        assert first == second


@pytest.fixture(scope="module")
def within(run: Path) -> float:
    """A distance to the goal that every fourth frame or so is within."""
    rewards = [out[1] for out in steps(make(run, goal=GOAL, sampling=NOISY), 16) if len(out) == 5]
    return float(np.quantile(-np.array(rewards), 0.25))


@pytest.mark.parametrize(
    ("mode", "micro_batch"), [(AutoresetMode.NEXT_STEP, 1), (AutoresetMode.SAME_STEP, 2)]
)
def test_it_does_what_gymnasiums_own_does_with_single_environments(
    run: Path, within: float, mode: AutoresetMode, micro_batch: int
) -> None:
    """Frames, rewards, ends and infos, over ends by the goal and by the clock that come at different times."""
    sampling = NOISY | {"micro_batch": micro_batch}
    settings = {"goal": GOAL, "goal_within": within, "max_frames": 5, "sampling": sampling}
    ours = make(run, **settings, autoreset_mode=mode)
    theirs = gymnasium.make_vec(
        ENV_ID,
        num_envs=3,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": mode},
        run=run,
        **settings,
    )
    assert isinstance(theirs, SyncVectorEnv)
    assert ours.metadata["autoreset_mode"] == mode
    assert ours.action_space == theirs.action_space
    assert ours.observation_space == theirs.observation_space
    ended: list[np.ndarray] = []
    for one, other in zip(steps(ours, 16), steps(theirs, 16), strict=True):
        assert_same(one, other)
        ended += [one[2].copy(), one[3].copy()] if len(one) == 5 else []
    terminated, truncated = np.array(ended[::2]), np.array(ended[1::2])
    assert terminated.any()
    assert truncated.any()
    assert (terminated | truncated).any(axis=1).sum() > (terminated | truncated).all(axis=1).sum()


def test_every_stream_is_the_single_environment_of_its_seed(run: Path) -> None:
    shown = [out[0] for out in steps(make(run, sampling=NOISY), 6)]
    actions = np.random.default_rng(0).integers(NUM_CODES, size=(6, 3))
    for stream, seed in enumerate(SEEDS):
        env = WorldEnv(run, sampling=NOISY)
        assert np.array_equal(env.reset(seed=seed)[0], shown[0][stream])
        for action, frames in zip(actions[:, stream], shown[1:], strict=True):
            assert np.array_equal(env.step(action)[0], frames[stream])


def test_one_step_of_the_world_moves_all_streams(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    envs, asked = make(run, num=7), []
    step = World.step

    def counted(self: World, state: Any, code: Any) -> Any:
        asked.append(len(code))
        return step(self, state, code)

    monkeypatch.setattr(World, "step", counted)
    envs.reset(seed=0)
    for _ in range(3):
        envs.step(np.zeros(7, np.int64))
    assert asked == [7, 7, 7]


def test_a_single_seed_counts_up(run: Path) -> None:
    envs = make(run)
    counted, _ = envs.reset(seed=20)
    assert np.array_equal(counted, envs.reset(seed=[20, 21, 22])[0])
    assert len(envs.np_random) == 3


def test_seeds_are_told_as_gymnasiums_own_vector_environment_tells_them(run: Path) -> None:
    theirs = gymnasium.make_vec(ENV_ID, num_envs=3, vectorization_mode="sync", run=run)
    both: tuple[Any, ...] = (make(run), theirs)
    for envs in both:
        assert len(set(envs.np_random_seed)) == 3  # drawn
        envs.reset(seed=20)
        assert envs.np_random_seed == (20, 21, 22)
        envs.reset(seed=[None, 5, None])
        assert envs.np_random_seed == (20, 5, 22)


def test_some_streams_are_reset_while_others_go_on(run: Path) -> None:
    envs, alone = make(run, sampling=NOISY), make(run, sampling=NOISY)
    for each in (envs, alone):
        list(steps(each, 2))
    mask = np.array([False, True, False])
    shown, infos = envs.reset(seed=[None, 33, None], options={"reset_mask": mask})
    assert np.array_equal(shown[1], WorldEnv(run, sampling=NOISY).reset(seed=33)[0])
    assert infos["_frame"].tolist() == mask.tolist()
    action = np.array([1, 2, 3])
    frames, expected = envs.step(action)[0], alone.step(action)[0]
    assert np.array_equal(frames[[0, 2]], expected[[0, 2]])
    assert envs.step(action)[-1]["frame"].tolist() == [4, 2, 4]


def test_without_autoreset_what_is_over_waits(run: Path) -> None:
    envs = make(run, max_frames=1, autoreset_mode="Disabled")
    envs.reset(seed=0)
    envs.step(np.zeros(3, np.int64))
    with pytest.raises(ResetNeeded):
        envs.step(np.zeros(3, np.int64))
    envs.reset(options={"reset_mask": np.ones(3, bool)})
    envs.step(np.zeros(3, np.int64))


def test_streams_start_where_they_are_told(run: Path) -> None:
    envs = make(run)
    frames, infos = envs.reset(options={"start": [GOAL, 0, None]})
    assert np.array_equal(frames[0], GOAL)
    assert infos["start"][0] == "array"
    assert infos["start"][1].endswith("-0-0@0")
    assert (envs.reset(options={"start": GOAL})[0] == GOAL).all()
    # Prompts of different lengths side by side.
    long = np.repeat(GOAL[None], 4, axis=0)
    expected = WorldEnv(run)
    expected.reset(seed=1, options={"start": long})
    envs.reset(seed=[0, 1, 2], options={"start": [GOAL, long, GOAL]})
    assert np.array_equal(envs.step(np.array([0, 2, 1]))[0][1], expected.step(2)[0])


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_restored_streams_go_on_bit_for_bit_and_start_again_as_they_would_have(
    run: Path, mode: AutoresetMode
) -> None:
    envs = make(run, max_frames=4, sampling=NOISY, autoreset_mode=mode)
    list(steps(envs, 3))
    kept = envs.save_state()
    actions = np.random.default_rng(1).integers(NUM_CODES, size=(6, 3))
    expected = [envs.step(action) for action in actions]
    envs.reset(seed=0)
    envs.restore_state([kept[0], kept[1].to_bytes(), kept[2]])
    for action, out in zip(actions, expected, strict=True):
        assert_same(envs.step(action), out)


def test_one_moment_is_tried_with_every_action(run: Path) -> None:
    """A search: the moment of a single environment, in as many streams as there are codes."""
    env = WorldEnv(run, sampling=NOISY)
    env.reset(seed=4)
    env.step(1)
    root = env.save_state()
    envs = make(run, num=NUM_CODES, sampling=NOISY)
    before, _ = envs.restore_state(root)
    children = envs.step(np.arange(NUM_CODES))[0]
    for code in range(NUM_CODES):
        shown, _ = env.restore_state(root)
        assert np.array_equal(before[code], shown)
        assert np.array_equal(env.step(code)[0], children[code])


def test_some_streams_are_restored(run: Path) -> None:
    envs = make(run)
    list(steps(envs, 2))
    (kept,) = envs.save_state([1])
    envs.step(np.array([1, 1, 1]))
    _, infos = envs.restore_state(kept, [2])
    assert infos["_frame"].tolist() == [False, False, True]
    assert envs.step(np.array([0, 0, 0]))[-1]["frame"].tolist() == [4, 4, 3]


@pytest.mark.parametrize("streams", [[0, 0], [3], [-1], [True], []])
def test_streams_that_there_are_not_are_neither_saved_nor_restored(run: Path, streams: list[Any]) -> None:
    envs = make(run)
    list(steps(envs, 1))
    kept, states = envs.save_state([0])[0], [generator.bit_generator.state for generator in envs.np_random]
    before = envs._streams.frames.copy()
    for forbidden in (lambda: envs.save_state(streams), lambda: envs.restore_state(kept, streams)):
        with pytest.raises(UserError, match=r"streams: found .*, expected different numbers from 0 to 2"):
            forbidden()
    assert np.array_equal(envs._streams.frames, before)
    assert [generator.bit_generator.state for generator in envs.np_random] == states
    alone = make(run)
    list(steps(alone, 1))
    assert_same(envs.step(np.array([0, 1, 2])), alone.step(np.array([0, 1, 2])))


def test_a_moment_that_is_none_leaves_all_streams_alone(run: Path) -> None:
    envs = make(run)
    list(steps(envs, 2))
    before = [moment.to_bytes() for moment in envs.save_state()]
    with pytest.raises(UserError, match="state"):
        envs.restore_state([envs.save_state([2])[0], b"", before[1]])
    assert [moment.to_bytes() for moment in envs.save_state()] == before


def test_gymnasiums_name_for_the_limit_is_known(run: Path) -> None:
    envs = make(run, max_episode_steps=2, render_mode="rgb_array")
    assert [out[3].all() for out in steps(envs, 2) if len(out) == 5] == [False, True]
    pictures = envs.render()
    assert pictures is not None
    assert len(pictures) == 3
    envs.close()


def test_mistakes_are_told(run: Path) -> None:
    with pytest.raises(UserError, match="num_envs: found 0"):
        WorldVectorEnv(run, num_envs=0)
    with pytest.raises(UserError, match="settings: found 'prompt_frame'; did you mean 'prompt_frames'"):
        make(run, prompt_frame=2)
    envs = make(run)
    mistakes: tuple[tuple[dict[str, Any], str], ...] = (
        ({"seed": [1, 2]}, "seed: found 2, expected one for each of 3 streams"),
        ({"options": {"start": [0]}}, "start: found 1, expected one for each of 3"),
        ({"options": {"reset_mask": [True] * 3}}, "reset_mask: found"),
        ({"options": {"reset_mask": np.zeros(3, bool)}}, "one of them true"),
        ({"options": {"mask": 1}}, "options: found 'mask', expected 'start' or 'reset_mask'"),
    )
    for arguments, message in mistakes:
        with pytest.raises(UserError, match=message):
            envs.reset(**arguments)
    with pytest.raises(ResetNeeded):
        envs.reset(options={"reset_mask": np.array([True, False, False])})
    envs.reset(seed=0)
    with pytest.raises(UserError, match="actions: found 2, expected one for each of 3"):
        envs.step(np.zeros(2, np.int64))
    with pytest.raises(UserError, match="moments: found 2"):
        envs.restore_state(envs.save_state([0, 1]))
