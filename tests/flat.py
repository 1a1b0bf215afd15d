"""Shards in memory that tell where every frame and every token of a window came from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genie_lite.data.shards.index import Shard
from genie_lite.data.shards.shards import Sample, ShardSet
from genie_lite.data.shards.token_shards import MappedShard, Origin, TokenShards

Lengths = Sequence[Sequence[int]]  # of the samples of each shard, in frames


@dataclass(frozen=True)
class Flat(Sample):
    """A sample whose k-th frame is a 1 x 1 pixel of value k."""

    def frames(self, indices: list[int] | None = None) -> np.ndarray:
        values = np.arange(self.meta["num_frames"], dtype=np.uint8)
        values = values if indices is None else values[indices]
        return np.broadcast_to(values[:, None, None, None], (len(values), 1, 1, 3))


@dataclass(frozen=True)
class FlatSet(ShardSet):
    """Shards of video."""

    def read(self, shard: Shard) -> list[Sample]:
        metas = [
            {"num_frames": n, "source": f"{shard.file}/{k}", "source_frames": [10 * i for i in range(n)]}
            for k, n in enumerate(shard.lengths)
        ]
        return [Flat(f"{shard.file}-{k}", b"", meta) for k, meta in enumerate(metas)]


@dataclass(frozen=True)
class FlatTokens(TokenShards):
    """Shards of tokens, one per frame: its number among all frames from `first` on, as is its code."""

    first: int = 0

    def map(self, shard: Shard) -> MappedShard:
        earlier = self.files.shards[: self.files.shards.index(shard)]
        begin = self.first + sum(each.frames for each in earlier)
        rows = np.cumsum([0, *shard.lengths[:-1]]).tolist()
        return MappedShard(np.arange(begin, begin + shard.frames, dtype=np.uint16), rows, rows)


def flat_video(
    lengths: Lengths, name: str = "train", kind: type[FlatSet] = FlatSet, rate_hz: float = 10.0
) -> FlatSet:
    return kind(Path(name), {"size_px": 1, "rate_hz": rate_hz}, f"of {name}", _shards(lengths, name))


def flat_tokens(lengths: Lengths, name: str = "train", first: int = 0) -> FlatTokens:
    shards = _shards(lengths, name)
    files = ShardSet(Path(name), {"size_px": 1, "rate_hz": 10.0}, "of the tokens", shards)
    sources = {shard.file: shard.sha256 for shard in shards}
    return FlatTokens(files, Origin({"tokenizer": "a", "lam": "b"}, 1, name, sources), first)


def _shards(lengths: Lengths, name: str) -> tuple[Shard, ...]:
    return tuple(
        Shard(f"{name}-{k}", "train", f"{name} {k}", len(each), sum(each), 1, tuple(each))
        for k, each in enumerate(lengths)
    )


class Numbers:
    """A corpus whose windows are its name and their number."""

    def __init__(self, name: str) -> None:
        self._name = name

    def identity(self) -> dict[str, Any]:
        return {"name": self._name}

    def read(self, numbers: Sequence[int]) -> list[tuple[str, int]]:
        return [(self._name, number) for number in numbers]

    def take_damage(self) -> list[Any]:
        return []
