"""Make the golden files again: `python -m tests.golden.make`, on purpose only (CONTRIBUTING.md says when)."""

import tempfile
from pathlib import Path

import numpy as np
import torch

from tests.golden.losses import PRECISIONS, STAGES, STEPS, path_of, stage_config, train_golden, write_losses


def main() -> None:
    """Train every stage in both precisions and write what each step recorded."""
    for stage in STAGES:
        for precision in PRECISIONS:
            with tempfile.TemporaryDirectory() as folder:
                losses = train_golden(stage, stage_config(stage, precision), Path(folder))
            title = (
                f"{STEPS} steps of the {stage} stage, {precision}, on a CPU; python -m tests.golden.make, "
                f"torch {torch.__version__}, numpy {np.__version__}"
            )
            write_losses(path_of(stage, precision), losses, title)


if __name__ == "__main__":
    main()
