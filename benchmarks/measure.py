"""How benchmarks measure and tell: turns, medians, one JSON line per row, one table in docs/benchmarks.md.

Rivals take turns in one process, so that whatever else the machine does meets them alike, and what is told is
their ratio. Process CPU time is what a step costs; the clock is what a person waits.
"""

import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
TABLES = ROOT / "docs" / "benchmarks.md"

Row = dict[str, object]  # every row of a benchmark has the same keys, in the same order
Product = tuple[int, int, int]  # of matrices m k and k n


@dataclass(frozen=True)
class Timed:
    """Medians over the rounds, in seconds: by the clock, and of this process on all cores."""

    wall_s: float
    cpu_s: float


def take_turns(
    jobs: Mapping[str, Callable[[], object]], rounds: int = 5, warm_up: int = 2
) -> dict[str, Timed]:
    """Run every job once per round, in their order; the first rounds do not count."""
    walls: dict[str, list[float]] = {name: [] for name in jobs}
    cpus: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(warm_up + rounds):
        for name, job in jobs.items():
            wall, cpu = _seconds(job)
            if number >= warm_up:
                walls[name].append(wall)
                cpus[name].append(cpu)
    return {name: Timed(statistics.median(walls[name]), statistics.median(cpus[name])) for name in jobs}


def training_step(
    optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor], *, bf16: bool
) -> Callable[[], None]:
    """Forward, backward, update: the same loop for every rival, without clipping or logging.

    Args:
        optimizer: of the parameters that the loss depends on.
        loss: the forward pass on a batch that lies ready.
        bf16: run it under autocast to bfloat16.
    """

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    return step


def tell(row: Row) -> Row:
    """Print a row as one JSON line as soon as it is known."""
    print(json.dumps(row), flush=True)
    return row


def write_table(name: str, rows: Sequence[Row], command: str, path: Path = TABLES) -> None:
    """Put a benchmark's table into docs/benchmarks.md, in the place of its last one, with where it comes from."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    text = path.read_text()
    before, _, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    assert closed, f"{path}: no place for '{name}', expected {begin} and {end}"
    lines = [f"`{command}`, commit `{commit()}`, {machine()}", "", *_table(rows)]
    path.write_text("\n".join([before + begin, *lines, end + after]))


def command() -> str:
    """This program's command line as it was given, without what only this machine has."""
    words = [Path(word).name if Path(word).is_dir() else word for word in sys.argv[1:] if word != "--write"]
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words])


def machine() -> str:
    """What this runs on, in words."""
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    threads = torch.get_num_threads()
    return f"{threads} {'thread' if threads == 1 else 'threads'} of {_cpu()}, torch {torch.__version__}"


def matmul_flops(shapes: Sequence[Product], dtype: torch.dtype, rounds: int = 5) -> float:
    """FLOP/s by the clock of a bare chain of matrix products: what the machine can do."""
    timed = take_turns({"chain": matmul_chain(shapes, dtype)}, rounds)["chain"]
    return matmul_work(shapes) / timed.wall_s


def matmul_work(shapes: Sequence[Product]) -> int:
    """Floating point operations of matrix products; a multiplication and an addition are two."""
    return sum(2 * m * k * n for m, k, n in shapes)


def matmul_chain(shapes: Sequence[Product], dtype: torch.dtype) -> Callable[[], None]:
    """The bare products one after another, nothing between them; those of one shape share their matrices."""
    pairs = {(m, k, n): (torch.randn(m, k).to(dtype), torch.randn(k, n).to(dtype)) for m, k, n in shapes}

    def chain() -> None:
        for shape in shapes:
            left, right = pairs[shape]
            left.mm(right)

    return chain


def _seconds(job: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    job()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu


def _table(rows: Sequence[Row]) -> list[str]:
    titles = list(rows[0])
    cells = [[_cell(row[title]) for title in titles] for row in rows]
    return ["| " + " | ".join(line) + " |" for line in [titles, ["---"] * len(titles), *cells]]


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def commit() -> str:
    """Of the code that ran; `-dirty` when what is checked in is not what ran."""
    commit = _git("rev-parse", "--short", "HEAD")
    is_dirty = bool(_git("status", "--porcelain", "--", "genie_lite", "benchmarks"))
    return (commit or "unknown") + ("-dirty" if is_dirty else "")


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip()
        for line in info.read_text().splitlines()
        if line.startswith("model name")
    ]
    return names[0] if names else platform.processor()
