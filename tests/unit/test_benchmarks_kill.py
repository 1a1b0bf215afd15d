"""The benchmark that kills extractions: that it kills, and that it sees the smallest difference."""

import importlib
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.footage import write_shards

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # as when one of them is run
kill = importlib.import_module("kill")

WORK = """
import json, os, sys, time
out, ending = sys.argv[1:]
os.makedirs(out, exist_ok=True)
for number in range(10):
    path = os.path.join(out, f"{number}.parquet")
    if not os.path.exists(path):
        time.sleep(0.02)
        with open(path, "w") as file:
            file.write(str(number) + (ending if number == 9 and out.endswith("killed") else ""))
manifest = {"format": 2, "lam": {}, "shards": {}, "window": {"frames": 2}, "num_codes": 8, "num_tokens": 1}
manifest |= {"counts": {"rows": 40, "transitions": 30}, "quality": {}}
manifest["parts"] = [{"file": str(number)} for number in range(10)]
with open(os.path.join(out, "manifest.json"), "w") as file:
    json.dump(manifest, file)
"""


@pytest.mark.parametrize("ending", ["", "!"], ids=["same", "different"])
def test_what_was_killed_is_compared_file_by_file(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(words: list[str], shards: Path, out: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-S", "-c", WORK, str(out), ending])

    monkeypatch.setattr(kill, "start", start)
    shards = write_shards(tmp_path / "shards", ("train",))
    row = kill.measure([], shards, tmp_path, 3, random.Random(0))
    assert row["identical"] == (not ending)
    assert row["files_that_differ"] == (["9.parquet"] if ending else [])
    assert (row["files_compared"], row["exit_code"], row["frames"]) == (11, 0, 40)
    assert row["kills"] == len(row["killed_after_s"]) == len(row["parts_by_then"]) > 0


def test_what_is_done_before_it_can_be_killed_was_not_killed(tmp_path: Path) -> None:
    tmp_path.joinpath("9.parquet").touch()
    child = subprocess.Popen([sys.executable, "-S", "-c", ""])
    assert kill.kill_after(child, tmp_path, 60) is None
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    assert kill.kill_after(child, tmp_path, 0) == 1
    assert child.returncode == -9


def test_frames_are_made_many_under_other_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kill, "SHARD_FRAMES", 30)
    source = write_shards(tmp_path / "few", ("train", "test"))  # shots of 9, 7, 9 and 7 frames
    shards = kill.multiply(source, tmp_path / "many", 70)
    assert [shard.lengths for shard in shards.shards] == [(9, 7, 9, 7), (9, 7, 9, 7), (9,)]
    samples = list(shards.samples("train"))
    assert len({sample.key for sample in samples}) == len({sample.meta["source"] for sample in samples}) == 9
    assert samples[4].mp4 == samples[0].mp4
