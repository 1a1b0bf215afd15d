"""What `tests/forked.py` starts is a process of its own, which has found no more than it should."""

import os
import signal
from pathlib import Path

from tests.forked import of_two, run_forked

TOLD = """
import os, sys
print(os.getcwd(), sys.argv, os.environ.get("ONLY_HERE"), __name__)
print("aside", file=sys.stderr)
sys.exit(3)
"""


def test_a_process_has_its_own_folder_arguments_environment_and_end(tmp_path: Path) -> None:
    done = run_forked(["-c", TOLD, "one", "two"], tmp_path, environments=[os.environ | {"ONLY_HERE": "yes"}])
    assert (done.returncode, done.stderr) == (3, "aside\n")
    assert done.stdout == f"{tmp_path} ['-c', 'one', 'two'] yes __main__\n"
    assert run_forked(["-c", TOLD], tmp_path).stdout == f"{tmp_path} ['-c'] None __main__\n"


def test_nothing_that_has_to_be_imported_in_order_is_there_already(tmp_path: Path) -> None:
    script = "import sys; print(sorted({name.partition('.')[0] for name in sys.modules}))"
    found = run_forked(["-c", script], tmp_path).stdout
    assert "'torch'" in found
    for name in ("genie_lite", "tests", "lightning", "torchmetrics", "torchvision", "timm", "av"):
        assert f"'{name}'" not in found


def test_of_two_processes_the_one_that_fails_ends_the_other(tmp_path: Path) -> None:
    script = (
        "import os, signal, time\n"
        "if os.environ['LOCAL_RANK'] == '1': os.kill(os.getpid(), signal.SIGTERM)\n"
        "time.sleep(600)"
    )
    assert run_forked(["-c", script], tmp_path, environments=of_two()).returncode == -signal.SIGTERM


def test_what_takes_too_long_is_ended_and_says_where_it_was(tmp_path: Path) -> None:
    done = run_forked(["-c", "import time; time.sleep(600)"], tmp_path, limit_s=1)
    assert done.returncode == -signal.SIGABRT
    assert 'File "<string>", line 1' in done.stderr
    assert run_forked(["-c", "print('next')"], tmp_path).stdout == "next\n"
