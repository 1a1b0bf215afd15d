"""Clips that are held out of training: a fixed list, each exactly once, spread over sources and corpora."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice, zip_longest
from typing import NamedTuple, TypeVar

from genie_lite.data.loading.clip import Clip, PackedClip, Window
from genie_lite.data.loading.clip_reader import ClipReader
from genie_lite.data.loading.clip_windows import digest, expect_windows
from genie_lite.data.loading.mixture import Corpora, apportion
from genie_lite.data.loading.weight import EvenWeight, WeightConfig
from genie_lite.data.loading.windows import LoaderConfig
from genie_lite.data.shards.index import Shard
from genie_lite.data.shards.shards import ShardDamage, ShardSet
from genie_lite.errors import UserError

log = logging.getLogger(__name__)

UNWEIGHED = "windows without masks weigh all pixels alike"


def validation_clips(
    shards: ShardSet | Corpora[ShardSet],
    split: str,
    clip_frames: int,
    limit: int,
    *,
    stride: int = 1,
    pair_s: tuple[float, float] | None = None,
    weight: WeightConfig | None = None,
    batch: int = 1,
) -> list[Clip]:
    """At most `limit` windows, always the same ones, as evenly as possible from all sources and of all strides.

    Windows do not overlap. With fewer than `limit` sources each gives several; with more, a fixed choice
    of `limit` sources gives one each. Several corpora give in proportion to their weights, and take turns.

    Args:
        shards: the data.
        split: train or test.
        clip_frames: frames per window.
        limit: windows in all.
        stride: frames of the sample from one frame of a window to the next.
        pair_s: the same as a range of seconds, of which every stride has its share.
        weight: how much each pixel counts; None: all the same.
        batch: windows per returned clip; the last clip may hold fewer.

    Raises:
        UserError: no sample of the split is long enough, corpora of different rates without a range of seconds, or
            a range that holds no stride.
    """
    corpora = Corpora.of(shards)
    if pair_s is None:
        corpora.expect_one_rate()
    config = LoaderConfig(
        clip_frames=clip_frames, stride=stride, pair_s=pair_s, weight=weight or EvenWeight()
    )
    limits = apportion(limit, corpora.shares)
    chosen = [
        _chosen(corpus.shards, split, config, each)
        for corpus, each in zip(corpora.parts, limits, strict=True)
    ]
    windows = list(in_turn(chosen))
    return [PackedClip.of(windows[first : first + batch]).unpack() for first in range(0, len(windows), batch)]


class _Shot(NamedTuple):
    """A sample that windows may come from; `number` is its place in the shard."""

    key: str
    shard: Shard
    number: int

    @property
    def length(self) -> int:
        return self.shard.lengths[self.number]


class _Candidate(NamedTuple):
    """Where a window lies; `order` is unique and as good as random."""

    order: str
    shot: _Shot
    start: int
    stride: int


def _chosen(shards: ShardSet, split: str, config: LoaderConfig, limit: int) -> list[Window]:
    """At most `limit` windows of one corpus."""
    strides = expect_windows(shards, split, config)
    shots: dict[str, list[_Shot]] = defaultdict(list)
    for shard in shards.of(split):
        with told():
            for number, sample in enumerate(shards.read(shard)):
                shots[sample.meta["source"]].append(_Shot(sample.key, shard, number))
    sources = [
        _by_stride(_tiles(shots[source], config, _turned(strides, number)))
        for number, source in enumerate(sorted(shots, key=digest))
    ]
    chosen = list(islice(in_turn(sources), limit))
    reader = ClipReader(shards, config, cache_bytes=0)
    read: dict[str, Window] = {}
    for place in sorted(chosen, key=lambda place: place.shot.shard.file):  # each shard is read once
        with told():
            read[place.order] = reader.read(place.shot.shard, place.shot.number, place.start, place.stride)
    if not read:
        raise UserError(
            f"{shards.place}: nothing of split '{split}' can be read any more; copy the shards again"
        )
    if lacking := reader.take_damage():
        log.warning("%s; %s (%d held-out clips)", lacking[0].reason, UNWEIGHED, len(lacking))
    return [read[place.order] for place in chosen if place.order in read]


def _tiles(shots: Sequence[_Shot], config: LoaderConfig, strides: Sequence[int]) -> Iterator[_Candidate]:
    """Windows side by side in the shots of a source; the strides take turns, as far as they fit what is left."""
    spans = [config.span_of(stride) for stride in strides]
    turn = 0
    for shot in shots:
        start = 0
        while start + min(spans) <= shot.length:
            if start + spans[turn % len(spans)] <= shot.length:
                yield _Candidate(digest(shot.key, start), shot, start, strides[turn % len(spans)])
                start += spans[turn % len(spans)]
            turn += 1


def _by_stride(tiles: Iterable[_Candidate]) -> list[_Candidate]:
    """In an order as good as random, but one of each stride after the other, that of the first tile first."""
    groups: dict[int, list[_Candidate]] = defaultdict(list)
    for tile in tiles:
        groups[tile.stride].append(tile)
    return list(in_turn([sorted(group, key=lambda tile: tile.order) for group in groups.values()]))


def _turned(strides: range, number: int) -> list[int]:
    """Beginning with another one for every source."""
    first = number % len(strides)
    return [*strides[first:], *strides[:first]]


@contextmanager
def told() -> Iterator[None]:
    """What has become unreadable since the shards were opened is left out, with a warning."""
    try:
        yield
    except ShardDamage as error:
        log.warning("%s; it is left out of the held-out clips", error)


ItemT = TypeVar("ItemT")


def in_turn(lists: Sequence[Sequence[ItemT]]) -> Iterator[ItemT]:
    """The first of each list, then the second of each, and so on to the end of the longest."""
    for rank in zip_longest(*[[(item,) for item in each] for each in lists], fillvalue=()):
        yield from chain.from_iterable(rank)
