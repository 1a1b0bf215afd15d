"""The world as an environment: Gymnasium's and stable-baselines3's rules, seeds, starts, actions, saved states."""

import dataclasses
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from PIL import Image
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3

import genie_lite.rl
from genie_lite.controls import Controls
from genie_lite.errors import UserError
from genie_lite.models.world import World
from genie_lite.rl.moment import Moment
from genie_lite.rl.register import ENV_ID
from genie_lite.rl.starts import Shots
from genie_lite.rl.world_env import WorldEnv
from genie_lite.steer import Ride, play
from tests.dreams import NUM_CODES, write_run
from tests.playing import SeeingControls

CODES = [0, 2, 1, 3, 3, 0, 2]
NOISE = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "tiny")


def make(run: Path, **settings: Any) -> WorldEnv:
    env = gymnasium.make(ENV_ID, run=run, **settings).unwrapped
    assert isinstance(env, WorldEnv)
    return env


def frames(env: WorldEnv, codes: list[int], **reset: Any) -> np.ndarray:
    """What an episode shows, its start first."""
    return np.stack([env.reset(**reset)[0], *(env.step(code)[0] for code in codes)])


# --- the rules -------------------------------------------------------------------------------------------------


def test_the_environment_passes_gymnasiums_checker(run: Path) -> None:
    check_env(make(run, render_mode="rgb_array"))


def test_the_environment_passes_the_checker_of_stable_baselines3(tmp_path: Path) -> None:
    """Its pictures are no smaller than that of its default network, which the checker would warn of."""
    start = np.zeros((48, 48, 3), np.uint8)
    env = make(write_run(tmp_path / "run", size_px=48), starts=start, render_mode="rgb_array")
    check_env_for_sb3(env)


def test_it_is_registered_once_and_without_waiting_for_torch() -> None:
    script = (
        "import sys, genie_lite.rl, gymnasium; genie_lite.rl.register_envs(); "
        f"assert {ENV_ID!r} in gymnasium.registry; assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert genie_lite.rl.register_envs.__module__ == "genie_lite.rl.register"


def test_spaces_and_rate_are_those_of_the_run(run: Path) -> None:
    env = make(run, render_mode="rgb_array")
    assert env.observation_space == gymnasium.spaces.Box(0, 255, (32, 32, 3), np.uint8)
    assert env.action_space == gymnasium.spaces.Discrete(NUM_CODES)
    assert env.metadata["render_fps"] == 10.0
    shown, _ = env.reset(seed=1)
    picture = env.render()
    assert picture is not None
    assert np.array_equal(picture, shown)
    assert make(run).render() is None


# --- seeds -----------------------------------------------------------------------------------------------------


def test_a_seed_decides_everything(run: Path) -> None:
    env, other = make(run), make(run)
    first = frames(env, CODES, seed=7)
    assert np.array_equal(first, frames(other, CODES, seed=7))
    following = frames(env, CODES)  # the next episode is another one, and the same in both
    assert not np.array_equal(first[0], following[0])
    assert np.array_equal(following, frames(other, CODES))
    assert len({frames(env, [], seed=seed).tobytes() for seed in range(8)}) > 4


def test_the_seed_that_is_told_shows_the_same_in_a_rollout(run: Path) -> None:
    """With noise: the run draws its tokens, and both draw the same."""
    sampling = {"temperature": 1.0}
    env = make(run, sampling=sampling, prompt_frames=3)
    start, info = env.reset(seed=11)
    key, _, first = info["start"].partition(":")[2].partition("@")
    starts = env._dream.starts
    assert isinstance(starts, Shots)
    shot = next(each for each in starts._shots if each.key == key)
    prompt = shot.frames(list(range(int(first), int(first) + 3)))
    assert np.array_equal(start, prompt[-1])
    shown = np.stack([env.step(code)[0] for code in CODES])
    world = env._dream.world
    played, _ = play(World.load(run, world.sampling), Ride(prompt, np.array(CODES), info["seed"]))
    assert np.array_equal(shown, played.frames)
    other, _ = play(World.load(run, world.sampling), Ride(prompt, np.array(CODES), info["seed"] + 1))
    assert not np.array_equal(shown, other.frames)


def test_an_info_tells_code_frame_start_and_seed(run: Path) -> None:
    env = make(run)
    _, before = env.reset(seed=3)
    assert (before["code"], before["frame"]) == (-1, 0)
    assert before["start"].startswith("train:train-")
    *_, after = env.step(2)
    assert after == {**before, "code": 2, "frame": 1}


def test_what_was_returned_is_not_written_again(run: Path) -> None:
    env = make(run)
    shown, _ = env.reset(seed=0)
    kept = shown.copy()
    shown[:] = 0
    for code in CODES:
        env.step(code)
    assert np.array_equal(env.reset(seed=0)[0], kept)


# --- starts ----------------------------------------------------------------------------------------------------


def test_episodes_start_from_the_split_that_was_asked_for(run: Path) -> None:
    for split in ("test", "train"):
        env = make(run, starts=split)
        labels = {env.reset(seed=seed)[1]["start"] for seed in range(30)}
        assert {label.partition("-")[0] for label in labels} == {f"{split}:{split}"}
        assert len(labels) > 8  # shots, and places in them
        # A last frame, after which nothing came, is no start: shots have 9 or 7 frames.
        assert {int(label.partition("@")[2]) for label in labels} <= set(range(8))


def test_episodes_start_from_pictures_files_and_levels(run: Path, tmp_path: Path) -> None:
    Image.fromarray(NOISE[1]).save(tmp_path / "one.png")
    Image.fromarray(NOISE[2]).resize((64, 48)).save(tmp_path / "two.png")
    env = make(run, starts=[NOISE[0], tmp_path / "one.png", str(tmp_path / "two.png")])
    found = [env.reset(options={"start": number}) for number in range(3)]
    assert np.array_equal(found[0][0], NOISE[0])
    assert np.array_equal(found[1][0], NOISE[1])
    assert found[2][0].shape == (32, 32, 3)
    assert [info["start"] for _, info in found] == ["array", "one.png", "two.png"]
    assert {env.reset(seed=seed)[1]["start"] for seed in range(20)} == {"array", "one.png", "two.png"}
    assert np.array_equal(env.reset(options={"start": NOISE})[0], NOISE[-1])
    assert np.array_equal(env.reset(options={"start": tmp_path / "one.png"})[0], NOISE[1])


def test_episodes_start_from_levels_of_the_game(run: Path) -> None:
    env = make(run, starts="levels:5:8")
    first, info = env.reset(options={"start": 2})
    assert info["start"] == "level:7"
    assert {env.reset(seed=seed)[1]["start"] for seed in range(20)} == {
        f"level:{level}" for level in (5, 6, 7)
    }
    assert np.array_equal(env.reset(options={"start": 2})[0], first)
    recorded = make(run, starts="levels")
    assert len(recorded._dream.starts) == 40  # record.levels of the recipe, which the world was trained on
    assert recorded.reset(options={"start": 39})[1]["start"] == "level:39"
    recorded.close()
    env.close()
    env.close()


# --- actions ---------------------------------------------------------------------------------------------------


class Backwards(Controls):
    """Choices, or the sign of a vector's change, stand for codes from the other end."""

    def codes_of(
        self,
        action: torch.Tensor,
        before: torch.Tensor | None = None,
        frames: torch.Tensor | None = None,
    ) -> torch.Tensor:
        if before is None:
            return NUM_CODES - 1 - action
        return torch.where(torch.nan_to_num(before)[:, 0] < action[:, 0], 3, 1)


def test_real_actions_become_codes(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    controls = Backwards("discrete", ("left", "right", "up"), (), (), NUM_CODES)
    monkeypatch.setattr("genie_lite.rl.dream.action_controls", lambda run: controls)
    env = make(run, actions="real")
    assert env.action_space == gymnasium.spaces.Discrete(3)
    assert np.array_equal(frames(env, [0, 1, 2], seed=5), frames(make(run), [3, 2, 1], seed=5))
    assert env.step(0)[-1]["code"] == 3
    with pytest.raises(UserError, match=r"action: found \[3\], expected one of Discrete\(3\)"):
        env.step(3)


def test_actions_are_read_beside_the_frame_that_is_seen(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    controls = SeeingControls("discrete", ("left", "right", "up"), (), (), NUM_CODES)
    monkeypatch.setattr("genie_lite.rl.dream.action_controls", lambda run: controls)
    env = make(run, actions="real")
    frame, _ = env.reset(seed=0)
    for _ in range(4):
        wanted = int(frame[0, 0, 0]) % NUM_CODES
        frame, *_, info = env.step(1)
        assert info["code"] == wanted


def test_vectors_are_read_beside_the_one_before_where_they_are_to_be(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    controls = Backwards("continuous", ("hip",), (-1.0,), (1.0,), NUM_CODES, reads_change=True)
    monkeypatch.setattr("genie_lite.rl.dream.action_controls", lambda run: controls)
    env = make(run, actions="real")
    assert env.action_space == gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    env.reset(seed=0)
    moves = [np.array([each], np.float32) for each in (0.5, 0.2, 0.4)]
    assert [env.step(each)[-1]["code"] for each in moves] == [3, 1, 3]
    kept = env.save_state()
    assert env.step(np.array([0.3], np.float32))[-1]["code"] == 1
    env.reset()
    env.restore_state(kept.to_bytes())
    assert env.step(np.array([0.3], np.float32))[-1]["code"] == 1  # and not 3, as after a reset
    with pytest.raises(UserError, match="expected 1 finite numbers"):
        env.step(np.array([np.nan], np.float32))


def test_a_run_that_was_not_adapted_has_codes_only(run: Path) -> None:
    with pytest.raises(UserError, match="actions: 'real' needs a run that was adapted"):
        make(run, actions="real")


# --- ends ------------------------------------------------------------------------------------------------------


def test_an_episode_is_cut_after_so_many_frames_and_has_to_be_reset(run: Path) -> None:
    env = make(run, max_frames=3)
    env.reset(seed=0)
    ends = [env.step(0)[1:4] for _ in range(3)]
    assert ends == [(0.0, False, False), (0.0, False, False), (0.0, False, True)]
    with pytest.raises(ResetNeeded):
        env.step(0)
    env.reset()
    env.step(0)
    endless = make(run, max_frames=None)
    endless.reset(seed=0)
    assert not any(endless.step(0)[3] for _ in range(30))


def test_nothing_happens_before_the_first_reset(run: Path) -> None:
    env = make(run)
    for forbidden in (lambda: env.step(0), env.save_state):
        with pytest.raises(ResetNeeded):
            forbidden()


# --- saved states ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_bytes", [False, True])
def test_a_restored_state_goes_on_bit_for_bit(run: Path, *, as_bytes: bool) -> None:
    """Past the end of the episode, too: the next one starts as it would have."""
    env = make(run, sampling={"temperature": 1.0}, goal=NOISE[0])
    env.reset(seed=2)
    for code in CODES[:3]:
        env.step(code)
    shown, kept = env.step(CODES[3])[0], env.save_state()
    expected = [env.step(code) for code in CODES]
    after = env.reset()
    other = make(run, sampling={"temperature": 1.0}, goal=NOISE[0])
    other.reset(seed=99)
    for again in (env, other):
        moment = kept.to_bytes() if as_bytes else kept
        frame, info = again.restore_state(moment)
        assert np.array_equal(frame, shown)
        assert (info["frame"], info["code"]) == (4, CODES[3])
        for code, (frame, reward, *flags, about) in zip(CODES, expected, strict=True):
            found = again.step(code)
            assert np.array_equal(found[0], frame)
            assert found[1:] == (reward, *flags, about)
        frame, info = again.reset()
        assert np.array_equal(frame, after[0])
        assert info == after[1]


def test_a_state_is_small_and_branches(run: Path) -> None:
    env = make(run)
    start, _ = env.reset(seed=0)
    root = env.save_state()
    assert len(root.to_bytes()) < start.size + 4096
    children = {}
    for code in range(NUM_CODES):
        env.restore_state(root)
        children[env.step(code)[0].tobytes()] = code
    assert len(children) == NUM_CODES


def test_a_state_of_an_episode_that_is_over_waits_for_a_reset(run: Path) -> None:
    env = make(run, max_frames=1)
    env.reset(seed=0)
    env.step(0)
    over = env.save_state()
    env.reset()
    env.restore_state(over.to_bytes())
    with pytest.raises(ResetNeeded):
        env.step(0)


def test_states_of_another_world_are_refused(run: Path, tmp_path: Path) -> None:
    other = make(write_run(tmp_path / "other", seed=5))
    other.reset(seed=0)
    env = make(run)
    for moment in (other.save_state(), other.save_state().to_bytes()):
        with pytest.raises(UserError, match="state: of another world"):
            env.restore_state(moment)


def test_bytes_of_another_world_are_not_recalled(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make(write_run(tmp_path / "other", seed=5))
    other.reset(seed=0)
    env = make(run)
    monkeypatch.setattr(World, "recall", lambda *_: pytest.fail("was recalled"))
    with pytest.raises(UserError, match="state: of another world"):
        env.restore_state(other.save_state().to_bytes())


DAMAGES = ["nothing", "cut", "header", "generator", "overflow", "age", "code", "token", "frame"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_bytes_that_are_no_state_are_told_in_a_line(run: Path, damage: str) -> None:
    env = make(run)
    env.reset(seed=0)
    moment = env.save_state()
    whole, before = moment.to_bytes(), env.step(1)[0]
    number = str(moment.generator["state"]["state"]).encode()
    strange = dataclasses.replace(moment.state, tokens=moment.state.tokens + 16)
    data = {
        "nothing": b"",
        "cut": whole[:-5],
        "header": whole.replace(b'\\"age\\":0', b'\\"age\\":x'),
        "generator": whole.replace(b"PCG64", b"PCG65"),
        "overflow": whole.replace(number, b"-" + number[1:]),
        "age": dataclasses.replace(moment, age=2**32 - 1).to_bytes().replace(b"4294967295", b"9999999999"),
        "code": dataclasses.replace(moment, code=NUM_CODES).to_bytes(),
        "token": dataclasses.replace(moment, state=strange).to_bytes(),
        "frame": whole.replace(b"[32,32,3]", b"[96,32,1]"),
    }[damage]
    assert data != whole
    with pytest.raises(UserError, match=r"^state: (?!.*\n)"):
        env.restore_state(data)
    with pytest.raises(UserError, match="state"):
        Moment.from_bytes(data, env._dream.world, env._dream.weights)
    kept = env.save_state()
    assert (kept.age, kept.code) == (1, 1)  # nothing was changed
    assert np.array_equal(kept.shown, before)


def test_a_state_is_restored_through_what_gymnasium_wraps_around(run: Path) -> None:
    """As the guide says it: one reset first, and limits by `max_frames`."""
    env: Any = gymnasium.make(ENV_ID, run=run, max_frames=3)
    env.reset(seed=0)
    env.step(1)
    kept = env.unwrapped.save_state().to_bytes()
    expected = env.step(2)[0]
    fresh: Any = gymnasium.make(ENV_ID, run=run, max_frames=3)
    fresh.unwrapped.restore_state(kept)
    with pytest.raises(ResetNeeded):
        fresh.step(2)
    fresh.reset()
    for _ in range(2):  # a limit that counted steps of this environment would cut the second short
        fresh.unwrapped.restore_state(kept)
        assert np.array_equal(fresh.step(2)[0], expected)
        assert fresh.step(2)[3]
    counting: Any = gymnasium.make(ENV_ID, run=run, max_frames=None, max_episode_steps=3)
    counting.reset()
    cut = []
    for _ in range(3):
        counting.unwrapped.restore_state(kept)
        cut.append(counting.step(2)[3])
    assert cut == [False, False, True]  # though each was the second frame of its episode


def test_the_gymnasium_that_is_asked_for_has_modes_of_autoreset() -> None:
    """`gymnasium.vector.AutoresetMode` came with 1.1."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert "gymnasium>=1.1" in project["project"]["dependencies"]


# --- mistakes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"actions": "keys"}, "actions: found 'keys', expected 'code' or 'real'"),
        ({"starts": "levels:9:4"}, "starts: found 'levels:9:4', expected 'levels' or 'levels:A:B'"),
        ({"starts": []}, "starts: found an empty list"),
        ({"starts": 3}, "starts: found 3, expected an image or a video file"),
        ({"starts": np.zeros((4, 4, 3))}, r"starts: found frames \[4, 4, 3\] of float64"),
        ({"starts": "nowhere.png"}, "nowhere.png"),
        ({"prompt_frames": 0}, "prompt_frames: found 0"),
        ({"prompt_frames": 10}, "has no train shot of 10 frames"),
        ({"max_frames": 0}, "max_frames: found 0"),
        ({"sampling": {"temprature": 1}}, "sampling.*temprature"),
        ({"reward": "sparse"}, "reward: found 'sparse', expected None or 'learned'"),
        ({"goal_within": 0.1}, "goal_within: means nothing without a goal"),
        ({"goal": NOISE[0], "reward": "learned"}, "reward and goal are both given"),
        ({"goal": NOISE[0], "goal_by": "eyes"}, "goal_by: found 'eyes'"),
        ({"goal": NOISE[0], "goal_within": -1.0}, "goal_within: found -1"),
        ({"goal": 4}, "goal: found 4"),
        ({"goal": NOISE[0], "goal_bonus": 2.0}, "goal_bonus: is never paid"),
        ({"goal": NOISE[0], "goal_bonus": 2.0, "goal_within": None}, "goal_bonus: is never paid"),
        ({"goal_wihtin": 0.1}, "settings: found 'goal_wihtin'; did you mean 'goal_within'?"),
        ({"max_frame": 3}, "settings: found 'max_frame'; did you mean 'max_frames'?"),
        ({"zzz": 3}, "settings: found 'zzz'; expected one of actions, starts, "),
    ],
)
def test_mistakes_are_told(run: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        WorldEnv(run, **settings)


def test_mistakes_of_a_reset_or_a_step_are_told(run: Path) -> None:
    with pytest.raises(UserError, match="render_mode: found 'human'"):
        WorldEnv(run, render_mode="human")
    with pytest.raises(UserError, match="not a run's folder"):
        WorldEnv(run / "shards")
    env = make(run)
    for options, message in (
        ({"begin": 1}, "options: found 'begin', expected 'start'"),
        ({"start": 99}, "start: found 99, expected 0 to 5"),
        ({"start": True}, "start: found True"),
    ):
        with pytest.raises(UserError, match=message):
            env.reset(options=options)
    env.reset(seed=0)
    for action in (4, -1, np.array(0.5)):
        with pytest.raises(UserError, match=r"action: found .*, expected one of Discrete\(4\)"):
            env.step(action)
