"""Many streams of one world as a Gymnasium vector environment: one step of the world moves them all.

    envs = gymnasium.make_vec("genie_lite/World-v0", num_envs=64, run="runs/maze-demo")

Stream i shows what the single environment shows with the same seed, bit for bit. More streams are computed together,
and sooner, with sampling={"micro_batch": …}, which is then to be the same in both.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray

from genie_lite.errors import UserError
from genie_lite.rl.dream import DreamSettings, open_dream
from genie_lite.rl.moment import Moment
from genie_lite.rl.streams import Streams
from genie_lite.rl.world_env import MAX_FRAMES, METADATA, check_options, check_render_mode

OPTIONS = ("start", "reset_mask")

Frames = UInt8[ndarray, "b h w c"]
Flags = Bool[ndarray, " b"]


class WorldVectorEnv(VectorEnv[Frames, ndarray, ndarray]):
    """Streams that share a world. In every mode of autoreset it does what Gymnasium's own vector environment does."""

    def __init__(
        self,
        run: str | Path,
        *,
        num_envs: int | np.integer = 1,
        max_frames: int | None = MAX_FRAMES,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        **settings: Unpack[DreamSettings],
    ) -> None:
        """Load a world.

        Args:
            run: folder of a run.
            num_envs: streams.
            max_frames: of an episode, after which it is truncated; None never.
            max_episode_steps: the same, as Gymnasium calls it; the smaller one counts.
            render_mode: "rgb_array" or None.
            autoreset_mode: what happens when an episode is over, see `gymnasium.vector.AutoresetMode`.
            settings: see `DreamSettings`.

        Raises:
            UserError: no finished run, or settings that it cannot fulfil.
        """
        if num_envs < 1:
            raise UserError(f"num_envs: found {num_envs}, expected at least 1")
        check_render_mode(render_mode)
        limits = [limit for limit in (max_frames, max_episode_steps) if limit is not None]
        self._dream = open_dream(run, settings)
        self.num_envs = int(num_envs)
        self._streams = Streams(self._dream, self.num_envs, min(limits) if limits else None)
        self._seeded = [seeding.np_random() for _ in range(self.num_envs)]
        self._mode = AutoresetMode(autoreset_mode)
        self.render_mode = render_mode
        self.metadata = {
            **METADATA,
            "render_fps": self._dream.config.rate_hz,
            "autoreset_mode": self._mode,
        }
        self.single_observation_space = self._dream.observation_space
        self.single_action_space = self._dream.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Frames, dict[str, Any]]:
        """Begin episodes.

        Args:
            seed: one of each stream, of this episode and of all after it; a single number counts up from the first.
            options: "start" as in the single environment, for all streams or a list with one for each (None draws
                it); "reset_mask", bool `b`, the streams to reset.

        Raises:
            UserError: as many seeds, starts or flags as there are not streams.
        """
        given = check_options(options, OPTIONS)
        which = _which(given.get("reset_mask"), self.num_envs)
        seeds, starts = _seeds(seed, self.num_envs), _starts(given.get("start"), self.num_envs)
        for stream in which:
            if seeds[stream] is not None:
                self._seeded[stream] = seeding.np_random(seeds[stream])
        self._begin(which, [starts[stream] for stream in which])
        return self._streams.frames.copy(), self._infos(which)

    def step(self, actions: ndarray) -> tuple[Frames, Float[ndarray, " b"], Flags, Flags, dict[str, Any]]:
        """Take one action per stream, see `gymnasium.vector.VectorEnv.step`.

        A stream that was over does not act when its mode is NEXT_STEP: it begins anew, with a reward of 0.

        Raises:
            UserError: an action that is none.
            ResetNeeded: a stream has not begun, or is over and has to be reset (DISABLED).
        """
        actions = np.asarray(actions)
        if len(actions) != self.num_envs:
            raise UserError(
                f"actions: found {len(actions)}, expected one for each of {self.num_envs} streams"
            )
        resets = self._mode == AutoresetMode.NEXT_STEP
        over = np.flatnonzero(self._streams.is_over & resets).tolist()
        acting = [stream for stream in range(self.num_envs) if stream not in set(over)]
        rewards = np.zeros(self.num_envs)
        terminated, truncated = (np.zeros(self.num_envs, bool) for _ in range(2))
        if acting:
            out = self._streams.step(acting, actions[acting])
            rewards[acting], terminated[acting], truncated[acting] = out.reward, out.terminated, out.truncated
        if over:
            self._begin(over, [None] * len(over))
        infos = self._end_now(terminated | truncated) if self._mode == AutoresetMode.SAME_STEP else {}
        infos = self._infos(range(self.num_envs), infos)
        return self._streams.frames.copy(), rewards, terminated, truncated, infos

    def render(self) -> tuple[ndarray, ...] | None:
        """The newest frame of every stream."""
        return None if self.render_mode is None else tuple(self._streams.frames.copy())

    def save_state(self, streams: Sequence[int] | None = None) -> list[Moment]:
        """Where some streams are, or all; see `WorldEnv.save_state`.

        Raises:
            UserError: a stream that there is not, or one twice.
        """
        which = self._streams.numbers(streams)
        return [self._streams.save(stream, self._generators[stream]) for stream in which]

    def restore_state(
        self, moments: Moment | bytes | Sequence[Moment | bytes], streams: Sequence[int] | None = None
    ) -> tuple[Frames, dict[str, Any]]:
        """Set some streams, or all, to moments, of whichever stream and environment of this world they are.

        Args:
            moments: one for each, or a single one for all, as a search does that tries several actions from there.
            streams: which; all if not given.

        Raises:
            UserError: moments of another world, or not as many as streams; a stream that there is not, or one
                twice. Nothing is changed then.
        """
        which = self._streams.numbers(streams)
        single = isinstance(moments, Moment | bytes)
        several = [moments] * len(which) if single else list(moments)
        if len(several) != len(which):
            raise UserError(f"moments: found {len(several)}, expected one for each of {len(which)} streams")
        self._streams.restore(which, several, [self._generators[stream] for stream in which])
        return self._streams.frames.copy(), self._infos(which)

    @property
    def np_random(self) -> tuple[np.random.Generator, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The generator of every stream, as in Gymnasium's own vector environment."""
        return tuple(self._generators)

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """What the generator of every stream was seeded with, as there."""
        return tuple(seed for _, seed in self._seeded)

    @property
    def _generators(self) -> list[np.random.Generator]:
        return [generator for generator, _ in self._seeded]

    def close_extras(self, **kwargs: Any) -> None:
        """Stop the game's engine, if one was started."""
        self._dream.starts.close()

    def _begin(self, which: Sequence[int], asked: Sequence[object]) -> None:
        self._streams.begin(which, [self._generators[stream] for stream in which], asked)

    def _end_now(self, over: Flags) -> dict[str, Any]:
        """Begin anew what is over; what it ended with goes into the infos."""
        infos: dict[str, Any] = {}
        which = np.flatnonzero(over).tolist()
        for stream in which:
            final = {
                "final_obs": self._streams.frames[stream].copy(),
                "final_info": self._streams.info(stream),
            }
            infos = self._add_info(infos, final, stream)
        if which:
            self._begin(which, [None] * len(which))
        return infos

    def _infos(self, which: Sequence[int], infos: dict[str, Any] | None = None) -> dict[str, Any]:
        infos = infos or {}
        for stream in which:
            infos = self._add_info(infos, self._streams.info(stream), stream)
        return infos


def _which(mask: object, num: int) -> list[int]:
    if mask is None:
        return list(range(num))
    if not isinstance(mask, ndarray) or mask.shape != (num,) or mask.dtype != bool or not mask.any():
        raise UserError(f"reset_mask: found {mask!r}, expected an array of {num} bools, one of them true")
    return np.flatnonzero(mask).tolist()


def _seeds(seed: int | Sequence[int | None] | None, num: int) -> list[int | None]:
    if seed is None:
        return [None] * num
    if isinstance(seed, int | np.integer):
        return [int(seed) + stream for stream in range(num)]
    if len(seed) != num:
        raise UserError(f"seed: found {len(seed)}, expected one for each of {num} streams")
    return [None if each is None else int(each) for each in seed]


def _starts(start: object, num: int) -> list[object]:
    if not isinstance(start, list | tuple):
        return [start] * num
    if len(start) != num:
        raise UserError(f"start: found {len(start)}, expected one for each of {num} streams")
    return list(start)
