"""Windows of video shards: epochs that differ, with few shards in memory at a time.

An epoch shuffles the shards, takes `shuffle_shards` of them at a time and shuffles the windows in those. A
sample of n frames gives n // span windows per epoch (at least one, where it is long enough), each at a start drawn
anew, so that a frame of a long shot is seen as often as one of a short shot. Windows never leave a sample.

Where windows have several strides, each draws its own anew in every epoch, all that fit the sample with the same
probability, and the span above is the mean of theirs. So where all samples are long enough for the largest stride all
distances in time come equally often; what is too short for it still gives windows of the smaller ones.

Where a window cannot be read any more, the next one of the same shards takes its place, and where those are all
damaged, one of the next shards.
"""

import hashlib
import logging
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import ceil
from typing import Any, NamedTuple

import numpy as np

from genie_lite.data.loading.clip import Window
from genie_lite.data.loading.clip_reader import ClipReader
from genie_lite.data.loading.windows import Careful, Damage, LoaderConfig
from genie_lite.data.shards.index import Shard
from genie_lite.data.shards.shards import ShardSet
from genie_lite.errors import UserError

log = logging.getLogger(__name__)


class Place(NamedTuple):
    """Where a window begins, and how far apart its frames are."""

    shard: Shard
    sample: int
    start: int
    stride: int


class ClipWindows:
    """The endless sequence of windows of video shards; see the top of this file."""

    def __init__(self, shards: ShardSet, config: LoaderConfig, seed: int, split: str) -> None:
        """Prepare a sequence; nothing is read yet.

        Raises:
            UserError: no sample of the split is long enough for a window, or no stride lies in the range.
        """
        self._strides = expect_windows(shards, split, config)
        self._set, self._config, self._seed, self._split = shards, config, seed, split
        self._shards = shards.of(split)
        self._spans = [config.span_of(stride) for stride in self._strides]
        self._rows = [_rows(shard, self._spans) for shard in self._shards]
        self._epoch, self._order = -1, EpochOrder(np.empty((0, 3), np.int32), [])
        self._reader = ClipReader(shards, config, int(config.cache_gb * 2**30 / max(1, config.num_workers)))
        self._careful = Careful(shards.place, strict=config.strict)

    @property
    def per_epoch(self) -> int:
        """Windows that one pass over the data draws, over all ranks."""
        return sum(len(rows) for rows in self._rows)

    def identity(self) -> dict[str, Any]:
        distance = {} if self._config.pair_s is None else {"pair_s": list(self._config.pair_s)}
        return {
            "fingerprint": self._set.fingerprint,
            "split": self._split,
            "seed": self._seed,
            **self._config.model_dump(include={"clip_frames", "stride", "shuffle_shards"}),
            **distance,
        }

    def read(self, numbers: Sequence[int]) -> list[Window]:
        return [self._window(number) for number in numbers]

    def take_damage(self) -> list[Damage]:
        return self._careful.take_damage() + self._reader.take_damage()

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
        length = shard.lengths[sample]
        drawn = digest(self._seed, epoch, shard.file, sample, draw)
        # Two numbers of 60 bits; the first is older than strides, and decides the start as it always has.
        start, stride = int(drawn[:15], 16), int(drawn[15:30], 16)
        at = stride % bisect_right(self._spans, length)
        return Place(shard, sample, start % (length - self._spans[at] + 1), self._strides[at])


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


def expect_windows(shards: ShardSet, split: str, config: LoaderConfig) -> range:
    """The strides that windows of a split have: those of the configuration that fit any shot of it.

    Raises:
        UserError: there are none.
    """
    if not shards.of(split):
        raise UserError(f"{shards.place}: split '{split}' is empty; ingest more videos or set test_share")
    strides = expect_strides(shards, config)
    longest = max(length for shard in shards.of(split) for length in shard.lengths)
    largest = (longest - 1) // (config.clip_frames - 1) if config.clip_frames > 1 else strides[-1]
    fitting = range(strides.start, min(strides.stop, largest + 1))
    if not fitting:
        raise UserError(
            f"{shards.place}: split '{split}' has no shot of {config.span_of(strides[0])} frames (clip_frames "
            f"{config.clip_frames}, stride {strides[0]}), the longest has {longest}; use shorter clips"
        )
    if fitting.stop < strides.stop:
        log.warning(
            "%s: no shot of split '%s' is long enough for %d frames more than %g s apart; the longest has %d",
            shards.place,
            split,
            config.clip_frames,
            fitting[-1] / shards.rate_hz,
            longest,
        )
    return fitting


def expect_strides(shards: ShardSet, config: LoaderConfig) -> range:
    """All strides of a configuration at the rate of these shards.

    Raises:
        UserError: no whole number of frames lies in the range.
    """
    strides = config.strides(shards.rate_hz)
    if not strides:
        assert config.pair_s is not None
        least, most = config.pair_s
        apart_s = 1 / shards.rate_hz
        above = ceil(least / apart_s)
        raise UserError(
            f"{shards.place}: pair_s {least:g} to {most:g} s: at {shards.rate_hz:g} frames per second frames are "
            f"{apart_s:.4g} s apart; choose a range that holds a multiple of that, such as one up to "
            f"{ceil(above * apart_s * 1000) / 1000:g} s"
        )
    return strides


def digest(*parts: object) -> str:
    """A name for these parts, as good as random."""
    return hashlib.sha256("/".join(map(str, parts)).encode("utf-8", "surrogateescape")).hexdigest()


def _rows(shard: Shard, spans: Sequence[int]) -> np.ndarray:
    """(windows, 2): sample in the shard, number of the draw. spans: of each stride, ascending."""
    lengths = np.asarray(shard.lengths, dtype=np.int64)
    fitting = np.searchsorted(spans, lengths, side="right")
    # The sum of the spans that fit is their number times their mean; where none does, any divisor gives 0 windows.
    sums = np.cumsum([1, *spans]) - 1
    counts = lengths * fitting // np.maximum(sums[fitting], 1)
    samples = np.repeat(np.arange(len(counts)), counts)
    draws = np.arange(len(samples)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.stack([samples, draws], axis=1).astype(np.int32)
