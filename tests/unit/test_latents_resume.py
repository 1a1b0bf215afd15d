"""Exports that were stopped or whose source has changed since: never another episode's video beside the rows."""

import fcntl
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from genie_lite.data.video.codec import encode_mp4
from genie_lite.errors import UserError
from genie_lite.latents.formats import lerobot_v2
from genie_lite.latents.formats.journal import JOURNAL
from genie_lite.latents.formats.registry import check, write
from tests.footage import write_shards
from tests.latent_fixture import latents_of_shards, latents_of_videos
from tests.lerobot_fixture import CAMERA, square_frames, write_lerobot, write_lerobot_v3
from tests.lerobot_readers import Groot, frames_of
from tests.unit.test_latents_sidecars import content, stop_after

LEROBOT = ("lerobot-v3", "lerobot-v3-action", "lerobot-v2.1")
WRIST = "observation.images.wrist"


@pytest.fixture
def robot(tmp_path: Path) -> Path:
    """Three episodes of 12 frames; what its cameras see is the same file for each of them, by size and time."""
    root = tmp_path / "robot"
    write_lerobot(root)
    videos = [video_of(root, number) for number in range(3)]
    size = max(path.stat().st_size for path in videos)
    for path in videos:
        path.write_bytes(path.read_bytes() + _padding(size + 16 - path.stat().st_size))
        os.utime(path, (1, 1))
    return root


def _padding(num: int) -> bytes:
    """A box of an mp4 that nobody reads."""
    return num.to_bytes(4, "big") + b"free" + bytes(num - 8)


def video_of(root: Path, number: int, camera: str = CAMERA) -> Path:
    return root / f"videos/chunk-000/{camera}/episode_{number:06d}.mp4"


def latents_of(root: Path, out: Path, num: int = 3) -> Path:
    return latents_of_videos(out, {video_of(root, k).relative_to(root).as_posix(): 12 for k in range(num)})


def pictures_of(out: Path, number: int, name: str) -> np.ndarray:
    path = f"videos/{CAMERA}/chunk-000/file-{number:03d}.mp4"
    return frames_of(video_of(out, number) if name == "lerobot-v2.1" else out / path)[0].astype(int)


@pytest.mark.parametrize("name", LEROBOT)
def test_a_number_that_moved_on_gets_its_own_video(robot: Path, tmp_path: Path, name: str) -> None:
    """Episode 0 is missing at first, so that episode 1 is number 0; both are of the same size and time."""
    folder = latents_of(robot, tmp_path / "latents")
    kept = video_of(robot, 0).read_bytes()
    video_of(robot, 0).unlink()
    stop_after(3, name, folder, robot, tmp_path / "out")
    video_of(robot, 0).write_bytes(kept)
    os.utime(video_of(robot, 0), (1, 1))
    manifest = write(name, folder, robot, tmp_path / "out")
    assert not manifest["left_out"]
    for number in range(3):
        assert np.abs(pictures_of(tmp_path / "out", number, name) - square_frames(number, 12)).mean() < 3
    write(name, folder, robot, tmp_path / "whole")
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_cut_spans_are_cut_anew_where_the_number_moved_on(tmp_path: Path) -> None:
    root = tmp_path / "robot"
    write_lerobot_v3(root, lengths=(12, 12, 12), per_video=1, cameras=(CAMERA, WRIST))
    names = {f"videos/{CAMERA}/chunk-000/file-{k:03d}.mp4#episode_{k:06d}": 12 for k in range(3)}
    folder = latents_of_videos(tmp_path / "latents", names)
    missing = root / f"videos/{WRIST}/chunk-000/file-000.mp4"
    kept = missing.read_bytes()
    missing.unlink()
    stop_after(3, "lerobot-v2.1", folder, root, tmp_path / "out")
    missing.write_bytes(kept)
    write("lerobot-v2.1", folder, root, tmp_path / "out")
    data = Groot(tmp_path / "out")
    for number in range(3):
        episode = data.episode(number)
        for camera in ("cam_high", "wrist"):
            found = episode[f"video.{camera}"].astype(int)
            assert np.abs(found - square_frames(number, 12)).mean() < 3


@pytest.mark.parametrize("name", [*LEROBOT, "lapa", "lary"])
def test_what_was_left_out_is_tried_again(robot: Path, tmp_path: Path, name: str) -> None:
    folder = latents_of(robot, tmp_path / "latents")
    kept = video_of(robot, 1).read_bytes()
    video_of(robot, 1).write_bytes(b"broken")
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"1 episode is left out \(episode_000001"):
            write(name, folder, robot, tmp_path / "out")
    video_of(robot, 1).write_bytes(kept)
    assert not write(name, folder, robot, tmp_path / "out")["left_out"]
    write(name, folder, robot, tmp_path / "whole")
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_what_is_no_longer_usable_leaves_nothing(robot: Path, tmp_path: Path) -> None:
    """The last number of before is of no episode now."""
    folder = latents_of(robot, tmp_path / "latents")
    stop_after(3, "lerobot-v2.1", folder, robot, tmp_path / "out")
    assert video_of(tmp_path / "out", 2).is_file()
    video_of(robot, 1).unlink()
    with pytest.warns(UserWarning, match="left out"):
        write("lerobot-v2.1", folder, robot, tmp_path / "out")
    assert not video_of(tmp_path / "out", 2).exists()
    assert not (tmp_path / "out/data/chunk-000/episode_000002.parquet").exists()


def test_what_is_there_already_is_not_made_again(
    robot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "shared"
    write_lerobot_v3(root, lengths=(12, 9))
    names = {f"videos/{CAMERA}/chunk-000/file-000.mp4#episode_{k:06d}": n for k, n in enumerate((12, 9))}
    folder = latents_of_videos(tmp_path / "latents", names)
    stop_after(2, "lerobot-v2.1", folder, root, tmp_path / "out")
    monkeypatch.setattr(lerobot_v2, "cut", lambda *_: pytest.fail("cut again"))
    before = {k: video_of(tmp_path / "out", k).stat().st_mtime_ns for k in range(2)}
    write("lerobot-v2.1", folder, root, tmp_path / "out")
    assert {k: video_of(tmp_path / "out", k).stat().st_mtime_ns for k in range(2)} == before
    assert not (tmp_path / "out" / JOURNAL).exists()


def test_a_file_cut_short_is_made_again(robot: Path, tmp_path: Path) -> None:
    folder = latents_of(robot, tmp_path / "latents")
    stop_after(2, "lerobot-v2.1", folder, robot, tmp_path / "out")
    video_of(tmp_path / "out", 0).write_bytes(b"half")
    write("lerobot-v2.1", folder, robot, tmp_path / "out")
    assert video_of(tmp_path / "out", 0).read_bytes() == video_of(robot, 0).read_bytes()


@pytest.mark.parametrize("name", LEROBOT)
@pytest.mark.parametrize("what", ["video", "table"])
def test_a_finished_export_of_a_source_that_changed_is_not_taken_for_fresh(
    robot: Path, tmp_path: Path, name: str, what: str
) -> None:
    folder = latents_of(robot, tmp_path / "latents")
    write(name, folder, robot, tmp_path / "out")
    before = content(tmp_path / "out")
    if what == "video":
        video_of(robot, 1).write_bytes(encode_mp4(square_frames(7, 12), 10.0))
    else:
        path = robot / "data/chunk-000/episode_000001.parquet"
        pq.write_table(pq.read_table(path), path, compression="none")
    with pytest.raises(UserError, match="source as it was before, which has changed since"):
        write(name, folder, robot, tmp_path / "out")
    assert content(tmp_path / "out") == before


def test_pictures_of_an_older_video_are_made_again(robot: Path, tmp_path: Path) -> None:
    folder = latents_of(robot, tmp_path / "latents")
    stop_after(3, "lapa", folder, robot, tmp_path / "out")
    video_of(robot, 1).write_bytes(encode_mp4(square_frames(7, 12), 10.0))
    write("lapa", folder, robot, tmp_path / "out")
    write("lapa", folder, robot, tmp_path / "whole")
    assert content(tmp_path / "out") == content(tmp_path / "whole")


@pytest.mark.parametrize("name", ["lerobot-v3", "lapa", "lary", "webdataset"])
def test_two_at_once_are_told(tmp_path: Path, name: str) -> None:
    shards = write_shards(tmp_path / "shards", ("train",), lengths=(9,))
    folder = latents_of_shards(tmp_path / "latents", shards, action=np.zeros((9, 2), np.float32))
    second: list[str] = []

    def progress(done: int, total: int) -> None:
        with pytest.raises(UserError, match="another export is being written here; wait for it") as caught:
            write(name, folder, shards, tmp_path / "out")
        second.append(str(caught.value))

    write(name, folder, shards, tmp_path / "out", progress=progress)
    assert second
    handle = os.open(tmp_path / "out", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it has been let go of
    os.close(handle)


def test_a_lock_is_let_go_of_by_whoever_fails(robot: Path, tmp_path: Path) -> None:
    folder = latents_of(robot, tmp_path / "latents")
    for _ in range(2):
        stop_after(1, "lerobot-v3", folder, robot, tmp_path / "out")


def test_only_our_own_unfinished_files_are_removed(robot: Path, tmp_path: Path) -> None:
    folder = latents_of(robot, tmp_path / "latents")
    stop_after(1, "lerobot-v3", folder, robot, tmp_path / "out")
    for name in (".mine.tmp", ".info.json.0123abcd.tmp"):
        (tmp_path / "out/meta" / name).write_text("mine")
    write("lerobot-v3", folder, robot, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").rglob(".*.tmp")] == [".mine.tmp"]


def test_what_can_be_refused_at_once_is(robot: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refusals: list[tuple[str, Any, Path, str]] = [
        ("lerobot", None, out, "found 'lerobot', expected one of"),
        ("lapa", robot, robot / "out", "choose a folder of its own"),
        ("lapa", None, robot, "is not empty and holds no export of ours"),
        ("lapa", None, video_of(robot, 0), "is not empty and holds no export"),
    ]
    for name, source, place, message in refusals:
        with pytest.raises(UserError, match=message):
            check(name, source, place)
    for name in ("lapa", "lerobot-v3", "webdataset"):
        check(name, robot, out)
        check(name, None, out)
    assert not out.exists()
    info = json.loads((robot / "meta/info.json").read_text())
    (robot / "meta/info.json").write_text(json.dumps(info | {"fps": 29.97}))
    for name in LEROBOT:
        with pytest.raises(UserError, match=r"29\.97 frames per second.*export as webdataset, lapa or lary"):
            check(name, robot, out)
        with pytest.raises(UserError, match=r"7\.5 frames per second.*--rate 8"):
            check(name, tmp_path, out.parent.parent / "elsewhere", rate_hz=7.5)
    check("lapa", robot, out)
    (robot / "meta/info.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        check("lapa", robot, out)


def test_an_export_in_another_format_is_refused_at_once(robot: Path, tmp_path: Path) -> None:
    write("lapa", latents_of(robot, tmp_path / "latents"), robot, tmp_path / "out")
    check("lapa", robot, tmp_path / "out")
    with pytest.raises(UserError, match=r"another export \(lapa of .*expected lary"):
        check("lary", robot, tmp_path / "out")
    with pytest.raises(UserError, match="is not empty and holds no export of ours"):
        check("lerobot-v3", robot, tmp_path / "out")


def test_an_unfinished_export_of_an_older_version_is_not_mixed_with_ours(robot: Path, tmp_path: Path) -> None:
    """Nobody noted what its files were made from."""
    folder = latents_of(robot, tmp_path / "latents")
    stop_after(1, "lerobot-v3", folder, robot, tmp_path / "out")
    path = tmp_path / "out/meta/label_manifest.json"
    tree = json.loads(path.read_text())
    tree["job"]["version"] = 1
    path.write_text(json.dumps(tree))
    with pytest.raises(UserError, match="holds another export"):
        write("lerobot-v3", folder, robot, tmp_path / "out")


def test_an_unfinished_export_goes_on_with_other_latents(robot: Path, tmp_path: Path) -> None:
    stop_after(2, "lerobot-v2.1", latents_of(robot, tmp_path / "some", 2), robot, tmp_path / "out")
    folder = latents_of(robot, tmp_path / "all")
    write("lerobot-v2.1", folder, robot, tmp_path / "out")
    write("lerobot-v2.1", folder, robot, tmp_path / "whole")
    assert content(tmp_path / "out") == content(tmp_path / "whole")
