"""An extraction in a process of its own, so that a test can kill it."""

from multiprocessing.connection import Connection
from pathlib import Path

from genie_lite.data.shards.shards import ShardSet
from genie_lite.latents.extract import extract
from tests import models


def run(shards: Path, out: Path, progress: Connection) -> None:
    """Extract, and tell how many shots are done after each."""
    extract(
        models.lam().eval(),
        ShardSet.open(shards),
        out,
        lam_sha="a",
        window_s=0.2,
        progress=lambda done, total: progress.send(done),
    )
