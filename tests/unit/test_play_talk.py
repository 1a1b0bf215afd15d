"""What happens between one socket and its game, message by message, with nobody at the other end but the test."""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from starlette.websockets import WebSocket

from genie_lite.errors import UserError
from genie_lite.play.batcher import Engine
from genie_lite.play.config import PlayConfig
from genie_lite.play.ghost import Ghost
from genie_lite.play.lobby import Lobby
from genie_lite.play.protocol import BROKEN, ELSEWHERE, FULL, IDLE, MOST_WAITING
from genie_lite.play.talk import House, Talk, end_idle
from genie_lite.play.uploads import Uploads
from tests import playing

PATIENCE_S = 30.0
START = {"kind": "gallery", "index": 0}
Scene = Callable[["Place"], Coroutine[Any, Any, None]]


class End:
    """The other end of a socket. reads: while it is not set, nothing that is sent gets there."""

    def __init__(self, house: House) -> None:
        self.said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.said.put_nowait({"type": "websocket.connect"})
        self.heard: list[dict[str, Any]] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.closed: int | None = None
        self._news = asyncio.Event()
        self.talk = Talk(house, WebSocket({"type": "websocket", "headers": []}, self.said.get, self._hear))
        self.running = asyncio.create_task(self.talk.run())

    def say(self, kind: str, **rest: Any) -> None:
        self.said.put_nowait({"type": "websocket.receive", "text": json.dumps({"type": kind, **rest})})

    async def until(self, kind: str) -> dict[str, Any]:
        """The next message of a type; what came before it is forgotten."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                while self.heard:
                    if (found := self.heard.pop(0))["type"] == kind:
                        return found
                self._news.clear()
                await self._news.wait()

    async def open(self, **rest: Any) -> str:
        """Begin a game; returns its token."""
        self.say("open", start=START, seed=7, **rest)
        token = (await self.until("session"))["token"]
        await self.until("frame")
        return token

    async def over(self) -> int | None:
        """Why the socket was closed, as soon as it is over."""
        await asyncio.wait_for(self.running, PATIENCE_S)
        return self.closed

    async def _hear(self, message: Any) -> None:
        await self.reads.wait()
        if message["type"] == "websocket.close":
            self.closed = message["code"]
        elif message.get("bytes") is not None:
            self.heard.append(playing.frame_of(message["bytes"]).header)
        elif message["type"] == "websocket.send":
            self.heard.append(json.loads(message["text"]))
        self._news.set()


class Place:
    """A server's inside, without the server. now_s: its clock."""

    def __init__(self, tmp_path: Path, **config: Any) -> None:
        self.now_s = 0.0
        self.offer = playing.offer(tmp_path, game=True)
        limits, engine = PlayConfig(**config), Engine(self.offer.world)
        lobby = Lobby(self.offer, engine, limits, lambda: self.now_s)
        uploads = Uploads(self.offer, 10_000, 2)
        self.house = House(self.offer, limits, engine, lobby, uploads)
        self.ends: list[End] = []

    def come(self) -> End:
        """A page opens a socket."""
        self.ends.append(End(self.house))
        return self.ends[-1]

    @contextlib.asynccontextmanager
    async def halted(self) -> AsyncIterator[None]:
        """The engine does nothing meanwhile."""
        halted, goes_on = threading.Event(), threading.Event()
        work = self.house.engine.do(lambda: halted.set() or goes_on.wait(PATIENCE_S))
        assert await asyncio.to_thread(halted.wait, PATIENCE_S)
        try:
            yield
        finally:
            goes_on.set()
        await asyncio.wrap_future(work)

    async def close(self) -> None:
        for end in self.ends:
            end.running.cancel()
        await asyncio.gather(*(end.running for end in self.ends), return_exceptions=True)
        await self.house.lobby.close()
        self.house.uploads.close()
        self.house.engine.close()


def perform(tmp_path: Path, scene: Scene, **config: Any) -> None:
    async def whole() -> None:
        place = Place(tmp_path, **config)
        try:
            async with asyncio.timeout(2 * PATIENCE_S):
                await scene(place)
        finally:
            await place.close()

    asyncio.run(whole())


# --- who does not read any more ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["act", "name", "ping"])
def test_who_reads_no_more_is_gone_and_the_game_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    async def scene(place: Place) -> None:
        stalled, other = place.come(), place.come()
        token = await stalled.open()
        await other.open()
        monkeypatch.setattr("genie_lite.play.sender.STALLED_S", 0.01)
        stalled.reads.clear()
        if kind == "name":  # of somebody else, who is answered all the same
            other.say("name", code=1, name="left")
            assert (await other.until("names"))["names"] == {"1": "left"}
        else:
            stalled.say(kind, **({"action": 1} if kind == "act" else {}))
        assert await stalled.over() is None
        assert place.house.talks == {other.talk}
        other.say("resume", session=token)
        assert (await other.until("session"))["token"] == token

    perform(tmp_path, scene)


def test_who_names_a_code_waits_for_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genie_lite.play.sender.STALLED_S", 3600.0)

    async def scene(place: Place) -> None:
        stalled, other = place.come(), place.come()
        await stalled.open()
        await other.open()
        stalled.reads.clear()
        other.say("name", code=1, name="left")
        assert (await other.until("names"))["names"] == {"1": "left"}
        stalled.reads.set()
        assert (await stalled.until("names"))["names"] == {"1": "left"}

    perform(tmp_path, scene)


def test_who_reads_no_more_is_not_waited_for_where_the_house_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genie_lite.play.sender.STALLED_S", 0.01)

    async def scene(place: Place) -> None:
        await place.come().open()
        stalled = place.come()
        while stalled.talk not in place.house.talks:
            await asyncio.sleep(0)
        stalled.reads.clear()
        stalled.say("open", start=START, seed=7)
        assert await stalled.over() is None

    perform(tmp_path, scene, sessions=1)


def test_a_game_whose_player_was_sent_away_may_make_room(tmp_path: Path) -> None:
    async def scene(place: Place) -> None:
        rude = place.come()
        await rude.open()
        rude.said.put_nowait({"type": "websocket.receive", "text": "{"})
        assert await rude.over() == BROKEN
        place.now_s = 6.0
        await place.come().open()

    perform(tmp_path, scene, sessions=1, bad_messages=1, gone_s=5.0)


def test_the_last_who_resumes_a_game_has_it_alone(tmp_path: Path) -> None:
    async def scene(place: Place) -> None:
        stalled, *others = [place.come() for _ in range(4)]
        token = await stalled.open()
        stalled.reads.clear()
        for other in others:
            other.say("resume", session=token)
        *earlier, last = others
        assert [await other.over() for other in earlier] == [ELSEWHERE, ELSEWHERE]
        await last.until("frame")
        assert [end.talk.game is None for end in (stalled, *others)] == [True, True, True, False]
        last.say("act", action=1)
        assert (await last.until("frame"))["frame"] == 1
        assert not place.house.lobby._left_s
        stalled.reads.set()
        assert await stalled.over() == ELSEWHERE

    perform(tmp_path, scene)


# --- what waits ----------------------------------------------------------------------------------------------


def test_pings_are_answered_whatever_waits_and_too_much_is_refused(tmp_path: Path) -> None:
    async def scene(place: Place) -> None:
        end = place.come()
        await end.open()
        async with place.halted():
            end.say("act", action=1)
            while len(end.talk._inbox) or not end.said.empty():  # it is being answered
                await asyncio.sleep(0)
            for seq in range(MOST_WAITING + 2):
                end.say("look", branch=0, frame=0, seq=seq)
            end.say("ping", seq=77)
            refused = [await end.until("refused") for _ in range(2)]
            assert (await end.until("pong"))["seq"] == 77
        assert [(each["of"], each["seq"]) for each in refused] == [("look", 16), ("look", 17)]
        assert refused[0]["reason"] == "look: 16 messages wait for an answer, as many as may; wait for some"
        assert [(await end.until("look"))["seq"] for _ in range(MOST_WAITING)] == list(range(MOST_WAITING))

    perform(tmp_path, scene)


def test_of_seeks_that_wait_the_last_is_answered(tmp_path: Path) -> None:
    async def scene(place: Place) -> None:
        end = place.come()
        await end.open(actions=[1] * 6)
        while (await end.until("frame"))["frame"] < 6:
            pass
        async with place.halted():
            end.say("look", branch=0, frame=0)
            for frame in (5, 4, 3):
                end.say("seek", branch=0, frame=frame)
            end.say("act", action=2)
            for frame in (*range(6), 1):
                end.say("seek", branch=0, frame=frame)
            end.say("ping")
            await end.until("pong")
        found = [await end.until("frame") for _ in range(3)]
        assert [(each["branch"], each["frame"]) for each in found] == [(0, 3), (1, 4), (0, 1)]

    perform(tmp_path, scene)


def test_looks_and_names_are_answered_while_a_link_is_played(tmp_path: Path) -> None:
    async def scene(place: Place) -> None:
        end = place.come()
        async with place.halted():
            end.say("open", start=START, seed=7, actions=[1, 2, 3])
            end.say("look", branch=0, frame=0)
            end.say("name", code=1, name="left")
            end.say("look", branch=0, frame=9)
            end.say("ping")
            await end.until("pong")
        await end.until("frame")
        kinds = []
        while kinds.count("frame") < 3:
            kinds.append((await _next(end))["type"])
        assert kinds == ["look", "names", "refused", "frame", "frame", "frame"]

    perform(tmp_path, scene)


def test_a_word_that_goes_elsewhere_ends_a_link(tmp_path: Path) -> None:
    async def scene(place: Place) -> None:
        end = place.come()
        async with place.halted():
            end.say("open", start=START, seed=7, actions=[1] * 5)
            end.say("look", branch=0, frame=0)
            end.say("seek", branch=0, frame=0)
            end.say("name", code=1, name="left")
            end.say("ping")
            await end.until("pong")
        await end.until("names")
        await end.until("names")
        game = end.talk.game
        assert game is not None
        assert game.tree.end(0).frame == 0

    perform(tmp_path, scene)


# --- limits --------------------------------------------------------------------------------------------------


def test_there_are_as_many_sockets_as_may_be(tmp_path: Path) -> None:
    async def scene(place: Place) -> None:
        first, second, third, fourth = [place.come() for _ in range(4)]
        assert [await third.over(), await fourth.over()] == [FULL, FULL]
        assert (await third.until("busy"))["reason"].startswith("2 pages are open here, as many as there may")
        first.said.put_nowait({"type": "websocket.disconnect", "code": 1005})
        await first.over()
        await place.come().open()
        assert len(place.house.talks) == 2
        assert not second.running.done()

    perform(tmp_path, scene, sessions=1, spare_sockets=1)


def test_a_socket_without_a_game_ends_after_a_while(tmp_path: Path) -> None:
    async def scene(place: Place) -> None:
        silent, player, opening = [place.come() for _ in range(3)]
        await player.open()
        async with place.halted():
            opening.say("open", start=START, seed=7)
            while place.house.lobby._beginning == 0:
                await asyncio.sleep(0)
            place.now_s = 9.0
            await end_idle(place.house)
            player.say("act", action=1)
            place.now_s = 11.0
            place.house.lobby.touch(next(iter(place.house.lobby._games.values())))
            await end_idle(place.house)
            assert await silent.over() == IDLE
            assert (await silent.until("refused"))["reason"] == "no game was begun for 10 s"
        await opening.until("session")
        await player.until("frame")
        assert place.house.talks == {player.talk, opening.talk}

    perform(tmp_path, scene, idle_s=10.0)


def test_a_link_plays_no_more_than_a_game_keeps(tmp_path: Path) -> None:
    async def scene(place: Place) -> None:
        end = place.come()
        end.say("open", start=START, seed=7, actions=[1] * 6, seq=3)
        refused = await end.until("refused")
        assert (refused["of"], refused["seq"]) == ("open", 3)
        assert refused["reason"] == "actions: found 6, expected at most 5, the frames that a game keeps"
        await end.open(actions=[1] * 5)
        while (await end.until("frame"))["frame"] < 5:
            pass

    perform(tmp_path, scene, frames=5)


# --- the real game -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["act", "seek", "twin", "resume"])
def test_that_the_real_game_has_ended_is_told_wherever_it_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    def die(*_: object) -> None:
        raise UserError("the real game has ended")

    async def scene(place: Place) -> None:
        end = place.come()
        token = await end.open(actions=[1])
        await end.until("frame")
        end.say("twin", on=True)
        assert (await end.until("twin"))["on"] is True
        await end.until("frame")
        monkeypatch.setattr(Ghost, "show", die)
        rest: dict[str, dict[str, Any]] = {
            "act": {"action": 1},
            "seek": {"branch": 0, "frame": 0},
            "twin": {"on": True},
            "resume": {"session": token},
        }
        if way == "resume":
            end = place.come()
        end.say(way, **rest[way])
        assert (await end.until("twin"))["on"] is False

    perform(tmp_path, scene)


@pytest.mark.parametrize("is_on", [True, False])
def test_who_resumes_is_told_whether_the_real_game_is_there(tmp_path: Path, *, is_on: bool) -> None:
    async def scene(place: Place) -> None:
        first, again = place.come(), place.come()
        first.say("open", start=START, seed=7)
        token = (await first.until("session"))["token"]
        if is_on:
            first.say("twin", on=True)
            await first.until("twin")
        again.say("resume", session=token)
        assert (await again.until("frame"))["twin"] is is_on
        assert (await again.until("twin"))["on"] is is_on

    perform(tmp_path, scene)


async def _next(end: End) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_S):
        while not end.heard:
            await asyncio.sleep(0)
    return end.heard.pop(0)
