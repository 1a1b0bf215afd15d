"""Games of the Procgen engine, played by a worker process in the engine's own Python.

The engine pins old packages. They stay in an environment of their own (`setup.py` makes it), and this client
speaks to the worker (`procgen_worker.py`) over pipes. The worker goes when this process goes.
"""

import contextlib
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genie_lite.envs import procgen_worker as wire
from genie_lite.envs.protocol import Layout, Step
from genie_lite.envs.setup import INSTALL_COMMAND, PYTHON_VARIABLE, engine_python
from genie_lite.errors import UserError

MAX_LEVEL = 2**31 - 2  # the engine's level seeds are int32 and a range ends one above


class ProcgenEnv:
    """See `Env`. Episodes also end after 500 (Maze) or 1,000 (CoinRun) actions, unsolved.

    Args:
        game: the engine's name of it.
        mode: the engine's `distribution_mode`.
        actions: the game's action names and the engine's number of each.
        num_envs: streams.
        has_grid: whether the levels are mazes, so that `layouts` is known and solved episodes show their end.

    Raises:
        UserError: the engine is not installed, or not usable.
    """

    rate_hz = 10.0

    def __init__(
        self, game: str, mode: str, actions: Mapping[str, int], num_envs: int, *, has_grid: bool = False
    ) -> None:
        self.num_envs = num_envs
        self.shows_end = has_grid
        self.action_names = tuple(actions)
        self.num_actions = len(actions)
        self._key_of = np.array(list(actions.values()), dtype=np.int64)
        self._worker = _Worker({"num_envs": num_envs, "game": game, "mode": mode, "has_grid": has_grid})

    def reset(self, levels: Sequence[int]) -> np.ndarray:
        """Start one level per stream; the worker checks that the engine started exactly these."""
        assert len(levels) == self.num_envs, (len(levels), self.num_envs)
        if not all(0 <= level <= MAX_LEVEL for level in levels):
            raise UserError(f"levels: found {min(levels)} to {max(levels)}, expected 0 to {MAX_LEVEL}")
        return self._worker.ask("reset", levels=np.array(levels, dtype=np.int64))["frames"]

    def step(self, action: np.ndarray) -> Step:
        """Take one action per stream."""
        assert len(action) == self.num_envs, (len(action), self.num_envs)
        reply = self._worker.ask("step", action=self._key_of[action])
        status = reply["status"]
        return Step(reply["frames"], reply["reward"], status != wire.PLAYING, status == wire.SOLVED)

    def rollout(self, actions: np.ndarray, enough: int) -> tuple[np.ndarray, np.ndarray]:
        """Play a row of actions without looking: for planning, ten times as fast as single steps.

        Args:
            actions: integers `t b`.
            enough: stop everything as soon as this many streams are solved.

        Returns:
            num_actions: int `b`, taken until the stream's end or the common one. success: bool `b`.
        """
        reply = self._worker.ask("rollout", {"enough": enough}, action=self._key_of[actions])
        return reply["num_actions"], reply["status"] == wire.SOLVED

    def layouts(self) -> list[Layout]:
        """The maze of each stream; rows count upwards."""
        reply = self._worker.ask("layouts")
        return [
            Layout(free, (int(cell[0]), int(cell[1])), (int(goal[0]), int(goal[1])))
            for free, cell, goal in zip(reply["free"], reply["cell"], reply["goal"], strict=True)
        ]

    def save(self) -> list[bytes]:
        """The state of each stream."""
        return wire.unpack(self._worker.ask("save"))

    def restore(self, states: Sequence[bytes]) -> np.ndarray:
        """Set each stream to a state."""
        assert len(states) == self.num_envs, (len(states), self.num_envs)
        return self._worker.ask("restore", **wire.pack(states))["frames"]

    def close(self) -> None:
        """End the worker."""
        self._worker.close()


class _Worker:
    """The process and the two pipes to it; what it says on standard error is kept for the day it dies."""

    def __init__(self, options: dict[str, Any]) -> None:
        python = engine_python()
        if not python.is_file():
            raise UserError(
                f"game engine: no Python at {python}; install the engine with `{INSTALL_COMMAND}`, "
                f"or set {PYTHON_VARIABLE} to a Python that has procgen-mirror"
            )
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the process)
        # Isolated (-I): a script's own folder would come first on its path, and there is a procgen.py in it.
        self._process = subprocess.Popen(
            [str(python), "-I", str(Path(wire.__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
        )
        try:
            self._exchange(options, {})
        except RuntimeError as error:
            last = str(error).splitlines()[-1]
            raise UserError(
                f"game engine: {python} does not start it ({last}); install it again with `{INSTALL_COMMAND}`"
            ) from error

    def ask(
        self, op: str, fields: Mapping[str, Any] | None = None, **arrays: np.ndarray
    ) -> dict[str, np.ndarray]:
        """One request, one reply."""
        return self._exchange({"op": op, **(fields or {})}, arrays)

    def close(self) -> None:
        """End the process and everything that belongs to it."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):  # a worker that died left something unsent
                pipe.close()
        self._process.wait()
        self._complaints.close()

    def _exchange(self, fields: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._complaints.closed:
            raise RuntimeError("game engine: used after close()")
        requests, replies = self._process.stdin, self._process.stdout
        assert requests is not None
        assert replies is not None
        try:
            wire.write_message(requests, fields, arrays)
            return wire.read_message(replies)[1]
        except (EOFError, BrokenPipeError) as error:
            code = self._process.wait()
            self._complaints.seek(0)
            tail = self._complaints.read().decode(errors="replace").strip()[-2000:]
            self.close()
            raise RuntimeError(f"game engine: the worker ended with code {code}; it said:\n{tail}") from error
