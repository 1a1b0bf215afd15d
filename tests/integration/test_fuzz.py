"""Two hundred files that no program should have made: each ends as one row, and none harms the rest."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.data.ingest.ingest import ingest
from genie_lite.data.ingest.workers import Workers
from genie_lite.data.shards.shards import ShardSet
from tests.videos import huge_gif, wandering_square, write, write_foreign

CONFIG = IngestConfig(size_px=32, min_frames=4, segment_frames=32)
WHOLE = {
    "a.mp4": "libx264",
    "b.mkv": "libx264",
    "c.webm": "libvpx-vp9",
    "d.avi": "mpeg4",
    "e.mov": "mpeg4",
}
PER_KIND = 8


def truncated(data: bytes, random: np.random.Generator) -> bytes:
    return data[: random.integers(1, len(data))]


def flipped(data: bytes, random: np.random.Generator) -> bytes:
    changed = np.frombuffer(data, np.uint8).copy()
    places = random.integers(0, len(changed), random.integers(1, 40))
    changed[places] = random.integers(0, 256, len(places))
    return changed.tobytes()


def hollowed(data: bytes, random: np.random.Generator) -> bytes:
    """A run of zeros somewhere, as an unfinished download leaves it."""
    first = int(random.integers(0, len(data)))
    length = int(random.integers(1, max(2, len(data) // 3)))
    return data[:first] + bytes(len(data[first : first + length])) + data[first + length :]


def doubled(data: bytes, random: np.random.Generator) -> bytes:
    cut = int(random.integers(1, len(data)))
    return data[:cut] + data[: int(random.integers(1, len(data)))]


def spoilt_at_the_front(data: bytes, random: np.random.Generator) -> bytes:
    changed = np.frombuffer(data, np.uint8).copy()
    places = random.integers(0, min(256, len(changed)), 12)
    changed[places] ^= random.integers(1, 256, 12).astype(np.uint8)
    return changed.tobytes()


MUTATIONS = (truncated, flipped, hollowed, doubled, spoilt_at_the_front)


def with_another_head(one: bytes, other: bytes) -> bytes:
    return other[:64] + one[64:]


@pytest.fixture(scope="module")
def rubbish(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A folder of mutated files, and five good videos among them."""
    whole, folder = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("rubbish")
    for name, codec in WHOLE.items():
        write_foreign(whole / name, wandering_square(name, 24, 48), codec=codec, rate=10)
    content = {name: (whole / name).read_bytes() for name in WHOLE}
    random = np.random.default_rng(0)
    for name, data in content.items():
        stem, _, suffix = name.partition(".")
        for mutate in MUTATIONS:
            for number in range(PER_KIND):
                (folder / f"{stem}-{mutate.__name__}-{number}.{suffix}").write_bytes(mutate(data, random))
        for other, head in content.items():
            if other != name:
                (folder / f"{stem}-head-of-{other[0]}.{suffix}").write_bytes(with_another_head(data, head))
        (folder / f"{stem}-named-otherwise.{'gif' if suffix != 'gif' else 'mp4'}").write_bytes(data)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "zeros.mp4").write_bytes(bytes(5000))
    (folder / "noise.webm").write_bytes(random.bytes(5000))
    (folder / "text.mp4").write_text("#EXTM3U\nfile:///etc/passwd\n")
    (folder / "concat.mov").write_text("ffconcat version 1.0\nfile /etc/passwd\n")
    huge_gif(folder / "huge.gif")
    write(folder / "one pixel.mp4", np.full((12, 2, 2, 3), 90, np.uint8))
    write_foreign(folder / "one frame.mkv", wandering_square("1", 1, 48), rate=10)
    eight_k = np.broadcast_to(np.arange(7680, dtype=np.uint8)[None, None, :, None], (1, 4320, 7680, 3))
    write_foreign(folder / "8k.avi", eight_k, codec="mpeg4", rate=10)
    for number in range(5):
        write(folder / f"good-{number}.mp4", wandering_square(f"good {number}", 24, 48))
    return folder, len(list(folder.iterdir()))


def test_every_file_ends_in_the_manifest_and_the_good_ones_in_the_shards(
    rubbish: tuple[Path, int], tmp_path: Path
) -> None:
    folder, num = rubbish
    assert num >= 200
    summary = ingest([folder], tmp_path, CONFIG, workers=Workers(num=2))
    rows = {
        row["source"]: row for row in map(json.loads, (tmp_path / "manifest.jsonl").read_text().splitlines())
    }
    assert rows.keys() == {path.name for path in folder.iterdir()}
    assert summary.sources == num == summary.ingested + summary.filtered + summary.quarantined
    assert all(row["reason"] for row in rows.values() if row["status"] != "ingested")
    assert {rows[f"good-{number}.mp4"]["status"] for number in range(5)} == {"ingested"}
    for name in ("empty.mp4", "zeros.mp4", "noise.webm", "text.mp4", "concat.mov", "huge.gif"):
        assert rows[name]["status"] == "quarantined", rows[name]
    for name in ("one pixel.mp4", "one frame.mkv", "8k.avi"):
        assert rows[name]["status"] in ("filtered", "quarantined"), rows[name]
    counts = Counter(row["status"] for row in rows.values())
    assert counts["quarantined"] > 50, counts
    shards = ShardSet.open(tmp_path, strict=True)
    for split in ("train", "test"):
        for sample in shards.samples(split):
            assert sample.frames().shape == (sample.meta["num_frames"], 32, 32, 3)
