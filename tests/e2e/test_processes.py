"""Several processes through the real command line: they train together, and one does everything else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import start
from tests.unit.test_readme import ROOT

TOY = "recipes/toy/demo.yaml"
STAGE = ["train", TOY, "--stage", "tokenizer", "--json"]
LIGHTNING = [sys.executable, "-m", "genie_lite"]
TORCHRUN = [
    sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "genie_lite"
]  # fmt: skip
TOGETHER = ["trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp"]
FEW = [
    *(
        f"{stage}.train.{change}"
        for stage in ("tokenizer", "lam", "dynamics")
        for change in ("steps=4", "warmup_steps=1", "log_every=1", "val_clips=2")
    ),
    "tokenizer.model.code={kind: fsq, levels: [4, 4]}",  # draws nothing, so one process takes the same steps
    *("record.episodes=6", "record.test_episodes=3", "evaluate.levels=[2000, 2004]", "evaluate.num_envs=4"),
    *("adapt.mapping.steps=5", "adapt.idm.steps=2", "adapt.policy.steps=2", "evaluate.clips=2"),
]

# Put before everything else in every process: what is written, renamed or removed, and by which process.
SPY = """
import os, sys

RANK, LOG = os.environ.get("LOCAL_RANK", "0"), os.environ["SPY_LOG"]

def watch(event, arguments):
    if event == "open":
        path, _, flags = arguments
        if not isinstance(path, str) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
    elif event == "os.rename":
        path = arguments[1]
    elif event == "os.remove":
        path = arguments[0]
    else:
        return
    if not os.fspath(path).startswith(LOG):
        with open(LOG + RANK, "a") as log:
            log.write(os.path.abspath(os.fspath(path)) + chr(10))

sys.addaudithook(watch)
"""


def launch(launcher: list[str], *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command with all its processes; returns once each has closed its output, so none is left behind."""
    spy = folder / "spy"
    spy.mkdir(exist_ok=True)
    (spy / "sitecustomize.py").write_text(SPY)
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(spy), str(ROOT)]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "SPY_LOG": str(folder / "written-by-"),
    }
    command = [*launcher, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def written_by(rank: int, folder: Path) -> set[str]:
    """Names of what a process changed in the run's folder."""
    log, runs = folder / f"written-by-{rank}", folder / "runs"
    paths = [Path(line) for line in log.read_text().splitlines()] if log.is_file() else []
    return {path.name for path in paths if runs in path.parents}


def losses(run: Path, stage: str) -> list[float]:
    rows = map(json.loads, (run / stage / "metrics.jsonl").read_text().splitlines())
    return [row["loss"] for row in rows if row["split"] == "train"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    return tmp_path


# Of what one process alone makes and writes.
MADE = {"labels.parquet", "shards.json", "artifact.json", "recipe.yaml"}


def test_one_process_makes_the_data_and_writes_the_stage(place: Path) -> None:
    """Of two that torchrun has started; those that Lightning starts are the next test's."""
    done = launch(TORCHRUN, *STAGE, "name=together", *TOGETHER, *FEW, folder=place)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["stage"] == "tokenizer"
    assert done.stderr.count("ingest: ") == 1, done.stderr
    assert written_by(0, place) >= MADE
    assert written_by(1, place) == set()


def test_a_run_of_two_processes_is_complete(place: Path) -> None:
    done = launch(LIGHTNING, "run", TOY, "name=together", *TOGETHER, *FEW, "--json", folder=place)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert done.stderr.count("ingest: ") == 1, done.stderr
    report = json.loads((place / json.loads(done.stdout)["json"]).read_text())
    assert report["seconds"].keys() >= {"tokenizer", "lam", "dynamics", "extract", "adapt", "evaluate"}
    assert report["policy"].keys() >= {"latent", "random", "bc", "idm", "oracle"}
    assert [len(losses(place / "runs" / "together", stage)) for stage in report["stages"]] == [4, 4, 4]
    assert written_by(0, place) >= MADE
    assert written_by(1, place) == set()
    alone = start(*STAGE, "name=alone", *FEW, folder=place)
    assert alone.code == 0, alone.err
    found, wanted = (losses(place / "runs" / name, "tokenizer") for name in ("together", "alone"))
    assert found[:3] == pytest.approx(wanted[:3], rel=1e-5)


def test_a_mistake_ends_all_processes(place: Path) -> None:
    done = launch(LIGHTNING, "run", TOY, "name=odd", *TOGETHER, *FEW, "tokenizer.train.batch=7", folder=place)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: train.batch: 7 clips cannot be shared")
