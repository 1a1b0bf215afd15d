"""All games of a server: begun, found again by their token, and given up when nothing happens in them."""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable

from genie_lite.errors import UserError
from genie_lite.play.batcher import Engine
from genie_lite.play.config import PlayConfig
from genie_lite.play.offer import Offer
from genie_lite.play.session import Beginning, Session, begin

LOG = logging.getLogger(__name__)
CLOSING_S = 10.0  # that anybody waits for a game to be put away; it goes on without them
TOKEN_BYTES = 24  # 192 bits: nobody guesses another player's


class Busy(UserError):
    """There are as many games as may be."""


class Lobby:
    """Games by token. All methods run on the server's one loop."""

    def __init__(
        self, offer: Offer, engine: Engine, config: PlayConfig, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin without games.

        Args:
            offer: what is played.
            engine: that computes it.
            config: the limits.
            clock: in seconds.
        """
        self._offer, self._engine, self._config, self.clock = offer, engine, config, clock
        self._games: dict[str, Session] = {}
        self._seen_s: dict[str, float] = {}
        self._left_s: dict[str, float] = {}  # of those whose player is gone, the longest gone first
        self._beginning = 0
        self._closing: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """Number of games, those that are just being begun among them."""
        return len(self._games) + self._beginning

    async def open(self, prepare: Callable[[], Awaitable[Beginning]], instead_of: Session | None) -> Session:
        """Begin a game.

        Args:
            prepare: makes what it begins from; called when there is room.
            instead_of: a game that is given up as soon as this one has begun, and is there.

        Raises:
            Busy: there is no room for another one.
            UserError: `prepare` complains.
        """
        own = int(instead_of is not None and self.holds(instead_of))
        gone = self._gone_longest() if len(self) - own >= self._config.sessions else None
        if len(self) - own - (gone is not None) >= self._config.sessions:
            raise Busy(
                f"{len(self)} games are being played here, as many as there may be; try again in a while"
            )
        self._beginning += 1
        try:
            if gone is not None:
                await self.give_up(gone)
            token = secrets.token_urlsafe(TOKEN_BYTES)
            game = await begin(token, self._offer, self._engine, await prepare(), self._config)
            self._games[token] = game
        finally:
            self._beginning -= 1
        self.join(game)
        if instead_of is not None:
            await self._replace(instead_of, game)
        return game

    def find(self, token: str) -> Session:
        """The game of a token.

        Raises:
            UserError: there is none, or no more.
        """
        if token not in self._games:
            raise UserError(
                f"no such game; it was given up after {self._config.idle_s:g} s without a move, or the server "
                "was started anew"
            )
        return self._games[token]

    def join(self, game: Session) -> None:
        """Its player is there."""
        self._left_s.pop(game.token, None)
        self.touch(game)

    def leave(self, game: Session) -> None:
        """Its player is gone, and may come back."""
        if self.holds(game):
            self._left_s[game.token] = self.clock()

    def holds(self, game: Session) -> bool:
        """Whether a game is still there."""
        return self._games.get(game.token) is game

    def touch(self, game: Session) -> None:
        """Something happens in a game."""
        if self.holds(game):
            self._seen_s[game.token] = self.clock()

    async def give_up(self, game: Session) -> None:
        """Forget a game and free what it holds. Nobody waits long for that, and whatever fails in it is logged."""
        if self.holds(game):
            closing = self._put_away(game)
            _, late = await asyncio.wait({closing}, timeout=CLOSING_S)
            if late:
                LOG.warning("a game is still being put away after %g s; it goes on", CLOSING_S)

    async def give_up_idle(self) -> list[Session]:
        """Forget the games in which nothing happened for too long; returns them."""
        since_s = self.clock() - self._config.idle_s
        idle = [self._games[token] for token, seen_s in self._seen_s.items() if seen_s < since_s]
        await asyncio.gather(*(self.give_up(game) for game in idle))
        return idle

    async def close(self) -> None:
        """Forget all games."""
        await asyncio.gather(*(self.give_up(game) for game in list(self._games.values())))

    async def _replace(self, old: Session, new: Session) -> None:
        """Give up the old game; if nobody waits for that any more, nobody has been told of the new one either."""
        try:
            await self.give_up(old)
        except asyncio.CancelledError:
            if self.holds(new):
                self._put_away(new)
            raise

    def _put_away(self, game: Session) -> asyncio.Task[None]:
        """Forget a game; what it holds is freed, whether anybody waits for that or not."""
        del self._games[game.token], self._seen_s[game.token]
        self._left_s.pop(game.token, None)
        closing = asyncio.create_task(game.close())
        self._closing.add(closing)
        closing.add_done_callback(self._see_closed)
        return closing

    def _see_closed(self, closing: asyncio.Task[None]) -> None:
        self._closing.discard(closing)
        if not closing.cancelled() and (error := closing.exception()) is not None:
            LOG.error("a game that was given up could not be put away", exc_info=error)

    def _gone_longest(self) -> Session | None:
        """The game whose player has been gone longest, if that is long enough to make room for another."""
        if not self._left_s:
            return None
        token, left_s = next(iter(self._left_s.items()))
        return self._games[token] if self.clock() - left_s > self._config.gone_s else None
