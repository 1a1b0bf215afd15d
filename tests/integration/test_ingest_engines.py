"""Whoever reads the videos, the shards are the same: child processes, a Ray cluster, an array of jobs."""

import fcntl
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.data.ingest import ingest as ingest_module
from genie_lite.data.ingest.ingest import ingest
from genie_lite.data.ingest.workers import Share, Workers
from genie_lite.errors import UserError
from tests.videos import moving_square, truncate, wandering_square, write

CONFIG = IngestConfig(
    size_px=32,
    segment_frames=16,
    min_frames=4,
    shard_samples=3,
    test_share=0.3,
    letterbox=False,
    min_motion=0.0,
)

JOB = """
import os, signal, sys
from pathlib import Path
from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.data.ingest.ingest import ingest
from genie_lite.data.ingest.workers import Share, Workers

source, out, index, num, config, killed_at = sys.argv[1:]

def progress(done, total):
    if done == int(killed_at):
        os.kill(os.getpid(), signal.SIGKILL)

config = IngestConfig.model_validate_json(config)
summary = ingest(
    [Path(source)], Path(out), config, progress=progress, workers=Workers(num=1), share=Share(int(index), int(num))
)
print(summary.waiting)
"""


def content(folder: Path) -> dict[str, bytes]:
    names = [file for file in folder.iterdir() if file.is_file() and file.name != ".ingest.lock"]
    return {file.name: file.read_bytes() for file in names}


def job(source: Path, out: Path, index: int, num: int, killed_at: int = -1) -> subprocess.Popen[str]:
    arguments = [str(source), str(out), str(index), str(num), CONFIG.model_dump_json(), str(killed_at)]
    return subprocess.Popen([sys.executable, "-c", JOB, *arguments], stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve videos: good ones, two that show the same, a copy, a broken one and a text."""
    folder = tmp_path_factory.mktemp("footage")
    for k in range(8):
        write(folder / f"{k} a.mp4", wandering_square(f"{k}", 12 + 3 * k, 32))
    again = wandering_square("3", 21, 32)
    write(folder / "again.mp4", np.clip(again.astype(int) + 6, 0, 255).astype(np.uint8))
    (folder / "copy.mp4").write_bytes((folder / "5 a.mp4").read_bytes())
    truncate(write(folder / "broken.mp4", moving_square(30)))
    (folder / "text.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def expected(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one process makes of it."""
    out = tmp_path_factory.mktemp("pool")
    summary = ingest([footage], out, CONFIG, workers=Workers(num=1))
    assert (summary.sources, summary.quarantined, summary.filtered) == (12, 2, 2)
    rows = {row["source"]: row for row in map(json.loads, (out / "manifest.jsonl").read_text().splitlines())}
    pair = {name: rows[name] for name in ("3 a.mp4", "again.mp4")}
    (dropped,) = (row for row in pair.values() if row["status"] == "filtered")
    assert (
        dropped["dropped"] == {"near duplicate": dropped["shots"]} or "near duplicate" in dropped["dropped"]
    )
    assert dropped["duplicates"]
    return content(out)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own, about its own settings
def test_a_ray_cluster_of_two_workers_gives_the_same(
    footage: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    ingest([footage], tmp_path, CONFIG, workers=Workers("ray", 2))
    assert content(tmp_path) == expected


def test_an_array_of_jobs_gives_the_same_whoever_is_last(
    footage: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    jobs = [job(footage, tmp_path, index, 3) for index in range(3)]
    waiting = [int(each.communicate(timeout=300)[0]) for each in jobs]
    assert [each.returncode for each in jobs] == [0, 0, 0]
    assert min(waiting) == 0
    assert content(tmp_path) == expected
    assert not (tmp_path / ".ingest").exists()


def test_a_job_that_is_killed_is_started_again_and_reads_only_the_rest(
    footage: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    first = job(footage, tmp_path, 0, 2)
    assert int(first.communicate(timeout=300)[0]) > 0
    killed = job(footage, tmp_path, 1, 2, killed_at=2)
    killed.communicate(timeout=300)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "shards.json").exists()
    kept = {path: path.stat().st_ino for path in tmp_path.rglob("*.result")}
    assert len(kept) >= 6
    last = job(footage, tmp_path, 1, 2)
    assert int(last.communicate(timeout=300)[0]) == 0
    assert content(tmp_path) == expected


def test_what_jobs_have_read_serves_an_ordinary_ingest(
    footage: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    summary = ingest([footage], tmp_path, CONFIG, share=Share(0, 2))
    assert summary.waiting > 0
    assert summary.samples == 0
    ingest([footage], tmp_path, CONFIG)
    assert content(tmp_path) == expected


def test_a_share_that_does_not_exist_is_a_mistake() -> None:
    with pytest.raises(UserError, match=r"--shard-index: found 3, expected 0 to 2"):
        Share(3, 3)


def test_an_address_without_a_cluster_is_one_line(footage: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--address: no Ray cluster at 127\.0\.0\.1:1"):
        ingest([footage], tmp_path, CONFIG, workers=Workers("ray", 1, "127.0.0.1:1"))


def test_jobs_without_anything_to_read_and_late_ones_find_the_work_done(
    footage: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    jobs = [job(footage, tmp_path, index, 20) for index in (0, 19)]
    for each in jobs:
        each.communicate(timeout=300)
    assert [each.returncode for each in jobs] == [0, 0]
    ingest([footage], tmp_path, CONFIG)
    late = job(footage, tmp_path, 7, 20)
    assert late.communicate(timeout=300)[0].strip() == "0"
    assert content(tmp_path) == expected


def test_a_job_that_comes_while_another_packs_waits_for_it(
    footage: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    for index in range(3):
        ingest([footage], tmp_path, CONFIG, share=Share(index, 4))
    with (tmp_path / ".ingest.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        late = job(footage, tmp_path, 1, 4)
        with pytest.raises(subprocess.TimeoutExpired):
            late.wait(timeout=4)
    assert int(late.communicate(timeout=300)[0]) > 0, "share 3 is still missing"
    assert ingest([footage], tmp_path, CONFIG, share=Share(3, 4)).waiting == 0
    assert content(tmp_path) == expected


def test_a_process_that_began_before_the_end_of_a_round_does_not_begin_another(
    footage: Path, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is to be done is asked again once the lock is held."""
    locked = ingest_module.locked

    def late(out: Path, *arguments: Any) -> Any:
        monkeypatch.setattr(ingest_module, "locked", locked)
        ingest([footage], tmp_path, CONFIG)
        return locked(out, *arguments)

    monkeypatch.setattr(ingest_module, "locked", late)
    ingest([footage], tmp_path, CONFIG)
    assert content(tmp_path) == expected
