"""Small finished folders of shards, and what happens to them on the way and on a disk."""

import functools
from pathlib import Path

from genie_lite.data.shards.index import index_of
from genie_lite.data.shards.shards import Sample, ShardSet, ShardWriter
from genie_lite.data.video.codec import encode_mp4
from genie_lite.files import write_json
from tests.videos import moving_square

SPLITS = ("train", "train", "test")


@functools.cache
def _mp4(length: int) -> bytes:
    return encode_mp4(moving_square(length), 10.0)


def write_folder(
    folder: Path, splits: tuple[str, ...] = SPLITS, lengths: tuple[int, ...] = (5, 3)
) -> ShardSet:
    """One shard per entry of `splits`, each with one sample per length, each of a source of its own."""
    folder.mkdir(parents=True)
    shards = []
    for number, split in enumerate(splits):
        with ShardWriter(folder, split, number) as writer:
            for part, length in enumerate(lengths):
                key = f"{split}-{number}-{part}"
                meta = {
                    "source": f"{key}.mp4",
                    "split": split,
                    "num_frames": length,
                    "source_frames": list(range(length)),
                }
                writer.add(Sample(key, _mp4(length), meta))
            shards.append(writer.close())
    write_json(folder / "shards.json", index_of(shards, {"size_px": 32, "rate_hz": 10.0}))
    return ShardSet.open(folder)


def flip(file: Path, place: int = 700) -> None:
    """Turn one bit of one byte."""
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)
