"""Where episodes begin: shots of a run, levels of its game, or pictures that somebody brought.

train, test        any frame of the shots that the run was trained on, or of those held out
levels[:A:B]       the first frame of each level from A to B - 1 in the real engine; else those that were recorded to
                   train on
PATH, [PATH, …]    image or video files
array              uint8 `h w c` or `t h w c`

A policy learns from training starts; test starts and levels that were not recorded are there to measure it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.data.shards.shards import Sample
from genie_lite.data.video.picture import fit_pixels
from genie_lite.envs.games import game_of
from genie_lite.envs.protocol import Env
from genie_lite.errors import UserError
from genie_lite.folder import shards_of
from genie_lite.recipe import Recipe
from genie_lite.steer import first_frames

SHOTS = 1024  # of a split, at most, that are begun from: some 30 MB of video
SPLITS = ("test", "train")
LEVELS = "levels"

Given = int | str | Path | ndarray  # a start that is asked for: its number, a file, or the frames themselves


@dataclass(frozen=True)
class Start:
    """Frames to begin from, at the run's size, and what they are called."""

    frames: UInt8[ndarray, "t h w c"]
    label: str


@runtime_checkable
class Starts(Protocol):
    """Starts to choose from."""

    def __len__(self) -> int: ...

    def at(self, index: int) -> Start:
        """One of them, from its beginning."""
        ...

    def draw(self, generator: np.random.Generator) -> Start:
        """Any of them, any moment of it."""
        ...

    def close(self) -> None:
        """Give back what is held; may be called twice."""
        ...


def open_starts(recipe: Recipe, config: IngestConfig, given: object, num: int) -> Starts:
    """What a user means by `starts`, see above.

    Args:
        recipe: of the run.
        config: size and rate of the run's frames.
        given: by the user.
        num: frames to begin from, at least 1; an image, an array or a level may have fewer.

    Raises:
        UserError: nothing that one could begin from.
    """
    if isinstance(given, str) and given in SPLITS:
        return Shots(recipe, given, num)
    if isinstance(given, str) and given.partition(":")[0] == LEVELS:
        return Levels(recipe, config, given)
    several = given if isinstance(given, list | tuple) else [given]
    if not several:
        raise UserError("starts: found an empty list, expected at least one")
    return Pictures([picture_of(each, config, "starts", num) for each in several])


def start_of(given: object, starts: Starts, config: IngestConfig, num: int) -> Start:
    """What a user means by the option `start` of a reset.

    Raises:
        UserError: a number that no start has, or nothing that one could begin from.
    """
    if isinstance(given, int | np.integer) and not isinstance(given, bool):
        if not 0 <= given < len(starts):
            raise UserError(f"start: found {given}, expected 0 to {len(starts) - 1}")
        return starts.at(int(given))
    return picture_of(given, config, "start", num)


class Shots:
    """Shots of a split. A drawn start has a next frame wherever the shot is long enough."""

    def __init__(self, recipe: Recipe, split: str, num: int) -> None:
        shards = shards_of(recipe)
        self._num = num
        self._shots = [shot for shot in shards.spread(split, SHOTS) if shot.meta["num_frames"] >= num]
        if not self._shots:
            other = "train" if split == "test" else "test"
            raise UserError(
                f"starts: {recipe.folder} has no {split} shot of {num} frames or more; give starts={other!r}, or an "
                "image or a video"
            )

    def __len__(self) -> int:
        return len(self._shots)

    def at(self, index: int) -> Start:
        """The shot from its first frame on."""
        return self._cut(self._shots[index], 0)

    def draw(self, generator: np.random.Generator) -> Start:
        """Any moment of any shot, each shot equally often."""
        shot = self._shots[int(generator.integers(len(self._shots)))]
        return self._cut(shot, int(generator.integers(max(1, shot.meta["num_frames"] - self._num))))

    def close(self) -> None:
        """Nothing is held."""

    def _cut(self, shot: Sample, first: int) -> Start:
        frames = shot.frames(list(range(first, first + self._num)))
        return Start(np.ascontiguousarray(frames), f"{shot.meta['split']}:{shot.key}@{first}")


class Levels:
    """Levels of the run's game, from the real engine, which is started when the first is asked for."""

    def __init__(self, recipe: Recipe, config: IngestConfig, given: str) -> None:
        if recipe.record is None:
            raise UserError(
                f"starts: {given!r} needs a run that recorded a game, {recipe.folder} did not; expected 'test', "
                "'train', an image or a video"
            )
        self._levels = _levels(recipe, given)
        self._open = partial(game_of(recipe.record.game).open, 1)
        self._env: Env | None = None
        self._fitted = partial(fit_pixels, size_px=config.size_px, resize=config.resize)

    def __len__(self) -> int:
        return len(self._levels)

    def at(self, index: int) -> Start:
        """The first frame of a level."""
        if self._env is None:
            self._env = self._open()
        level = self._levels[index]
        return Start(self._fitted(self._env.reset([level])), f"level:{level}")

    def draw(self, generator: np.random.Generator) -> Start:
        """Any level."""
        return self.at(int(generator.integers(len(self._levels))))

    def close(self) -> None:
        """Stop the engine."""
        if self._env is not None:
            self._env.close()
        self._env = None


class Pictures:
    """Starts that lie in memory."""

    def __init__(self, starts: Sequence[Start]) -> None:
        self._starts = starts

    def __len__(self) -> int:
        return len(self._starts)

    def at(self, index: int) -> Start:
        """One of them."""
        return self._starts[index]

    def draw(self, generator: np.random.Generator) -> Start:
        """Any of them."""
        return self._starts[int(generator.integers(len(self._starts)))]

    def close(self) -> None:
        """Nothing is held."""


def _levels(recipe: Recipe, given: str) -> range:
    _, *bounds = given.split(":")
    if not bounds and recipe.record is not None:
        return range(*recipe.record.levels)
    try:
        first, end = (int(bound) for bound in bounds)
    except ValueError:
        first = end = -1
    if not 0 <= first < end:
        raise UserError(f"starts: found {given!r}, expected 'levels' or 'levels:A:B' with 0 <= A < B")
    return range(first, end)


def picture_of(given: object, config: IngestConfig, name: str, num: int = 1) -> Start:
    """What a file shows, or frames that are given, at the run's size.

    Args:
        given: an image or a video file, or uint8 frames `h w c` or `t h w c`.
        config: size and rate of the run's frames.
        name: what the user calls it, for messages.
        num: first frames of a video.

    Raises:
        UserError: neither.
    """
    if isinstance(given, str | Path):
        return Start(first_frames(Path(given), config, num), Path(given).name)
    if not isinstance(given, ndarray):
        raise UserError(
            f"{name}: found {given!r}, expected an image or a video file, or frames as a uint8 array"
        )
    frames = given[None] if given.ndim == 3 else given
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise UserError(
            f"{name}: found frames {list(given.shape)} of {given.dtype}, expected uint8 [height, width, 3] or "
            "[frames, height, width, 3]"
        )
    return Start(fit_pixels(frames, config.size_px, config.resize), "array")
