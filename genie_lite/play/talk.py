"""One socket: messages in, answers out, in their order; pings are answered as they are read.

A message that makes no sense is refused in one line and changes nothing; too many after each other end the socket.
A socket that breaks leaves its game as it is, to be resumed.
"""

import asyncio
import contextlib
import json
import logging
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from genie_lite.errors import UserError
from genie_lite.play.batcher import Engine
from genie_lite.play.config import PlayConfig
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
    GalleryStart,
    LevelStart,
    Look,
    Message,
    NameCode,
    Open,
    Ping,
    Resume,
    Seek,
    Shown,
    UploadStart,
    read_message,
)
from genie_lite.play.session import Beginning, Session, expect_move
from genie_lite.play.tree import Moment
from genie_lite.play.uploads import Uploads

WAITING = 4  # messages that are read ahead; then the network waits
STALLED_S = 10.0  # what is told in so long to nobody who reads is not told
LONGEST_REASON = 120  # bytes that fit into the end of a socket

LOG = logging.getLogger(__name__)


@dataclass
class House:
    """What all players of a server share.

    films, previews: threads for what takes long, one at a time each, so that players keep theirs. talks: the sockets
    that are open.
    """

    offer: Offer
    config: PlayConfig
    engine: Engine
    lobby: Lobby
    uploads: Uploads
    films: Executor = field(default_factory=lambda: ThreadPoolExecutor(1, "film"))
    previews: Executor = field(default_factory=lambda: ThreadPoolExecutor(1, "preview"))
    talks: "set[Talk]" = field(default_factory=set)


class Talk:
    """The server's end of one socket."""

    def __init__(self, house: House, socket: WebSocket) -> None:
        self._house, self._socket = house, socket
        self._inbox: asyncio.Queue[Message] = asyncio.Queue(WAITING)
        self._num_bad = 0
        self.game: Session | None = None

    async def run(self) -> None:
        """Serve the socket until it ends."""
        await self._socket.accept()
        self._house.talks.add(self)
        answering = asyncio.create_task(self._answer_all())
        reading = asyncio.create_task(self._read_all())
        try:
            await asyncio.wait({answering, reading}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._house.talks.discard(self)
            if self.game is not None:
                self._house.lobby.leave(self.game)
            for task in (answering, reading):
                task.cancel()
            ends = await asyncio.gather(answering, reading, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception) and not self._is_over(end):
                raise end

    async def tell(self, message: dict[str, Any]) -> None:
        """Send text, if there is still somebody to read it: whoever stopped reading keeps nobody else waiting."""
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
            async with asyncio.timeout(STALLED_S):
                await self._socket.send_text(json.dumps(message))

    async def end(self, code: int, reason: str) -> None:
        """Close the socket, with a reason."""
        self.game = None
        await self.tell({"type": "refused", "reason": reason, "seq": None, "of": None})
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
            async with asyncio.timeout(STALLED_S):
                await self._socket.close(code, reason.encode()[:LONGEST_REASON].decode(errors="ignore"))

    def _is_over(self, error: Exception) -> bool:
        """Whether this only says that nobody is there any more."""
        states = (self._socket.client_state, self._socket.application_state)
        return isinstance(error, WebSocketDisconnect) or (
            isinstance(error, RuntimeError) and WebSocketState.DISCONNECTED in states
        )

    # --- in --------------------------------------------------------------------------------------------------

    async def _read_all(self) -> None:
        while True:
            try:
                message = await self._read()
            except BadMessage as bad:
                self._num_bad += 1
                await self._refuse(str(bad), bad.seq, bad.of)
                if self._num_bad >= self._house.config.bad_messages:
                    await self.end(BROKEN, f"{self._num_bad} messages that are none, one after the other")
                    return
                continue
            self._num_bad = 0
            if isinstance(message, Ping):
                await self.tell({"type": "pong", "seq": message.seq})
            else:
                await self._inbox.put(message)

    async def _read(self) -> Message:
        received = await self._socket.receive()
        if received["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(received.get("code", 1005))
        text = received.get("text")
        if text is None:
            raise BadMessage("message: found bytes, expected JSON text")
        if len(text) > (most := self._house.config.message_bytes):
            raise BadMessage(f"message: found {len(text)} characters, expected at most {most}")
        return read_message(text)

    # --- out -------------------------------------------------------------------------------------------------

    async def _answer_all(self) -> None:
        while True:
            message = await self._inbox.get()
            try:
                await self._answer(message)
            except Busy as busy:
                await self.tell({"type": "busy", "reason": str(busy)})
                with contextlib.suppress(WebSocketDisconnect, RuntimeError):
                    await self._socket.close(FULL)
                return
            except UserError as error:
                await self._refuse(str(error), message.seq, message.type)
            except Exception as error:
                if self._is_over(error):
                    raise
                LOG.exception("a message of type %s could not be answered", message.type)
                await self._refuse("the server made a mistake; its log says which", message.seq, message.type)

    async def _answer(self, message: Message) -> None:
        if isinstance(message, Open):
            await self._open(message)
        elif isinstance(message, Resume):
            await self._resume(message)
        elif isinstance(message, NameCode):
            await self._name(message)
        elif isinstance(message, Act | Seek | Look | Beside):
            game = self._own_game()
            self._house.lobby.touch(game)
            await self._play(game, message)
            self._house.lobby.touch(game)

    async def _play(self, game: Session, message: Act | Seek | Look | Beside) -> None:
        if isinstance(message, Act):
            await self._act(game, message)
        elif isinstance(message, Beside):
            shown = await game.set_twin(message.on)
            await self.tell({"type": "twin", "on": game.has_twin})
            await self._send(shown, message.seq)
        else:
            moment = Moment(message.branch, message.frame)
            await self._send(
                await (game.seek(moment) if isinstance(message, Seek) else game.look(moment)), message.seq
            )

    async def _act(self, game: Session, message: Act) -> None:
        num_branches, had_twin = len(game.tree), game.has_twin
        await self._send(await game.act(message), message.seq)
        if len(game.tree) != num_branches:
            await self._tell_tree(game)
        if had_twin and not game.has_twin:
            await self.tell({"type": "twin", "on": False})

    async def _open(self, message: Open) -> None:
        for action in message.actions:
            expect_move(self._house.offer, action, message.terms)
        game = await self._house.lobby.open(lambda: self._beginning(message), self.game)
        self.game = game
        await self._introduce(game, message.seq, is_resumed=False)
        for action in message.actions:
            if not self._inbox.empty():  # the player goes on by themselves
                break
            self._house.lobby.touch(game)
            await self._act(game, Act(type="act", action=action, terms=message.terms))
        if message.actions:
            await self._tell_tree(game)

    async def _resume(self, message: Resume) -> None:
        game = self._house.lobby.find(message.session)
        for talk in list(self._house.talks):
            if talk.game is game and talk is not self:
                await talk.end(ELSEWHERE, "this game goes on in another window")
        if self.game is not None and self.game is not game:
            await self._house.lobby.give_up(self.game)
        self.game = game
        self._house.lobby.join(game)
        await self._introduce(game, message.seq, is_resumed=True)

    async def _introduce(self, game: Session, seq: int | None, *, is_resumed: bool) -> None:
        await self.tell({"type": "session", "token": game.token, "resumed": is_resumed})
        await self._tell_tree(game)
        await self.tell(names_of(self._house.offer))
        await self._send(await game.show(), seq)

    async def _name(self, message: NameCode) -> None:
        offer = self._house.offer
        await asyncio.to_thread(offer.names.set, message.code, message.name)
        await asyncio.gather(*(talk.tell(names_of(offer)) for talk in list(self._house.talks)))

    async def _beginning(self, message: Open) -> Beginning:
        start, offer = message.start, self._house.offer
        if isinstance(start, GalleryStart):
            prompt = await asyncio.to_thread(offer.starts.frames, start.index)
            has_game = offer.game is not None
            level = await asyncio.to_thread(offer.starts.level, start.index) if has_game else None
            return Beginning(prompt, message.seed, start.model_dump(), level)
        if isinstance(start, LevelStart):
            prompt = await asyncio.to_thread(_first_of_level, offer, start.level)
            return Beginning(prompt, message.seed, start.model_dump(), start.level)
        if isinstance(start, UploadStart):
            return Beginning(self._house.uploads.frames(start.id), message.seed, start.model_dump())
        prompt = await self._house.uploads.pixels(start.png)
        return Beginning(prompt, message.seed, {"kind": "pixels"})

    def _own_game(self) -> Session:
        if self.game is None:
            raise UserError("no game has been begun on this socket; open one, or resume one")
        if not self._house.lobby.holds(self.game):
            raise UserError("this game was given up; begin a new one")
        return self.game

    async def _tell_tree(self, game: Session) -> None:
        cursor = {"branch": game.cursor.branch, "frame": game.cursor.frame}
        await self.tell(
            {
                "type": "tree",
                "branches": game.tree.describe(),
                "cursor": cursor,
                "seed": game.begun.seed,
                "start": game.begun.told,
            }
        )

    async def _refuse(self, reason: str, seq: int | None, of: str | None) -> None:
        await self.tell({"type": "refused", "reason": " ".join(reason.split()), "seq": seq, "of": of})

    async def _send(self, shown: Shown, seq: int | None) -> None:
        await self._socket.send_bytes(shown.packed(seq))


def names_of(offer: Offer) -> dict[str, Any]:
    """The message that tells what codes are called."""
    return {"type": "names", "names": {str(code): name for code, name in offer.names.get().items()}}


async def end_idle(house: House) -> None:
    """Give up the games in which nothing happens, and tell who still looks at them."""
    for game in await house.lobby.give_up_idle():
        for talk in list(house.talks):
            if talk.game is game:
                await talk.end(
                    IDLE, f"nothing happened for {house.config.idle_s:g} s, so this game was given up"
                )


def _first_of_level(offer: Offer, level: int) -> Any:
    with offer.twin(level) as twin:
        return twin.frame[None].copy()
