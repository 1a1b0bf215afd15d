"""Streams of a world side by side: all that both environments know, but for the interface.

A stream's world is stream 0 of a seed of its own, so what it shows is a function of run, start, codes and seed alone:
the same by itself as beside others, and the same as `genie-lite rollout` shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import torch
from gymnasium.error import ResetNeeded
from jaxtyping import Bool, Float, Int, UInt8
from numpy import ndarray
from torch import Tensor

from genie_lite.data.loading.clip import to_pixels
from genie_lite.data.loading.loader import to_frames
from genie_lite.errors import UserError
from genie_lite.models.world import NO_CODE, State
from genie_lite.rl.dream import Dream
from genie_lite.rl.moment import Moment

MAX_SEED = 2**63


@dataclass(frozen=True)
class Outcome:
    """What a step led to, per stream that took it."""

    reward: Float[ndarray, " s"]
    terminated: Bool[ndarray, " s"]
    truncated: Bool[ndarray, " s"]


class Streams:
    """So many streams of one world, each at its own moment of its own episode."""

    def __init__(self, dream: Dream, num: int, max_frames: int | None) -> None:
        """Prepare streams; none has begun.

        Args:
            dream: what they share.
            num: of them.
            max_frames: of an episode, after which it is truncated; None never.

        Raises:
            UserError: less than one frame.
        """
        if max_frames is not None and max_frames < 1:
            raise UserError(f"max_frames: found {max_frames}, expected at least 1, or None")
        self._dream, self._max_frames = dream, max_frames
        self._state: State | None = None
        self.frames: UInt8[ndarray, "b h w c"] = np.zeros((num, *dream.observation_space.shape), np.uint8)
        self.age: Int[ndarray, " b"] = np.zeros(num, np.int64)  # frames since the start
        self.code: Int[ndarray, " b"] = np.full(num, NO_CODE, np.int64)  # that led to the frame
        # Of controls that are vectors; some are read beside the one before.
        width = len(dream.controls.names) if dream.controls.kind == "continuous" else 0
        self.action: Float[ndarray, "b a"] = np.full((num, width), np.nan, np.float32)
        self.seed: Int[ndarray, " b"] = np.zeros(num, np.int64)  # of the stream's world
        self.start: list[str] = [""] * num
        self.is_over: Bool[ndarray, " b"] = np.zeros(num, bool)

    def __len__(self) -> int:
        return len(self.age)

    def numbers(self, given: Sequence[int] | None) -> list[int]:
        """The streams that a user names; all if none are named.

        Raises:
            UserError: one that there is not, or one twice, or none.
        """
        found = list(range(len(self)) if given is None else given)
        are_whole = all(isinstance(each, Integral) and not isinstance(each, bool) for each in found)
        if not found or not are_whole or len({*found} & {*range(len(self))}) != len(found):
            raise UserError(f"streams: found {found}, expected different numbers from 0 to {len(self) - 1}")
        return [int(each) for each in found]

    def begin(
        self,
        which: Sequence[int],
        generators: Sequence[np.random.Generator],
        asked: Sequence[object],
    ) -> None:
        """Begin episodes.

        Args:
            which: streams, all of them the first time.
            generators: one for each, which draws where it starts and its world's seed.
            asked: the start that the user asked for, for each; None draws one.

        Raises:
            UserError: a start that is none.
        """
        if self._state is None and len(which) < len(self):
            raise ResetNeeded("some of the streams are reset before any has begun; reset all of them first")
        starts = [
            self._dream.start(given, generator) for given, generator in zip(asked, generators, strict=True)
        ]
        seeds = [int(generator.integers(MAX_SEED - 1)) for generator in generators]
        self._put(which, self._world_from([start.frames for start in starts], seeds))
        for stream, start, seed in zip(which, starts, seeds, strict=True):
            self.frames[stream], self.start[stream], self.seed[stream] = start.frames[-1], start.label, seed
        self.age[which], self.code[which], self.is_over[which] = 0, NO_CODE, False
        self.action[which] = np.nan

    def step(self, which: Sequence[int], action: ndarray) -> Outcome:
        """Take one action in each of some streams, in one step of the world.

        Raises:
            ResetNeeded: one of them has not begun, or is over.
            UserError: an action that is none.
        """
        if self._state is None or self.is_over[which].any():
            raise ResetNeeded("an episode has not begun, or is over; call reset() before step()")
        code = self._codes(which, action)
        state, shown = self._dream.world.step(self._of(which), code.to(self._dream.world.device))
        self._put(which, state)
        before, after = self.frames[which], to_pixels(shown)
        reward, ended = self._dream.scorer(before, after)
        self.frames[which], self.code[which] = after, code.numpy()
        self.age[which] += 1
        if self._dream.controls.kind == "continuous":
            self.action[which] = action
        truncated = np.zeros(len(which), bool)
        if self._max_frames is not None:
            truncated = self.age[which] >= self._max_frames
        self.is_over[which] = ended | truncated
        return Outcome(reward, ended, truncated)

    def info(self, stream: int) -> dict[str, object]:
        """Of a stream's newest frame: the code that led to it, its number, where the episode started, its seed."""
        return {
            "code": int(self.code[stream]),
            "frame": int(self.age[stream]),
            "start": self.start[stream],
            "seed": int(self.seed[stream]),
        }

    def save(self, stream: int, generator: np.random.Generator) -> Moment:
        """A stream as it is now; nothing of it is changed by what comes after."""
        if self._state is None:
            raise ResetNeeded("there is no state before the first reset; call reset() first")
        return Moment(
            state=self._state.of(torch.tensor([stream], device=self._dream.world.device)),
            shown=self.frames[stream].copy(),
            action=self.action[stream].copy(),
            age=int(self.age[stream]),
            code=int(self.code[stream]),
            start=self.start[stream],
            is_over=bool(self.is_over[stream]),
            generator=dict(generator.bit_generator.state),
            weights=dict(self._dream.weights),
        )

    def restore(
        self,
        which: Sequence[int],
        moments: Sequence[Moment | bytes],
        generators: Sequence[np.random.Generator],
    ) -> None:
        """Set streams, and their generators, to moments; see `begin`. Nothing changes unless all can be set.

        Raises:
            UserError: a moment of another world.
        """
        if self._state is None and len(which) < len(self):
            raise ResetNeeded("some of the streams are restored before any has begun; restore all of them")
        found = [self._moment(moment) for moment in moments]
        self._put(which, State.join([moment.state for moment in found]))
        for stream, moment, generator in zip(which, found, generators, strict=True):
            self.frames[stream], self.start[stream] = moment.shown, moment.start
            self.age[stream], self.code[stream], self.action[stream] = moment.age, moment.code, moment.action
            self.seed[stream], self.is_over[stream] = int(moment.state.seed[0]), moment.is_over
            generator.bit_generator.state = moment.generator

    def _moment(self, given: Moment | bytes) -> Moment:
        weights = self._dream.weights
        moment = given if isinstance(given, Moment) else Moment.from_bytes(given, self._dream.world, weights)
        is_alike = (
            moment.action.shape == self.action.shape[1:] and moment.shown.shape == self.frames.shape[1:]
        )
        if not is_alike or dict(moment.weights) != dict(weights):
            raise UserError(f"state: of another world than {self._dream.run}; restore it where it was saved")
        return moment

    def _world_from(self, prompts: Sequence[ndarray], seeds: Sequence[int]) -> State:
        """Streams that begin from given frames, of equally many together."""
        lengths = np.array([len(prompt) for prompt in prompts])
        states, order = [], []
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length).tolist()
            frames = to_frames(np.stack([prompts[row] for row in rows])).to(self._dream.world.device)
            states.append(self._dream.world.reset(frames, [seeds[row] for row in rows], [0] * len(rows)))
            order += rows
        return State.join(states).of(torch.from_numpy(np.argsort(order)).to(self._dream.world.device))

    def _codes(self, which: Sequence[int], action: ndarray) -> Int[Tensor, " s"]:
        controls, space = self._dream.controls, self._dream.action_space
        if controls.kind != "continuous":
            if not all(space.contains(each) for each in action):
                raise UserError(f"action: found {action.tolist()}, expected one of {space} per stream")
            frames = to_frames(self.frames[which]) if controls.reads_frames else None
            return controls.codes_of(torch.as_tensor(action).long(), frames=frames).cpu().long()
        if action.shape != (len(which), len(controls.names)) or not np.isfinite(action).all():
            raise UserError(
                f"action: found {action.tolist()}, expected {len(controls.names)} finite numbers per stream"
            )
        before = torch.from_numpy(self.action[which]) if controls.reads_change else None
        return controls.codes_of(torch.as_tensor(action).float(), before).cpu().long()

    def _of(self, which: Sequence[int]) -> State:
        assert self._state is not None
        if list(which) == list(range(len(self))):
            return self._state
        return self._state.of(torch.tensor(which, device=self._dream.world.device))

    def _put(self, which: Sequence[int], state: State) -> None:
        """Replace the states of some streams."""
        rest = [stream for stream in range(len(self)) if stream not in set(which)]
        order = [*rest, *which]
        whole = State.join([self._of(rest), state]) if rest else state
        if order == sorted(order):
            self._state = whole
        else:
            self._state = whole.of(torch.tensor(np.argsort(order), device=self._dream.world.device))
