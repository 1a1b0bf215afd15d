"""The endless sequences of windows of one corpus, for any shards, window and seed."""

import hashlib
import json
from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genie_lite.data.loading.clip import Window
from genie_lite.data.loading.clip_windows import ClipWindows
from genie_lite.data.loading.loader import LoaderConfig, train_loader, validation_clips
from genie_lite.data.loading.token_windows import TokenWindows, spread, token_loader
from genie_lite.data.shards.index import Shard
from genie_lite.data.shards.shards import Sample
from tests.flat import FlatSet, flat_tokens, flat_video

LENGTHS = st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=5), min_size=1, max_size=6).filter(
    lambda shards: max(max(shard) for shard in shards) >= 8
)
CONFIGS = st.builds(
    LoaderConfig,
    clip_frames=st.integers(1, 4),
    stride=st.integers(1, 2),
    shuffle_shards=st.integers(1, 3),
    cache_gb=st.sampled_from([0.0, 1e-7, 1.0]),
)


def clips(lengths, config: LoaderConfig, seed: int = 0) -> ClipWindows:
    return ClipWindows(flat_video(lengths), config, seed, "train")


def where(windows: list[Window]) -> list[tuple[str, int]]:
    return [(window.key, window.start) for window in windows]


@settings(max_examples=60, deadline=None)
@given(LENGTHS, CONFIGS, st.integers(0, 5))
def test_windows_are_continuous_and_stay_in_their_sample(lengths, config, seed) -> None:
    """D11: a window across a cut, or across two episodes, teaches motion that never was."""
    for window in clips(lengths, config, seed).read(range(40)):
        values = window.pixels[:, 0, 0, 0].astype(int)
        expected = window.start + config.stride * np.arange(config.clip_frames)
        np.testing.assert_array_equal(values, expected)
        assert window.frame_index == (10 * expected).tolist()


@settings(max_examples=60, deadline=None)
@given(LENGTHS, CONFIGS, st.integers(0, 5))
def test_an_epoch_draws_each_sample_in_proportion_to_its_length(lengths, config, seed) -> None:
    windows = clips(lengths, config, seed)
    expected = {
        f"train-{shard}-{k}": length // config.span_of(config.stride)
        for shard, each in enumerate(lengths)
        for k, length in enumerate(each)
        if length >= config.span_of(config.stride)
    }
    for epoch in range(2):
        first = epoch * windows.per_epoch
        drawn = windows.read(range(first, first + windows.per_epoch))
        assert Counter(window.key for window in drawn) == expected


@settings(max_examples=40, deadline=None)
@given(LENGTHS, CONFIGS, st.lists(st.integers(0, 200), max_size=20))
def test_a_window_is_a_function_of_its_number(lengths, config, numbers) -> None:
    in_order = where(clips(lengths, config).read(range(201)))
    assert where(clips(lengths, config).read(numbers)) == [in_order[number] for number in numbers]


@settings(max_examples=30, deadline=None)
@given(LENGTHS.filter(lambda shards: sum(map(len, shards)) > 6), CONFIGS)
def test_shards_in_memory_are_bounded(lengths, config) -> None:
    """Within an epoch a shard is read once: windows of one group of shards come together."""
    reads: list[str] = []

    class Counted(FlatSet):
        def read(self, shard: Shard) -> list[Sample]:
            reads.append(shard.file)
            return super().read(shard)

    windows = ClipWindows(flat_video(lengths, kind=Counted), config, 0, "train")
    windows.read(range(windows.per_epoch))
    assert max(Counter(reads).values()) == 1


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.integers(1, 8), st.integers(0, 5))
def test_an_epoch_of_tokens_reads_every_place_once(lengths, clip_frames, seed) -> None:
    windows = TokenWindows(flat_tokens(lengths), clip_frames, seed, "train")
    begins = np.cumsum([0, *(n for each in lengths for n in each)])
    expected = {
        int(begin) + start
        for begin, n in zip(begins, (n for each in lengths for n in each), strict=False)
        for start in range(n - clip_frames + 1)
    }
    assert len(windows) == len(expected)
    for epoch in range(2):
        found = windows.read(range(epoch * len(windows), (epoch + 1) * len(windows)))
        assert sorted(int(window.tokens[0]) for window in found) == sorted(expected)
        for window in found:
            first = int(window.tokens[0])
            assert window.tokens.tolist() == list(range(first, first + clip_frames))
            assert window.codes.tolist() == window.tokens[:-1].tolist()


@given(num=st.integers(1, 500), limit=st.integers(1, 50))
def test_spread_takes_both_ends_and_no_number_twice(num: int, limit: int) -> None:
    chosen = spread(num, limit)
    assert len(chosen) == len(set(chosen)) == min(num, limit)
    assert chosen == sorted(chosen)
    assert 0 <= chosen[0] <= chosen[-1] < num
    if len(chosen) > 1:
        assert (chosen[0], chosen[-1]) == (0, num - 1)


# What was trained on stays what it was: these orders are those of the first version. They must not change, or no
# recipe's measured results can be had again.

FIXED = [[30, 5, 9], [17], [8, 8, 64], [12, 40], [25, 3, 3, 21], [50]]


def digest(rows: list) -> str:
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("seed", "rank", "world_size", "expected"),
    [
        (0, 0, 1, "e751c7e58b55a720"),
        (0, 0, 2, "1467eb8a4a2e8ef9"),
        (0, 1, 2, "72572e6853575d9f"),
        (7, 0, 1, "b0df105a5d4f537b"),
        (7, 1, 2, "5955e7c133dfe9bb"),
    ],
)
def test_the_order_of_clips_stays(seed: int, rank: int, world_size: int, expected: str) -> None:
    config = LoaderConfig(clip_frames=4, batch=3, shuffle_shards=2)
    loader = train_loader(flat_video(FIXED), config, seed, rank=rank, world_size=world_size)
    found = [place for clip in islice(loader, 200) for place in zip(clip.key, clip.start, strict=True)]
    assert digest(found) == expected


def test_the_order_of_clips_with_a_stride_stays() -> None:
    config = LoaderConfig(clip_frames=4, stride=2, batch=3, shuffle_shards=4)
    loader = train_loader(flat_video(FIXED), config, 3)
    found = [place for clip in islice(loader, 200) for place in zip(clip.key, clip.start, strict=True)]
    assert digest(found) == "a32b9e9caeebd678"


def test_the_held_out_clips_stay() -> None:
    held_out = validation_clips(flat_video(FIXED), "train", 4, 20, batch=3)
    found = [place for clip in held_out for place in zip(clip.key, clip.start, strict=True)]
    assert digest(found) == "4c56dfb18b8c557e"


@pytest.mark.parametrize(
    ("seed", "rank", "world_size", "expected"),
    [
        (0, 0, 1, "308856cd15a01091"),
        (0, 0, 2, "7664f1b2bb718f1b"),
        (0, 1, 2, "cc7bfd655ff8aa3d"),
        (7, 0, 1, "c692fe3f6312f155"),
        (7, 1, 2, "c359a8ae1506ff63"),
    ],
)
def test_the_order_of_tokens_stays(seed: int, rank: int, world_size: int, expected: str) -> None:
    lengths = [n for each in FIXED for n in each]
    begins = np.cumsum([0, *lengths])[:-1].tolist()
    firsts = [begin + start for begin, n in zip(begins, lengths, strict=True) for start in range(n - 4 + 1)]
    place_of = {first: place for place, first in enumerate(firsts)}
    loader = token_loader(flat_tokens(FIXED), 4, 4, seed, rank=rank, world_size=world_size)
    found = [place_of[first] for clip in islice(loader, 200) for first in clip.tokens[:, 0, 0].tolist()]
    assert digest(found) == expected
