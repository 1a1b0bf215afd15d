"""The real game beside the dream: what it shows, where it goes back to, and when it cannot be had."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genie_lite.envs import games
from genie_lite.envs.toy import MOVES, ToyEnv
from genie_lite.errors import UserError
from genie_lite.play.twin import Twin, Twins, why_no_twin
from tests.play_runs import MOVES_OF_TOY

ACTIONS = tuple(MOVES)
RIGHT, DOWN = ACTIONS.index("right"), ACTIONS.index("down")


def twins(most: int = 2, size: int = 32) -> Twins:
    return Twins("toy", ACTIONS, (size, size), "crop", most)


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[ToyEnv]:
    """The engines that were closed."""
    found: list[ToyEnv] = []
    monkeypatch.setattr(ToyEnv, "close", lambda env: found.append(env))
    return found


def test_it_shows_what_the_engine_shows() -> None:
    env = ToyEnv(1)
    with twins().open(7) as twin:
        assert twin.level == 7
        assert np.array_equal(twin.frame, env.reset([7])[0])
        for action in (RIGHT, DOWN, DOWN, 0):
            assert np.array_equal(twin.step(action), env.step(np.array([action])).frames[0])
        assert np.array_equal(twin.frame, env.step(np.array([0])).frames[0])


def test_it_goes_back_to_where_it_was() -> None:
    with twins().open(7) as twin:
        twin.step(RIGHT)
        state, frame = twin.save(), twin.frame
        after = [twin.step(action) for action in (DOWN, DOWN, RIGHT)]
        assert np.array_equal(twin.restore(state), frame)
        assert np.array_equal(twin.frame, frame)
        assert all(
            np.array_equal(twin.step(action), each)
            for action, each in zip((DOWN, DOWN, RIGHT), after, strict=True)
        )
        assert np.array_equal(twin.retrace([RIGHT]), frame)


def solve(twin: Twin) -> None:
    """Walk at random until the goal is reached."""
    random = np.random.default_rng(0)
    while not twin.done:
        twin.step(int(random.integers(1, 5)))


def test_a_game_that_has_ended_stays_as_it_is() -> None:
    with twins().open(3) as twin:
        assert not twin.done
        start = twin.save()
        solve(twin)
        end, frame = twin.save(), twin.frame
        for action in range(5):
            assert np.array_equal(twin.step(action), frame)
        assert twin.done
        twin.restore(start)
        assert not twin.done
        twin.restore(end)
        assert twin.done
        twin.retrace([])
        assert not twin.done


def test_a_frame_that_was_shown_does_not_change() -> None:
    with twins().open(7) as twin:
        shown = twin.frame
        kept = shown.copy()
        for _ in range(3):
            twin.step(RIGHT)
            twin.step(DOWN)
        assert np.array_equal(shown, kept)


def test_frames_are_of_the_worlds_size() -> None:
    with twins(size=16).open(7) as twin:
        assert twin.frame.shape == twin.step(RIGHT).shape == (16, 16, 3)


def test_there_are_so_many_and_no_more(closed: list[ToyEnv]) -> None:
    opener = twins(most=2)
    first, _ = opener.open(1), opener.open(2)
    with pytest.raises(
        UserError, match="toy: 2 real games are being played, which is as many as there may be"
    ):
        opener.open(3)
    first.close()
    first.close()  # gives back one place, not two
    assert len(closed) == 1
    opener.open(3)
    with pytest.raises(UserError, match="2 real games"):
        opener.open(4)


def test_a_game_that_does_not_begin_takes_no_place(
    closed: list[ToyEnv], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("game engine: the worker ended with code 1; it said:\nmuch")

    opener = twins(most=1)
    monkeypatch.setattr(ToyEnv, "reset", broken)
    for _ in range(3):
        with pytest.raises(
            UserError,
            match=r"^the real game has ended \(game engine: the worker ended with code 1; it said:\)",
        ):
            opener.open(1)
    assert len(closed) == 3
    monkeypatch.setitem(games.GAMES, "toy", replace(games.GAMES["toy"], open=broken))
    for _ in range(2):
        with pytest.raises(RuntimeError):
            opener.open(1)
    for level in (-1, 2**31):
        with pytest.raises(UserError, match=f"level: found {level}, expected 0 to"):
            opener.open(level)


def test_an_engine_with_other_actions_is_refused(closed: list[ToyEnv]) -> None:
    with pytest.raises(
        UserError, match="the engine's actions are noop, left, right, up, down, those of the world"
    ):
        Twins("toy", ("left", "right"), (32, 32), "crop").open(1)
    assert len(closed) == 1


@pytest.mark.parametrize("action", [-1, 5])
def test_no_such_action_is_told(action: int) -> None:
    with (
        twins().open(1) as twin,
        pytest.raises(UserError, match=f"action: found {action}, expected 0 to 4"),
    ):
        twin.step(action)


def test_why_there_is_no_real_game(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    codes = replace(MOVES_OF_TOY, kind="code")
    assert why_no_twin("toy", 10.0, MOVES_OF_TOY) is None
    assert "no action of toy is known" in str(why_no_twin("toy", 10.0, codes))
    assert "the world shows 5 frames per second, toy 10" in str(why_no_twin("toy", 5.0, MOVES_OF_TOY))
    monkeypatch.setenv("GENIE_LITE_PROCGEN_PYTHON", str(tmp_path / "none"))
    assert "the engine of maze is not installed" in str(why_no_twin("maze", 10.0, MOVES_OF_TOY))
