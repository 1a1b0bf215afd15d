"""What latent actions cost beside decoding the video that they are read from: shards to Parquet, end to end.

    python benchmarks/extract.py RUN [--shards 4] [--rounds 3] [--workers 2] [--device cpu] [--write]

Two jobs take turns on the shards of a finished run:

    decode     every shard is read and every frame of it decoded, as extraction does it; nothing is kept
    extract    genie_lite/latents/extract.py, into an empty folder: decode, encode, describe, write, sum up

Each process works on one thread; with several, the time of starting them counts.

Prints one JSON line: seconds of both by the clock, their ratio `over_decoding`, and frames per second extracted.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from measure import Row, command, take_turns, tell, write_table

from genie_lite.data.shards.shards import ShardSet
from genie_lite.errors import UserError
from genie_lite.folder import recipe_of, shards_of
from genie_lite.latents.extract import extract
from genie_lite.models.lam import LatentActionModel, load_lam


def main() -> None:
    """Parse the command line and print the row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--shards", type=int, help="how many of the run's, the first; all, if not given")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=1, help="processes that encode")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    given = parser.parse_args()
    try:
        shards, lam = shards_of(recipe_of(given.run)), load_lam(given.run / "lam").to(given.device)
        shards = replace(shards, shards=shards.shards[: given.shards])
        row = tell(measure(shards, lam, given.rounds, workers=given.workers))
    except UserError as error:
        parser.error(str(error))
    if given.write:
        write_table("extract", [row], command())


def measure(shards: ShardSet, lam: LatentActionModel, rounds: int, warm_up: int = 1, workers: int = 1) -> Row:
    """Decode and extract in turns."""
    with tempfile.TemporaryDirectory() as folder:
        jobs = {"decode": lambda: decode(shards), "extract": extracting(shards, lam, Path(folder), workers)}
        timed = take_turns(jobs, rounds, warm_up)
    frames = sum(shard.frames for shard in shards.shards)
    decode_s, extract_s = timed["decode"].wall_s, timed["extract"].wall_s
    return {
        "frames": frames,
        "decode_s": decode_s,
        "extract_s": extract_s,
        "over_decoding": extract_s / decode_s,
        "frames_per_s": frames / extract_s,
    }


def decode(shards: ShardSet) -> int:
    """Read all frames with the reader that extraction uses; returns how many there were."""
    return sum(len(sample.frames()) for shard in shards.shards for sample in shards.read(shard))


def extracting(
    shards: ShardSet, lam: LatentActionModel, folder: Path, workers: int = 1
) -> Callable[[], object]:
    """Extraction into a folder of its own at every call: finished work would not be done again."""

    def job() -> object:
        out = Path(tempfile.mkdtemp(dir=folder))
        return extract(lam, shards, out, lam_sha="benchmark", workers=workers)

    return job


if __name__ == "__main__":
    main()
