"""The real engine beside the dream: the same level, the same actions, what really happens.

Every twin has an engine of its own, in a process of its own where the game needs one, so that a player who stays
long or an engine that dies concerns nobody else. There are so many at once and no more.
"""

import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType

import numpy as np
from jaxtyping import UInt8

from genie_lite.controls import Controls
from genie_lite.data.video.picture import Resize, fit_pixels
from genie_lite.envs.games import game_of
from genie_lite.envs.procgen import MAX_LEVEL
from genie_lite.envs.protocol import Env
from genie_lite.envs.setup import INSTALL_COMMAND, engine_python
from genie_lite.errors import UserError

MOST_TWINS = 16
NEED_NO_ENGINE = ("toy",)
_DONE = struct.Struct("<?")  # stands before what the engine keeps

Fit = Callable[[np.ndarray], np.ndarray]  # a frame of the engine -> one of the world's size


class Twin:
    """One player's engine. Not for two threads at once.

    Actions are those of the game, in the order of its recording's labels. An episode that has ended stays at its last
    frame, whatever is done.

    level: that it plays. frame: uint8 `h w c`, as it stands. done: whether the episode has ended.
    """

    def __init__(self, env: Env, level: int, fit: Fit, held: ExitStack) -> None:
        """Start a level.

        Args:
            env: of one stream.
            level: to play.
            fit: brings the engine's frames to the world's size.
            held: ends the engine; it is the twin's as soon as the level has started.
        """
        self._env, self._fit = env, fit
        self.level = level
        self.frame: np.ndarray
        self.done: bool
        self.retrace([])
        self._held = held.pop_all()

    def step(self, action: int) -> UInt8[np.ndarray, "h w c"]:
        """Take an action; returns the frame it led to.

        Raises:
            UserError: no such action, or the engine has died.
        """
        if not 0 <= action < self._env.num_actions:
            raise UserError(f"action: found {action}, expected 0 to {self._env.num_actions - 1}")
        with _told():
            step = self._env.step(np.array([action]))
        self.frame, self.done = self._fit(step.frames[0]), bool(step.done[0])
        return self.frame

    def save(self) -> bytes:
        """Where it stands, to be restored. Engines trust what they restore: never take it from anybody else."""
        with _told():
            return _DONE.pack(self.done) + self._env.save()[0]

    def restore(self, state: bytes) -> UInt8[np.ndarray, "h w c"]:
        """Stand where some twin of this game stood when it was saved; returns that frame."""
        with _told():
            self.frame = self._fit(self._env.restore([state[_DONE.size :]])[0])
        (self.done,) = _DONE.unpack_from(state)
        return self.frame

    def retrace(self, actions: Sequence[int]) -> UInt8[np.ndarray, "h w c"]:
        """Begin the level again and take these actions; returns the last frame. Engines are deterministic."""
        with _told():
            self.frame, self.done = self._fit(self._env.reset([self.level])[0]), False
        for action in actions:
            self.step(action)
        return self.frame

    def close(self) -> None:
        """End the engine; may be called twice."""
        self._held.close()

    def __enter__(self) -> "Twin":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Twins:
    """Opens the twins of one game, at most so many at once. Safe from several threads."""

    def __init__(
        self,
        game: str,
        actions: Sequence[str],
        frame_hw: tuple[int, int],
        resize: Resize,
        most: int = MOST_TWINS,
    ) -> None:
        """Remember what is opened; no engine starts.

        Args:
            game: name of it.
            actions: what the world's choices are called; the engine must call its own the same.
            frame_hw: of the world's frames; the engine's are brought to this size.
            resize: how.
            most: twins at once.
        """
        self.game, self._actions, self._most = game, tuple(actions), most
        self._frame_hw = frame_hw
        self._resize: Resize = resize
        self._free = threading.Semaphore(most)

    def open(self, level: int) -> Twin:
        """A twin at the beginning of a level; close it.

        Raises:
            UserError: no such level, too many twins, an engine that cannot be started, or one with other actions.
        """
        if not 0 <= level <= MAX_LEVEL:
            raise UserError(f"level: found {level}, expected 0 to {MAX_LEVEL}")
        if not self._free.acquire(blocking=False):
            raise UserError(
                f"{self.game}: {self._most} real games are being played, which is as many as there may be; try again "
                "when one of them has ended"
            )
        with ExitStack() as held:
            held.callback(self._free.release)
            env = game_of(self.game).open(1)
            held.callback(env.close)
            if env.action_names != self._actions:
                raise UserError(
                    f"{self.game}: the engine's actions are {', '.join(env.action_names)}, those of the world "
                    f"{', '.join(self._actions)}; the two cannot be played together"
                )
            return Twin(env, level, self._fit, held)

    def _fit(self, frame: np.ndarray) -> np.ndarray:
        return fit_pixels(frame[None], self._frame_hw[0], self._resize)[
            0
        ].copy()  # an engine may use its memory again


def why_no_twin(game: str, rate_hz: float, controls: Controls) -> str | None:
    """Why the real game cannot be played beside a world; None if it can, as far as is seen without starting it."""
    own_hz = game_of(game).rate_hz
    if controls.kind != "discrete":
        return f"no action of {game} is known of the world's codes; run genie-lite adapt"
    if rate_hz != own_hz:
        return f"the world shows {rate_hz:g} frames per second, {game} {own_hz:g}"
    if game not in NEED_NO_ENGINE and not engine_python().is_file():
        return f"the engine of {game} is not installed; `{INSTALL_COMMAND}` does that"
    return None


@contextmanager
def _told() -> Iterator[None]:
    """An engine that has died is told in a line."""
    try:
        yield
    except RuntimeError as error:
        raise UserError(f"the real game has ended ({str(error).splitlines()[0]}); begin it again") from error
