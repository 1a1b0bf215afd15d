"""One player's game on the server: the tree, the cursor, and where the world stands there.

What a game shows is a function of the run, its start, its codes and its seed alone: it is always stream 0 of its
own seed, whoever else plays, and the same as `genie_lite.steer.play` shows of the same ride.
"""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import UInt8
from numpy import ndarray

from genie_lite.data.loading.clip import to_frames
from genie_lite.errors import UserError
from genie_lite.models.world import State
from genie_lite.play.batcher import Engine, stream_of
from genie_lite.play.config import PlayConfig
from genie_lite.play.ghost import Ghost, led_ghost
from genie_lite.play.offer import Offer
from genie_lite.play.pictures import Kept
from genie_lite.play.protocol import Act, Shown, Terms
from genie_lite.play.tree import Action, Moment, Tree
from genie_lite.steer import Ride

# Engines of real games are started and ended here, where no other work makes them wait, whoever stops waiting.
_OPENING = ThreadPoolExecutor(4, "twin-open")
_CLOSING = ThreadPoolExecutor(4, "twin-close")
FORESIGHT_S = 0.2  # longer than between two moments of a timeline that is dragged

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Beginning:
    """What a game begins from. told: the start as the page named it; level: of the real game, where it is one's."""

    prompt: UInt8[ndarray, "t h w c"]
    seed: int
    told: dict[str, Any]
    level: int | None = None


class Session:
    """A game. Its coroutines wait for each other; all of them run on the server's one loop.

    token: by which it is resumed; nobody can guess it. cursor: where the next act goes on from.
    """

    def __init__(
        self,
        token: str,
        offer: Offer,
        engine: Engine,
        begun: Beginning,
        kept: Kept,
        state: State,
        config: PlayConfig,
    ):
        world, controls = offer.world, offer.controls
        num_components = len(controls.names) if controls.kind == "continuous" else None
        self.token, self.begun = token, begun
        self.cursor = Moment(0, 0)
        self.tree = Tree(
            world.tokenizer.num_tokens,
            world.dynamics.mask_token,
            num_components,
            config.frames,
            config.branches,
        )
        self._offer, self._engine, self._kept = offer, engine, kept
        # The last state that was drawn or recalled; of other moments it is recalled.
        self._stands: tuple[Moment, State] | None = self.cursor, state
        self._foreseeing: asyncio.Task[None] | None = None
        self._is_closed = False
        self._closing: asyncio.Task[None] | None = None
        self._ghost: Ghost | None = None
        self._turn = asyncio.Lock()

    @property
    def has_twin(self) -> bool:
        """Whether the real engine is shown beside the world."""
        return self._ghost is not None

    async def act(self, wanted: Act) -> Shown:
        """Go one frame on from the cursor; from a moment that is not its branch's end, a new branch begins.

        Raises:
            UserError: no such action, code or policy, or no room for another frame.
        """
        async with self._my_turn():
            since_s, cursor = time.perf_counter(), self.cursor
            self.tree.expect_room(cursor)
            choose = self._choice(wanted)
            if wanted.driver is not None:
                await asyncio.to_thread(self._offer.policies[wanted.driver].load)
            took: list[tuple[int, Action]] = []

            def prepare() -> tuple[State, int]:
                took.append(choose())
                return self._state_at(cursor), took[0][0]

            drawn = await _answer(self._engine.step(prepare))
            code, action = took[0]
            self.cursor = self.tree.append(cursor, code, drawn.tokens, action)
            self._stands = self.cursor, drawn.state
            return await self._shown(drawn.picture, since_s)

    async def seek(self, moment: Moment) -> Shown:
        """Move the cursor. Raises UserError: no such moment."""
        async with self._my_turn():
            since_s = time.perf_counter()
            picture = await self._picture(moment)
            self.cursor = moment
            self._foreseeing = asyncio.create_task(self._foresee(moment))
            return await self._shown(picture, since_s)

    async def look(self, moment: Moment) -> Shown:
        """A frame, without moving. Raises UserError: no such moment."""
        async with self._my_turn():
            since_s = time.perf_counter()
            picture = await self._picture(moment)
            return Shown("look", moment, *self.tree.led_to(moment), picture, _ms(since_s))

    async def show(self) -> Shown:
        """The frame at the cursor."""
        return await self.seek(self.cursor)

    async def set_twin(self, is_on: bool) -> Shown:
        """Show the real engine beside the world, or no more; returns the frame at the cursor, with it or without.

        Raises:
            UserError: the run or this start has none, or codes led here.
        """
        async with self._my_turn():
            since_s = time.perf_counter()
            if not is_on:
                await self._drop_twin()
            elif self._ghost is None:
                self._ghost = await self._new_ghost()
            return await self._shown(await self._picture(self.cursor), since_s)

    def ride_to(self, moment: Moment) -> Ride:
        """What leads to a moment that there is."""
        return Ride(self.begun.prompt, self.tree.codes(moment), self.begun.seed)

    def end(self, branch: int) -> Moment:
        """The last moment of a branch. Raises UserError: no such branch."""
        self.tree.expect(Moment(branch, 0))
        return self.tree.end(branch)

    def film(self, moment: Moment) -> Iterator[UInt8[ndarray, "h w c"]]:
        """Everything that was shown up to a moment, frame 0 first. To be gone through on the engine's thread."""
        return self._kept.film(self.tree, moment)

    async def close(self) -> None:
        """Give back what is held; whatever is asked from now on is refused."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)  # it goes on if nobody waits for it any more

    async def _close(self) -> None:
        async with self._my_turn():
            self._is_closed = True
            self._stands = None
            await self._drop_twin()

    @contextlib.asynccontextmanager
    async def _my_turn(self) -> AsyncIterator[None]:
        async with self._turn:
            if self._is_closed:
                raise UserError("this game was given up; begin a new one")
            if self._foreseeing is not None:
                self._foreseeing.cancel()
            yield

    # --- what leads on ---------------------------------------------------------------------------------------

    def _choice(self, wanted: Act) -> Callable[[], tuple[int, Action]]:
        """What gives the code and the action, on the engine's thread; what is wrong with them is told before."""
        if (wanted.action is None) == (wanted.driver is None):
            raise UserError("act: expected an action, or null and a driver")
        if wanted.driver is not None:
            return self._driven(wanted.driver)
        if wanted.terms == "code" and self._ghost is not None:
            raise UserError(
                "code: the real game beside the world takes actions only; turn it off to play in codes"
            )
        action = wanted.action
        expect_move(self._offer, action, wanted.terms)
        if wanted.terms == "code":
            assert isinstance(action, int)
            return lambda: (action, None)
        cursor = self.cursor
        return lambda: (self._code_of(action, cursor), action)

    def _driven(self, name: str) -> Callable[[], tuple[int, Action]]:
        driver = self._offer.policies.get(name)
        if driver is None:
            known = ", ".join(self._offer.policies) or "none"
            raise UserError(f"driver: found '{name[:40]}', expected one of: {known}")
        cursor = self.cursor

        def choose() -> tuple[int, Action]:
            first = max(0, cursor.frame + 1 - driver.context)
            film = list(self._kept.film(self.tree, cursor, first))
            before = self.begun.prompt[:-1] if first == 0 else self.begun.prompt[:0]
            frames = np.stack([*before, *film])[-driver.context :]
            chosen = driver(frames[None], _generator(self.begun.seed, cursor.frame))[0]
            action = chosen.tolist() if chosen.ndim else int(chosen)
            return self._code_of(action, cursor), action

        return choose

    def _code_of(self, action: Action, at: Moment) -> int:
        """The code of an action at a moment, on the engine's thread."""
        controls, before = self._offer.controls, self.tree.led_to(at)[1]
        last = torch.tensor([before]) if isinstance(before, list) else None
        frames = to_frames(self._kept.picture(self.tree, at)[None]) if controls.reads_frames else None
        return int(controls.codes_of(torch.tensor([action]), last, frames)[0])

    # --- what is shown -------------------------------------------------------------------------------------------

    def _state_at(self, moment: Moment) -> State:
        """Where the world stands at a moment, on the engine's thread."""
        if self._stands is not None and self.tree.owner(self._stands[0]) == self.tree.owner(moment):
            return self._stands[1]
        state = stream_of(self._kept.recall(self.tree, moment), 0)
        if not self._is_closed:
            self._stands = moment, state
        return state

    async def _foresee(self, moment: Moment) -> None:
        """Recall where the world stands at a moment before an act needs it, if the player stays there a little."""
        await asyncio.sleep(FORESIGHT_S)
        if not self._is_closed:
            await _answer(self._engine.do(lambda: self._state_at(moment)))

    async def _picture(self, moment: Moment) -> UInt8[ndarray, "h w c"]:
        self.tree.expect(moment)
        return await _answer(self._engine.do(lambda: self._kept.picture(self.tree, moment)))

    async def _shown(self, picture: UInt8[ndarray, "h w c"], since_s: float) -> Shown:
        """The frame at the cursor, with the real engine's where that can follow."""
        real, is_over = None, False
        if self._ghost is not None:
            try:
                real, is_over = await asyncio.to_thread(self._ghost.show, self.cursor)
            except UserError:
                await self._drop_twin()
        return Shown(
            "frame", self.cursor, *self.tree.led_to(self.cursor), picture, _ms(since_s), real, is_over
        )

    async def _new_ghost(self) -> Ghost:
        """The real engine, led to the cursor."""
        if self.begun.level is None:
            raise UserError("twin: only a game that begins as a level does has the real one beside it")
        opening = _OPENING.submit(
            led_ghost, partial(self._offer.twin, self.begun.level), self.tree, self.cursor
        )
        try:
            return await _answer(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_opened)  # an engine that nobody waits for any more
            raise

    async def _drop_twin(self) -> None:
        ghost, self._ghost = self._ghost, None
        if ghost is not None:
            # Ends it also if nobody waits for that any more.
            await asyncio.shield(asyncio.wrap_future(_CLOSING.submit(ghost.close)))


async def begin(token: str, offer: Offer, engine: Engine, begun: Beginning, config: PlayConfig) -> Session:
    """Make a game's first moment."""
    world = offer.world

    def reset() -> tuple[Kept, State]:
        frames = to_frames(begun.prompt)[None].to(world.device)
        state = stream_of(world.reset(frames, begun.seed, streams=[0]), 0)
        return Kept(world, begun.prompt, state), state

    kept, state = await _answer(engine.do(reset))
    return Session(token, offer, engine, begun, kept, state, config)


def expect_move(offer: Offer, move: Action, terms: Terms) -> None:
    """Complain of an action or a code that this world has not.

    Raises:
        UserError: out of range, or of another kind.
    """
    controls = offer.code_controls if terms == "code" else offer.controls
    if controls.kind != "continuous":
        most = len(controls.names) - 1
        if not isinstance(move, int) or not 0 <= move <= most:
            raise UserError(f"{terms}: found {str(move)[:40]}, expected a whole number from 0 to {most}")
        return
    if not isinstance(move, list) or len(move) != len(controls.names):
        raise UserError(f"action: found {str(move)[:40]}, expected {len(controls.names)} numbers")
    for name, found, low, high in zip(controls.names, move, controls.low, controls.high, strict=True):
        if not low <= found <= high:
            raise UserError(f"action: {name}: found {found:g}, expected {low:g} to {high:g}")


def _close_opened(opening: Future[Ghost]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        _CLOSING.submit(opening.result().close)


async def _answer(future: Future[ResultT]) -> ResultT:
    """Wait for the engine; whoever gives up waiting is not served."""
    return await asyncio.wrap_future(future)


def _generator(seed: int, frame: int) -> torch.Generator:
    """A policy's chances, by the game's seed and the frame it looks at: the same game again goes the same way."""
    digest = hashlib.blake2b(f"{seed} {frame}".encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


def _ms(since_s: float) -> float:
    return 1000 * (time.perf_counter() - since_s)
