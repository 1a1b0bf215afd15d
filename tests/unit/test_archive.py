"""Tars of videos: every member is found where it lies, and whatever else a tar may be does no harm."""

import io
import lzma
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from genie_lite.data.sources import archive
from genie_lite.data.sources.archive import Archive, is_archive, read_archive
from genie_lite.data.sources.find import find_sources
from genie_lite.data.video.codec import decode, encode_mp4
from genie_lite.data.video.place import Place
from genie_lite.errors import UserError
from tests.tars import FORMATS, entry, write_tar
from tests.videos import moving_square

VIDEOS = {"a.mp4": b"video a" * 100, "a.json": b"{}", "cam/b.MOV": b"video b" * 1000, "empty.webm": b""}


def found(path: Path) -> dict[str, bytes | str]:
    """What each video holds, read at its place, or what is wrong with it."""
    read = read_archive(path)
    videos: dict[str, bytes | str] = {}
    for member in read.members:
        with Place(path, member.offset, member.size).open() as file:
            videos[member.name] = member.fault or file.read()
    assert len(videos) == len(read.members)
    return videos


@pytest.mark.parametrize("kind", FORMATS)
def test_videos_are_found_where_they_lie(tmp_path: Path, kind: str) -> None:
    path = write_tar(tmp_path / "x.tar", VIDEOS, kind)
    assert found(path) == {name: data for name, data in VIDEOS.items() if name != "a.json"}
    assert read_archive(path).fault is None
    assert read_archive(path).is_ended


@pytest.mark.parametrize("kind", ["gnu", "pax"])
@pytest.mark.parametrize("name", ["long/" * 60 + "x.mp4", "深い/ß é.mp4", "bad \udcff.mp4", "two\nlines.mp4"])
def test_names_of_any_length_and_letters(tmp_path: Path, kind: str, name: str) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=FORMATS[kind], encoding="utf-8", errors="surrogateescape") as tar:
        tar.addfile(entry(name, size=5), io.BytesIO(b"video"))
        tar.addfile(entry("after.mp4", size=4), io.BytesIO(b"more"))
    assert found(path) == {name: b"video", "after.mp4": b"more"}


def test_the_size_may_stand_in_the_attributes(tmp_path: Path) -> None:
    """As for files of more than 8 GiB."""
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(
            entry("a.mp4", size=5, pax_headers={"size": "5", "comment": "x = y\n"}), io.BytesIO(b"video")
        )
    data = bytearray(path.read_bytes())
    begin = data.index(b"a.mp4\0", 1024)
    header = tarfile.TarInfo.frombuf(bytes(data[begin : begin + 512]), "utf-8", "strict")
    header.size = 0
    data[begin : begin + 512] = header.tobuf(tarfile.USTAR_FORMAT)
    path.write_bytes(data)
    assert found(path) == {"a.mp4": b"video"}


def test_a_member_is_decoded_in_place(tmp_path: Path) -> None:
    mp4 = encode_mp4(moving_square(7), 10.0)
    (tmp_path / "shards").mkdir()
    write_tar(tmp_path / "shards/x.tar", {"000.mp4": mp4, "000.json": b"{}"})
    (source,) = find_sources([tmp_path], [], 0.0)
    assert (source.name, source.size) == ("shards/x.tar/000.mp4", len(mp4))
    assert len(list(decode(source.place))) == 7


def test_names_do_not_lead_out_of_the_tar_and_stay_unique(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        for number, name in enumerate(
            ["/etc/a.mp4", "../../etc/a.mp4", "./etc//a.mp4", "etc/a.mp4", "b.mp4"]
        ):
            tar.addfile(entry(name, size=1), io.BytesIO(bytes([number])))
    expected = {
        "etc/a.mp4": b"\0",
        "etc/a.mp4#2": b"\1",
        "etc/a.mp4#3": b"\2",
        "etc/a.mp4#4": b"\3",
        "b.mp4": b"\4",
    }
    assert found(path) == expected


@pytest.mark.parametrize(
    ("about", "fault"),
    [
        ({"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "a link"),
        ({"type": tarfile.LNKTYPE, "linkname": "other.mp4"}, "a link"),
        ({"type": tarfile.LNKTYPE, "linkname": "other.mp4", "size": 10**6}, "a link"),
        ({"type": tarfile.FIFOTYPE}, "a device or a pipe"),
        ({"type": tarfile.CHRTYPE}, "a device or a pipe"),
    ],
)
def test_what_is_no_file_is_quarantined(tmp_path: Path, about: dict[str, object], fault: str) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        tar.addfile(entry("x.mp4", **about))
        tar.addfile(entry("folder.mp4", type=tarfile.DIRTYPE))
        tar.addfile(entry("y.mp4", size=1), io.BytesIO(b"y"))
    videos = found(path)
    assert videos.keys() == {"x.mp4", "y.mp4"}
    assert fault in str(videos["x.mp4"])
    assert videos["y.mp4"] == b"y"


def sparse_gnu(path: Path) -> None:
    """A member with more holes than its header has room for, so that its map goes on in another block."""
    header = bytearray(entry("x.mp4", size=4, type=tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))
    header[482] = 1
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    blocks = [bytes(header), bytes(504) + b"\1" + bytes(7), bytes(512), b"data" + bytes(508)]
    after = entry("y.mp4", size=1).tobuf(tarfile.GNU_FORMAT) + b"y" + bytes(511)
    path.write_bytes(b"".join(blocks) + after + bytes(1024))


def sparse_pax(path: Path) -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        about = {"GNU.sparse.major": "1", "GNU.sparse.name": "x.mp4"}
        tar.addfile(entry("GNUSparseFile.0/x.mp4", size=4, pax_headers=about), io.BytesIO(b"data"))
        tar.addfile(entry("y.mp4", size=1), io.BytesIO(b"y"))


@pytest.mark.parametrize("write", [sparse_gnu, sparse_pax])
def test_a_sparse_member_is_quarantined_and_the_next_one_is_found(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    write(tmp_path / "x.tar")
    first, second = found(tmp_path / "x.tar").values()
    assert "sparse" in str(first)
    assert second == b"y"


# Cut off, damaged, something else


def test_a_cut_tar_gives_its_whole_members_and_tells_of_the_cut_one(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {"a.mp4": b"a" * 700, "b.mp4": b"b" * 700, "c.mp4": b"c"})
    path.write_bytes(path.read_bytes()[: 512 + 1024 + 512 + 300])
    assert found(path) == {"a.mp4": b"a" * 700, "b.mp4": "cut off: 300 of its 700 bytes are there"}
    assert read_archive(path).fault is None
    faults = {source.name: source.fault for source in find_sources([tmp_path], [], 0.0)}
    assert faults == {"x.tar/a.mp4": None, "x.tar/b.mp4": "cut off: 300 of its 700 bytes are there"}


def test_a_tar_that_is_cut_outside_of_a_video_is_quarantined_beside_its_videos(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {"a.mp4": b"a" * 700, "a.json": b"{}", "b.mp4": b"b"})
    whole = path.read_bytes()
    for end, fault in [
        (512 + 1024 + 200, "damaged or cut off at byte 1536"),
        (512 + 1024 + 513, "cut off in a.json"),
    ]:
        path.write_bytes(whole[:end])
        sources = {source.name: source for source in find_sources([tmp_path], [], 0.0)}
        assert sources.keys() == {"x.tar", "x.tar/a.mp4"}
        assert fault in str(sources["x.tar"].fault)
        assert "; the videos before that are used" in str(sources["x.tar"].fault)
        assert sources["x.tar/a.mp4"].fault is None


def test_where_no_end_is_marked_a_warning_says_that_some_may_be_missing(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {"a.mp4": b"a" * 512})
    path.write_bytes(path.read_bytes()[:1024])
    with pytest.warns(
        UserWarning, match=r"x\.tar: a tar without a mark at its end; .* after its last member"
    ):
        (source,) = find_sources([tmp_path], [], 0.0)
    assert source.fault is None


def test_tars_that_were_appended_to_each_other_are_all_read(tmp_path: Path) -> None:
    first = write_tar(tmp_path / "1.tar", {"a.mp4": b"a"}).read_bytes()
    second = write_tar(tmp_path / "2.tar", {"a.mp4": b"b"}).read_bytes()
    (tmp_path / "x.tar").write_bytes(first + second + b"no tar" * 100)
    assert found(tmp_path / "x.tar") == {"a.mp4": b"a", "a.mp4#2": b"b"}
    assert read_archive(tmp_path / "x.tar").fault is None


def gzipped(data: bytes) -> bytes:
    return zlib.compress(data, wbits=31)


@pytest.mark.parametrize(
    ("name", "pack"),
    [("x.tar.gz", gzipped), ("x.tgz", gzipped), ("x.tar", gzipped), ("x.TAR.XZ", lzma.compress)],
)
def test_a_compressed_tar_is_one_source_that_says_what_to_do(
    tmp_path: Path, name: str, pack: Callable[[bytes], bytes]
) -> None:
    plain = write_tar(tmp_path / "plain", VIDEOS).read_bytes()
    (tmp_path / name).write_bytes(pack(plain))
    (source,) = find_sources([tmp_path], [], 0.0)
    assert source.name == name
    assert "compressed" in str(source.fault)
    assert "unpack it" in str(source.fault)


@pytest.mark.parametrize(
    ("data", "fault"),
    [(b"", "an empty file"), (b"hello" * 1000, "not a tar"), (b"short", "not a tar")],
)
def test_something_else_is_quarantined(tmp_path: Path, data: bytes, fault: str) -> None:
    (tmp_path / "x.tar").write_bytes(data)
    assert read_archive(tmp_path / "x.tar") == Archive((), fault)


def huge(name: str, **about: object) -> bytes:
    return entry(name, **about).tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    ("blocks", "fault"),
    [
        (
            huge("x", type=tarfile.GNUTYPE_LONGNAME, size=10**15),
            "a name or attributes of 1000000000000000 bytes",
        ),
        (huge("x", type=tarfile.XHDTYPE, size=10**6) + bytes(10), "in a name or attributes"),
        (
            huge("x", type=tarfile.XHDTYPE, size=9) + b"9 no sign" + bytes(503),
            "attributes of a member that cannot",
        ),
        (huge("x", type=tarfile.XHDTYPE, size=3) + b"0 =" + bytes(509), "attributes of a member that cannot"),
        (
            huge("x", type=tarfile.XHDTYPE, size=12) + b"12 size=-1ab" + bytes(500),
            "attributes of a member that",
        ),
        (huge("x", type=tarfile.XHDTYPE, size=11) + b"11 size=-1\n" + bytes(501), "a member of b'-1' bytes"),
        (huge("x", type=tarfile.XHDTYPE, size=29) + b"29 size=" + b"9" * 20 + b"\n" + bytes(483), "bytes"),
        (huge("x.mp4", size=-5), "a member of -5 bytes"),
        (huge("x.json", size=2**80), "cut off in x.json"),
    ],
)
def test_headers_that_ask_for_anything_are_refused(tmp_path: Path, blocks: bytes, fault: str) -> None:
    path = tmp_path / "x.tar"
    first = entry("a.mp4", size=1).tobuf(tarfile.GNU_FORMAT) + b"a" + bytes(511)
    path.write_bytes(first + blocks)
    read = read_archive(path)
    assert [member.name for member in read.members] == ["a.mp4"]
    assert fault in str(read.fault)


def test_a_video_that_claims_any_size_is_cut_off(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(huge("x.mp4", size=2**80) + b"data")
    assert found(tmp_path / "x.tar") == {"x.mp4": f"cut off: 4 of its {2**80} bytes are there"}


def test_the_number_of_members_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_HEADERS", 10)
    path = write_tar(tmp_path / "x.tar", {f"{k}.mp4": b"" for k in range(11)})
    read = read_archive(path)
    assert len(read.members) == 10
    assert read.fault == "more than 10 members; split it into several tars"


def test_headers_alone_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tar(tmp_path / "x.tar", {f"{k}.mp4": bytes(100_000) for k in range(5)})
    num_bytes = 0
    pread = archive.os.pread

    def counted(file: int, size: int, at: int) -> bytes:
        nonlocal num_bytes
        num_bytes += size
        return pread(file, size, at)

    monkeypatch.setattr(archive.os, "pread", counted)
    assert len(read_archive(path).members) == 5
    assert num_bytes < 100 * 512


@pytest.mark.parametrize("seed", range(40))
def test_damaged_tars_never_fail_and_give_no_place_outside_of_the_file(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    path = write_tar(tmp_path / "x.tar", VIDEOS | {"n" * 200 + ".mp4": b"x"}, ["gnu", "pax"][seed % 2])
    data = bytearray(path.read_bytes())
    for at in random.integers(0, len(data), 1 + seed):
        data[at] = random.integers(256)
    path.write_bytes(data[: random.integers(1, len(data))] if seed % 3 == 0 else data)
    for member in read_archive(path).members:
        assert member.fault is not None or member.offset + member.size <= path.stat().st_size


# Among the sources


def test_a_folder_may_hold_tars_and_videos(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", VIDEOS)
    write_tar(tmp_path / "no videos.tar", {"a.json": b"{}"})
    (tmp_path / "x.mp4").write_bytes(b"video")
    names = [source.name for source in find_sources([tmp_path], [], 0.0)]
    assert names == ["x.mp4", "x.tar/a.mp4", "x.tar/cam/b.MOV", "x.tar/empty.webm"]
    assert [source.name for source in find_sources([tmp_path / "x.tar"], [], 0.0)] == names[1:]
    with pytest.raises(UserError, match="no video in there"):
        find_sources([tmp_path / "no videos.tar"], [], 0.0)


def test_the_same_member_of_two_tars_is_told_apart(tmp_path: Path) -> None:
    for folder in ("left", "right"):
        (tmp_path / folder).mkdir()
        write_tar(tmp_path / folder / "x.tar", {"a.mp4": folder.encode()})
    sources = find_sources([tmp_path / "left", tmp_path / "right" / "x.tar"], [], 0.0)
    assert [source.name for source in sources] == ["left/x.tar/a.mp4", "right/x.tar/a.mp4"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x.tar", True),
        ("x.TGZ", True),
        ("a.b.tar.zst", True),
        ("x.gz", False),
        ("tar", False),
        (".tar", False),
    ],
)
def test_tars_are_told_by_their_names(name: str, expected: bool) -> None:
    assert is_archive(name) == expected
