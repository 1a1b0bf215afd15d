"""A result that went through a file or a message is the same result."""

import io
from pathlib import Path

import pytest

from genie_lite.data.cutting.sandbox import Encoded, Result
from genie_lite.data.ingest.spill import Spills, pack, unpack
from genie_lite.errors import UserError


def result(*clips: bytes, **figures: object) -> Result:
    spool = io.BytesIO(b"".join(clips))
    starts = [sum(map(len, clips[:k])) for k in range(len(clips))]
    segments = [
        Encoded(spool, start, len(clip), {"num_frames": k + 2})
        for k, (start, clip) in enumerate(zip(starts, clips, strict=True))
    ]
    return Result(None, None, dict(figures), segments)


def told(found: Result) -> tuple[object, ...]:
    clips = [(segment.mp4, segment.about) for segment in found.segments]
    return found.fault, found.complaint, found.figures, clips


def test_a_message_holds_the_whole_result() -> None:
    clips = (b"first\nclip", b"", b"\0third")
    assert told(unpack(pack(result(*clips, sha256="ab", seconds=1.5)))) == told(
        result(*clips, sha256="ab", seconds=1.5)
    )


@pytest.mark.parametrize("bad", [Result("decoding crashed"), Result(None, "no shot"), Result(None)])
def test_results_without_clips_come_back(bad: Result, tmp_path: Path) -> None:
    spills = Spills(tmp_path)
    spills.put("a.mp4", bad)
    assert told(spills.get("a.mp4")) == told(bad) == told(unpack(pack(bad)))


def test_a_folder_of_results_knows_what_it_holds(tmp_path: Path) -> None:
    spills = Spills(tmp_path / "results")
    name = "a b/ü\n\udcff.mp4"
    assert name not in spills
    spills.put(name, result(b"one", b"two"))
    assert name in spills
    assert "other.mp4" not in spills
    found = spills.get(name)
    assert told(found) == told(result(b"one", b"two"))
    found.close()
    assert not list(tmp_path.rglob(".*.tmp"))


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: b"{}" + data, lambda data: data + b"x"]
)
def test_a_damaged_file_is_no_result(tmp_path: Path, damage: object) -> None:
    spills = Spills(tmp_path)
    spills.put("a.mp4", result(b"clip"))
    (file,) = tmp_path.rglob("*.result")
    file.write_bytes(damage(file.read_bytes()))  # pyright: ignore[reportCallIssue, reportGeneralTypeIssues]
    with pytest.raises(UserError, match=r"damaged.*ingest again"):
        spills.get("a.mp4")


def test_what_is_put_half_is_not_there(tmp_path: Path) -> None:
    spills = Spills(tmp_path)
    broken = result(b"clip")
    broken.segments[0].spool.close()
    with pytest.raises(ValueError, match="closed"):
        spills.put("a.mp4", broken)
    assert "a.mp4" not in spills
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
