"""What is remembered of shards that were found whole: it saves the hashing, and never vouches for changed bytes."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from genie_lite.data.shards import check
from genie_lite.data.shards.check import VERIFIED_FILE, Verified
from genie_lite.data.shards.shards import ShardSet
from genie_lite.data.shards.tar import Fault
from tests.shard_folders import write_folder

VIDEO = ("mp4", "json")


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The shards that are read to the end from now on. Small folders are remembered too, fresh files as well."""
    names: list[str] = []
    whole = check.expect_whole

    def count(file, shard, members) -> None:
        names.append(shard.file)
        whole(file, shard, members)

    monkeypatch.setattr(check, "expect_whole", count)
    monkeypatch.setattr(check, "REMEMBER_BYTES", 1)
    monkeypatch.setattr(check, "SETTLED_NS", -(10**12))
    return names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "shards").folder


def test_a_second_opening_reads_nothing(folder: Path, hashed: list[str]) -> None:
    first = ShardSet.open(folder)
    assert sorted(hashed) == ["test-000002.tar", "train-000000.tar", "train-000001.tar"]
    hashed.clear()
    assert ShardSet.open(folder) == first
    assert not hashed


def rewrite(file: Path) -> None:
    """Other bytes of the same number, under the same times: only the ctime tells."""
    before = file.stat()
    with file.open("r+b") as opened:
        opened.seek(700)
        byte = opened.read(1)
        opened.seek(700)
        opened.write(bytes([byte[0] ^ 1]))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_file(file: Path) -> None:
    """As a copy that keeps times does."""
    before = file.stat()
    data = bytearray(file.read_bytes())
    data[700] ^= 1
    other = file.with_suffix(".new")
    other.write_bytes(data)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(other, file)


@pytest.mark.parametrize("change", [rewrite, replace_file])
def test_changed_bytes_are_never_vouched_for(
    folder: Path, hashed: list[str], change: Callable[[Path], None]
) -> None:
    ShardSet.open(folder)
    hashed.clear()
    change(folder / "train-000001.tar")
    with pytest.warns(UserWarning, match=r"train-000001\.tar: does not match its sha256"):
        ShardSet.open(folder)
    assert hashed == ["train-000001.tar"]


def test_another_line_of_the_index_is_checked_anew(folder: Path, hashed: list[str]) -> None:
    """A line with other counts over the same bytes, as of a damaged index."""
    shards = ShardSet.open(folder)
    shard, verified = shards.shards[0], Verified.read(folder)
    verified.expect(folder / shard.file, shard, VIDEO)
    hashed.clear()
    with pytest.raises(Fault, match="has 5 frames, expected 3"):
        verified.expect(folder / shard.file, replace(shard, lengths=shard.lengths[::-1]), VIDEO)
    with pytest.raises(Fault, match="lacks its txt"):
        verified.expect(folder / shard.file, shard, (*VIDEO, "txt"))
    assert len(hashed) == 2


def test_a_file_that_has_just_changed_is_not_noted(
    folder: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the resolution of the clock it could change again under the same times."""
    monkeypatch.setattr(check, "SETTLED_NS", 3600 * 10**9)
    ShardSet.open(folder)
    assert not (folder / VERIFIED_FILE).exists()
    ShardSet.open(folder)
    assert len(hashed) == 6


def test_what_changes_while_it_is_read_is_not_noted(
    folder: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = ShardSet.open(folder).shards[0]
    verified = Verified()
    monkeypatch.setattr(check, "expect_whole", lambda *_: os.utime(folder / shard.file))
    verified.expect(folder / shard.file, shard, VIDEO)
    assert not verified.seals


@pytest.mark.parametrize(
    "text", [b"", b"[1]", b'{"train-000000.tar": 3}', b'{"x": []}', b"\xff", b"[" * 100_000]
)
def test_a_damaged_note_is_no_note(folder: Path, hashed: list[str], text: bytes) -> None:
    (folder / VERIFIED_FILE).write_bytes(text)
    assert not ShardSet.open(folder).skipped
    assert len(hashed) == 3
    assert len(json.loads((folder / VERIFIED_FILE).read_bytes())) >= 3


def test_small_folders_get_no_note(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "SETTLED_NS", -(10**12))
    ShardSet.open(folder)
    assert not (folder / VERIFIED_FILE).exists()


def test_a_folder_that_cannot_be_written_to_can_be_opened(
    folder: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, data: bytes) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(check, "write_bytes", refuse)
    assert not ShardSet.open(folder).skipped
    assert len(hashed) == 3


def test_an_opening_that_compares_sizes_alone_notes_nothing(folder: Path, hashed: list[str]) -> None:
    ShardSet.open(folder, verify=False)
    assert not hashed
    assert not (folder / VERIFIED_FILE).exists()
