"""The table over seeds: figures are those of the reports, intervals those of a textbook."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "seeds.py"


def write_report(folder: Path, seed: int, psnr_db: float) -> Path:
    folder.mkdir()
    report = {"made_from": {"seed": seed}, "tokenizer": {"psnr_db": psnr_db}, "policy": {"latent": None}}
    (folder / "report.json").write_text(json.dumps(report))
    return folder


def run(*runs: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *runs], capture_output=True, text=True)


def test_the_interval_is_students_over_runs(tmp_path: Path) -> None:
    runs = [write_report(tmp_path / str(seed), seed, 30.0 + seed) for seed in range(3)]
    lines = run(*runs).stdout.splitlines()
    # mean 31, standard deviation 1, t(2 degrees) = 4.303: 31 ± 4.303 / √3
    assert lines == [
        "| | mean | seed 0 | seed 1 | seed 2 |",
        "|---|---|---|---|---|",
        "| tokenizer PSNR, dB | 31.0 [28.5, 33.5] | 30.0 | 31.0 | 32.0 |",
    ]


@pytest.mark.parametrize(("seeds", "words"), [((0, 0), "the same seed"), ((0,), "expected 2 to 10 runs")])
def test_runs_that_say_nothing_about_seeds_are_refused(
    tmp_path: Path, seeds: tuple[int, ...], words: str
) -> None:
    runs = [write_report(tmp_path / str(place), seed, 30.0) for place, seed in enumerate(seeds)]
    done = run(*runs)
    assert done.returncode == 2
    assert words in done.stderr
