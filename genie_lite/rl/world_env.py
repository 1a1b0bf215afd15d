"""The world of a run as a Gymnasium environment.

    env = gymnasium.make("genie_lite/World-v0", run="runs/maze-demo", reward="learned")
    frame, info = env.reset(seed=7)
    frame, reward, terminated, truncated, info = env.step(action)

Observations are frames, uint8 `h w c`. A seed decides everything that is shown: where the episode starts, and what the
world makes of every action.
"""

from pathlib import Path
from typing import Any, Unpack

import gymnasium
import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from genie_lite.errors import UserError
from genie_lite.rl.dream import DreamSettings, open_dream
from genie_lite.rl.moment import Moment
from genie_lite.rl.streams import Streams

MAX_FRAMES = 200
METADATA: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # of an instance, its run's rate
OPTIONS = ("start",)

Frame = UInt8[ndarray, "h w c"]
Action = int | np.integer | ndarray


class WorldEnv(gymnasium.Env[Frame, Action]):
    """One stream of a world. `reset(options={"start": …})` begins where it is told; see `starts.start_of`."""

    metadata = METADATA

    def __init__(
        self,
        run: str | Path,
        *,
        max_frames: int | None = MAX_FRAMES,
        render_mode: str | None = None,
        **settings: Unpack[DreamSettings],
    ) -> None:
        """Load a world.

        Args:
            run: folder of a run.
            max_frames: of an episode, after which it is truncated; None never.
            render_mode: "rgb_array" or None.
            settings: see `DreamSettings`.

        Raises:
            UserError: no finished run, or settings that it cannot fulfil.
        """
        check_render_mode(render_mode)
        self._dream = open_dream(run, settings)
        self._streams = Streams(self._dream, 1, max_frames)
        self.render_mode = render_mode
        self.metadata = {**METADATA, "render_fps": self._dream.config.rate_hz}
        self.observation_space = self._dream.observation_space
        self.action_space = self._dream.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Frame, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: of this episode, and of all after it that are reset without one.
            options: "start", where to begin: the number of a start, a file, or frames.

        Returns:
            The start's last frame as it was given, and about it: the number of the frame, 0, and of the code that led
            to it, -1; what it started from; and the seed of its world, with which `genie-lite rollout` shows
            the same.
        """
        super().reset(seed=seed)
        asked = check_options(options, OPTIONS).get("start")
        self._streams.begin([0], [self.np_random], [asked])
        return self._shown()

    def step(self, action: Action) -> tuple[Frame, float, bool, bool, dict[str, Any]]:
        """Take one action; see `gymnasium.Env.step`. The info names the code that was taken.

        Raises:
            UserError: an action that is none.
            ResetNeeded: the episode has not begun, or is over.
        """
        out = self._streams.step([0], np.asarray(action)[None])
        frame, info = self._shown()
        return frame, float(out.reward[0]), bool(out.terminated[0]), bool(out.truncated[0]), info

    def render(self) -> Frame | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The newest frame."""
        return None if self.render_mode is None else self._streams.frames[0].copy()

    def save_state(self) -> Moment:
        """Where the episode is: to come back to with `restore_state`, again and again."""
        return self._streams.save(0, self.np_random)

    def restore_state(self, moment: Moment | bytes) -> tuple[Frame, dict[str, Any]]:
        """Go on from a moment that this world was saved at, here or in another process, bit for bit.

        Args:
            moment: from `save_state`, or the bytes of one.

        Raises:
            UserError: of another world, or not one at all.
        """
        self._streams.restore([0], [moment], [self.np_random])
        return self._shown()

    def close(self) -> None:
        """Stop the game's engine, if one was started."""
        self._dream.starts.close()

    def _shown(self) -> tuple[Frame, dict[str, Any]]:
        return self._streams.frames[0].copy(), self._streams.info(0)


def check_options(options: dict[str, Any] | None, known: tuple[str, ...]) -> dict[str, Any]:
    """The options of a reset.

    Raises:
        UserError: one that there is not.
    """
    if unknown := [name for name in options or {} if name not in known]:
        raise UserError(f"options: found {unknown[0]!r}, expected {' or '.join(map(repr, known))}")
    return dict(options or {})


def check_render_mode(mode: str | None) -> None:
    """Refuse a way to render that there is not.

    Raises:
        UserError: it is none.
    """
    if mode not in (None, *METADATA["render_modes"]):
        raise UserError(f"render_mode: found {mode!r}, expected 'rgb_array' or None")
