"""Clips that are held out of training: a fixed list, each exactly once, spread over sources and corpora."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from typing import TypeVar

from genie_lite.data.loading.clip import Clip, PackedClip, Window
from genie_lite.data.loading.clip_reader import ClipReader
from genie_lite.data.loading.clip_windows import digest, expect_windows
from genie_lite.data.loading.mixture import Corpora, apportion
from genie_lite.data.loading.windows import LoaderConfig
from genie_lite.data.shards.index import Shard
from genie_lite.data.shards.shards import ShardDamage, ShardSet
from genie_lite.errors import UserError

log = logging.getLogger(__name__)


def validation_clips(
    shards: ShardSet | Corpora[ShardSet],
    split: str,
    clip_frames: int,
    limit: int,
    *,
    stride: int = 1,
    batch: int = 1,
) -> list[Clip]:
    """At most `limit` windows, always the same ones, as evenly as possible from all sources.

    Windows do not overlap. With fewer than `limit` sources each gives several; with more, a fixed choice
    of `limit` sources gives one each. Several corpora give in proportion to their weights, and take turns.

    Args:
        shards: the data.
        split: train or test.
        clip_frames: frames per window.
        limit: windows in all.
        stride: frames of the sample from one frame of a window to the next.
        batch: windows per returned clip; the last clip may hold fewer.

    Raises:
        UserError: no sample of the split is long enough.
    """
    corpora = Corpora.of(shards)
    config = LoaderConfig(clip_frames=clip_frames, stride=stride)
    limits = apportion(limit, corpora.shares)
    chosen = [
        _chosen(corpus.shards, split, config, each)
        for corpus, each in zip(corpora.parts, limits, strict=True)
    ]
    windows = list(in_turn(chosen))
    return [PackedClip.of(windows[first : first + batch]).unpack() for first in range(0, len(windows), batch)]


@dataclass(frozen=True)
class _Candidate:
    """Where a window lies; `order` is unique and as good as random."""

    order: str
    shard: Shard
    index: int
    start: int


def _chosen(shards: ShardSet, split: str, config: LoaderConfig, limit: int) -> list[Window]:
    """At most `limit` windows of one corpus."""
    expect_windows(shards, split, config)
    by_source: dict[str, list[_Candidate]] = defaultdict(list)
    for shard in shards.of(split):
        with told():
            for index, sample in enumerate(shards.read(shard)):
                for start in range(0, shard.lengths[index] - config.span + 1, config.span):
                    place = _Candidate(digest(sample.key, start), shard, index, start)
                    by_source[sample.meta["source"]].append(place)
    sources = [
        sorted(by_source[source], key=lambda place: place.order) for source in sorted(by_source, key=digest)
    ]
    chosen = list(islice(in_turn(sources), limit))
    reader = ClipReader(shards, config, cache_bytes=0)
    read: dict[str, Window] = {}
    for place in sorted(chosen, key=lambda place: place.shard.file):  # each shard is read once
        with told():
            read[place.order] = reader.read(place.shard, place.index, place.start)
    if not read:
        raise UserError(
            f"{shards.place}: nothing of split '{split}' can be read any more; copy the shards again"
        )
    return [read[place.order] for place in chosen if place.order in read]


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
