"""Windows of video shards: epochs that differ, with few shards in memory at a time.

An epoch shuffles the shards, takes `shuffle_shards` of them at a time and shuffles the windows in those. A
sample of n frames gives n // span windows per epoch (at least one, where it is long enough), each at a start drawn
anew, so that a frame of a long shot is seen as often as one of a short shot. Windows never leave a sample.

Where a window cannot be read any more, the next one of the same shards takes its place, and where those are all
damaged, one of the next shards.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from genie_lite.data.loading.clip import Window
from genie_lite.data.loading.clip_reader import ClipReader
from genie_lite.data.loading.windows import Careful, Damage, LoaderConfig
from genie_lite.data.shards.index import Shard
from genie_lite.data.shards.shards import ShardSet
from genie_lite.errors import UserError


class Place(NamedTuple):
    """Where a window begins."""

    shard: Shard
    sample: int
    start: int


class ClipWindows:
    """The endless sequence of windows of video shards; see the top of this file."""

    def __init__(self, shards: ShardSet, config: LoaderConfig, seed: int, split: str) -> None:
        """Prepare a sequence; nothing is read yet.

        Raises:
            UserError: no sample of the split is long enough for a window.
        """
        expect_windows(shards, split, config)
        self._set, self._config, self._seed, self._split = shards, config, seed, split
        self._shards = shards.of(split)
        self._rows = [_rows(shard, config.span) for shard in self._shards]
        self._epoch, self._order = -1, EpochOrder(np.empty((0, 3), np.int32), [])
        self._reader = ClipReader(shards, config, int(config.cache_gb * 2**30 / max(1, config.num_workers)))
        self._careful = Careful(shards.place, strict=config.strict)

    @property
    def per_epoch(self) -> int:
        """Windows that one pass over the data draws, over all ranks."""
        return sum(len(rows) for rows in self._rows)

    def identity(self) -> dict[str, Any]:
        return {
            "fingerprint": self._set.fingerprint,
            "split": self._split,
            "seed": self._seed,
            **self._config.model_dump(include={"clip_frames", "stride", "shuffle_shards"}),
        }

    def read(self, numbers: Sequence[int]) -> list[Window]:
        return [self._window(number) for number in numbers]

    def take_damage(self) -> list[Damage]:
        return self._careful.take_damage()

    def epoch_order(self, epoch: int) -> "EpochOrder":
        """The windows of one epoch; depends on seed and epoch alone."""
        random = np.random.default_rng([self._seed, epoch])
        shard_order = random.permutation(len(self._rows))
        groups = []
        for first in range(0, len(shard_order), self._config.shuffle_shards):
            group = shard_order[first : first + self._config.shuffle_shards]
            rows = np.concatenate([np.insert(self._rows[shard], 0, shard, axis=1) for shard in group])
            groups.append(random.permutation(rows))
        return EpochOrder(np.concatenate(groups), np.cumsum([len(group) for group in groups]).tolist())

    def _window(self, number: int) -> Window:
        epoch, at = divmod(number, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self.epoch_order(epoch)
        places = (self._place(epoch, row) for row in self._order.candidates(at))
        return self._careful.first(places, lambda place: self._reader.read(*place))

    def _place(self, epoch: int, row: np.ndarray) -> Place:
        shard_number, sample, draw = (int(value) for value in row)
        shard = self._shards[shard_number]
        free = shard.lengths[sample] - self._config.span + 1
        return Place(shard, sample, int(digest(self._seed, epoch, shard.file, sample, draw)[:15], 16) % free)


@dataclass(frozen=True)
class EpochOrder:
    """rows: (windows, 3) int32, of shard, sample in the shard, number of the draw. ends: of each group of shards."""

    rows: np.ndarray
    ends: list[int]

    def candidates(self, at: int) -> Iterator[np.ndarray]:
        """The row `at`, then the rows that may take its place, every other one of the epoch.

        First those of its own group, since the shards of that one are in memory. In the next groups they begin as
        far from the group's begin as `at` is in its own, so that not all of a damaged group fall on one window.
        """
        own = bisect_right(self.ends, at)
        for group in chain(range(own, len(self.ends)), range(own)):
            begin, end = self._begin(group), self.ends[group]
            if begin < end:
                first = begin + (at - self._begin(own)) % (end - begin)
                yield from self.rows[first:end]
                yield from self.rows[begin:first]

    def _begin(self, group: int) -> int:
        return self.ends[group - 1] if group else 0


def expect_windows(shards: ShardSet, split: str, config: LoaderConfig) -> None:
    """Raise a UserError where a split has no window."""
    if not shards.of(split):
        raise UserError(f"{shards.place}: split '{split}' is empty; ingest more videos or set test_share")
    if not shards.num_windows(split, config.clip_frames, config.stride):
        longest = max(length for shard in shards.of(split) for length in shard.lengths)
        raise UserError(
            f"{shards.place}: split '{split}' has no shot of {config.span} frames (clip_frames "
            f"{config.clip_frames}, stride {config.stride}), the longest has {longest}; use shorter clips"
        )


def digest(*parts: object) -> str:
    """A name for these parts, as good as random."""
    return hashlib.sha256("/".join(map(str, parts)).encode("utf-8", "surrogateescape")).hexdigest()


def _rows(shard: Shard, span: int) -> np.ndarray:
    """(windows, 2): sample in the shard, number of the draw."""
    counts = np.asarray([length // span for length in shard.lengths], dtype=np.int64)
    samples = np.repeat(np.arange(len(counts)), counts)
    draws = np.arange(len(samples)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.stack([samples, draws], axis=1).astype(np.int32)
