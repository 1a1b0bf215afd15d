"""What loading costs: clips per CPU-second of genie_lite beside bare decoding and other readers, memory, and waiting.

    python benchmarks/loader.py [SHARDS] [--frames 16] [--size-px 64] [--clips 64] [--rounds 5] [--flat 50000]
                                [--recipe recipes/maze/demo.yaml] [--waits 200] [--write]

Takes twelve minutes of a core; most of that for --flat and --waits, which 0 leaves out.

Prints one JSON line per row. All readers take turns on the same clips: the training split of the shards that are
named, or --clips clips of 160 frames that are drawn here. A turn is 64 random windows of --frames frames (4096 of
tokens), in batches of 32, and what counts is process CPU time, all of it in this process.

    loader          each reader: windows per CPU-second, and ours over it (`ours_over`)
      mp4           H.264 as ingest writes it: ours; a bare decord loop over the same clips as files; webdataset over
                    the same tars with decord, one window per sample; torchcodec over the files, where it is installed.
                    Ours ends with float32 in [0, 1] as the models read it, the others with uint8. Ours is told to keep
                    no decoded frames in memory, but for the row `cached`: there all of them are, before it begins.
      jpeg          the same frames with codec: mjpeg, and what that is over H.264
      tokens        ours, and a bare loop over numpy memory maps of the same rows, which stacks them and makes int64
    loader-memory   resident megabytes after a tenth, half and all of --flat windows of mp4 and of tokens
    loader-waits    training steps of the recipe's dynamics stage on token shards, with and without a loading process:
                    the share of the time by the clock in which the step waits for its batch
"""

import argparse
import importlib
import io
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import decord
import numpy as np
import torch
from loader_data import Material, make, named
from measure import Row, Timed, command, take_turns, tell, training_step, write_table
from webdataset.compat import WebDataset

from genie_lite.data.loading.clip import TokenClip
from genie_lite.data.loading.loader import Loader, LoaderConfig, train_loader
from genie_lite.data.loading.token_windows import token_loader
from genie_lite.data.shards.shards import ShardSet
from genie_lite.errors import UserError
from genie_lite.models import dynamics
from genie_lite.models.lam import LatentActionModel
from genie_lite.models.tokenizer import VideoTokenizer
from genie_lite.recipe import Recipe, load_recipe
from genie_lite.train.module import DynamicsModule
from genie_lite.train.optim import build_optimizer

BATCH = 32
WINDOWS = {"mp4": 64, "jpeg": 64, "tokens": 4096}  # of a turn
Job = Callable[[], object]


@dataclass(frozen=True)
class Reader:
    """Something that reads `WINDOWS[stored]` windows at each call."""

    stored: str
    name: str
    read: Job


def main() -> None:
    """Parse the command line and print all rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shards", type=Path, nargs="?", help="finished shards of video")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size-px", type=int, default=64)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--flat", type=int, default=50_000, metavar="WINDOWS")
    parser.add_argument("--recipe", type=Path, default=Path("recipes/maze/demo.yaml"))
    parser.add_argument("--waits", type=int, default=200, metavar="STEPS")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        try:
            recipe = load_recipe(given.recipe)
            sizes = VideoTokenizer(recipe.tokenizer.model).num_tokens, recipe.dynamics.train.clip_frames
            if given.shards is None:
                material = make(Path(folder), given.clips, given.size_px, sizes[0])
            else:
                material = named(Path(folder), ShardSet.open(given.shards), sizes[0])
            tables = {
                "loader": [tell(row) for row in compare(material, given.frames, given.rounds)],
                "loader-memory": [tell(row) for row in watch(material, given.frames, given.flat)],
                "loader-waits": [tell(row) for row in wait(material, recipe, given.waits)],
            }
        except UserError as error:
            parser.error(str(error))
    if given.write:
        for name, rows in tables.items():
            if rows:
                write_table(name, rows, command())


# Rivals


def compare(material: Material, frames: int, rounds: int) -> list[Row]:
    """All readers take turns."""
    found = list(readers(material, frames))
    timed = take_turns({f"{each.stored} {each.name}": each.read for each in found}, rounds)
    return [row_of(each, timed) for each in found]


def row_of(reader: Reader, timed: Mapping[str, Timed]) -> Row:
    """Its speed, and how many times as fast ours is on what is stored alike."""
    own, ours = timed[f"{reader.stored} {reader.name}"], timed[f"{reader.stored} genie_lite"]
    return {
        "stored": reader.stored,
        "reader": reader.name,
        "windows_per_cpu_s": round(WINDOWS[reader.stored] / own.cpu_s, 1),
        "ours_over": round(own.cpu_s / ours.cpu_s, 3),
        "times_mp4": round(
            WINDOWS[reader.stored] / own.cpu_s / (WINDOWS["mp4"] / timed["mp4 genie_lite"].cpu_s), 3
        ),
    }


def readers(material: Material, frames: int) -> Iterator[Reader]:
    """Ours and the others; those that are not installed are told and left out."""
    yield Reader("mp4", "genie_lite", ours(material.video, frames, cache_gb=0.0))
    cached = ours(material.video, frames, cache_gb=64.0)
    for _ in range(material.video.num_frames("train") // frames // WINDOWS["mp4"] + 1):
        cached()  # an epoch, after which everything is in memory
    yield Reader("mp4", "genie_lite cached", cached)
    yield Reader("mp4", "decord", by_decord(material.files, frames))
    yield Reader("mp4", "webdataset + decord", by_webdataset(material.video, frames))
    try:
        decoders = importlib.import_module("torchcodec.decoders")
    except (ImportError, RuntimeError, OSError) as error:
        print(f"torchcodec left out: {' '.join(str(error).split())[:120]}", flush=True)
    else:
        yield Reader("mp4", "torchcodec", by_torchcodec(decoders, material.files, frames))
    yield Reader("jpeg", "genie_lite", ours(material.jpeg, frames, cache_gb=0.0))
    yield Reader("tokens", "genie_lite", turns(token_loader(material.tokens, frames, BATCH, 0), "tokens"))
    yield Reader("tokens", "numpy", by_numpy(material.rows, frames))


def ours(shards: ShardSet, frames: int, cache_gb: float) -> Job:
    """Our loader of video."""
    config = LoaderConfig(clip_frames=frames, batch=BATCH, cache_gb=cache_gb)
    return turns(train_loader(shards, config, 0), "mp4")


def turns(loader: Loader[Any], stored: str) -> Job:
    """The next windows of an endless loader at each call."""
    batches = iter(loader)

    def read() -> None:
        for _ in range(WINDOWS[stored] // BATCH):
            next(batches)

    return read


def by_decord(files: list[tuple[Path, int]], frames: int) -> Job:
    """Open a random file, decode a random window, stack a batch: what nobody can leave out."""
    pick = random.Random(0)

    def one() -> np.ndarray:
        path, length = pick.choice(files)
        start = pick.randint(0, length - frames)
        reader = decord.VideoReader(str(path), num_threads=1)
        return reader.get_batch(range(start, start + frames)).asnumpy()

    return in_batches(one, "mp4")


def by_torchcodec(decoders: Any, files: list[tuple[Path, int]], frames: int) -> Job:
    """The same loop with torchcodec."""
    pick = random.Random(0)

    def one() -> np.ndarray:
        path, length = pick.choice(files)
        start = pick.randint(0, length - frames)
        decoder = decoders.VideoDecoder(str(path), num_ffmpeg_threads=1, seek_mode="approximate")
        return decoder.get_frames_in_range(start, start + frames).data.numpy()

    return in_batches(one, "mp4")


def by_webdataset(shards: ShardSet, frames: int) -> Job:
    """As its users do: tars in a row, samples shuffled, one random window of each."""
    pick = random.Random(0)

    def one(sample: dict[str, Any]) -> np.ndarray:
        reader = decord.VideoReader(io.BytesIO(sample["mp4"]), num_threads=1)
        start = pick.randint(0, len(reader) - frames)
        return reader.get_batch(range(start, start + frames)).asnumpy()

    urls = [str(shards.folder / shard.file) for shard in shards.of("train")]

    def epochs() -> Iterator[np.ndarray]:
        while True:
            tars: Any = WebDataset(urls, shardshuffle=len(urls), empty_check=False)
            yield from tars.shuffle(16).map(one)

    windows = epochs()
    return in_batches(lambda: next(windows), "mp4")


def by_numpy(rows: list[Path], frames: int) -> Job:
    """Random rows of memory-mapped arrays, stacked and made the integers that models read."""
    pick, maps = random.Random(0), [np.load(path, mmap_mode="r") for path in rows]

    def read() -> None:
        for _ in range(WINDOWS["tokens"] // BATCH):
            batch = []
            for _ in range(BATCH):
                tokens = maps[pick.randrange(len(maps))]
                start = pick.randint(0, len(tokens) - frames)
                batch.append(tokens[start : start + frames])
            torch.from_numpy(np.stack(batch).astype(np.int64))

    return read


def in_batches(one: Callable[[], np.ndarray], stored: str) -> Job:
    """Stack what a reader gives."""

    def read() -> None:
        for _ in range(WINDOWS[stored] // BATCH):
            np.stack([one() for _ in range(BATCH)])

    return read


# Memory and waiting


def watch(material: Material, frames: int, num: int) -> Iterator[Row]:
    """Resident memory of this process while windows go by."""
    config = LoaderConfig(clip_frames=frames, batch=BATCH, cache_gb=0.0)
    loaders = {
        "mp4": train_loader(material.video, config, 0),
        "tokens": token_loader(material.tokens, frames, BATCH, 0),
    }
    for stored, loader in loaders.items() if num else ():
        batches = iter(loader)
        found = []
        for many in (num // 10, num // 2 - num // 10, num - num // 2):
            for _ in islice(batches, -(-many // BATCH)):
                pass
            found.append(resident_mb())
        names = ("rss_mb_tenth", "rss_mb_half", "rss_mb_end")
        yield {"stored": stored, "windows": num, **dict(zip(names, found, strict=True))}


def resident_mb() -> float:
    """Of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) / 1024


def wait(material: Material, recipe: Recipe, steps: int) -> Iterator[Row]:
    """Train the recipe's dynamics model, and time how long each step waits for its batch."""
    config = recipe.dynamics
    models = VideoTokenizer(recipe.tokenizer.model), LatentActionModel(recipe.lam.model)
    for num_workers in (0, 1) if steps else ():
        torch.manual_seed(0)
        module = DynamicsModule(config, models, seed=0)
        optimizer, _ = build_optimizer(module, config.train)
        loader = token_loader(
            material.tokens, config.train.clip_frames, config.train.batch, 0, num_workers=num_workers
        )
        batches = iter(loader)
        held: list[TokenClip] = []

        def loss(module: DynamicsModule = module, held: list[TokenClip] = held) -> torch.Tensor:
            (clip,) = held
            out = module.model(clip.tokens, module.code_vectors[clip.codes], torch.Generator().manual_seed(0))
            return dynamics.objective(out, clip.tokens, module.weights).total

        step = training_step(optimizer, loss, bf16=config.train.precision == "bf16-mixed")
        held.append(next(batches))  # a first step, for whatever comes but once
        step()
        waited_s, begin_s = 0.0, time.perf_counter()
        for _ in range(steps):
            asked_s = time.perf_counter()
            held[:] = [next(batches)]
            waited_s += time.perf_counter() - asked_s
            step()
        took_s = time.perf_counter() - begin_s
        yield {
            "recipe": recipe.name,
            "loading_processes": num_workers,
            "batch": config.train.batch,
            "step_ms": round(1000 * took_s / steps, 2),
            "wait_ms": round(1000 * waited_s / steps, 3),
            "share": round(waited_s / took_s, 5),
        }


if __name__ == "__main__":
    main()
