"""What a player has said and nobody has answered yet. Whoever reads it in never waits.

A seek right behind another one takes its place: who drags through time is answered where they are, not where they
were. Any other message that finds as many waiting as may is refused.
"""

import asyncio
from collections import deque

from genie_lite.errors import UserError
from genie_lite.play.protocol import MOST_WAITING, Look, Message, NameCode, Seek

ASIDE = (Look, NameCode)  # what is answered in the middle of a link; all else ends that


class Inbox:
    """Messages in their order. To be used on the server's loop."""

    def __init__(self) -> None:
        self._waiting: deque[Message] = deque()
        self._news = asyncio.Event()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def put(self, message: Message) -> None:
        """Let a message wait for its turn.

        Raises:
            UserError: as many wait as may.
        """
        if self._waiting and isinstance(message, Seek) and isinstance(self._waiting[-1], Seek):
            self._waiting[-1] = message
            return
        if len(self._waiting) >= MOST_WAITING:
            raise UserError(
                f"{message.type}: {MOST_WAITING} messages wait for an answer, as many as may; wait for some"
            )
        self._waiting.append(message)
        self._news.set()

    async def get(self) -> Message:
        """The next message, as soon as there is one."""
        while not self._waiting:
            self._news.clear()
            await self._news.wait()
        return self._waiting.popleft()

    def take_aside(self) -> Message | None:
        """The next message, if there is one that does not end a link which is being played."""
        return self._waiting.popleft() if self._waiting and isinstance(self._waiting[0], ASIDE) else None
