"""Games are begun while there is room, found by their token, and given up when nothing happens."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genie_lite.errors import UserError
from genie_lite.play.batcher import Engine
from genie_lite.play.config import PlayConfig
from genie_lite.play.lobby import Busy, Lobby
from genie_lite.play.session import Beginning, Session
from genie_lite.play.uploads import Refused, Uploads
from tests import playing

PATIENCE_S = 60.0


class Clock:
    """A clock that is put forward by hand."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


async def beginning() -> Beginning:
    return Beginning(playing.prompt(), 7, {"kind": "gallery", "index": 0})


def perform(
    tmp_path: Path, scene: Callable[[Lobby, Clock], Coroutine[Any, Any, None]], **limits: Any
) -> None:
    offer, clock = playing.offer(tmp_path), Clock()
    engine = Engine(offer.world)
    try:
        lobby = Lobby(offer, engine, PlayConfig(**limits), clock)
        asyncio.run(asyncio.wait_for(scene(lobby, clock), PATIENCE_S))
    finally:
        engine.close()


def test_a_full_house_is_told_and_a_game_may_take_its_own_place(tmp_path: Path) -> None:
    async def scene(lobby: Lobby, clock: Clock) -> None:
        first, second = [await lobby.open(beginning, None) for _ in range(2)]
        with pytest.raises(Busy, match="2 games are being played here, as many as there may be"):
            await lobby.open(beginning, None)
        third = await lobby.open(beginning, instead_of=first)
        assert len(lobby) == 2
        assert lobby.holds(second)
        assert lobby.find(third.token) is third
        with pytest.raises(UserError, match="no such game; it was given up after 900 s without a move"):
            lobby.find(first.token)
        assert len({len(each.token) for each in (first, second, third)}) == 1
        assert len(third.token) >= 32

    perform(tmp_path, scene, sessions=2)


def test_many_at_once_are_not_more_than_may_be(tmp_path: Path) -> None:
    async def scene(lobby: Lobby, clock: Clock) -> None:
        found = await asyncio.gather(*(lobby.open(beginning, None) for _ in range(5)), return_exceptions=True)
        assert sum(isinstance(each, Busy) for each in found) == 2
        assert len(lobby) == 3

    perform(tmp_path, scene, sessions=3)


def test_a_start_that_fails_takes_no_room_and_ends_no_game(tmp_path: Path) -> None:
    async def broken() -> Beginning:
        raise UserError("no such start")

    async def scene(lobby: Lobby, clock: Clock) -> None:
        game = await lobby.open(beginning, None)
        for _ in range(3):
            with pytest.raises(UserError, match="no such start"):
                await lobby.open(broken, instead_of=game)
        assert lobby.holds(game)
        assert len(lobby) == 1

    perform(tmp_path, scene, sessions=1)


def test_idle_games_are_given_up(tmp_path: Path) -> None:
    async def scene(lobby: Lobby, clock: Clock) -> None:
        idle, busy = [await lobby.open(beginning, None) for _ in range(2)]
        clock.now_s = 8.0
        lobby.touch(busy)
        assert await lobby.give_up_idle() == []
        clock.now_s = 11.0
        assert await lobby.give_up_idle() == [idle]
        assert not lobby.holds(idle)
        assert lobby.holds(busy)
        lobby.touch(idle)  # too late
        clock.now_s = 30.0
        assert await lobby.give_up_idle() == [busy]
        assert len(lobby) == 0

    perform(tmp_path, scene, idle_s=10.0)


def test_who_is_gone_longest_makes_room(tmp_path: Path) -> None:
    async def scene(lobby: Lobby, clock: Clock) -> None:
        games = [await lobby.open(beginning, None) for _ in range(3)]
        for game in games:
            lobby.leave(game)
            clock.now_s += 1.0
        lobby.join(games[0])  # came back
        with pytest.raises(Busy):
            await lobby.open(beginning, None)
        clock.now_s = 6.5
        await lobby.open(beginning, None)
        assert [lobby.holds(game) for game in games] == [True, False, True]
        with pytest.raises(Busy):
            await lobby.open(beginning, None)

    perform(tmp_path, scene, sessions=3, gone_s=5.0)


def test_who_takes_their_own_place_sends_nobody_away(tmp_path: Path) -> None:
    async def scene(lobby: Lobby, clock: Clock) -> None:
        gone, mine = [await lobby.open(beginning, None) for _ in range(2)]
        lobby.leave(gone)
        clock.now_s = 60.0
        await lobby.open(beginning, mine)
        assert lobby.holds(gone)
        assert not lobby.holds(mine)

    perform(tmp_path, scene, sessions=2, gone_s=5.0)


def test_a_game_that_cannot_be_put_away_keeps_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(lobby: Lobby, clock: Clock) -> None:
        first, second = [await lobby.open(beginning, None) for _ in range(2)]

        async def broken() -> None:
            raise RuntimeError("the engine is stuck")

        put_away = first.close
        first.close = broken  # pyright: ignore[reportAttributeAccessIssue] - an engine that is stuck
        clock.now_s = 60.0
        assert await lobby.give_up_idle() == [first, second]
        assert len(lobby) == 0
        assert "could not be put away" in caplog.text
        await put_away()

    perform(tmp_path, scene, idle_s=10.0)


def stuck(game: Session) -> asyncio.Event:
    """Lets a game be put away only when this is set; it is cleared when that is done."""
    put_away, may_end = game.close, asyncio.Event()

    async def close() -> None:
        await may_end.wait()
        await put_away()
        may_end.clear()

    game.close = close  # pyright: ignore[reportAttributeAccessIssue] - an engine that is stuck
    return may_end


@pytest.mark.parametrize("way", ["instead", "room", "idle", "close"])
def test_a_game_that_hangs_while_it_is_put_away_keeps_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr("genie_lite.play.lobby.CLOSING_S", 0.01)

    async def scene(lobby: Lobby, clock: Clock) -> None:
        game = await lobby.open(beginning, None)
        may_end = stuck(game)
        clock.now_s = 6.0
        if way in ("instead", "room"):
            if way == "room":
                lobby.leave(game)
                clock.now_s = 12.0
            new = await lobby.open(beginning, game if way == "instead" else None)
            assert lobby.find(new.token) is new
            assert len(lobby) == 1
        else:
            await (lobby.close() if way == "close" else lobby.give_up_idle())
            assert len(lobby) == 0
        assert not lobby.holds(game)
        may_end.set()  # it goes on although nobody waits any more
        async with asyncio.timeout(30):
            while may_end.is_set():
                await asyncio.sleep(0)
        with pytest.raises(UserError, match="this game was given up"):
            await game.show()

    perform(tmp_path, scene, sessions=1, idle_s=5.0, gone_s=5.0)


def test_many_that_hang_are_waited_for_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float | None] = []
    wait = asyncio.wait

    async def counted(tasks: Any, *, timeout: float | None = None) -> Any:
        waits.append(timeout)
        while len(waits) < 3:  # all of them at once, or never
            await asyncio.sleep(0)
        return await wait(tasks, timeout=0)

    async def scene(lobby: Lobby, clock: Clock) -> None:
        games = [await lobby.open(beginning, None) for _ in range(3)]
        ends = [stuck(game) for game in games]
        monkeypatch.setattr("genie_lite.play.lobby.asyncio.wait", counted)
        await asyncio.wait_for(lobby.close(), 30)
        monkeypatch.undo()
        assert len(lobby) == 0
        for end in ends:
            end.set()
        while lobby._closing:
            await asyncio.sleep(0)

    perform(tmp_path, scene)


def test_a_new_game_is_there_before_the_old_one_is_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(lobby: Lobby, clock: Clock) -> None:
        game, held = await lobby.open(beginning, None), []
        put_away = game.close

        async def broken() -> None:
            held.append(len(lobby))
            raise RuntimeError("the engine is stuck")

        game.close = broken  # pyright: ignore[reportAttributeAccessIssue] - an engine that is stuck
        new = await lobby.open(beginning, instead_of=game)
        assert held == [1]
        assert lobby.find(new.token) is new
        assert len(lobby) == 1
        assert "could not be put away" in caplog.text
        await put_away()
        lobby.touch(new)

    perform(tmp_path, scene, sessions=1)


def test_a_newcomer_who_goes_while_the_old_game_is_put_away_leaves_none(tmp_path: Path) -> None:
    async def scene(lobby: Lobby, clock: Clock) -> None:
        game = await lobby.open(beginning, None)
        may_end = stuck(game)
        opening = asyncio.create_task(lobby.open(beginning, instead_of=game))
        while lobby.holds(game):
            await asyncio.sleep(0)
        assert len(lobby) == 1
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert len(lobby) == 0
        may_end.set()
        while lobby._closing:
            await asyncio.sleep(0)

    perform(tmp_path, scene, sessions=1)


# --- uploads -------------------------------------------------------------------------------------------------


async def body(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def silence() -> AsyncIterator[bytes]:
    yield b"a"
    await asyncio.sleep(3600)


def test_uploads_are_kept_until_others_take_their_place(tmp_path: Path) -> None:
    picture = playing.prompt()[0]
    data = playing.png_of(picture)

    async def scene() -> None:
        uploads = Uploads(playing.offer(tmp_path), 10_000, most=2)
        first, second = [await uploads.take(str(len(data)), body(data[:9], data[9:])) for _ in range(2)]
        assert np.array_equal(uploads.frames(first), picture[None])
        third = await uploads.take(str(len(data)), body(data))
        assert len(uploads) == 2
        assert len({first, second, third}) == 3
        with pytest.raises(Refused, match="no such upload; others took its place"):
            uploads.frames(second)
        assert uploads.frames(first).shape == uploads.frames(third).shape == (1, 16, 16, 3)
        uploads.close()

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("length", "sent", "status", "words"),
    [
        (None, body(b"a"), 411, "no Content-Length"),
        ("-5", body(b"a"), 411, "no Content-Length"),
        ("²", body(b"a"), 411, "no Content-Length"),
        ("101", body(b"a"), 413, "too large, expected at most"),
        ("9" * 10_000, body(b"a"), 413, "too large"),
        ("50", body(b"a" * 60, b"a" * 60), 413, "too large"),
        ("50", silence(), 408, "did not arrive in 0.05 s"),
        ("3", body(b"abc"), 415, "not an image"),
        ("0", body(), 415, "an empty file"),
    ],
)
def test_an_upload_that_cannot_be_taken_is_told(
    tmp_path: Path, length: str | None, sent: AsyncIterator[bytes], status: int, words: str
) -> None:
    async def scene() -> None:
        uploads = Uploads(playing.offer(tmp_path), 100, most=2, patience_s=0.05 if status == 408 else 60.0)
        with pytest.raises(Refused, match=words) as caught:
            await uploads.take(length, sent)
        assert caught.value.status == status
        assert len(uploads) == 0
        uploads.close()

    asyncio.run(scene())


def test_what_hangs_while_it_is_decoded_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    monkeypatch.setattr("genie_lite.play.offer.Offer.own_start", lambda *_: gate.wait())

    async def scene() -> None:
        uploads = Uploads(playing.offer(tmp_path), 100, most=2, patience_s=0.05)
        with pytest.raises(Refused, match=r"was not decoded in 0.05 s") as caught:
            await uploads.take("1", body(b"a"))
        assert caught.value.status == 408
        gate.set()
        uploads.close()

    asyncio.run(scene())


def test_only_so_many_are_decoded_and_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    monkeypatch.setattr("genie_lite.play.uploads.WAITING", 0)
    monkeypatch.setattr("genie_lite.play.offer.Offer.own_start", lambda *_: gate.wait() and playing.prompt())

    async def scene() -> None:
        uploads = Uploads(playing.offer(tmp_path), 100, most=9)
        tasks = [asyncio.create_task(uploads.take("1", body(b"a"))) for _ in range(4)]
        while sum(task.done() for task in tasks) < 2:
            await asyncio.sleep(0.01)
        gate.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        refused = [each.status for each in found if isinstance(each, Refused)]
        assert refused == [503, 503]
        assert len(uploads) == 2
        uploads.close()

    asyncio.run(scene())
