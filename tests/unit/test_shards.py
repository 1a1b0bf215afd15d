"""Shards: what goes in comes out, and what is damaged is found."""

import json
from pathlib import Path

import pytest

from genie_lite.data.shards import Sample, ShardSet, ShardWriter, index_of
from genie_lite.data.video import encode_mp4
from genie_lite.errors import UserError
from tests.videos import moving_square


def sample(key: str, length: int) -> Sample:
    frames = moving_square(length, size=32, shift=length)
    meta = {"num_frames": length, "source": f"{key}.mp4", "source_frames": list(range(length))}
    return Sample(key, encode_mp4(frames, 10.0), meta)


def write_shards(folder: Path, lengths: dict[str, list[list[int]]]) -> Path:
    folder.mkdir(exist_ok=True)
    shards = []
    for split, files in lengths.items():
        for number, samples in enumerate(files):
            with ShardWriter(folder, split, number) as writer:
                for k, length in enumerate(samples):
                    writer.add(sample(f"{split}-{number}-{k}", length))
                shards.append(writer.close())
    index = index_of(shards, {"size_px": 32, "rate_hz": 10.0})
    (folder / "shards.json").write_text(json.dumps(index))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_shards(tmp_path / "shards", {"train": [[5, 3], [8]], "test": [[4]]})


def test_samples_come_back_in_order(folder: Path) -> None:
    found = list(ShardSet.open(folder).samples("train"))
    assert [each.key for each in found] == ["train-0-0", "train-0-1", "train-1-0"]
    assert found[1] == sample("train-0-1", 3)
    assert found[2].frames().shape == (8, 32, 32, 3)
    assert found[2].frames([7, 0]).shape == (2, 32, 32, 3)


def test_counts_are_of_frames_transitions_and_windows(folder: Path) -> None:
    shards = ShardSet.open(folder)
    assert (shards.num_samples("train"), shards.num_frames("train"), shards.num_transitions("train")) == (
        3,
        16,
        13,
    )
    assert shards.num_windows("train", 4) == 2 + 0 + 5
    assert shards.num_windows("train", 3, stride=2) == 1 + 0 + 4
    assert shards.num_windows("validation", 3) == 0
    assert (shards.frame_hw, shards.rate_hz) == ((32, 32), 10.0)


def test_the_fingerprint_follows_the_content(folder: Path, tmp_path: Path) -> None:
    again = write_shards(tmp_path / "again", {"train": [[5, 3], [8]], "test": [[4]]})
    other = write_shards(tmp_path / "other", {"train": [[5, 3], [7]], "test": [[4]]})
    assert ShardSet.open(folder).fingerprint == ShardSet.open(again).fingerprint
    assert ShardSet.open(folder).fingerprint != ShardSet.open(other).fingerprint


def test_an_unfinished_shard_leaves_nothing(tmp_path: Path) -> None:
    def fail_in_the_middle() -> None:
        with ShardWriter(tmp_path, "train", 0) as writer:
            writer.add(sample("a", 4))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_in_the_middle()
    with ShardWriter(tmp_path, "train", 1) as writer:
        assert writer.close() is None
    assert not list(tmp_path.iterdir())


def flip_a_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 0xFF
    file.write_bytes(data)


def cut_off(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("damage", "message"), [(flip_a_byte, "sha256"), (cut_off, "bytes"), (Path.unlink, "missing")]
)
def test_damage_is_found_when_opening(folder: Path, damage, message: str) -> None:
    damage(folder / "train-000001.tar")
    with pytest.raises(UserError, match=rf"train-000001\.tar.*{message}"):
        ShardSet.open(folder)


def test_damage_after_opening_is_found_when_reading(folder: Path) -> None:
    shards = ShardSet.open(folder)
    data = (folder / "train-000000.tar").read_bytes()
    second = data.index(b"train-0-1.json")
    (folder / "train-000000.tar").write_bytes(data[:second] + bytes(1024))  # a whole tar, less one member
    with pytest.raises(UserError, match=r"train-000000\.tar"):
        list(shards.samples("train"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no finished shards"),
        ("{", "not an index"),
        ('{"format": 99}', "format 99"),
        ("[]", "not an index"),
    ],
)
def test_a_folder_without_a_good_index_is_refused(folder: Path, text: str | None, message: str) -> None:
    if text is None:
        (folder / "shards.json").unlink()
    else:
        (folder / "shards.json").write_text(text)
    with pytest.raises(UserError, match=message):
        ShardSet.open(folder)
