"""An extraction that is killed, again and again, ends with the bytes of one that was left alone."""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

from tests.extracting import run
from tests.footage import write_shards

NUM_KILLS = 5


def test_killed_at_random_moments_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", ("train",) * 9 + ("test",) * 3).folder
    context = multiprocessing.get_context("forkserver")  # imports once, for all of them
    context.set_forkserver_preload(["genie_lite.latents.extract", "vector_quantize_pytorch", "decord"])
    dice = random.Random(0)
    left = []
    for number in range(NUM_KILLS + 2):
        out = tmp_path / ("whole" if number > NUM_KILLS else "killed")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=run, args=(shards, out, theirs))
        process.start()
        theirs.close()
        if number < NUM_KILLS:
            for _ in range(dice.randint(1, 4)):  # shots, of 24
                ours.recv()
            time.sleep(dice.uniform(0, 0.01))
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == (-signal.SIGKILL if number < NUM_KILLS else 0)
        left.append(len(list(out.glob("*.parquet"))))
    assert left[0] < left[NUM_KILLS - 1] < left[NUM_KILLS] == 12, "killed at work"
    whole, killed = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("whole", "killed")
    )
    assert len(whole) == 13
    assert killed == whole
