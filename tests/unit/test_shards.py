"""Shards: what goes in comes out, and what is damaged is found, named, left out and counted."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from genie_lite.data.shards.index import index_of, load_index
from genie_lite.data.shards.shards import Sample, ShardDamage, ShardSet, ShardWriter
from genie_lite.data.video.codec import encode_mp4
from genie_lite.errors import UserError
from tests.videos import moving_square


def sample(key: str, length: int) -> Sample:
    frames = moving_square(length, size=32, shift=length)
    about = {"source": f"{key}.mp4", "split": key.split("-")[0], "source_frames": list(range(length))}
    meta = {"num_frames": length} | about
    return Sample(key, encode_mp4(frames, 10.0), meta)


def write_shards(folder: Path, lengths: dict[str, list[list[int]]]) -> Path:
    folder.mkdir(exist_ok=True)
    shards = []
    for split, files in lengths.items():
        for number, samples in enumerate(files):
            with ShardWriter(folder, split, number) as writer:
                for k, length in enumerate(samples):
                    writer.add(sample(f"{split}-{number}-{k}", length))
                shard = writer.close()
                assert shard is not None
                shards.append(shard)
    index = index_of(shards, {"size_px": 32, "rate_hz": 10.0})
    (folder / "shards.json").write_text(json.dumps(index))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_shards(tmp_path / "shards", {"train": [[5, 3], [8]], "test": [[4]]})


def change_index(folder: Path, change: Callable[[dict], object]) -> None:
    tree = json.loads((folder / "shards.json").read_text())
    change(tree)
    (folder / "shards.json").write_text(json.dumps(tree))


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
    assert (shards.skipped, shards.kind, shards.members) == ((), "video", ("mp4", "json"))


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


def test_other_kinds_are_read_by_their_own_members(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, "train", 0) as writer:
        writer.add_members("a", {"tokens.npy": b"12", "json": b'{"num_frames": 3}'}, 3)
        shard = writer.close()
    assert shard is not None
    tree = index_of([shard], {}, "tokens", ("tokens.npy", "json"))
    (tmp_path / "shards.json").write_text(json.dumps(tree))
    with pytest.raises(UserError, match="holds tokens, expected video"):
        ShardSet.open(tmp_path)
    shards = ShardSet.open(tmp_path, kind="tokens")
    [record] = shards.records(shards.shards[0])
    assert (record.key, record.members, record.meta) == ("a", {"tokens.npy": b"12"}, {"num_frames": 3})


# --- damage ----------------------------------------------------------------------------------------------


def flip_a_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 0xFF
    file.write_bytes(data)


def cut_off(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


def turn_into_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


DAMAGES = pytest.mark.parametrize(
    ("damage", "reason"),
    [(flip_a_byte, "sha256"), (cut_off, "bytes"), (Path.unlink, "missing"), (turn_into_a_folder, "missing")],
)


@DAMAGES
def test_a_damaged_shard_is_named_left_out_and_counted(
    folder: Path, tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    whole = ShardSet.open(folder)
    damage(folder / "train-000001.tar")
    with pytest.warns(UserWarning, match=rf"1 of 3 shards .*train-000001\.tar: .*{reason}.*1 of 4 samples"):
        shards = ShardSet.open(folder)
    [(file, told)] = shards.skipped
    assert file == "train-000001.tar"
    assert reason in told
    assert [shard.file for shard in shards.shards] == ["train-000000.tar", "test-000000.tar"]
    assert shards.num_samples("train") == 2
    # Trained on less is trained on something else: on what a folder of just these shards holds.
    less = write_shards(tmp_path / "less", {"train": [[5, 3]], "test": [[4]]})
    assert shards.fingerprint == ShardSet.open(less).fingerprint != whole.fingerprint


@DAMAGES
def test_strict_stops_at_a_damaged_shard(folder: Path, damage: Callable[[Path], None], reason: str) -> None:
    damage(folder / "train-000001.tar")
    with pytest.raises(UserError, match=rf"train-000001\.tar: .*{reason}") as caught:
        ShardSet.open(folder, strict=True)
    assert "\n" not in str(caught.value)


def test_nothing_left_is_an_error(folder: Path) -> None:
    for file in folder.glob("*.tar"):
        flip_a_byte(file)
    with pytest.raises(UserError, match="3 of 3 shards cannot be used"):
        ShardSet.open(folder)


def test_many_damaged_shards_are_one_warning(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "many", {"train": [[4]] * 8})
    for number in range(7):
        (folder / f"train-{number:06d}.tar").unlink()
    with pytest.warns(UserWarning, match=r"train-000000\.tar.*train-000004\.tar.*; and 2 more") as told:
        shards = ShardSet.open(folder)
    assert len(told) == 1
    assert len(shards.skipped) == 7


def test_without_verifying_sizes_alone_are_compared(folder: Path) -> None:
    flip_a_byte(folder / "train-000000.tar")
    cut_off(folder / "train-000001.tar")
    with pytest.warns(UserWarning, match="train-000001"):
        shards = ShardSet.open(folder, verify=False)
    assert [file for file, _ in shards.skipped] == ["train-000001.tar"]


def test_damage_after_opening_is_found_when_reading(folder: Path) -> None:
    shards = ShardSet.open(folder)
    data = (folder / "train-000000.tar").read_bytes()
    second = data.index(b"train-0-1.json")
    (folder / "train-000000.tar").write_bytes(data[:second] + bytes(len(data) - second))
    with pytest.raises(ShardDamage, match=r"train-000000\.tar.*lacks its json") as caught:
        list(shards.samples("train"))
    assert (caught.value.file, caught.value.reason) == ("train-000000.tar", "sample train-0-1 lacks its json")


@pytest.mark.parametrize("damage", [cut_off, Path.unlink])
def test_a_shard_that_went_away_is_damage_when_reading(folder: Path, damage: Callable[[Path], None]) -> None:
    shards = ShardSet.open(folder)
    damage(folder / "train-000000.tar")
    with pytest.raises(ShardDamage, match=r"train-000000\.tar"):
        shards.read(shards.shards[0])


# --- an index that is none --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no finished shards"),
        ("{", "not an index"),
        ('{"format": 99}', "format 99"),
        ("[]", "not an index"),
        ("[" * 100_000, "not an index"),
    ],
)
def test_a_folder_without_a_good_index_is_refused(folder: Path, text: str | None, message: str) -> None:
    if text is None:
        (folder / "shards.json").unlink()
    else:
        (folder / "shards.json").write_text(text)
    with pytest.raises(UserError, match=message):
        ShardSet.open(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree["shards"].pop(),
        lambda tree: tree["shards"].append(tree["shards"][0]),
        lambda tree: tree["shards"][0].update(file="../shards/train-000000.tar"),
        lambda tree: tree["shards"][0].update(file="pipe:touch x; cat train-000000.tar"),
        lambda tree: tree["shards"][0].update(file="$(touch x).tar"),
        lambda tree: tree["shards"][0].update(sha256="0"),
        lambda tree: tree["shards"][0].update(samples=3),
        lambda tree: tree["shards"][0].update(frames=9),
        lambda tree: tree["shards"][0].update(lengths=[9, -1]),
        lambda tree: tree["shards"][0].update(bytes=-1),
        lambda tree: tree["shards"][0].update(bytes="10240"),
        lambda tree: tree["shards"][0].update(split=""),
        lambda tree: tree["shards"][0].update(split=1),
        lambda tree: tree["shards"][0].update(split="../../evil"),
        lambda tree: tree["shards"][0].update(split="a/b"),
        lambda tree: tree["shards"][0].update(split=".."),
        lambda tree: tree["shards"][0].pop("sha256"),
        lambda tree: tree.update(members="mp4"),
        lambda tree: tree.update(members=["mp4"]),
        lambda tree: tree.pop("fingerprint"),
        lambda tree: tree.update(config=3),
    ],
)
def test_an_index_that_contradicts_itself_is_refused(folder: Path, change: Callable[[dict], object]) -> None:
    change_index(folder, change)
    with pytest.raises(UserError, match=r"shards\.json: not an index of shards, or damaged"):
        ShardSet.open(folder)


def test_an_index_that_counts_wrongly_is_found_at_opening(folder: Path) -> None:
    def swap(tree: dict) -> None:
        tree["shards"][0]["lengths"].reverse()

    change_index(folder, swap)
    with pytest.warns(UserWarning, match="sample train-0-0 has 5 frames, expected 3"):
        assert len(ShardSet.open(folder).skipped) == 1


@pytest.mark.parametrize(
    ("key", "split", "said"),
    [
        ("../../evil", "train", "no plain relative path"),
        ("/tmp/evil", "train", "no plain relative path"),
        ("a", "../../evil", "is of split '../../evil', its shard of train"),
        ("a", "test", "is of split 'test', its shard of train"),
    ],
)
def test_a_sample_that_leads_elsewhere_costs_its_shard(folder: Path, key: str, split: str, said: str) -> None:
    """Whoever writes a shard can give it any checksum."""
    hostile, index = sample("a", 4), load_index(folder)
    with ShardWriter(folder, "train", 2) as writer:
        writer.add(Sample(key, hostile.mp4, hostile.meta | {"split": split}))
        shard = writer.close()
    assert shard is not None
    (folder / "shards.json").write_text(json.dumps(index_of([*index.shards, shard], index.config)))
    with pytest.warns(UserWarning, match=rf"1 of 4 shards cannot be used \(train-000002\.tar: .*{said}"):
        assert len(ShardSet.open(folder).shards) == 3
    unread = ShardSet.open(folder, verify=False)
    with pytest.raises(ShardDamage, match=said) as error:
        unread.read(unread.shards[-1])
    assert error.value.file == "train-000002.tar"


def test_hashing_uses_several_threads_and_keeps_the_order(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    flip_a_byte(folder / "train-000000.tar")
    (folder / "test-000000.tar").unlink()
    with pytest.warns(UserWarning, match="2 of 3"):
        shards = ShardSet.open(folder)
    assert [file for file, _ in shards.skipped] == ["train-000000.tar", "test-000000.tar"]
