"""What all exports share: one job per folder, the same files whatever stopped it, and the right rows for a video."""

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genie_lite.errors import UserError
from genie_lite.latents.formats.registry import FORMATS, write
from tests.footage import write_shards
from tests.forked import run_forked
from tests.latent_fixture import latents_of_shards, latents_of_video, latents_of_videos, write_latents
from tests.lerobot_fixture import CAMERA, write_lerobot, write_lerobot_v3
from tests.lerobot_readers import V3
from tests.unit.test_latents_sidecars import content, stop_after

OTHER = "observation.images.wrist"
ACTION = np.zeros((9, 2), np.float32)
SOURCE = f"videos/chunk-000/{CAMERA}/episode_{{:06d}}.mp4"


@pytest.fixture
def robot(tmp_path: Path) -> Path:
    write_lerobot(tmp_path / "robots/one", num_episodes=3)
    return tmp_path / "robots/one"


@pytest.fixture
def latents(tmp_path: Path) -> Path:
    return latents_of_videos(tmp_path / "latents", {SOURCE.format(number): 12 for number in range(3)})


@pytest.mark.parametrize("name", FORMATS)
def test_stopped_anywhere_it_ends_with_the_same_files(name: str, tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", ("train", "test"), lengths=(9, 9))
    folder = latents_of_shards(tmp_path / "latents", shards, action=ACTION)
    whole = write(name, folder, shards, tmp_path / "whole")
    stop_after(2, name, folder, shards, tmp_path / "out")
    assert not (tmp_path / "out/meta/info.json").exists()
    assert write(name, folder, shards, tmp_path / "out") == whole
    assert content(tmp_path / "out") == content(tmp_path / "whole")


@pytest.mark.parametrize("name", FORMATS)
def test_a_finished_export_is_left_as_it_is(name: str, tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", ("train",), lengths=(9, 9))
    folder = latents_of_shards(tmp_path / "latents", shards, action=ACTION)
    first = write(name, folder, shards, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert write(name, folder, shards, tmp_path / "out") == first
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_killed_export_is_finished_by_the_next(robot: Path, latents: Path, tmp_path: Path) -> None:
    """Killed by the system, with its unfinished files left: none of them stays."""
    out = tmp_path / "out"
    script = (
        "import os, sys; from pathlib import Path; from genie_lite.latents.formats.registry import write\n"
        "def progress(done, total):\n    print(done, flush=True)\n    os.kill(os.getpid(), 9)\n"
        "write('lerobot-v3', Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), progress=progress)"
    )
    killed = run_forked(["-c", script, str(latents), str(robot), str(out)], tmp_path)
    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, "1\n")
    assert list(out.rglob(".*.tmp"))
    write("lerobot-v3", latents, robot, out)
    write("lerobot-v3", latents, robot, tmp_path / "whole")
    assert content(out) == content(tmp_path / "whole")


def test_strangers_and_other_exports_are_refused(robot: Path, latents: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty and holds no export of ours"):
        write("lerobot-v3", latents, robot, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    write("lerobot-v3", latents, robot, tmp_path / "out")
    with pytest.raises(UserError, match=r"another export \(lerobot-v3 of .*expected lerobot-v3-action or"):
        write("lerobot-v3-action", latents, robot, tmp_path / "out")
    manifest = json.loads((latents / "manifest.json").read_text())
    (latents / "manifest.json").write_text(json.dumps(manifest | {"rate_hz": 5.0}))
    with pytest.raises(UserError, match="holds another export"):
        write("lerobot-v3", latents, robot, tmp_path / "out")


def test_what_is_read_is_never_written_to(robot: Path, latents: Path) -> None:
    for place in (robot, robot / "out", latents):
        with pytest.raises(UserError, match="choose a folder of its own"):
            write("lerobot-v3", latents, robot, place)


def test_an_unknown_format_is_told(robot: Path, latents: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found 'lerobot', expected one of webdataset, lerobot-v3,"):
        write("lerobot", latents, robot, tmp_path / "out")


def test_the_machine_is_not_in_the_manifest(robot: Path, latents: Path, tmp_path: Path) -> None:
    for name in set(FORMATS) - {"webdataset"}:
        write(name, latents, robot, tmp_path / name)
        told = [path.read_text() for path in (tmp_path / name).rglob("*.json*")]
        assert not any(str(tmp_path) in text for text in told)


def embedding_numbers(out: Path) -> list[float]:
    """The second component, which says of which video a latent is, per episode."""
    rows = V3(out).rows
    return [float(rows["latent_labels.embedding"].iloc[12 * number][1]) for number in range(3)]


def number_of(source: str) -> float:
    return float(latents_of_video(source, 3).embedding[0, 1])


def test_videos_are_found_under_the_names_that_ingest_gave_them(robot: Path, tmp_path: Path) -> None:
    """Two datasets of one folder call their videos the same, so each has its folder in front."""
    names = [f"{folder}/{SOURCE.format(number)}" for folder in ("one", "two") for number in range(3)]
    folder = latents_of_videos(tmp_path / "latents", dict.fromkeys(names, 12))
    write("lerobot-v3", folder, robot, tmp_path / "out")
    assert embedding_numbers(tmp_path / "out") == [number_of(name) for name in names[:3]]


def test_a_dataset_that_was_moved_is_found_if_it_is_the_only_one(robot: Path, tmp_path: Path) -> None:
    names = [f"elsewhere/{SOURCE.format(number)}" for number in range(3)]
    folder = latents_of_videos(tmp_path / "latents", dict.fromkeys(names, 12))
    write("lerobot-v3", folder, robot, tmp_path / "out")
    assert embedding_numbers(tmp_path / "out") == [number_of(name) for name in names]
    both = [*names, *(f"two/{SOURCE.format(number)}" for number in range(3))]
    folder = latents_of_videos(tmp_path / "both", dict.fromkeys(both, 12))
    with pytest.raises(UserError, match=r"several datasets \(elsewhere/, two/\)"):
        write("lerobot-v3", folder, robot, tmp_path / "other")


def test_latents_of_something_else_are_told(robot: Path, tmp_path: Path) -> None:
    folder = latents_of_videos(tmp_path / "latents", {"holiday.mp4": 12})
    with pytest.raises(UserError, match=r"no latents of .*one; they are of videos such as holiday\.mp4"):
        write("lerobot-v3", folder, robot, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_latents_of_two_cameras_are_told(tmp_path: Path) -> None:
    root = tmp_path / "robot"
    names = write_lerobot_v3(root, lengths=(12,), cameras=(CAMERA, OTHER))
    folder = latents_of_videos(tmp_path / "latents", dict.fromkeys(names, 12))
    with pytest.raises(UserError, match="latents of 2 cameras"):
        write("lerobot-v3", folder, root, tmp_path / "out")


def test_rows_of_both_splits_are_found_over_many_parts(robot: Path, tmp_path: Path) -> None:
    parts: dict[str, Any] = {
        f"part-{number:06d}": latents_of_video(
            SOURCE.format(number), 12, split="test" if number == 1 else "train"
        )
        for number in range(3)
    }
    write("lerobot-v3", write_latents(tmp_path / "latents", parts), robot, tmp_path / "out")
    assert embedding_numbers(tmp_path / "out") == [number_of(SOURCE.format(number)) for number in range(3)]


def test_a_label_across_a_cut_is_of_no_frame(robot: Path, tmp_path: Path) -> None:
    """Rows of two shots of one video: each ends by itself, and the episode has both."""
    first = latents_of_video(SOURCE.format(0), 5)
    second = latents_of_video(SOURCE.format(0), 7, key="second")
    second = type(second)(**{**vars(second), "frame_index": second.frame_index + 5})
    rest = {"c": latents_of_video(SOURCE.format(1), 12), "d": latents_of_video(SOURCE.format(2), 12)}
    folder = write_latents(tmp_path / "latents", {"a": first, "b": second, **rest})
    write("lerobot-v3", folder, robot, tmp_path / "out")
    rows = V3(tmp_path / "out").rows[:12]
    assert np.flatnonzero(rows["latent_labels.valid"] == 0).tolist() == [3, 4, 10, 11]
