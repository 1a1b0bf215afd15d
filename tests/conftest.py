"""What all tests share. The shapes of every call are checked while they run: see `--jaxtyping-packages`."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before any test module imports torch: threads that spin starve the other worker.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("WANDB_MODE", "offline")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options for those who want to look: see `tests/browser/test_pictures.py`."""
    group = parser.getgroup("genie_lite")
    group.addoption("--play-run", type=Path, help="a run to play in the browser, in place of a tiny one")
    group.addoption("--pictures", type=Path, help="a folder for pictures of the page")


@pytest.fixture(autouse=True)
def same_environment() -> Iterator[None]:
    """Lightning tells processes that it would start where to meet, and leaves that behind for whoever comes next."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
