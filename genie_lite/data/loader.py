"""Shards to clips: an endless, exactly resumable stream of windows, and a fixed set for validation.

Which window comes when is a pure function of the seed. All windows of all epochs form one endless sequence;
batch m of rank r is windows (m * world_size + r) * batch onwards of it, and worker w makes batches
w, w + num_workers, ... So neither the number of workers nor resuming changes what is trained on, several
ranks see together what one process with their joint batch would see, and no shard has to belong to a worker.

An epoch shuffles the shards, takes `shuffle_shards` of them at a time and shuffles the windows in those. A
sample of n frames gives n // span windows per epoch (at least one), each at a start drawn anew, so that a
frame of a long shot is seen as often as one of a short shot. Windows never leave a sample.
"""

import hashlib
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice, zip_longest
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from pydantic import Field
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info
from torchdata.stateful_dataloader import StatefulDataLoader

from genie_lite.config import Config
from genie_lite.data.shards import Sample, Shard, ShardSet
from genie_lite.errors import UserError


class LoaderConfig(Config):
    """How windows are drawn.

    clip_frames: frames of a window. batch: windows per batch and rank. stride: samples' frames from one
    frame of a window to the next. shuffle_shards: shards in memory, and shuffled together, at a time.
    cache_gb: decoded frames kept, per rank. num_workers: loading processes, 0 to load in the trainer's.
    """

    clip_frames: int = Field(default=16, ge=1)
    batch: int = Field(default=16, ge=1)
    stride: int = Field(default=1, ge=1)
    shuffle_shards: int = Field(default=4, ge=1)
    cache_gb: float = Field(default=2.0, ge=0)
    num_workers: int = Field(default=0, ge=0)

    @property
    def span(self) -> int:
        """Frames of a sample from a window's first frame to its last, both included."""
        return (self.clip_frames - 1) * self.stride + 1


@dataclass(frozen=True)
class Clip:
    """A batch of windows.

    frames: in [0, 1]. source: name of the video of each window. start: place of its first frame in its
    sample. key: of its sample. frame_index: for each of its frames, the index in the source, which labels
    are joined by. The last two are empty for frames that come from elsewhere than shards.
    """

    frames: Float[Tensor, "b t c h w"]
    source: list[str]
    start: list[int]
    key: list[str] = field(default_factory=list)
    frame_index: list[list[int]] = field(default_factory=list)

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.frames)

    def to(self, device: torch.device | str, **kwargs: Any) -> "Clip":
        """The same clip with its frames on a device."""
        return replace(self, frames=self.frames.to(device, **kwargs))


def to_frames(pixels: UInt8[np.ndarray, "*batch h w c"]) -> Float[Tensor, "*batch c h w"]:
    """uint8 as on disk to float in [0, 1] as in the models: the only place where frames change their type."""
    return rearrange(torch.from_numpy(pixels), "... h w c -> ... c h w").contiguous().float() / 255


@dataclass(frozen=True)
class Window:
    """One window as it travels from a worker, frames still uint8 `t h w c`."""

    pixels: np.ndarray
    source: str
    start: int
    key: str
    frame_index: list[int]


def train_loader(
    shards: ShardSet,
    config: LoaderConfig,
    seed: int,
    *,
    rank: int = 0,
    world_size: int = 1,
    split: str = "train",
) -> StatefulDataLoader:
    """An endless loader of `Clip`s; `state_dict` and `load_state_dict` resume it at the very next batch.

    Resuming decodes nothing that was seen before. A state belongs to one data set, seed, batch size and
    number of ranks (UserError otherwise) and to one number of workers.

    Raises:
        UserError: no sample of the split is long enough for a window.
    """
    windows = Windows(shards, config, seed, rank=rank, world_size=world_size, split=split)
    with warnings.catch_warnings():
        # torchdata 0.11 calls what torch 2.13 deprecates
        warnings.filterwarnings("ignore", "'set_vital' is deprecated", UserWarning)
        return _ClipLoader(
            _Stream(windows),
            batch_size=None,  # a worker makes whole batches
            num_workers=config.num_workers,
            generator=torch.Generator().manual_seed(seed),  # leaves torch's global generator alone
        )


def validation_clips(
    shards: ShardSet, split: str, clip_frames: int, limit: int, *, stride: int = 1, batch: int = 1
) -> list[Clip]:
    """At most `limit` windows, always the same ones, as evenly as possible from all sources.

    Windows do not overlap. With fewer than `limit` sources each gives several; with more, a fixed choice
    of `limit` sources gives one each.

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
    config = LoaderConfig(clip_frames=clip_frames, stride=stride)
    _expect_windows(shards, split, config)
    places: dict[str, list[_Place]] = defaultdict(list)
    for shard in shards.of(split):
        for index, sample in enumerate(shards.read(shard)):
            for start in range(0, shard.lengths[index] - config.span + 1, config.span):
                places[sample.meta["source"]].append(_Place(_hash(sample.key, start), shard, index, start))
    by_source = [
        sorted(places[source], key=lambda place: place.order) for source in sorted(places, key=_hash)
    ]
    in_turn = (place for place in chain.from_iterable(zip_longest(*by_source)) if place is not None)
    chosen = list(islice(in_turn, limit))
    reader = _Reader(shards, config, cache_bytes=0)
    by_shard = sorted(chosen, key=lambda place: place.shard.file)  # each shard is read once
    read = {place.order: reader.read(place.shard, place.index, place.start) for place in by_shard}
    windows = [read[place.order] for place in chosen]
    return [_clip(windows[first : first + batch]) for first in range(0, len(windows), batch)]


@dataclass(frozen=True)
class _Place:
    """Where a window lies; `order` is unique and as good as random."""

    order: str
    shard: Shard
    index: int
    start: int


class Windows:
    """The endless sequence of windows, of which one rank takes its batches; see the top of this file."""

    def __init__(
        self, shards: ShardSet, config: LoaderConfig, seed: int, *, rank: int, world_size: int, split: str
    ) -> None:
        _expect_windows(shards, split, config)
        self.shards, self.config, self.seed = shards, config, seed
        self.rank, self.world_size, self.split = rank, world_size, split
        self._rows = [_rows(shard, config.span) for shard in shards.of(split)]

    @property
    def per_epoch(self) -> int:
        """Windows that one pass over the data draws, over all ranks."""
        return sum(len(rows) for rows in self._rows)

    def batches(self, worker: int = 0, num_workers: int = 1) -> "Batches":
        """This rank's batches, or those of them that one of several workers makes."""
        return Batches(self, worker, num_workers)

    def epoch_order(self, epoch: int) -> np.ndarray:
        """(windows, 3) int32: shard, sample in the shard, number of the draw. Depends on seed and epoch."""
        random = np.random.default_rng([self.seed, epoch])
        shard_order = random.permutation(len(self._rows))
        groups = []
        for first in range(0, len(shard_order), self.config.shuffle_shards):
            group = shard_order[first : first + self.config.shuffle_shards]
            rows = np.concatenate([np.insert(self._rows[shard], 0, shard, axis=1) for shard in group])
            groups.append(random.permutation(rows))
        return np.concatenate(groups)

    def identity(self) -> dict[str, Any]:
        """What a saved position depends on."""
        return {
            "fingerprint": self.shards.fingerprint,
            "split": self.split,
            "seed": self.seed,
            "world_size": self.world_size,
            **self.config.model_dump(include={"batch", "clip_frames", "stride", "shuffle_shards"}),
        }


class Batches:
    """Every `num_workers`-th batch of a rank, from `worker` on. Its position is one number."""

    def __init__(self, windows: Windows, worker: int, num_workers: int) -> None:
        self._windows = windows
        self._batch, self._num_workers = worker, num_workers
        cache_bytes = int(windows.config.cache_gb * 2**30 / num_workers)
        self._reader = _Reader(windows.shards, windows.config, cache_bytes)
        self._shards = windows.shards.of(windows.split)
        self._epoch, self._order = -1, np.empty((0, 3), np.int32)

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> list[Window]:
        windows = self._windows
        first = (self._batch * windows.world_size + windows.rank) * windows.config.batch
        batch = [self._window(number) for number in range(first, first + windows.config.batch)]
        self._batch += self._num_workers
        return batch

    def state_dict(self) -> dict[str, Any]:
        """The next batch, and what the count refers to."""
        return {"batch": self._batch, "of": self._windows.identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved position; nothing is read until the next batch is wanted."""
        saved, here = state["of"], self._windows.identity()
        changed = [f"{key} was {saved[key]}, now {here[key]}" for key in here if saved[key] != here[key]]
        if changed:
            raise UserError(
                f"the saved data position belongs to other data: {', '.join(changed)}; "
                "restore that, or begin anew without the checkpoint"
            )
        self._batch = state["batch"]

    def _window(self, number: int) -> Window:
        epoch, place = divmod(number, self._windows.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._windows.epoch_order(epoch)
        shard_number, index, draw = (int(value) for value in self._order[place])
        shard = self._shards[shard_number]
        free = shard.lengths[index] - self._windows.config.span + 1
        start = int(_hash(self._windows.seed, epoch, shard.file, index, draw)[:15], 16) % free
        return self._reader.read(shard, index, start)


class _Reader:
    """Windows out of shards, with the last few shards and as many decoded samples as fit in memory.

    Decoded samples are never evicted: over epochs every sample comes equally often, and then the first that
    fill the cache serve better than the latest ones would. What does not fit is decoded window by window.
    """

    def __init__(self, shards: ShardSet, config: LoaderConfig, cache_bytes: int) -> None:
        self._shards, self._config = shards, config
        self._room_bytes = cache_bytes
        self._open: OrderedDict[str, list[Sample]] = OrderedDict()
        self._decoded: dict[tuple[str, int], tuple[Sample, np.ndarray]] = {}

    def read(self, shard: Shard, index: int, start: int) -> Window:
        """The window of a sample that begins at frame `start`."""
        places = list(range(start, start + self._config.span, self._config.stride))
        sample, pixels = self._pixels(shard, index, places)
        source_frames = sample.meta["source_frames"]
        return Window(pixels, sample.meta["source"], start, sample.key, [source_frames[k] for k in places])

    def _pixels(self, shard: Shard, index: int, places: list[int]) -> tuple[Sample, np.ndarray]:
        cached = self._decoded.get((shard.file, index))
        if cached is not None:
            return cached[0], cached[1][places]
        sample = self._sample(shard, index)
        height, width = self._shards.frame_hw
        size_bytes = shard.lengths[index] * height * width * 3
        if size_bytes > self._room_bytes:
            return sample, sample.frames(places)
        self._room_bytes -= size_bytes
        frames = sample.frames()
        self._decoded[shard.file, index] = (replace(sample, mp4=b""), frames)
        return sample, frames[places]

    def _sample(self, shard: Shard, index: int) -> Sample:
        if shard.file not in self._open:
            while len(self._open) >= self._config.shuffle_shards:
                self._open.popitem(last=False)
            self._open[shard.file] = self._shards.read(shard)
        self._open.move_to_end(shard.file)
        return self._open[shard.file][index]


class _Stream(IterableDataset):
    """Gives each loading process its share of the batches."""

    def __init__(self, windows: Windows) -> None:
        super().__init__()
        self.windows = windows

    def __iter__(self) -> Batches:
        worker = get_worker_info()
        return self.windows.batches(worker.id, worker.num_workers) if worker else self.windows.batches()


class _ClipLoader(StatefulDataLoader):
    """Frames stay uint8 between processes, a quarter of the bytes, and become float in the trainer's."""

    def __iter__(self) -> Iterator[Clip]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return map(_clip, super().__iter__())


def _clip(windows: Sequence[Window]) -> Clip:
    return Clip(
        frames=to_frames(np.stack([window.pixels for window in windows])),
        source=[window.source for window in windows],
        start=[window.start for window in windows],
        key=[window.key for window in windows],
        frame_index=[window.frame_index for window in windows],
    )


def _rows(shard: Shard, span: int) -> np.ndarray:
    """(windows, 2): sample in the shard, number of the draw."""
    counts = np.asarray([length // span for length in shard.lengths], dtype=np.int64)
    samples = np.repeat(np.arange(len(counts)), counts)
    draws = np.arange(len(samples)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.stack([samples, draws], axis=1).astype(np.int32)


def _expect_windows(shards: ShardSet, split: str, config: LoaderConfig) -> None:
    if not shards.of(split):
        raise UserError(f"{shards.folder}: split '{split}' is empty; ingest more videos or set test_share")
    if not shards.num_windows(split, config.clip_frames, config.stride):
        longest = max(length for shard in shards.of(split) for length in shard.lengths)
        raise UserError(
            f"{shards.folder}: split '{split}' has no shot of {config.span} frames (clip_frames "
            f"{config.clip_frames}, stride {config.stride}), the longest has {longest}; use shorter clips"
        )


def _hash(*parts: object) -> str:
    return hashlib.sha256("/".join(map(str, parts)).encode("utf-8", "surrogateescape")).hexdigest()
