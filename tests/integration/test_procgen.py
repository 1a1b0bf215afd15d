"""The real engine: exact levels, determinism, what an episode's end looks like, and the experts.

These tests need the engine (`make test` installs it); without it they fail with the line that says how to.
What happens on a machine that lacks it is tested in tests/unit/test_engine.py.
"""

import hashlib
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from genie_lite.data.labels import read_labels
from genie_lite.data.video.codec import read_frames
from genie_lite.envs.games import COINRUN_ACTIONS, MAZE_ACTIONS, game_of
from genie_lite.envs.procgen import MAX_LEVEL, ProcgenEnv
from genie_lite.envs.protocol import Env, GridEnv
from genie_lite.envs.record import LABELS_FILE, RecordConfig, play, record, video_name
from genie_lite.envs.setup import engine_python
from genie_lite.errors import UserError

LEVELS = [0, 1, 2, 17, 498, 1_000_000, 2_000_100, MAX_LEVEL]
CELL_PX = 8
SCROLL = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0), "noop": (0, 0)}  # of the picture


@pytest.fixture(scope="module")
def maze() -> Iterator[ProcgenEnv]:
    env = game_of("maze").open(len(LEVELS))
    assert isinstance(env, ProcgenEnv)
    with closing(env):
        yield env


@pytest.fixture(scope="module")
def coinrun() -> Iterator[ProcgenEnv]:
    env = game_of("coinrun").open(len(LEVELS))
    assert isinstance(env, ProcgenEnv)
    with closing(env):
        yield env


@pytest.fixture(params=["maze", "coinrun"])
def env(request: pytest.FixtureRequest) -> ProcgenEnv:
    return request.getfixturevalue(request.param)


def actions_for(env: Env, num: int) -> np.ndarray:
    return np.random.default_rng(0).integers(env.num_actions, size=(num, env.num_envs))


ORACLE = """
import hashlib, sys
import numpy as np
from procgen import ProcgenGym3Env
game, mode, actions = sys.argv[1], sys.argv[2], [int(each) for each in sys.argv[4].split(",")]
for level in sys.argv[3].split(","):
    env = ProcgenGym3Env(num=1, env_name=game, start_level=int(level), num_levels=1, distribution_mode=mode,
                         use_backgrounds=False, restrict_themes=True)
    assert env.get_info()[0]["level_seed"] == int(level)
    frames = [env.observe()[1]["rgb"][0]]
    for action in actions:
        env.act(np.array([action]))
        frames.append(env.observe()[1]["rgb"][0])
    print(hashlib.sha256(np.stack(frames).tobytes()).hexdigest())
"""


@pytest.mark.parametrize(
    ("game", "mode", "keys"), [("maze", "memory", MAZE_ACTIONS), ("coinrun", "easy", COINRUN_ACTIONS)]
)
def test_a_level_is_the_one_that_the_engine_itself_calls_so(
    game: str, mode: str, keys: dict[str, int], request: pytest.FixtureRequest
) -> None:
    """Compared with an engine that has this single level, opened without any of our code."""
    env = request.getfixturevalue(game)
    frames = [env.reset(LEVELS)]
    row = [2, 2, 3, 2, 2, 3, 2, 3] * 2  # right and up
    steps = [env.step(np.full(len(LEVELS), action)) for action in row]
    assert not steps[-1].done.any(), "choose levels that are longer"
    frames += [step.frames for step in steps]
    ours = [hashlib.sha256(stream.tobytes()).hexdigest() for stream in np.stack(frames, 1)]
    numbers = [list(keys.values())[action] for action in row]
    told = [game, mode, ",".join(map(str, LEVELS)), ",".join(map(str, numbers))]
    done = subprocess.run(
        [str(engine_python()), "-W", "ignore", "-I", "-c", ORACLE, *told],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ours
    assert len(set(ours)) == len(LEVELS)


def test_what_happens_depends_on_level_and_actions_alone(env: ProcgenEnv) -> None:
    """Not on what was played before, nor in which stream."""
    actions = actions_for(env, 30)
    first = [env.reset(LEVELS), *(env.step(action).frames for action in actions)]
    second = [env.reset(LEVELS[::-1]), *(env.step(action[::-1]).frames for action in actions)]
    np.testing.assert_array_equal(np.stack(first), np.stack(second)[:, ::-1])


def test_a_saved_state_goes_on_the_same_way_in_any_stream(env: ProcgenEnv) -> None:
    env.reset(LEVELS)
    before = env.step(actions_for(env, 1)[0]).frames
    states = env.save()
    actions = actions_for(env, 20)
    first = [before, *(env.step(action).frames for action in actions)]
    second = [env.restore(states[::-1]), *(env.step(action[::-1]).frames for action in actions)]
    np.testing.assert_array_equal(np.stack(first), np.stack(second)[:, ::-1])


@pytest.mark.parametrize("level", [-1, MAX_LEVEL + 1])
def test_a_level_beyond_the_engines_seeds_is_refused(maze: ProcgenEnv, level: int) -> None:
    with pytest.raises(UserError, match="levels: found"):
        maze.reset([level] * len(LEVELS))


def test_the_maze_expert_solves_every_level_on_a_shortest_way(maze: ProcgenEnv) -> None:
    assert isinstance(maze, GridEnv)
    plans = game_of("maze").plan(maze, LEVELS, 0, 0.0, 499)
    for episode, plan in zip(play(maze, LEVELS, plans), plans, strict=True):
        assert episode.success
        assert len(episode.actions) == len(plan) == len(episode.frames) - 1


def test_an_ended_stream_stays_as_it_is_even_when_saved(maze: ProcgenEnv) -> None:
    plans = game_of("maze").plan(maze, LEVELS, 0, 0.0, 499)
    maze.reset(LEVELS)
    early = int(np.argmin([len(plan) for plan in plans]))
    steps = [
        maze.step(np.array([plan[k] if k < len(plan) else 1 for plan in plans]))
        for k in range(len(plans[early]))
    ]
    assert [step.reward[early] > 0 for step in steps] == [False] * (len(steps) - 1) + [True]
    assert not steps[-2].done[early]
    end = steps[-1]
    assert end.done[early]
    assert end.success[early]
    restored = maze.restore(maze.save())
    np.testing.assert_array_equal(restored, end.frames)
    for _ in range(3):
        step = maze.step(np.full(maze.num_envs, 2))
        np.testing.assert_array_equal(step.frames[early], end.frames[early])
        assert step.done[early]
        assert step.success[early]
        assert step.reward[early] == 0


def test_every_maze_action_scrolls_the_picture_by_a_cell_up_to_the_end(maze: ProcgenEnv) -> None:
    """The picture follows the player: seen from frame k, frame k + 1 is shifted by the action of row k."""
    names = maze.action_names
    plans = game_of("maze").plan(maze, LEVELS, 0, 0.3, 120)
    moved = 0
    for episode in play(maze, LEVELS, plans):
        for k, action in enumerate(episode.actions):
            before, after = episode.frames[k], episode.frames[k + 1]
            down, right = (CELL_PX * each for each in SCROLL[names[action]])
            is_shifted = _agreement(before, after, down, right) > 0.96
            is_last = episode.success and k == len(episode.actions) - 1
            assert is_shifted or (not is_last and _agreement(before, after, 0, 0) > 0.96), (episode.level, k)
            moved += is_shifted and names[action] != "noop"
    assert moved > 100


def _agreement(before: np.ndarray, after: np.ndarray, down: int, right: int) -> float:
    """Share of pixels that both show, and show alike."""
    size = len(before)
    rows, columns = slice(max(down, 0), size + min(down, 0)), slice(max(right, 0), size + min(right, 0))
    old = before[rows, columns]
    rows, columns = slice(max(-down, 0), size + min(-down, 0)), slice(max(-right, 0), size + min(-right, 0))
    return float((np.abs(old.astype(int) - after[rows, columns]).sum(-1) < 40).mean())


def test_the_coinrun_expert_reaches_the_coin_and_shows_every_action() -> None:
    levels = list(range(6))
    with closing(game_of("coinrun").open(64)) as env:
        plans = game_of("coinrun").plan(env, levels, 0, 0.3, 199)
        episodes = list(play(env, levels, plans))
    assert np.mean([episode.success for episode in episodes]) >= 5 / 6
    assert set(np.concatenate([episode.actions for episode in episodes])) == set(range(6))
    for episode, plan in zip(episodes, plans, strict=True):
        assert len(episode.frames) == len(episode.actions) + 1
        if episode.success:
            assert len(episode.actions) == len(plan) - 1, "the last action led to no frame"


def test_playing_without_looking_is_playing(coinrun: ProcgenEnv) -> None:
    actions = np.full((150, coinrun.num_envs), list(COINRUN_ACTIONS).index("right+up"))
    coinrun.reset(LEVELS)
    num_actions, success = coinrun.rollout(actions, enough=len(LEVELS) + 1)
    coinrun.reset(LEVELS)
    steps = [coinrun.step(action) for action in actions]
    np.testing.assert_array_equal(num_actions, 1 + sum((~step.done).astype(int) for step in steps[:-1]))
    np.testing.assert_array_equal(success, steps[-1].success)
    assert success.any()


def test_a_recording_shows_its_own_levels_and_fits_its_labels(maze: ProcgenEnv, tmp_path: Path) -> None:
    config = RecordConfig(
        game="maze", episodes=4, levels=(1_000_000, 1_000_004), seed=1, explore=0.3, max_frames=40
    )
    summary = record(config, tmp_path / "videos")
    labels = read_labels(tmp_path / "videos" / LABELS_FILE)
    assert labels.names == ("noop", "left", "right", "up", "down")
    levels = range(1_000_000, 1_000_004)
    first = maze.reset([*levels, *levels])
    plans = [labels.of([video_name(level)]).action for level in levels]
    for slot, (episode, plan) in enumerate(zip(play(maze, [*levels], plans), plans, strict=True)):
        frames = read_frames(tmp_path / "videos" / video_name(episode.level))
        assert len(frames) == len(plan) + 1 <= 40
        np.testing.assert_array_equal(episode.frames[0], first[slot])
        assert np.abs(frames.astype(int) - episode.frames).mean() < 2, "near-lossless"
    assert summary.frames == sum(len(plan) + 1 for plan in plans)
    record(config, tmp_path / "again")
    for level in levels:
        name = video_name(level)
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "videos" / name).read_bytes()


def test_a_worker_that_dies_says_what_it_died_of() -> None:
    env = ProcgenEnv("maze", "memory", MAZE_ACTIONS, 2)
    env.reset([1, 2])
    with pytest.raises(RuntimeError, match="maze has no grid"):
        env.layouts()
    with pytest.raises(RuntimeError, match="after close"):
        env.reset([1, 2])
    env.close()


def test_a_game_that_the_engine_lacks_is_refused() -> None:
    with pytest.raises(UserError, match="does not start it"):
        ProcgenEnv("pong", "easy", MAZE_ACTIONS, 1)
