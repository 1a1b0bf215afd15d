"""Tars of samples: strict where WebDataset is lenient, and nothing half-written."""

import errno
import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest
from webdataset.tariterators import group_by_keys, tar_file_expander

from genie_lite.data.shards.shards import ShardWriter
from genie_lite.data.shards.tar import Fault, RecordWriter, read_records
from genie_lite.errors import UserError

MEMBERS = ("mp4", "json")


def plain(name: str, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    return entry, data


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry, b""


def meta(num_frames: int = 1) -> bytes:
    return json.dumps({"num_frames": num_frames}).encode()


def tar_of(*files: tuple[tarfile.TarInfo, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for entry, data in files:
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def whole(*keys: str) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [each for key in keys for each in (plain(f"{key}.mp4", b"video"), plain(f"{key}.json", meta()))]


def resized(entry: tuple[tarfile.TarInfo, bytes], size: int) -> bytes:
    """A tar whose first header claims so many bytes."""
    entry[0].size = size
    return entry[0].tobuf(tarfile.GNU_FORMAT) + bytes(10240 - 512)


def read(data: bytes, lengths: tuple[int, ...] = (1,)) -> list:
    return list(read_records(io.BufferedReader(io.BytesIO(data)), MEMBERS, lengths))


def test_samples_come_back() -> None:
    first, second = read(tar_of(*whole("a", "b/c")), (1, 1))
    assert (first.key, first.members, first.meta) == ("a", {"mp4": b"video"}, {"num_frames": 1})
    assert second.key == "b/c"


def test_webdataset_reads_what_we_write(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path / "a.tar")
    for key in ("a", "ü" * 30, "c" * 120 + "/" + "d" * 60):
        writer.add(key, {"mp4": key.encode() * 100, "json": meta()})
    writer.close()
    data = (tmp_path / "a.tar").read_bytes()
    theirs = group_by_keys(tar_file_expander([{"url": "", "stream": io.BytesIO(data)}]))
    ours = read(data, (1, 1, 1))
    assert [(each["__key__"], each["mp4"]) for each in theirs] == [(r.key, r.members["mp4"]) for r in ours]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "breaks off at byte 0"),
        (b"no tar at all", "breaks off at byte 0"),
        (bytes(10240), "0 whole samples, expected 1"),
        (tar_of(*whole("a"))[:1024], "breaks off at byte 1024"),
        (tar_of(*whole("a"))[:2048], "breaks off at byte 2048"),
        (tar_of(*whole("a"))[:520], "claims 5 bytes, 8 are left|breaks off"),
        (tar_of(*whole("a", "b")), "more than the expected 1 samples"),
        (tar_of(*whole("a")[:1]), "sample a lacks its json"),
        (tar_of(*whole("a")[1:]), "sample a lacks its mp4"),
        (tar_of(plain("a.txt", b"")), "lacks its mp4 and its json"),
        (tar_of(plain("a.mp4", b""), plain("a.json", meta(2))), "sample a has 2 frames, expected 1"),
        (tar_of(plain("a.mp4", b""), plain("a.json", b"{}")), "sample a has None frames"),
        (tar_of(plain("a.mp4", b""), plain("a.json", b"{")), "its json is none"),
        (tar_of(plain("a.mp4", b""), plain("a.json", b"\xff")), "its json is none"),
        (tar_of(plain("a.mp4", b""), plain("a.json", b"[" * 100_000)), "its json is none"),
        (tar_of(plain("a.mp4", b""), plain("a.json", b"[1]")), "its json is a list"),
        (tar_of(*whole("a"), *whole("a")[:1]), "a.mp4 comes twice"),
        (tar_of(plain("a.mp4", b""), plain("a.MP4", b"")), "a.MP4 comes twice"),
        (tar_of(*whole("a"), plain("b.mp4", b""), plain("a.txt", b"")), "sample b lacks"),
        (tar_of(special("a.mp4", tarfile.SYMTYPE, "/etc/passwd")), "a.mp4 is a link"),
        (tar_of(special("a.mp4", tarfile.LNKTYPE, "b.mp4")), "a.mp4 is a link"),
        (tar_of(special("a", tarfile.DIRTYPE)), "a is no plain file"),
        (tar_of(special("a.mp4", tarfile.CHRTYPE)), "a.mp4 is no plain file"),
        (tar_of(special("a.mp4", tarfile.GNUTYPE_SPARSE)), "a.mp4 is no plain file"),
        (tar_of(plain("a" * 300 + ".mp4", b""), form=tarfile.PAX_FORMAT), "is no plain file"),
        (tar_of(plain("a" * 300 + ".mp4", b""), form=tarfile.GNU_FORMAT), "is no plain file"),
        (tar_of(plain("README", b"")), "README has no suffix"),
        (tar_of(plain(".hidden", b"")), "has no suffix"),
        *(
            (tar_of(*whole(key)), "is no plain relative path")
            for key in ("../../a", "/etc/a", "a/../b", "a//b", "./a", "a/ü/../../../b")
        ),
        *((tar_of(*whole(key)), "cannot be printed") for key in ("a\nb", "a\x1b[2Jb", "a\udcffb", "a\x85b")),
        (tar_of(plain("a.mp4", b""), plain("a.json", b'{"num_frames": true}')), "sample a has True frames"),
        (tar_of(plain("a.mp4", b""), plain("a.json", b'{"num_frames": 1.0}')), "sample a has 1.0 frames"),
        (resized(plain("a.mp4", b""), 2**60), f"a.mp4 claims {2**60} bytes, 9728 are left"),
        (resized(plain("a.mp4", b""), -512), "a.mp4 claims -512 bytes"),
    ],
)
def test_whatever_is_not_as_expected_is_a_fault(data: bytes, reason: str) -> None:
    with pytest.raises(Fault, match=reason):
        read(data)


@pytest.mark.parametrize("key", ["expert_1000000-98c6f4dda47b-00000", "a b/(c)…ü", "日本/語\u3000"])
def test_a_key_may_be_any_relative_path(key: str) -> None:
    assert [record.key for record in read(tar_of(*whole(key)))] == [key]


def test_samples_are_of_the_split_that_is_expected() -> None:
    def of(split: object) -> io.BufferedReader:
        said = json.dumps({"num_frames": 1, "split": split}).encode()
        return io.BufferedReader(io.BytesIO(tar_of(plain("a.mp4", b""), plain("a.json", said))))

    for split in ("../../evil", "train", None, ["test"]):
        with pytest.raises(Fault, match=r"sample a is of split .*, its shard of test"):
            list(read_records(of(split), MEMBERS, (1,), "test"))
    assert len(list(read_records(of("test"), MEMBERS, (1,), "test"))) == 1
    assert len(list(read_records(of("else"), MEMBERS, (1,)))) == 1, "any will do"


def test_a_sample_that_comes_again_later_is_a_fault() -> None:
    files = [*whole("a"), *whole("b"), plain("a.txt", b"")]
    with pytest.raises(Fault, match="sample a comes twice"):
        read(tar_of(*files), (1, 1, 1))


def test_a_compressed_tar_is_none() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for entry, data in whole("a"):
            tar.addfile(entry, io.BytesIO(data))
    with pytest.raises(Fault, match="breaks off at byte 0"):
        read(buffer.getvalue())


# --- writing ---------------------------------------------------------------------------------------------


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the next shard meets a full disk: what it is written to is /dev/full."""
    real = Path.open

    def open_full(path: Path, mode: str) -> Any:
        path.symlink_to("/dev/full")
        return real(path, mode.replace("x", "w"))

    monkeypatch.setattr(Path, "open", open_full)
    return tmp_path


@pytest.mark.parametrize("num_bytes", [10, 10_000_000])
def test_a_full_disk_is_one_line_and_leaves_nothing(full: Path, num_bytes: int) -> None:
    """A small sample fails when the shard is closed, a large one when it is added."""

    def write() -> None:
        with ShardWriter(full, "train", 0) as writer:
            writer.add_members("a", {"mp4": bytes(num_bytes), "json": meta()}, 1)
            writer.close()

    with pytest.raises(UserError, match=r"train-000000\.tar: cannot be written \(No space left") as caught:
        write()
    assert "\n" not in str(caught.value)
    assert not list(full.iterdir())


def test_a_full_disk_does_not_hide_another_error(full: Path) -> None:
    def write() -> None:
        with ShardWriter(full, "train", 0) as writer:
            writer.add_members("a", {"json": meta()}, 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert not list(full.iterdir())


def test_a_target_that_cannot_be_written_to_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, mode: str) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"train-000000\.tar: cannot be written \(Read-only file system\)"):
        ShardWriter(tmp_path, "train", 0).add_members("a", {"json": meta()}, 1)


def test_content_and_name_are_on_the_disk_before_a_shard_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(
        "os.fsync", lambda handle: done.append(Path(f"/proc/self/fd/{handle}").readlink().name)
    )
    writer = RecordWriter(tmp_path / "a.tar")
    writer.add("a", {"json": meta()})
    assert not done
    writer.close()
    assert [re.sub("[0-9a-f]{8}", "*", name) for name in done] == [".a.tar.*.tmp", tmp_path.name]


def test_two_that_write_the_same_shard_do_not_write_into_one_file(tmp_path: Path) -> None:
    one, two = RecordWriter(tmp_path / "a.tar"), RecordWriter(tmp_path / "a.tar")
    for key in ("a", "b"):
        for writer in (one, two):
            writer.add(key, {"mp4": b"video", "json": meta()})
    assert one.close() == two.close()
    assert (tmp_path / "a.tar").read_bytes() == tar_of(*whole("a", "b"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def test_a_key_that_would_be_cut_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="taken for the suffix"):
        RecordWriter(tmp_path / "a.tar").add("v1.2clip", {"json": meta()})


def test_the_same_samples_give_the_same_bytes_as_ever(tmp_path: Path) -> None:
    """Shards of earlier versions are shards of this one."""
    writer = RecordWriter(tmp_path / "a.tar")
    writer.add("a", {"mp4": b"video", "json": meta()})
    about = writer.close()
    expected = tar_of(*whole("a"))
    assert (tmp_path / "a.tar").read_bytes() == expected
    assert about is not None
    assert about[1] == len(expected) == 10240
