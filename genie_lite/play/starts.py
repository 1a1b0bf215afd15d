"""Frames to begin from: moments of held-out shots, spread over all of them, or pictures that an export brings.

Nothing is read before it is asked for, and nothing decoded before its picture is: a run of any size opens at once.
What was read is kept, a few encoded shots and the frames of the starts that were looked at.
"""

import io
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.data.shards.index import Shard
from genie_lite.data.shards.shards import Sample, ShardDamage, ShardSet
from genie_lite.errors import UserError
from genie_lite.export import STARTS_FOLDER
from genie_lite.folder import frames_of, shards_of
from genie_lite.recipe import Recipe
from genie_lite.steer import first_frames

MOST_STARTS = 24
MOST_SHARDS = 8  # that are opened for them
ItemT = TypeVar("ItemT")
RECORDING = re.compile(r"(?:expert|wander)_(\d+)\.mp4$")  # as a game's episodes are called, by their level


@dataclass(frozen=True)
class Start:
    """One place to begin from.

    label: what it is called. read: its frames, uint8 `t h w c`. level: of the recorded game, where it is the
    first frame of one. midway: as many frames from the middle of the same shot, where one is under way already and
    stands in no corner; None where there are no others.
    """

    label: str
    read: Callable[[], np.ndarray]
    level: int | None = None
    midway: Callable[[], np.ndarray] | None = None


class Starts:
    """A row of starts, found when they are first asked for. Safe from several threads.

    Whoever comes while they are being found waits, so nothing of this is to be asked on a server's loop. Nobody waits
    for another one's frames.
    """

    def __init__(self, find: Callable[[], Sequence[Start]]) -> None:
        self._find = find
        self._finding = threading.Lock()
        self._found: Sequence[Start] | None = None
        self._frames: dict[int, np.ndarray] = {}
        self._pictures: dict[int, bytes] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._all())

    def label(self, index: int) -> str:
        """What a start is called, such as the source of its shot."""
        return self._at(index).label

    def level(self, index: int) -> int | None:
        """Of the recorded game, where this start is how a level begins; else None."""
        return self._at(index).level

    def frames(self, index: int) -> UInt8[np.ndarray, "t h w c"]:
        """The frames that a world is given to begin from, the newest last.

        Raises:
            UserError: no such start, or one that cannot be read any more.
        """
        start = self._at(index)
        if (kept := self._frames.get(index)) is None:
            kept = self._frames.setdefault(index, start.read())  # two who came at once read the same
        return kept

    def midway(self, index: int) -> UInt8[np.ndarray, "t h w c"]:
        """Frames from the middle of a start's shot, where all that one can do is likely to show. Raises as `frames`."""
        start = self._at(index)
        return self.frames(index) if start.midway is None else start.midway()

    def thumbnail(self, index: int) -> bytes:
        """The frame that is seen first, as a PNG. Raises as `frames`."""
        frames = self.frames(index)
        if (kept := self._pictures.get(index)) is None:
            kept = self._pictures.setdefault(index, png(frames[-1]))
        return kept

    def _at(self, index: int) -> Start:
        found = self._all()
        if not 0 <= index < len(found):
            expected = f"0 to {len(found) - 1}" if found else "one of 0"
            raise UserError(f"start: found {index}, expected {expected}")
        return found[index]

    def _all(self) -> Sequence[Start]:
        if self._found is None:
            with self._finding:
                if self._found is None:
                    self._found = tuple(self._find())
        return self._found


def starts_of(recipe: Recipe, most: int = MOST_STARTS) -> Starts:
    """The starts of a run: of its shards or, where it has none, the pictures that it brings.

    Args:
        recipe: of the run.
        most: starts, at most; where there are fewer shots, each gives several moments.
    """
    return Starts(lambda: _of_pictures(recipe) or _of_shards(recipe, most))


def png(frame: UInt8[np.ndarray, "h w c"]) -> bytes:
    """One frame as a PNG."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "PNG")
    return file.getvalue()


def _of_pictures(recipe: Recipe) -> list[Start]:
    """Those of an export, which has no shards; none of another run."""
    config, paths = frames_of(recipe), (recipe.folder / STARTS_FOLDER).glob("*.png")
    by_number = sorted(paths, key=lambda path: (len(path.stem), path.stem))
    return [Start(f"start {path.stem}", _reader_of(path, config)) for path in by_number]


def _reader_of(path: Path, config: IngestConfig) -> Callable[[], np.ndarray]:
    return lambda: first_frames(path, config, 1)


def _of_shards(recipe: Recipe, most: int) -> list[Start]:
    """Moments of held-out shots; of shots to train on, where none is held out."""
    try:
        shards = shards_of(recipe)
    except UserError as error:
        warnings.warn(f"{error}; there are no frames to choose from, bring one", stacklevel=2)
        return []
    given = recipe.evaluate.prompt_frames
    split = "test" if shards.num_samples("test") else "train"
    shots = [shot for shot in _spread(shards, split, most) if shot.meta["num_frames"] >= given]
    if not shots:
        return []
    # One moment of every shot, or as many as it takes to have enough of them.
    each = max(1, most // len(shots))
    is_game = recipe.record is not None
    return [start for shot in shots for start in _moments(shot, given, each, shards.rate_hz, is_game)]


def _moments(shot: Sample, given: int, num: int, rate_hz: float, is_game: bool) -> Iterator[Start]:
    """Moments of one shot, evenly spaced from its beginning on, each with something left to happen after it."""
    length, source = shot.meta["num_frames"], Path(str(shot.meta["source"])).name

    def reader(first: int) -> Callable[[], np.ndarray]:
        return lambda: shot.frames(list(range(first, first + given)))

    for first in sorted({(length - given) * number // num for number in range(num)}):
        frame = _frame_in_source(shot, first)
        found = RECORDING.search(source) if is_game and frame == 0 and given == 1 else None
        label = source if frame == 0 else f"{source} at {_seconds(shot, first, rate_hz):.1f} s"
        yield Start(label, reader(first), int(found[1]) if found else None, reader((length - given) // 2))


def _frame_in_source(shot: Sample, frame: int) -> int:
    return int(shot.meta.get("source_frames", range(frame + 1))[frame])


def _seconds(shot: Sample, frame: int, rate_hz: float) -> float:
    times_s = shot.meta.get("times_s")
    return float(times_s[frame]) if times_s else frame / rate_hz


def _spread(shards: ShardSet, split: str, most: int) -> list[Sample]:
    """At most so many shots of a split, evenly spaced over a few shards that are evenly spaced themselves."""
    opened = evenly(shards.of(split), MOST_SHARDS)
    places = evenly([(shard.file, number) for shard in opened for number in range(shard.samples)], most)
    return [
        sample
        for shard in opened
        if any(file == shard.file for file, _ in places)
        for number, sample in enumerate(_read(shards, shard))
        if (shard.file, number) in places
    ]


def evenly(items: Sequence[ItemT], most: int) -> list[ItemT]:
    """All of a few items, or so many of them, evenly spaced from the first on."""
    return [items[len(items) * place // most] for place in range(most)] if len(items) > most else list(items)


def _read(shards: ShardSet, shard: Shard) -> list[Sample]:
    try:
        return shards.read(shard)
    except ShardDamage as error:
        warnings.warn(f"{error}; nothing of it is offered to begin from", stacklevel=2)
        return []
