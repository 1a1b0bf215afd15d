"""Windows out of video shards: what is kept in memory, what is decoded, and what turns out to be damaged."""

from collections import OrderedDict
from dataclasses import replace

import numpy as np

from genie_lite.data.loading.clip import Window
from genie_lite.data.loading.weigher import Weigher
from genie_lite.data.loading.windows import Damage, LoaderConfig
from genie_lite.data.shards.index import ADVICE, Shard
from genie_lite.data.shards.shards import Sample, ShardDamage, ShardSet
from genie_lite.errors import UserError


class ClipReader:
    """Windows out of shards, with the last few shards and as many decoded samples as fit in memory.

    Decoded samples are never evicted: over epochs every sample comes equally often, and then the first that
    fill the cache serve better than the latest ones would. What does not fit is decoded window by window.
    What was found damaged is not tried again.
    """

    def __init__(self, shards: ShardSet, config: LoaderConfig, cache_bytes: int) -> None:
        """Prepare to read; nothing is read yet.

        Raises:
            UserError: a folder of masks that is not there.
        """
        self._shards, self._config = shards, config
        self._weigher = Weigher(shards, config.weight)
        self._room_bytes = cache_bytes
        self._open: OrderedDict[str, list[Sample]] = OrderedDict()
        self._decoded: dict[tuple[str, int], tuple[Sample, np.ndarray]] = {}
        self._broken: dict[tuple[str, int | None], ShardDamage] = {}

    def read(self, shard: Shard, index: int, start: int, stride: int) -> Window:
        """The window of a sample that begins at frame `start`, its frames `stride` apart.

        Raises:
            ShardDamage: the shard, or this sample of it, cannot be read any more.
        """
        places = list(range(start, start + self._config.span_of(stride), stride))
        sample, pixels = self._pixels(shard, index, places)
        source, source_frames = sample.meta["source"], sample.meta["source_frames"]
        frame_index = [source_frames[k] for k in places]
        weight = self._weigher(pixels, source, frame_index)
        return Window(pixels, source, start, sample.key, frame_index, stride / self._shards.rate_hz, weight)

    def take_damage(self) -> list[Damage]:
        """What `read` found to have no weights since it was last asked."""
        return self._weigher.take_damage()

    def _pixels(self, shard: Shard, index: int, places: list[int]) -> tuple[Sample, np.ndarray]:
        cached = self._decoded.get((shard.file, index))
        if cached is not None:
            return cached[0], cached[1][places]
        sample = self._sample(shard, index)
        height, width = self._shards.frame_hw
        size_bytes = shard.lengths[index] * height * width * 3
        if size_bytes > self._room_bytes:
            return sample, self._frames(shard, index, sample, places)
        frames = self._frames(shard, index, sample, None)
        self._room_bytes -= size_bytes
        self._decoded[shard.file, index] = (replace(sample, mp4=b""), frames)
        return sample, frames[places]

    def _frames(self, shard: Shard, index: int, sample: Sample, places: list[int] | None) -> np.ndarray:
        self._expect_whole(shard.file, index)
        try:
            frames = sample.frames(places)
            if places is None and len(frames) != shard.lengths[index]:
                raise UserError(f"{len(frames)} frames, expected {shard.lengths[index]}")
        except UserError as error:
            where = f"{self._shards.place}: {shard.file}: sample {sample.key}"
            found = ShardDamage(f"{where}: {error}; {ADVICE}", shard.file, str(error))
            self._broken[shard.file, index] = found
            raise found from error
        return frames

    def _sample(self, shard: Shard, index: int) -> Sample:
        if shard.file not in self._open:
            self._expect_whole(shard.file, None)
            while len(self._open) >= self._config.shuffle_shards:
                self._open.popitem(last=False)
            try:
                self._open[shard.file] = self._shards.read(shard)
            except ShardDamage as error:
                self._broken[shard.file, None] = error
                raise
        self._open.move_to_end(shard.file)
        return self._open[shard.file][index]

    def _expect_whole(self, file: str, index: int | None) -> None:
        if (found := self._broken.get((file, index))) is not None:
            raise found
