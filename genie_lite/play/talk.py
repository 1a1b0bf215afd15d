"""One socket: messages in, answers out, in their order; pings are answered as they are read.

A message that makes no sense is refused in one line and changes nothing; too many after each other end the socket.
A socket that breaks, or whose other end does not read any more, leaves its game as it is, to be resumed.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from starlette.websockets import WebSocket

from genie_lite.errors import UserError
from genie_lite.play.batcher import Engine
from genie_lite.play.beginning import beginning_of
from genie_lite.play.config import PlayConfig
from genie_lite.play.inbox import Inbox
from genie_lite.play.lobby import Busy, Lobby
from genie_lite.play.offer import Offer
from genie_lite.play.protocol import (
    BROKEN,
    ELSEWHERE,
    FULL,
    IDLE,
    Act,
    BadMessage,
    Beside,
    Look,
    Message,
    NameCode,
    Open,
    Ping,
    Resume,
    Seek,
    Shown,
    read_message,
)
from genie_lite.play.sender import Sender
from genie_lite.play.session import Session, expect_move
from genie_lite.play.tree import Moment
from genie_lite.play.uploads import Uploads

LOG = logging.getLogger(__name__)


@dataclass
class House:
    """What all players of a server share.

    films, previews: threads for what takes long, one at a time each, so that players keep theirs. readers: threads that
    read frames to begin from. talks: the sockets that are open.
    """

    offer: Offer
    config: PlayConfig
    engine: Engine
    lobby: Lobby
    uploads: Uploads
    films: Executor = field(default_factory=lambda: ThreadPoolExecutor(1, "film"))
    previews: Executor = field(default_factory=lambda: ThreadPoolExecutor(1, "preview"))
    readers: Executor = field(default_factory=lambda: ThreadPoolExecutor(2, "reader"))
    talks: "set[Talk]" = field(default_factory=set)


class Talk:
    """The server's end of one socket.

    game: that is played on it. gameless_since_s: by the lobby's clock, since when nobody asks for one.
    """

    def __init__(self, house: House, socket: WebSocket) -> None:
        self._house, self._socket, self._sender = house, socket, Sender(socket)
        self._inbox = Inbox()
        self._num_bad = 0
        self._goodbye: tuple[int, str] | None = None
        self._is_dismissed = asyncio.Event()
        self.game: Session | None = None
        self.gameless_since_s = house.lobby.clock()

    async def run(self) -> None:
        """Serve the socket until it ends."""
        await self._sender.accept()
        talks, config = self._house.talks, self._house.config
        if len(talks) >= config.sessions + config.spare_sockets:
            await self._sender.close(
                FULL, f"{len(talks)} pages are open here, as many as there may be; try again in a while"
            )
            return
        talks.add(self)
        try:
            await self._converse()
            if self._goodbye is not None:
                await self._sender.close(*self._goodbye)
        finally:
            talks.discard(self)

    def dismiss(self, code: int, reason: str) -> None:
        """Let the socket end, with a reason. Nobody waits for it, as its other end may not read."""
        self._goodbye = self._goodbye or (code, reason)
        self._is_dismissed.set()

    def tell_soon(self, message: dict[str, Any]) -> None:
        """Send text, and wait for nobody."""
        self._sender.tell_soon(message)

    async def _converse(self) -> None:
        parts = (self._answer_all(), self._read_all(), self._sender.over.wait(), self._is_dismissed.wait())
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(part) for part in parts]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            if self.game is not None:
                self._house.lobby.leave(self.game)
        for end in ends:
            if isinstance(end, Exception):
                raise end

    # --- in --------------------------------------------------------------------------------------------------

    async def _read_all(self) -> None:
        """Until the other end is gone. Nothing here waits for an answer that is being made."""
        while (received := await self._socket.receive())["type"] != "websocket.disconnect":
            try:
                message = self._message(received.get("text"))
            except BadMessage as bad:
                self._num_bad += 1
                await self._sender.refuse(str(bad), bad.seq, bad.of)
                if self._num_bad >= self._house.config.bad_messages:
                    self.dismiss(BROKEN, f"{self._num_bad} messages that are none, one after the other")
                    return
                continue
            self._num_bad = 0
            if isinstance(message, Ping):
                await self._sender.tell({"type": "pong", "seq": message.seq})
                continue
            try:
                self._inbox.put(message)
            except UserError as full:
                await self._sender.refuse(str(full), message.seq, message.type)

    def _message(self, text: str | None) -> Message:
        if text is None:
            raise BadMessage("message: found bytes, expected JSON text")
        if len(text) > (most := self._house.config.message_bytes):
            raise BadMessage(f"message: found {len(text)} characters, expected at most {most}")
        return read_message(text)

    # --- out -------------------------------------------------------------------------------------------------

    async def _answer_all(self) -> None:
        while self._goodbye is None:
            await self._answer(await self._inbox.get())

    async def _answer(self, message: Message) -> None:
        try:
            await self._do(message)
        except Busy as busy:
            self.dismiss(FULL, str(busy))
        except UserError as error:
            await self._sender.refuse(str(error), message.seq, message.type)
        except Exception:
            LOG.exception("a message of type %s could not be answered", message.type)
            await self._sender.refuse(
                "the server made a mistake; its log says which", message.seq, message.type
            )

    async def _do(self, message: Message) -> None:
        if isinstance(message, Open | Resume):
            self.gameless_since_s = math.inf
            try:
                await (self._open(message) if isinstance(message, Open) else self._resume(message))
            finally:
                self.gameless_since_s = self._house.lobby.clock()
        elif isinstance(message, NameCode):
            await self._name(message)
        elif isinstance(message, Act | Seek | Look | Beside):
            game = self._own_game()
            self._house.lobby.touch(game)
            await self._play(game, message)
            self._house.lobby.touch(game)

    async def _play(self, game: Session, message: Act | Seek | Look | Beside) -> None:
        if isinstance(message, Act):
            await self._show(game, game.act(message), message.seq)
        elif isinstance(message, Beside):
            shown = await game.set_twin(message.on)
            await self._tell_twin(game)
            await self._sender.show(shown, message.seq)
        else:
            moment = Moment(message.branch, message.frame)
            making = game.seek(moment) if isinstance(message, Seek) else game.look(moment)
            await self._show(game, making, message.seq)

    async def _show(self, game: Session, making: Awaitable[Shown], seq: int | None) -> None:
        """Send a picture when it is made: after the branch that it begins, before word that the twin has ended."""
        num_branches, had_twin = len(game.tree), game.has_twin
        shown = await making
        for number in range(num_branches, len(game.tree)):
            await self._sender.tell({"type": "branch", **game.tree.begun(number)})
        await self._sender.show(shown, seq)
        if had_twin and not game.has_twin:
            await self._tell_twin(game)

    async def _open(self, message: Open) -> None:
        if len(message.actions) > (most := self._house.config.frames):
            raise UserError(
                f"actions: found {len(message.actions)}, expected at most {most}, the frames that a game keeps"
            )
        house = self._house
        for action in message.actions:
            expect_move(house.offer, action, message.terms)
        self.game = game = await house.lobby.open(
            lambda: beginning_of(message, house.offer, house.uploads, house.readers), self.game
        )
        await self._introduce(game, message.seq, is_resumed=False)
        for action in message.actions:
            while (aside := self._inbox.take_aside()) is not None:
                await self._answer(aside)
            if len(self._inbox):  # the player goes on by themselves
                break
            house.lobby.touch(game)
            act = Act(type="act", action=action, terms=message.terms)
            await self._show(game, game.act(act), None)

    async def _resume(self, message: Resume) -> None:
        """Take a game over. Nothing is waited for on the way, so that the last of many who do it has it alone."""
        game = self._house.lobby.find(message.session)
        before, self.game = self.game, game
        self._house.lobby.join(game)
        for talk in self._house.talks:
            if talk.game is game and talk is not self:
                talk.game = None
                talk.dismiss(ELSEWHERE, "this game goes on in another window")
        if before is not None and before is not game:
            await self._house.lobby.give_up(before)
        await self._introduce(game, message.seq, is_resumed=True)

    async def _introduce(self, game: Session, seq: int | None, *, is_resumed: bool) -> None:
        await self._sender.tell({"type": "session", "token": game.token, "resumed": is_resumed})
        await self._sender.tell(
            {
                "type": "tree",
                "branches": game.tree.describe(),
                "cursor": {"branch": game.cursor.branch, "frame": game.cursor.frame},
                "seed": game.begun.seed,
                "start": game.begun.told,
            }
        )
        await self._sender.tell(names_of(self._house.offer))
        await self._show(game, game.show(), seq)
        if is_resumed:  # it may have ended while nobody was there to be told
            await self._tell_twin(game)

    async def _tell_twin(self, game: Session) -> None:
        await self._sender.tell({"type": "twin", "on": game.has_twin})

    async def _name(self, message: NameCode) -> None:
        offer = self._house.offer
        await asyncio.to_thread(offer.names.set, message.code, message.name)
        names = names_of(offer)
        for talk in self._house.talks - {self}:
            talk.tell_soon(names)
        await self._sender.tell(names)

    def _own_game(self) -> Session:
        if self.game is None:
            raise UserError("no game has been begun on this socket; open one, or resume one")
        if not self._house.lobby.holds(self.game):
            raise UserError("this game was given up; begin a new one")
        return self.game


def names_of(offer: Offer) -> dict[str, Any]:
    """The message that tells what codes are called."""
    return {"type": "names", "names": {str(code): name for code, name in offer.names.get().items()}}


async def end_idle(house: House) -> None:
    """Give up the games in which nothing happens, and send away who looks at them, or never began one."""
    idle_s = house.config.idle_s
    given_up = await house.lobby.give_up_idle()
    for talk in house.talks:
        if talk.game is None:
            if house.lobby.clock() - talk.gameless_since_s > idle_s:
                talk.dismiss(IDLE, f"no game was begun for {idle_s:g} s")
        elif any(talk.game is game for game in given_up):
            talk.dismiss(IDLE, f"nothing happened for {idle_s:g} s, so this game was given up")
