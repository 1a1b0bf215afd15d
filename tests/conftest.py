"""What all tests share. The shapes of every call are checked while they run: see `--jaxtyping-packages`."""

import os
from collections.abc import Iterator

import pytest

# Before any test module imports torch: threads that spin starve the other worker.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("WANDB_MODE", "offline")


@pytest.fixture(autouse=True)
def same_environment() -> Iterator[None]:
    """Lightning tells processes that it would start where to meet, and leaves that behind for whoever comes next."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
