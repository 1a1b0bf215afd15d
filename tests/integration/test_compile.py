"""Compiled blocks: the same training, but for rounding."""

import shutil
from pathlib import Path

import pytest

from tests.forked import TRAINER, run_forked

# As its own process: the shape checks of tests are not for a compiler's eyes.
SCRIPT = """
import sys
from pathlib import Path
from tests.training import rows, train, write_shards

folder = Path(sys.argv[1])
shards = write_shards(folder / "shards")
for compile in (False, True):
    run = folder / str(compile)
    train("tokenizer", shards, run, compile=compile, val_every=8)
    print(*(row["loss"] for row in rows(run, "tokenizer", "train")))
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_stage_records_the_losses_of_another(tmp_path: Path) -> None:
    done = run_forked(["-c", SCRIPT, str(tmp_path)], Path(__file__).parents[2], TRAINER)
    assert done.returncode == 0, done.stderr
    plain, compiled = ([float(loss) for loss in line.split()] for line in done.stdout.splitlines())
    assert len(plain) > 1
    assert compiled == pytest.approx(plain, rel=1e-3)
