"""Whether an extraction that is killed again and again ends with the bytes of one that was left alone.

    python benchmarks/kill.py RUN [--frames 100000] [--kill 5] [--workers 2] [--window 0.5] [--seed 0] [--keep DIR]

The frames of a run's shards are made into shards of the wanted number of frames: its shots under other names, over
and over. They are extracted once in peace, and once in a process that gets `kill -9` at random moments of the time
that the first took, and is started again each time. Child processes are not killed: they have to end by
themselves. Then every file of the two folders is compared.

Prints one JSON line: what was compared, when it was killed and how much was there by then.
"""

import argparse
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from measure import Row, tell

from genie_lite.artifact import read_artifact
from genie_lite.data.shards.index import Shard, index_of
from genie_lite.data.shards.shards import Sample, ShardSet, ShardWriter
from genie_lite.errors import UserError
from genie_lite.files import sha256_of, write_json
from genie_lite.folder import recipe_of, shards_of
from genie_lite.latents.extract import extract
from genie_lite.latents.table import MANIFEST_FILE, read_manifest
from genie_lite.models.lam import load_lam

SHARD_FRAMES = 1000  # of a shard: a kill costs at most what was done of one


def main() -> None:
    """Parse the command line and print the row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--frames", type=int, default=100_000, help="how many, at least")
    parser.add_argument("--kill", type=int, default=5, help="how often")
    parser.add_argument("--workers", type=int, default=1, help="processes that encode")
    parser.add_argument("--window", type=float, help="seconds from frame k to the one that its row leads to")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--keep", type=Path, help="an empty folder for shards and latents, to look at them")
    parser.add_argument("--child", nargs=2, type=Path, metavar=("SHARDS", "OUT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        shards, out = given.child
        work(given.run, shards, out, given.window, given.workers)
        return
    try:
        source = shards_of(recipe_of(given.run))
        read_artifact(given.run / "lam", "lam")
    except UserError as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory() as folder:
        where = given.keep or Path(folder)
        shards = multiply(source, where / "shards", given.frames)
        words = [str(given.run), "--workers", str(given.workers)]
        words += [] if given.window is None else ["--window", str(given.window)]
        tell(measure(words, shards, where, given.kill, random.Random(given.seed)))


def measure(words: list[str], shards: ShardSet, where: Path, num_kills: int, dice: random.Random) -> Row:
    """Extract in peace, then under fire, and compare."""
    whole, killed = where / "whole", where / "killed"
    start_s = time.perf_counter()
    start(words, shards.folder, whole).wait()
    alone_s = time.perf_counter() - start_s
    manifest = read_manifest(whole)
    # Moments of the work, each from the start after the kill before: lost work only makes it longer.
    moments = sorted(dice.uniform(0, 0.95 * alone_s) for _ in range(num_kills))
    kills = []
    for before_s, moment_s in itertools.pairwise([0.0, *moments]):
        parts = kill_after(start(words, shards.folder, killed), killed, moment_s - before_s)
        if parts is None:
            break
        kills.append((round(moment_s - before_s, 2), parts))
    code = start(words, shards.folder, killed).wait()
    ours, theirs = hashes(whole), hashes(killed)
    return {
        "frames": manifest["counts"]["rows"],
        "transitions": manifest["counts"]["transitions"],
        "window_frames": manifest["window"]["frames"],
        "parts": len(manifest["parts"]),
        "alone_s": round(alone_s, 2),
        "kills": len(kills),
        "killed_after_s": [after_s for after_s, _ in kills],
        "parts_by_then": [parts for _, parts in kills],
        "exit_code": code,
        "files_compared": len(ours.keys() | theirs.keys()),
        "files_that_differ": sorted(
            name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)
        ),
        "identical": ours == theirs and MANIFEST_FILE in ours,
    }


def kill_after(child: subprocess.Popen[bytes], out: Path, seconds: float) -> int | None:
    """Kill after so long; returns how many parts were there then, None if it was done before.

    The clock starts with the first sign of work: before that, there is nothing to be lost.
    """
    while not out.is_dir() and child.poll() is None:
        time.sleep(0.01)
    try:
        child.wait(timeout=seconds)
        return None
    except subprocess.TimeoutExpired:
        os.kill(child.pid, signal.SIGKILL)
    child.wait()
    return len(list(out.glob("*.parquet")))


def start(words: list[str], shards: Path, out: Path) -> subprocess.Popen[bytes]:
    """An extraction in a process of its own."""
    return subprocess.Popen([sys.executable, __file__, *words, "--child", str(shards), str(out)])


def work(run: Path, shards: Path, out: Path, window_s: float | None, workers: int) -> None:
    """What is killed."""
    lam, sha256 = load_lam(run / "lam"), read_artifact(run / "lam", "lam").sha256
    extract(lam, ShardSet.open(shards, verify=False), out, lam_sha=sha256, window_s=window_s, workers=workers)


def multiply(source: ShardSet, folder: Path, num_frames: int) -> ShardSet:
    """Shards of at least so many frames, of the shots of others."""
    shards: list[Shard] = []
    frames = 0
    folder.mkdir(parents=True)
    shots = copies(source)
    while frames < num_frames:
        with ShardWriter(folder, "train", len(shards)) as writer:
            wanted = frames + min(SHARD_FRAMES, num_frames - frames)
            while frames < wanted:
                sample = next(shots)
                writer.add(sample)
                frames += sample.meta["num_frames"]
            made = writer.close()
            assert made is not None
            shards.append(made)
    write_json(folder / "shards.json", index_of(shards, source.config))
    return ShardSet.open(folder)


def copies(source: ShardSet) -> Iterator[Sample]:
    """Every shot, under a new name each time around."""
    for around in itertools.count():
        for shard in source.shards:
            for sample in source.read(shard):
                key = f"{around:04d}-{sample.key}"
                meta = sample.meta | {"source": f"{around:04d}/{sample.meta['source']}", "split": "train"}
                yield replace(sample, key=key, meta=meta)


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file, hidden ones too."""
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir()) if path.is_file()}


if __name__ == "__main__":
    main()
