"""The process that writes, and goes on alone after training."""

from pathlib import Path

import pytest

from genie_lite.train.rank import VARIABLES, is_main_process
from tests.command_line import call

TOY = Path(__file__).parents[2] / "recipes" / "toy" / "demo.yaml"


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    # Other tests of this process may have left a process group behind; here only the launcher speaks.
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: False)
    for name in (*VARIABLES, "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0"}, True),
        ({"LOCAL_RANK": "1"}, False),
        ({"RANK": "8", "LOCAL_RANK": "0"}, False),  # torchrun, second machine
        ({"NODE_RANK": "1"}, False),  # Lightning, second machine, before it has started the others there
        ({"SLURM_PROCID": "3"}, False),
        ({"SLURM_PROCID": "0", "LOCAL_RANK": "1"}, False),  # Lightning starts processes within one SLURM task
    ],
)
def test_rank_comes_from_the_launcher(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: bool
) -> None:
    for name, rank in environment.items():
        monkeypatch.setenv(name, rank)
    assert is_main_process() is expected


def test_processes_that_do_not_know_of_one_another_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`torchrun --nproc-per-node 2` with a recipe for one: each would train, over the other's files."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    outcome = call("run", TOY, f"out={tmp_path}")
    assert outcome.code == 2
    assert "trainer.devices: 1 on 1 machine(s), but 2 processes were started" in outcome.last_line
    assert not list(tmp_path.iterdir())
