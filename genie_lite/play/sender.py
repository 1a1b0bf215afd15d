"""The sending side of a socket: everything goes out within STALLED_S, or the socket is over."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from genie_lite.play.protocol import FULL, STALLED_S, Shown

LONGEST_REASON = 120  # bytes that fit into the end of a socket


class Sender:
    """Sends, as long as there is somebody to read it; then it does nothing. Nothing is raised in either case.

    over: set when nobody is there any more; whoever serves the socket waits for that, too.
    """

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self.over = asyncio.Event()
        self._telling: set[asyncio.Task[None]] = set()

    async def accept(self) -> None:
        """Let the socket in."""
        await self._within(self._socket.accept)

    async def tell(self, message: dict[str, Any]) -> None:
        """Send text."""
        text = json.dumps(message)
        await self._within(lambda: self._socket.send_text(text))

    def tell_soon(self, message: dict[str, Any]) -> None:
        """Send text, and let nobody wait for it."""
        telling = asyncio.create_task(self.tell(message))
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)

    async def refuse(self, reason: str, seq: int | None = None, of: str | None = None) -> None:
        """Say in one line why something is not done. of, seq: type and number of the message, if known."""
        await self.tell({"type": "refused", "reason": " ".join(reason.split()), "seq": seq, "of": of})

    async def show(self, shown: Shown, seq: int | None) -> None:
        """Send a picture, in answer to the message of this number."""
        data = shown.packed(seq)
        await self._within(lambda: self._socket.send_bytes(data))

    async def close(self, code: int, reason: str) -> None:
        """Say why, and close the socket."""
        if code == FULL:
            await self.tell({"type": "busy", "reason": reason})
        else:
            await self.refuse(reason)
        short = reason.encode()[:LONGEST_REASON].decode(errors="ignore")
        await self._within(lambda: self._socket.close(code, short))

    async def _within(self, send: Callable[[], Awaitable[None]]) -> None:
        if self.over.is_set():
            return
        try:
            async with asyncio.timeout(STALLED_S):
                await send()
        except (WebSocketDisconnect, RuntimeError, OSError):  # gone, closed, or (TimeoutError) stalled
            self.over.set()
