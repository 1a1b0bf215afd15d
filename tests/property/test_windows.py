"""The endless sequence of windows, for any shards, window and number of processes."""

from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from genie_lite.data.loader import LoaderConfig, Windows
from genie_lite.data.shards import Sample, Shard, ShardSet


@dataclass(frozen=True)
class Flat(Sample):
    """A sample whose k-th frame is a 1 x 1 pixel of value k."""

    def frames(self, indices: list[int] | None = None) -> np.ndarray:
        values = np.arange(self.meta["num_frames"], dtype=np.uint8)
        values = values if indices is None else values[indices]
        return np.broadcast_to(values[:, None, None, None], (len(values), 1, 1, 3))


@dataclass(frozen=True)
class FlatSet(ShardSet):
    """Shards in memory."""

    def read(self, shard: Shard) -> list[Sample]:
        metas = [
            {"num_frames": n, "source": f"{shard.file}/{k}", "source_frames": [10 * i for i in range(n)]}
            for k, n in enumerate(shard.lengths)
        ]
        return [Flat(f"{shard.file}-{k}", b"", meta) for k, meta in enumerate(metas)]


def make(lengths: list[list[int]]) -> FlatSet:
    shards = [
        Shard(f"train-{k}", "train", f"{k}", len(each), sum(each), 0, tuple(each))
        for k, each in enumerate(lengths)
    ]
    return FlatSet(Path(), {"size_px": 1, "rate_hz": 10.0}, "flat", tuple(shards))


def take(windows: Windows, num_batches: int) -> list:
    return [window for batch in islice(windows.batches(), num_batches) for window in batch]


LENGTHS = st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=5), min_size=1, max_size=6).filter(
    lambda shards: max(max(shard) for shard in shards) >= 8
)
CONFIGS = st.builds(
    LoaderConfig,
    clip_frames=st.integers(1, 4),
    stride=st.integers(1, 2),
    batch=st.integers(1, 5),
    shuffle_shards=st.integers(1, 3),
    cache_gb=st.sampled_from([0.0, 1e-7, 1.0]),
)


@settings(max_examples=60, deadline=None)
@given(LENGTHS, CONFIGS, st.integers(0, 5))
def test_windows_are_continuous_and_stay_in_their_sample(lengths, config, seed) -> None:
    """D11: a window across a cut, or across two episodes, teaches motion that never was."""
    windows = Windows(make(lengths), config, seed, rank=0, world_size=1, split="train")
    for window in take(windows, 12):
        values = window.pixels[:, 0, 0, 0].astype(int)
        expected = window.start + config.stride * np.arange(config.clip_frames)
        np.testing.assert_array_equal(values, expected)
        assert window.frame_index == (10 * expected).tolist()


@settings(max_examples=60, deadline=None)
@given(LENGTHS, CONFIGS, st.integers(0, 5))
def test_an_epoch_draws_each_sample_in_proportion_to_its_length(lengths, config, seed) -> None:
    windows = Windows(make(lengths), config, seed, rank=0, world_size=1, split="train")
    per_epoch = windows.per_epoch
    taken = take(windows, -(-2 * per_epoch // config.batch))
    expected = {
        f"train-{shard}-{k}": length // config.span
        for shard, each in enumerate(lengths)
        for k, length in enumerate(each)
        if length >= config.span
    }
    for first in (0, per_epoch):
        assert Counter(window.key for window in taken[first : first + per_epoch]) == expected


@settings(max_examples=40, deadline=None)
@given(LENGTHS, CONFIGS, st.integers(1, 4))
def test_ranks_share_the_sequence_of_one_process(lengths, config, world_size) -> None:
    shards = make(lengths)
    joint = config.model_copy(update={"batch": config.batch * world_size})
    alone = take(Windows(shards, joint, 3, rank=0, world_size=1, split="train"), 6)
    parts = [
        Windows(shards, config, 3, rank=rank, world_size=world_size, split="train").batches()
        for rank in range(world_size)
    ]
    together = [window for _ in range(6) for part in parts for window in next(part)]
    assert [(w.key, w.start) for w in together] == [(w.key, w.start) for w in alone]


@settings(max_examples=40, deadline=None)
@given(LENGTHS, CONFIGS, st.integers(0, 20))
def test_a_saved_position_resumes_at_the_next_batch(lengths, config, done) -> None:
    windows = Windows(make(lengths), config, 1, rank=0, world_size=1, split="train")
    first = windows.batches()
    for _ in range(done):
        next(first)
    state = first.state_dict()
    second = windows.batches()
    second.load_state_dict(state)
    for _ in range(3):
        assert [(w.key, w.start) for w in next(first)] == [(w.key, w.start) for w in next(second)]


@settings(max_examples=30, deadline=None)
@given(LENGTHS.filter(lambda shards: sum(map(len, shards)) > 6), CONFIGS)
def test_shards_in_memory_are_bounded(lengths, config) -> None:
    """Within an epoch a shard is read once: windows of one group of shards come together."""
    reads: list[str] = []

    @dataclass(frozen=True)
    class Counted(FlatSet):
        def read(self, shard: Shard) -> list[Sample]:
            reads.append(shard.file)
            return super().read(shard)

    flat = make(lengths)
    shards = Counted(flat.folder, flat.config, flat.fingerprint, flat.shards)
    single = config.model_copy(update={"batch": 1})
    windows = Windows(shards, single, 0, rank=0, world_size=1, split="train")
    take(windows, windows.per_epoch)
    assert max(Counter(reads).values()) == 1
