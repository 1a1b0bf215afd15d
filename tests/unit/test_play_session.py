"""A game shows the same alone, in company, and when it is led there again."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genie_lite.errors import UserError
from genie_lite.play import exports
from genie_lite.play.batcher import Engine
from genie_lite.play.config import PlayConfig
from genie_lite.play.drive import Driver
from genie_lite.play.offer import Offer
from genie_lite.play.protocol import Act, Shown
from genie_lite.play.session import Beginning, Session, begin
from genie_lite.play.tree import Moment
from genie_lite.play.twin import Twin, Twins
from genie_lite.replay import Proof
from genie_lite.steer import Ride, play
from tests import playing

PATIENCE_S = 30.0
CODES = [0, 3, 3, 1, 2, 0, 1, 1, 2, 3]
Scene = Callable[[Offer, Engine], Coroutine[Any, Any, None]]


def perform(offer: Offer, scene: Scene) -> None:
    """Run a scene with an engine."""
    engine = Engine(offer.world)
    try:
        asyncio.run(scene(offer, engine))
    finally:
        engine.close()


async def game_of(
    offer: Offer, engine: Engine, seed: int = 7, start: int = 0, level: int | None = None
) -> Session:
    begun = Beginning(offer.starts.frames(start), seed, {"kind": "gallery", "index": start}, level)
    return await begin(f"game {seed}", offer, engine, begun, PlayConfig())


def code(number: int) -> Act:
    return Act(type="act", action=number, terms="code")


async def ridden(game: Session, codes: list[int]) -> np.ndarray:
    return np.stack([(await game.act(code(each))).picture for each in codes])


@pytest.mark.parametrize("start", [0, 2])
@pytest.mark.parametrize("micro_batch", [1, 4])
def test_a_game_shows_what_its_ride_shows(tmp_path: Path, start: int, micro_batch: int) -> None:
    async def scene(offer: Offer, engine: Engine) -> None:
        game = await game_of(offer, engine, start=start)
        shown = await ridden(game, CODES)
        ride = game.ride_to(game.end(0))
        assert ride.codes.tolist() == CODES
        played, _ = play(offer.world, ride)
        assert np.array_equal(shown, played.frames)
        assert np.array_equal(game.tree.tokens(game.end(0)), played.tokens)

    perform(playing.offer(tmp_path, micro_batch=micro_batch), scene)


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_company_changes_nothing(tmp_path: Path, micro_batch: int) -> None:
    """Bit for bit, although the others begin elsewhere, earlier and later, and their steps are computed along."""
    offer = playing.offer(tmp_path, micro_batch=micro_batch)
    found: dict[str, np.ndarray] = {}

    async def alone(offer: Offer, engine: Engine) -> None:
        found["alone"] = await ridden(await game_of(offer, engine, start=1), CODES)

    async def among_others(offer: Offer, engine: Engine) -> None:
        others = [await game_of(offer, engine, seed=number, start=number % 3) for number in range(20, 27)]
        for game in others[:3]:
            await ridden(game, CODES[:4])
        game = await game_of(offer, engine, start=1)
        shown, *_ = await asyncio.gather(ridden(game, CODES), *(ridden(each, CODES[::-1]) for each in others))
        found["among others"] = shown

    perform(offer, alone)
    perform(offer, among_others)
    assert np.array_equal(found["alone"], found["among others"])


def test_going_back_is_exact(tmp_path: Path) -> None:
    async def scene(offer: Offer, engine: Engine) -> None:
        game = await game_of(offer, engine, start=1)
        first = await game.show()
        assert np.array_equal(first.picture, offer.starts.frames(1)[-1])
        shown = await ridden(game, CODES)
        for frame in (1, 4, len(CODES)):
            assert np.array_equal((await game.look(Moment(0, frame))).picture, shown[frame - 1])
        assert game.cursor == Moment(0, len(CODES))
        back = await game.seek(Moment(0, 4))
        assert (back.kind, back.moment, back.code) == ("frame", Moment(0, 4), CODES[3])
        assert np.array_equal(back.picture, shown[3])
        again = await ridden(game, CODES[4:])
        assert game.cursor == Moment(1, len(CODES))
        assert np.array_equal(again, shown[4:])
        await game.seek(Moment(1, 2))
        other = await ridden(game, [2, 2])
        assert not np.array_equal(other, shown[2:4])
        assert [each["parent"] for each in game.tree.describe()] == [None, 0, 0]
        played, _ = play(offer.world, game.ride_to(game.end(2)))
        assert np.array_equal(played.frames, [*shown[:2], *other])

    perform(playing.offer(tmp_path), scene)


def test_where_the_world_stands_is_foreseen_while_the_player_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genie_lite.play.session.FORESIGHT_S", 0.0)

    async def scene(offer: Offer, engine: Engine) -> None:
        game = await game_of(offer, engine)
        await ridden(game, CODES)
        await game.seek(Moment(0, 3))
        foreseeing = game._foreseeing
        assert foreseeing is not None
        await foreseeing
        assert game._stands is not None
        assert game._stands[0] == Moment(0, 3)
        await game.seek(Moment(0, 2))
        await game.seek(Moment(0, 1))
        state = game._stands
        assert state is not None
        assert np.array_equal(
            await ridden(game, CODES[1:]), play(offer.world, game.ride_to(game.end(0)))[0].frames[1:]
        )

    perform(playing.offer(tmp_path), scene)


def test_actions_become_codes(tmp_path: Path) -> None:
    async def scene(offer: Offer, engine: Engine) -> None:
        game = await game_of(offer, engine)
        shown = [await game.act(Act(type="act", action=each)) for each in (4, 1)]
        assert [(each.action, each.code) for each in shown] == [(4, 3), (1, 1)]
        shown = await game.act(code(2))
        assert (shown.action, shown.code) == (None, 2)

    perform(playing.offer(tmp_path, game=True), scene)


def test_an_action_means_what_the_frame_before_it_says(tmp_path: Path) -> None:
    """Also from a moment in the past, and where a policy chooses."""

    async def scene(offer: Offer, engine: Engine) -> None:
        controls = playing.SeeingControls("discrete", playing.MOVES, (), (), offer.world.num_codes)
        game = await game_of(replace(offer, controls=controls), engine)
        seen = [offer.starts.frames(0)[-1]]
        for wanted in (Act(type="act", action=0), Act(type="act", driver="brightest")) * 2:
            shown = await game.act(wanted)
            assert shown.code == seen[-1][0, 0, 0] % 4
            seen.append(shown.picture)
        assert len({int(frame[0, 0, 0]) % 4 for frame in seen[:-1]}) > 1
        await game.seek(Moment(0, 1))
        assert (await game.act(Act(type="act", action=3))).code == seen[1][0, 0, 0] % 4

    perform(playing.offer(tmp_path, game=True), scene)


def test_a_vector_means_more_beside_the_one_before_it(tmp_path: Path) -> None:
    async def scene(offer: Offer, engine: Engine) -> None:
        game = await game_of(offer, engine)
        shown = [
            await game.act(Act(type="act", action=each)) for each in ([0.5, 1.0], [0.5, 1.5], [-0.5, 0.5])
        ]
        assert [each.code for each in shown] == [2, 3, 0]
        assert game.tree.actions(game.cursor) == [[0.5, 1.0], [0.5, 1.5], [-0.5, 0.5]]
        for action, words in (
            ([0.5, 3.0], "action: y: found 3, expected 0 to 2"),
            ([0.5], "expected 2 numbers"),
            (1, "expected 2 numbers"),
        ):
            with pytest.raises(UserError, match=words):
                await game.act(Act(type="act", action=action))

    perform(playing.offer(tmp_path, arm=True), scene)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (Act(type="act", action=5), "action: found 5, expected a whole number from 0 to 4"),
        (Act(type="act", action=[0.5]), r"action: found \[0.5\], expected a whole number"),
        (Act(type="act", action=4, terms="code"), "code: found 4, expected a whole number from 0 to 3"),
        (Act(type="act"), "expected an action, or null and a driver"),
        (Act(type="act", action=1, driver="random"), "expected an action, or null and a driver"),
        (Act(type="act", driver="nobody"), "driver: found 'nobody', expected one of: random, brightest"),
    ],
)
def test_what_cannot_be_done_is_told(tmp_path: Path, act: Act, words: str) -> None:
    async def scene(offer: Offer, engine: Engine) -> None:
        game = await game_of(offer, engine)
        with pytest.raises(UserError, match=words):
            await game.act(act)
        assert game.cursor == Moment(0, 0)

    perform(playing.offer(tmp_path, game=True), scene)


@pytest.mark.parametrize("start", [0, 2])
def test_a_policy_plays_by_what_was_shown(tmp_path: Path, start: int) -> None:
    async def scene(offer: Offer, engine: Engine) -> None:
        game = await game_of(offer, engine, start=start)
        frames = list(offer.starts.frames(start))
        frames = [frames[0]] * (3 - len(frames)) + frames  # as a policy is shown what it lacks
        for _ in range(5):
            shown = await game.act(Act(type="act", driver="brightest"))
            assert shown.code == playing.brightness(np.stack(frames[-3:])[None])[0]
            frames.append(shown.picture)

    perform(playing.offer(tmp_path), scene)


def test_a_policy_that_draws_lots_draws_the_same_ones_again(tmp_path: Path) -> None:
    async def scene(offer: Offer, engine: Engine) -> None:
        taken = []
        for seed in (7, 7, 8):
            game = await game_of(offer, engine, seed)
            taken.append([(await game.act(Act(type="act", driver="random"))).code for _ in range(8)])
        assert taken[0] == taken[1] != taken[2]
        assert len(set(taken[0])) > 1

    perform(playing.offer(tmp_path), scene)


def test_the_real_game_follows_and_goes_back(tmp_path: Path) -> None:
    async def scene(offer: Offer, engine: Engine) -> None:
        game = await game_of(offer, engine, level=5)
        for action in (1, 2, 4):
            await game.act(Act(type="act", action=action))
        shown = await game.set_twin(True)
        assert shown.moment == Moment(0, 3)
        shown = [shown, *[await game.act(Act(type="act", action=each)) for each in (4, 4, 2, 2)]]
        with offer.twin(5) as truth:
            real = [truth.frame.copy(), *[truth.step(each).copy() for each in (1, 2, 4, 4, 4, 2, 2)]]
        assert_real(shown, real[3:])
        assert_real([await game.seek(Moment(0, frame)) for frame in (1, 5, 0)], [real[1], real[5], real[0]])
        await game.seek(Moment(0, 2))
        assert_real([await game.act(Act(type="act", action=1))], [_real(offer, 5, [1, 2, 1])])
        with pytest.raises(UserError, match="code: the real game beside the world takes actions only"):
            await game.act(code(1))
        assert (await game.set_twin(False)).twin is None
        await game.act(code(1))
        with pytest.raises(
            UserError, match="frame 4: a code led there, and the real game takes actions only"
        ):
            await game.set_twin(True)
        assert not game.has_twin
        await game.close()
        with offer.twin(1), offer.twin(2):
            pass  # none is held any more

    perform(playing.offer(tmp_path, game=True), scene)


def test_the_real_game_is_saved_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genie_lite.play.ghost.SAVE_EVERY", 2)

    async def scene(offer: Offer, engine: Engine) -> None:
        game = await game_of(offer, engine, level=5)
        await game.set_twin(True)
        moves = [1, 3, 2, 4, 4, 1, 3]
        for action in moves:
            await game.act(Act(type="act", action=action))
        await game.seek(Moment(0, 3))
        await game.act(Act(type="act", action=4))
        for moment, path in (
            (Moment(0, 7), moves),
            (Moment(1, 4), [*moves[:3], 4]),
            (Moment(0, 5), moves[:5]),
        ):
            assert_real([await game.seek(moment)], [_real(offer, 5, path)])
        await game.close()

    perform(playing.offer(tmp_path, game=True), scene)


def test_a_start_of_no_level_has_no_real_game(tmp_path: Path) -> None:
    async def scene(offer: Offer, engine: Engine) -> None:
        game = await game_of(offer, engine)
        with pytest.raises(UserError, match="twin: only a game that begins as a level"):
            await game.set_twin(True)
        assert (await game.act(code(1))).moment == Moment(0, 1)

    perform(playing.offer(tmp_path, game=True), scene)


def test_an_engine_that_dies_ends_the_twin_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(offer: Offer, engine: Engine) -> None:
        game = await game_of(offer, engine, level=5)
        await game.set_twin(True)

        def die(*_: object) -> None:
            raise RuntimeError("game engine: the worker ended")

        monkeypatch.setattr("genie_lite.envs.toy.ToyEnv.step", die)
        shown = await game.act(Act(type="act", action=1))
        assert (shown.moment, shown.twin, game.has_twin) == (Moment(0, 1), None, False)
        await game.close()

    perform(playing.offer(tmp_path, game=True), scene)


class Opened:
    """Watches every engine that is opened: whether it was ended, and on which thread."""

    def __init__(self, offer: Offer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opening, self.may_open = threading.Event(), threading.Event()
        self.may_open.set()
        self.ended, self.threads = threading.Event(), []
        open_twin, close = Twins.open, Twin.close

        def opened(twins: Twins, level: int) -> Twin:
            self.opening.set()
            assert self.may_open.wait(PATIENCE_S)
            return open_twin(twins, level)

        def closed(twin: Twin) -> None:
            self.threads.append(threading.current_thread().name)
            close(twin)
            self.ended.set()

        monkeypatch.setattr(Twins, "open", opened)
        monkeypatch.setattr(Twin, "close", closed)

    async def until(self, event: threading.Event) -> None:
        assert await asyncio.to_thread(event.wait, PATIENCE_S)


def test_an_engine_that_cannot_be_led_is_ended_off_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(offer: Offer, engine: Engine) -> None:
        opened = Opened(offer, monkeypatch)
        saved: list[str] = []

        def die(_: Twin) -> bytes:
            saved.append(threading.current_thread().name)
            raise UserError("the real game has ended")

        monkeypatch.setattr(Twin, "save", die)
        game = await game_of(offer, engine, level=5)
        with pytest.raises(UserError, match="the real game has ended"):
            await game.set_twin(True)
        assert opened.ended.is_set()
        assert threading.main_thread().name not in [*saved, *opened.threads]

    perform(playing.offer(tmp_path, game=True), scene)


def test_an_engine_that_nobody_waits_for_any_more_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(offer: Offer, engine: Engine) -> None:
        opened = Opened(offer, monkeypatch)
        opened.may_open.clear()
        game = await game_of(offer, engine, level=5)
        turning = asyncio.create_task(game.set_twin(True))
        await opened.until(opened.opening)
        turning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turning
        opened.may_open.set()
        await opened.until(opened.ended)
        assert not game.has_twin
        assert threading.main_thread().name not in opened.threads

    perform(playing.offer(tmp_path, game=True), scene)


@pytest.mark.parametrize("way", ["off", "close"])
def test_an_engine_is_ended_although_nobody_waits_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    async def scene(offer: Offer, engine: Engine) -> None:
        opened = Opened(offer, monkeypatch)
        game = await game_of(offer, engine, level=5)
        await game.set_twin(True)
        ghost = game._ghost
        assert ghost is not None
        with ghost._lock:  # as a show holds it that still runs
            ending = asyncio.create_task(game.set_twin(False) if way == "off" else game.close())
            while game.has_twin:
                await asyncio.sleep(0)
            ending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await ending
        await opened.until(opened.ended)

    perform(playing.offer(tmp_path, game=True), scene)


def test_a_game_that_waits_for_its_turn_to_end_ends_although_nobody_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(offer: Offer, engine: Engine) -> None:
        opened = Opened(offer, monkeypatch)
        game = await game_of(offer, engine, level=5)
        await game.set_twin(True)
        async with game._turn:
            ending = asyncio.create_task(game.close())
            await asyncio.sleep(0)
            ending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await ending
        await opened.until(opened.ended)

    perform(playing.offer(tmp_path, game=True), scene)


def test_what_was_foreseen_of_a_game_that_is_over_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genie_lite.play.session.FORESIGHT_S", 0.0)

    async def scene(offer: Offer, engine: Engine) -> None:
        game = await game_of(offer, engine)
        await ridden(game, CODES[:3])
        recalling, may_end, recall = threading.Event(), threading.Event(), game._kept.recall

        def slow(*given: Any) -> Any:
            recalling.set()
            assert may_end.wait(PATIENCE_S)
            return recall(*given)

        monkeypatch.setattr(game._kept, "recall", slow)
        await game.seek(Moment(0, 1))
        assert await asyncio.to_thread(recalling.wait, PATIENCE_S)
        await game.close()
        may_end.set()
        await asyncio.wrap_future(engine.do(lambda: None))
        assert game._stands is None
        assert game._foreseeing is not None
        assert game._foreseeing.cancelled()

    perform(playing.offer(tmp_path), scene)


def test_a_policy_is_loaded_off_the_engines_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(offer: Offer, engine: Engine) -> None:
        threads: list[str] = []
        monkeypatch.setattr(
            Driver, "load", lambda _: threads.append(threading.current_thread().name), raising=True
        )
        await (await game_of(offer, engine)).act(Act(type="act", driver="brightest"))
        assert len(threads) == 1
        assert threads[0] not in ("engine", threading.main_thread().name)

    perform(playing.offer(tmp_path), scene)


def test_an_export_is_of_one_moment_while_acts_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Played.tokens, codes and frames belong together, whatever is appended between them."""

    async def scene(offer: Offer, engine: Engine) -> None:
        game = await game_of(offer, engine)
        shown = await ridden(game, CODES[:4])
        played, _ = play(offer.world, game.ride_to(game.end(0)))
        made: list[tuple[Ride, Proof]] = []
        find = game.end

        def found(branch: int) -> Moment:
            end = find(branch)
            game.tree.append(end, 0, np.zeros(game.tree.tokens(end).shape[1], np.int64), None)
            return end

        monkeypatch.setattr(game, "end", found)
        monkeypatch.setattr(
            exports.record, "replay_bytes", lambda ride, _, __, proof: made.append((ride, proof)) or b""
        )
        await asyncio.to_thread(exports.replay, offer, engine, game, 0)
        ((ride, proof),) = made
        assert ride.codes.tolist() == CODES[:4]
        assert len(proof.marks) == len(shown) == 4
        assert (proof.sha256, proof.tokens_sha256) == (played.sha256, played.tokens_sha256)

    perform(playing.offer(tmp_path), scene)


def test_a_game_waits_for_one_download_and_few_games_do(tmp_path: Path) -> None:
    async def scene(offer: Offer, engine: Engine) -> None:
        first, second, third = [await game_of(offer, engine, seed) for seed in range(3)]
        queue = exports.Queue(most=2)
        with queue.place(first):
            with pytest.raises(exports.Full, match="of this game is being made already"), queue.place(first):
                pass
            with (
                queue.place(second),
                pytest.raises(exports.Full, match="2 downloads are being made"),
                queue.place(third),
            ):
                pass
            with queue.place(third):
                pass
        with queue.place(first):
            pass

    perform(playing.offer(tmp_path), scene)


def test_a_game_that_is_over_answers_no_more(tmp_path: Path) -> None:
    async def scene(offer: Offer, engine: Engine) -> None:
        game = await game_of(offer, engine)
        await game.close()
        with pytest.raises(UserError, match="this game was given up"):
            await game.act(code(1))

    perform(playing.offer(tmp_path), scene)


def test_whoever_stops_waiting_leaves_the_game_as_it_was(tmp_path: Path) -> None:
    async def scene(offer: Offer, engine: Engine) -> None:
        game = await game_of(offer, engine)
        acting = asyncio.create_task(game.act(code(1)))
        await asyncio.sleep(0)
        acting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await acting
        shown = await ridden(game, CODES)
        assert np.array_equal(shown, play(offer.world, game.ride_to(game.end(0)))[0].frames)

    perform(playing.offer(tmp_path), scene)


def test_what_a_game_keeps_does_not_grow_with_the_company(tmp_path: Path) -> None:
    """A slice of a group's state would keep the whole group's memory."""

    async def scene(offer: Offer, engine: Engine) -> None:
        games = [await game_of(offer, engine, seed) for seed in range(4)]
        await asyncio.gather(*(ridden(game, CODES[:4]) for game in games))
        await games[0].seek(Moment(0, 2))
        await ridden(games[0], CODES[:1])  # alone, and from what was recalled
        for game in [*games, await game_of(offer, engine)]:
            assert game._stands is not None
            past = game._stands[1].past
            assert past is not None
            for tensor in (keys for pair in past.layers for keys in pair):
                assert tensor.untyped_storage().nbytes() == tensor.nbytes

    perform(playing.offer(tmp_path, micro_batch=4), scene)


def assert_real(shown: list[Shown], real: list[np.ndarray]) -> None:
    for found, expected in zip(shown, real, strict=True):
        assert found.twin is not None
        assert np.array_equal(found.twin, expected)


def _real(offer: Offer, level: int, actions: list[int]) -> np.ndarray:
    with offer.twin(level) as truth:
        return truth.retrace(actions).copy()
