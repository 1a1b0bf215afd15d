"""`verify` finds what is wrong with shards and with the account of their sources."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genie_lite.data.shards.index import index_of
from genie_lite.data.shards.shards import ShardSet, ShardWriter
from genie_lite.data.shards.verify import verify
from genie_lite.data.video.codec import encode_mp4
from genie_lite.errors import UserError
from genie_lite.files import write_json
from tests.shard_folders import flip, write_folder
from tests.videos import moving_square


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three shards of two samples, each from a source of its own, and a source of which nothing was taken."""
    shards = write_folder(tmp_path / "shards")
    rows = [
        {
            "source": sample.meta["source"],
            "status": "ingested",
            "clips": 1,
            "frames": sample.meta["num_frames"],
        }
        for split in ("train", "test")
        for sample in shards.samples(split)
    ]
    write_rows(shards.folder, [*rows, {"source": "black.mp4", "status": "filtered", "clips": 0, "frames": 0}])
    return shards.folder


def write_rows(folder: Path, rows: list[dict[str, Any]]) -> None:
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("deep", [False, True])
def test_a_whole_folder_is_whole(folder: Path, deep: bool) -> None:
    told: list[tuple[int, int]] = []
    found = verify(folder, deep=deep, progress=lambda done, total: told.append((done, total)))
    assert (found.is_whole, found.complaint, found.faults, found.notes) == (True, None, (), ())
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert json.loads(json.dumps(found.to_json())) == {
        "kind": "video",
        "shards": 3,
        "samples": 6,
        "frames": 24,
        "sources": 7,
        "damaged": [],
        "faults": [],
        "notes": [],
        "complaint": None,
    }


def test_every_damaged_shard_is_named(folder: Path) -> None:
    (folder / "train-000000.tar").unlink()
    flip(folder / "test-000002.tar")
    found = verify(folder)
    assert [(shard.file, shard.fault) for shard in found.damaged] == [
        ("train-000000.tar", "missing"),
        ("test-000002.tar", "does not match its sha256 in shards.json"),
    ]
    assert not found.faults  # nobody knows what was in them
    assert found.complaint is not None
    assert "2 of 3 shards are damaged: train-000000.tar: missing; test-000002.tar: does" in found.complaint
    assert "\n" not in found.complaint
    told = found.to_json()
    assert (told["shards"], told["complaint"]) == (3, found.complaint)
    assert told["damaged"] == [
        "train-000000.tar: missing",
        "test-000002.tar: does not match its sha256 in shards.json",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.pop(0), "accounts for 5 samples, shards.json for 6"),
        (lambda rows: rows.pop(0), "train-0-0.mp4 has no row in manifest.jsonl, the shards hold 1, 5"),
        (lambda rows: rows.append(rows[-1]), "black.mp4 has more than one row"),
        (lambda rows: rows[0].update(clips=2), "train-0-0.mp4 is said to have 2 clips, 5 frames"),
        (lambda rows: rows[0].update(frames=8), "is said to have 1 clips, 8 frames"),
        (lambda rows: rows[0].update(status="filtered"), "train-0-0.mp4 is filtered .* and has 1 clips"),
        (lambda rows: rows[-1].update(status="ingested"), "black.mp4 is ingested .* and has 0 clips"),
        (lambda rows: rows[0].update(clips="many"), "manifest.jsonl is damaged"),
        (lambda rows: rows[0].pop("status"), "manifest.jsonl is damaged"),
    ],
)
def test_every_source_is_accounted_for(
    folder: Path, change: Callable[[list[dict[str, Any]]], object], message: str
) -> None:
    rows = rows_of(folder)
    change(rows)
    write_rows(folder, rows)
    found = verify(folder)
    assert not found.is_whole
    assert not found.damaged
    assert found.complaint is not None
    with pytest.raises(UserError, match=message):
        raise UserError("; ".join(found.faults))


def test_a_missing_manifest_and_a_stray_shard_are_notes(folder: Path) -> None:
    (folder / "manifest.jsonl").unlink()
    (folder / "train-000009.tar").write_bytes(b"left over")
    found = verify(folder)
    assert found.is_whole
    assert found.sources is None
    assert found.notes == (
        "manifest.jsonl is missing, so sources were not checked",
        "train-000009.tar is not named in shards.json and is never read",
    )


def write_set(folder: Path, *shards: list[tuple[str, dict[str, bytes], dict[str, Any]]], **kind: Any) -> Path:
    """Shards of the given (key, files, meta), whose index is as true as can be."""
    folder.mkdir()
    written = []
    for number, samples in enumerate(shards):
        with ShardWriter(folder, "train", number) as writer:
            for key, files, meta in samples:
                sound = {"source": "a.mp4", "source_frames": list(range(meta["num_frames"]))}
                content = {**files, "json": json.dumps(sound | meta).encode()}
                writer.add_members(key, content, meta["num_frames"])
            written.append(writer.close())
    write_json(folder / "shards.json", index_of(written, {"size_px": 32, "rate_hz": 10.0}, **kind))
    return folder


MP4 = encode_mp4(moving_square(4), 10.0)


@pytest.mark.parametrize(
    ("mp4", "meta", "fault"),
    [
        (MP4, {"num_frames": 4}, None),
        (MP4, {"num_frames": 4, "height": 32, "width": 32}, None),
        (MP4, {"num_frames": 5}, "4 frames of 32 x 32 pixels, its json says 5 frames of 32 x 32 pixels"),
        (MP4, {"num_frames": 4, "width": 64}, "its json says 4 frames of 64 x 32 pixels"),
        (encode_mp4(moving_square(4, size=48), 10.0), {"num_frames": 4}, "4 frames of 48 x 48 pixels"),
        (b"no video", {"num_frames": 4}, "cannot be decoded"),
    ],
)
def test_deep_looks_at_every_frame(
    tmp_path: Path, mp4: bytes, meta: dict[str, Any], fault: str | None
) -> None:
    folder = write_set(tmp_path / "set", [("a", {"mp4": mp4}, meta)])
    assert verify(folder).is_whole
    found = verify(folder, deep=True)
    if fault is None:
        assert found.is_whole
    else:
        assert f"sample a: {fault}" in str(found.shards[0].fault) or fault in str(found.shards[0].fault)


def npy(*shape: int) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(shape, np.uint16))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("array", "fault"),
    [
        (npy(4, 16), None),
        (npy(3, 16), "its tokens.npy is (3, 16), expected (4, 16)"),
        (npy(4, 15), "its tokens.npy is (4, 15), expected (4, 16)"),
        (npy(), "its tokens.npy is (), expected (4, 16)"),
        (b"no array", "its tokens.npy is none"),
        (npy(4, 16)[:-1], "its tokens.npy is none"),
    ],
)
def test_token_shards_are_verified_by_their_own_members(
    tmp_path: Path, array: bytes, fault: str | None
) -> None:
    samples = [
        ("a", {"tokens.npy": npy(2, 16)}, {"num_frames": 2}),
        ("b", {"tokens.npy": array}, {"num_frames": 4}),
    ]
    folder = write_set(tmp_path / "set", samples, kind="tokens", members=("tokens.npy", "json"))
    assert verify(folder).is_whole
    assert not verify(folder).notes  # tokens come without a manifest
    found = verify(folder, deep=True)
    assert found.is_whole == (fault is None)
    assert str(fault) in str(found.shards[0].fault)


def test_samples_of_one_name_are_found_across_shards(tmp_path: Path) -> None:
    sample = ("a", {"mp4": MP4}, {"num_frames": 4})
    folder = write_set(tmp_path / "set", [sample], [sample])
    assert [shard.fault for shard in verify(folder).shards] == [None, "sample a is in train-000000.tar too"]


def test_samples_are_of_the_split_of_their_shard(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", [("a", {"mp4": MP4}, {"num_frames": 4, "split": "test"})])
    assert verify(folder).shards[0].fault == "sample a is of test, its shard of train"


def test_samples_say_of_their_frames_what_can_be(tmp_path: Path) -> None:
    about = {"num_frames": 4, "source_frames": [0, 1, 2, "three"]}
    folder = write_set(tmp_path / "set", [("a", {"mp4": MP4}, about)])
    assert str(verify(folder).shards[0].fault).startswith("sample a: source_frames: found 'three', expected")


def test_what_is_remembered_is_not_trusted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bits that rot on a disk change no time."""
    monkeypatch.setattr("genie_lite.data.shards.check._seal", lambda *_: ["the same"])
    monkeypatch.setattr("genie_lite.data.shards.check.REMEMBER_BYTES", 0)
    monkeypatch.setattr("genie_lite.data.shards.check.SETTLED_NS", -(10**12))
    ShardSet.open(folder)
    flip(folder / "train-000000.tar")
    assert not ShardSet.open(folder).skipped
    assert len(verify(folder).damaged) == 1


def test_a_folder_without_shards_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished shards"):
        verify(tmp_path)
