"""Footage in memory for the tests of adapt: and shards on disk, tiny."""

from pathlib import Path

import numpy as np

from genie_lite.adapt.footage import Footage
from genie_lite.data.shards.index import index_of
from genie_lite.data.shards.shards import Sample, ShardSet, ShardWriter
from genie_lite.data.video.codec import encode_mp4
from genie_lite.files import write_json
from tests.videos import wandering_square


def footage(
    lengths: tuple[int, ...] = (6, 5), size_px: int = 16, split: tuple[str, ...] | None = None
) -> Footage:
    """Shots `shot-0.mp4`, `shot-1.mp4`, ... of flat frames; the brightness of row r is r."""
    num = sum(lengths)
    names = np.array([f"shot-{number}.mp4" for number in range(len(lengths))])
    splits = np.array(split if split is not None else ("train",) * len(lengths))
    start = np.cumsum(lengths) - lengths
    has_next = np.ones(num, dtype=bool)
    has_next[np.cumsum(lengths) - 1] = False
    level = np.arange(num, dtype=np.uint8)[:, None, None, None]
    return Footage(
        frames=np.broadcast_to(level, (num, size_px, size_px, 3)).copy(),
        first=np.repeat(start, lengths),
        source=np.repeat(names, lengths),
        split=np.repeat(splits, lengths),
        frame_index=np.concatenate([np.arange(length) for length in lengths]),
        has_next=has_next,
    )


def write_shards(
    folder: Path,
    splits: tuple[str, ...],
    lengths: tuple[int, ...] = (9, 7),
    rate_hz: float = 10.0,
    every: int = 3,
) -> ShardSet:
    """One shard per entry of `splits`, each with one shot per length: a square that moves at random.

    Shots are called `train-0-0.mp4` (split, shard, shot); frame k of a shot is native frame `every` k of
    `every` times 10 Hz.
    """
    folder.mkdir(parents=True)
    shards = []
    for number, split in enumerate(splits):
        with ShardWriter(folder, split, number) as writer:
            for part, length in enumerate(lengths):
                writer.add(_sample(f"{split}-{number}-{part}", split, length, every))
            shards.append(writer.close())
    write_json(folder / "shards.json", index_of(shards, {"size_px": 16, "rate_hz": rate_hz}))
    return ShardSet.open(folder)


def _sample(key: str, split: str, length: int, every: int) -> Sample:
    meta = {
        "source": f"{key}.mp4",
        "split": split,
        "source_rate_hz": 10.0 * every,
        "source_frames": list(range(0, every * length, every)),
        "times_s": [k / 10 for k in range(length)],
        "num_frames": length,
    }
    return Sample(key, encode_mp4(wandering_square(key, length, 16), 10.0), meta)
