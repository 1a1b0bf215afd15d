"""Real shards through the real loader: workers, ranks, resume, cache, validation."""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from genie_lite.data.loading.loader import Clip, LoaderConfig, to_frames, train_loader, validation_clips
from genie_lite.data.shards.index import Shard, index_of
from genie_lite.data.shards.shards import Sample, ShardSet, ShardWriter
from genie_lite.data.video.codec import encode_mp4
from genie_lite.errors import UserError
from tests.videos import moving_square

CONFIG = LoaderConfig(clip_frames=4, batch=3, shuffle_shards=2)


SEGMENT = 12  # frames, at most


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """Five videos to train on and three that are held out, cut into samples as an ingest does it."""
    folder = tmp_path_factory.mktemp("loader")
    videos = [
        ("train", [(f"{k}.mp4", moving_square(10 + 3 * k, shift=4 * k)) for k in range(5)]),
        ("test", [(f"held_out_{k}.mp4", moving_square(n, shift=k)) for k, n in enumerate((30, 5, 9))]),
    ]
    made: list[Shard | None] = []
    for split, sources in videos:
        samples = [sample for name, frames in sources for sample in segments(name, frames)]
        for number, first in enumerate(range(0, len(samples), 2)):
            with ShardWriter(folder, split, number) as writer:
                for sample in samples[first : first + 2]:
                    writer.add(sample)
                made.append(writer.close())
    index = index_of([shard for shard in made if shard is not None], {"size_px": 32, "rate_hz": 10.0})
    (folder / "shards.json").write_text(json.dumps(index))
    return ShardSet.open(folder)


def segments(source: str, frames: np.ndarray) -> Iterator[Sample]:
    for first in range(0, len(frames) - 3, SEGMENT):
        part = frames[first : first + SEGMENT]
        places = list(range(first, first + len(part)))
        meta = {"source": source, "num_frames": len(part), "source_frames": places}
        yield Sample(f"{Path(source).stem}-{first}", encode_mp4(part, 10.0), meta)


def places(clips: list[Clip]) -> list[tuple[str, int]]:
    return [place for clip in clips for place in zip(clip.key, clip.start, strict=True)]


def same(a: Clip, b: Clip) -> bool:
    return torch.equal(a.frames, b.frames) and places([a]) == places([b])


def take(shards: ShardSet, num: int, seed: int = 0, **changes) -> list[Clip]:
    loader = train_loader(shards, CONFIG.model_copy(update=changes), seed)
    return list(islice(loader, num))


def test_a_clip_holds_the_frames_that_it_names(shards: ShardSet) -> None:
    frames = {sample.key: sample.frames() for sample in shards.samples("train")}
    native = {sample.key: sample.meta["source_frames"] for sample in shards.samples("train")}
    for clip in take(shards, 8):
        assert clip.frames.shape == (3, 4, 3, 32, 32)
        assert clip.frames.dtype == torch.float32
        for row, (key, start) in enumerate(places([clip])):
            pixels = (clip.frames[row] * 255).round().byte().permute(0, 2, 3, 1).numpy()
            np.testing.assert_array_equal(pixels, frames[key][start : start + 4])
            assert clip.frame_index[row] == native[key][start : start + 4]


def test_the_range_is_zero_to_one() -> None:
    pixels = np.array([0, 51, 255], np.uint8).reshape(1, 1, 1, 3)
    assert to_frames(pixels).flatten().tolist() == pytest.approx([0, 0.2, 1])


def test_the_same_seed_gives_the_same_batches(shards: ShardSet) -> None:
    assert all(same(a, b) for a, b in zip(take(shards, 6), take(shards, 6), strict=True))
    assert places(take(shards, 6)) != places(take(shards, 6, seed=1))


def test_starts_are_drawn_anew_in_each_epoch(shards: ShardSet) -> None:
    clips = take(shards, 40)
    starts = {key: {s for k, s in places(clips) if k == key} for key, _ in places(clips)}
    assert max(len(each) for each in starts.values()) > 3


def test_neither_cache_nor_workers_change_the_batches(shards: ShardSet) -> None:
    expected = take(shards, 9)
    for changes in ({"cache_gb": 0.0}, {"cache_gb": 5e-5}, {"num_workers": 2}):
        found = list(islice(train_loader(shards, CONFIG.model_copy(update=changes), 0), 9))
        assert all(same(a, b) for a, b in zip(expected, found, strict=True)), changes


def test_more_workers_than_shards_is_fine(shards: ShardSet) -> None:
    few = ShardSet(shards.folder, shards.config, shards.fingerprint, shards.of("train")[:1])
    seen = places(take(few, 6, num_workers=2, batch=1))
    assert seen == places(take(few, 6, batch=1))


@pytest.mark.parametrize(("before", "after"), [(0, 0), (2, 2), (0, 2), (2, 1), (1, 0)])
def test_a_resumed_loader_goes_on_exactly(shards: ShardSet, before: int, after: int) -> None:
    """With any number of loading processes: what they have read ahead is no part of the position."""
    loader = train_loader(shards, CONFIG.model_copy(update={"num_workers": before}), 0)
    batches = iter(loader)
    for _ in range(7):
        next(batches)
    state = loader.state_dict()
    expected = [next(batches) for _ in range(5)]
    resumed = train_loader(shards, CONFIG.model_copy(update={"num_workers": after}), 0)
    resumed.load_state_dict(state)
    assert all(same(a, b) for a, b in zip(expected, resumed, strict=False))


def test_a_position_of_two_ranks_is_one_of_a_single_one(shards: ShardSet) -> None:
    """After a change of the number of ranks no window is lost and none comes twice."""
    loaders = [train_loader(shards, CONFIG, 0, rank=rank, world_size=2) for rank in (0, 1)]
    for loader in loaders:
        list(islice(loader, 3))
    states = [loader.state_dict() for loader in loaders]
    assert states[0] == states[1]
    alone = train_loader(shards, CONFIG.model_copy(update={"batch": 6}), 0)
    alone.load_state_dict(states[0])
    assert places(list(islice(alone, 2))) == places(take(shards, 5, batch=6))[18:]


def test_iterating_again_goes_on(shards: ShardSet) -> None:
    loader = train_loader(shards, CONFIG, 0)
    assert places([*islice(loader, 2), *islice(loader, 2)]) == places(take(shards, 4))


def test_resuming_decodes_nothing_that_was_seen(shards: ShardSet, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = train_loader(shards, CONFIG, 0)
    next(islice(loader, 19, None))
    state = loader.state_dict()
    decoded: list[str] = []
    real = Sample.frames
    monkeypatch.setattr(Sample, "frames", lambda self, at=None: decoded.append(self.key) or real(self, at))
    resumed = train_loader(shards, CONFIG, 0)
    resumed.load_state_dict(state)
    clip = next(iter(resumed))
    assert set(decoded) == set(clip.key)


def test_the_cache_saves_decoding_and_keeps_its_bound(
    shards: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    real = Sample.frames
    monkeypatch.setattr(Sample, "frames", lambda self, at=None: decoded.append(self.key) or real(self, at))
    take(shards, 30)
    assert max(Counter(decoded).values()) == 1
    decoded.clear()
    take(shards, 30, cache_gb=2 * 12 * 32 * 32 * 3 / 2**30)  # room for two samples
    assert sum(count == 1 for count in Counter(decoded).values()) <= 4
    assert max(Counter(decoded).values()) > 4


def test_a_state_of_other_data_is_refused(shards: ShardSet) -> None:
    loader = train_loader(shards, CONFIG, 0)
    next(iter(loader))
    other = train_loader(shards, CONFIG.model_copy(update={"clip_frames": 2}), 0)
    with pytest.raises(UserError, match="belongs to other data: clip_frames=4, now it is 2"):
        other.load_state_dict(loader.state_dict())
    with pytest.raises(UserError, match="holds ranks, expected windows and of: it was written by another"):
        other.load_state_dict({"ranks": []})


def test_the_global_generator_is_left_alone(shards: ShardSet) -> None:
    before = torch.get_rng_state()
    take(shards, 2)
    assert torch.equal(before, torch.get_rng_state())


def test_clips_move_with_their_names(shards: ShardSet) -> None:
    clip = take(shards, 1)[0]
    moved = clip.to("meta")
    assert moved.frames.device.type == "meta"
    assert (moved.source, moved.start, len(moved)) == (clip.source, clip.start, 3)


def test_validation_is_spread_evenly_over_sources(shards: ShardSet) -> None:
    clips = validation_clips(shards, "test", 4, 5)
    assert all(same(a, b) for a, b in zip(clips, validation_clips(shards, "test", 4, 5), strict=True))
    assert len(clips) == len(set(places(clips))) == 5
    # The second has 5 frames, hence one window; the other two share the rest.
    count = Counter(clip.source[0] for clip in clips)
    assert count == {"held_out_0.mp4": 2, "held_out_1.mp4": 1, "held_out_2.mp4": 2}
    assert len({clip.source[0] for clip in clips[:3]}) == 3


def test_validation_windows_do_not_overlap_and_end_with_the_data(shards: ShardSet) -> None:
    clips = validation_clips(shards, "test", 4, 1000, batch=4)
    seen = [(clip.source[i], f) for clip in clips for i in range(len(clip)) for f in clip.frame_index[i]]
    assert len(seen) == len(set(seen))
    assert [len(clip) for clip in clips[:-1]] == [4] * (len(clips) - 1)
    assert sum(map(len, clips)) == sum(length // 4 for shard in shards.of("test") for length in shard.lengths)


def test_stride_takes_every_nth_frame(shards: ShardSet) -> None:
    for clip in [*take(shards, 3, stride=3), *validation_clips(shards, "test", 3, 3, stride=2)]:
        steps = np.diff(np.asarray(clip.frame_index))
        assert set(steps.flatten().tolist()) <= {2, 3}


@pytest.mark.parametrize(
    ("split", "frames", "message"), [("train", 13, "longest has 12"), ("dev", 4, "empty")]
)
def test_windows_that_do_not_exist_are_user_errors(
    shards: ShardSet, split: str, frames: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        validation_clips(shards, split, frames, 1)
    with pytest.raises(UserError, match=message):
        train_loader(shards, CONFIG.model_copy(update={"clip_frames": frames}), 0, split=split)


def test_ranks_take_different_windows(shards: ShardSet) -> None:
    ranks = [
        places(list(islice(train_loader(shards, CONFIG, 0, rank=rank, world_size=2), 2))) for rank in (0, 1)
    ]
    alone = places(take(shards, 2, batch=6))
    assert ranks[0][:3] + ranks[1][:3] + ranks[0][3:] + ranks[1][3:] == alone
