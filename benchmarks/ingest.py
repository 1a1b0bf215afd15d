"""What it costs to turn video into shards, beside ffmpeg doing the same decode, scale and encode on the same files.

    python benchmarks/ingest.py FOLDER [--rounds 3] [--ffmpeg PROGRAM] [--limit 200] [--write]

Rivals take turns, each in processes of its own on one core: the whole of `genie-lite ingest` as it is used (start-up,
cuts, filters, duplicates, shards, manifest), the same with every filter off, and one ffmpeg per file that scales,
crops, resamples and encodes with the same settings of x264, and does nothing else. Figures are CPU seconds of each
with its children. `ratio` is ffmpeg's CPU time over the rival's: 1 as fast, more is faster.
"""

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from measure import Row, command, tell, write_table

from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.data.video.codec import SUFFIXES, probe
from genie_lite.data.video.container import BadVideo
from genie_lite.data.video.place import Place

CONFIG = IngestConfig()
FILTERS_OFF = ("cuts=false", "letterbox=false", "min_motion=0", "near_duplicates=false")


@dataclass(frozen=True)
class Rival:
    """One way to do it: given a list of files and an empty folder."""

    name: str
    run: Callable[[Path, Path], object]


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ffmpeg", default=shutil.which("ffmpeg"))
    parser.add_argument("--limit", type=int, default=200, help="videos, evenly spread over the folder")
    parser.add_argument("--write", action="store_true", help="write the table into docs/benchmarks.md")
    given = parser.parse_args()
    if given.ffmpeg is None:
        parser.error("no ffmpeg on this machine; name one: --ffmpeg PROGRAM")
    videos = readable(given.folder, given.limit)
    with tempfile.TemporaryDirectory() as place:
        listed = Path(place) / "videos.txt"
        listed.write_text("".join(f"{path.resolve()}\n" for path, _ in videos))
        rivals = [
            Rival("genie-lite ingest", ingest),
            Rival("genie-lite ingest, filters off", lambda files, out: ingest(files, out, *FILTERS_OFF)),
            Rival("ffmpeg", lambda files, out: by_ffmpeg(given.ffmpeg, files, out)),
        ]
        measured = take_turns(rivals, listed, Path(place), given.rounds)
    hours = sum(seconds for _, seconds in videos) / 3600
    rows = [tell(row) for row in rows_of(measured, len(videos), hours)]
    if given.write:
        write_table("ingest", rows, command())


def readable(folder: Path, limit: int) -> list[tuple[Path, float]]:
    """Videos below a folder and their seconds, evenly spread; those that cannot be opened do not count."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    found: list[tuple[Path, float]] = []
    for path in paths[:: max(1, len(paths) // limit)]:
        try:
            found.append((path, probe(Place(path)).seconds or 0.0))
        except BadVideo:
            continue
    return found[:limit]


def ingest(files: Path, out: Path, *settings: str) -> None:
    """`genie-lite ingest` with one child process that decodes."""
    words = ["ingest", str(files), "--out", str(out / "shards"), "--workers", "1", *settings]
    subprocess.run([sys.executable, "-m", "genie_lite", *words], check=True, capture_output=True)


def by_ffmpeg(program: str, files: Path, out: Path) -> None:
    """One ffmpeg per file, with the settings that `encode_mp4` gives x264."""
    side = CONFIG.size_px
    fit = f"scale={side}:{side}:force_original_aspect_ratio=increase:flags=area,crop={side}:{side}"
    scale = f"fps={CONFIG.rate_hz:g},{fit}"
    x264 = f"keyint={CONFIG.gop}:min-keyint={CONFIG.gop}:scenecut=0:bframes=0:mbtree=0:threads=1"
    for number, path in enumerate(files.read_text().splitlines()):
        words = [program, "-loglevel", "error", "-threads", "1", "-i", path, "-an", "-vf", scale]
        coder = [
            "-c:v",
            "libx264",
            "-crf",
            str(CONFIG.crf),
            "-pix_fmt",
            CONFIG.pixel_format,
            "-x264-params",
            x264,
        ]
        subprocess.run([*words, *coder, "-threads", "1", str(out / f"{number}.mp4")], check=False)


def take_turns(rivals: list[Rival], files: Path, place: Path, rounds: int) -> dict[str, tuple[float, int]]:
    """Median CPU seconds of each rival, and the bytes that it wrote; the first round does not count."""
    seconds: dict[str, list[float]] = {rival.name: [] for rival in rivals}
    sizes: dict[str, int] = {}
    for number in range(rounds + 1):
        for rival in rivals:
            out = place / "out"
            out.mkdir()
            before = cpu_of_children()
            rival.run(files, out)
            if number:
                seconds[rival.name].append(cpu_of_children() - before)
            sizes[rival.name] = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
            shutil.rmtree(out)
    return {name: (statistics.median(each), sizes[name]) for name, each in seconds.items()}


def cpu_of_children() -> float:
    """Seconds of all child processes that have ended, theirs included."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def rows_of(measured: dict[str, tuple[float, int]], num_videos: int, hours: float) -> list[Row]:
    """One row per rival."""
    reference, _ = measured["ffmpeg"]
    return [
        {
            "benchmark": "ingest",
            "rival": name,
            "videos": num_videos,
            "hours_of_video": round(hours, 3),
            "cpu_s": cpu_s,
            "hours_of_video_per_cpu_hour": hours * 3600 / cpu_s,
            "MB_per_hour_of_video": size / 1e6 / hours,
            "ratio": reference / cpu_s,
        }
        for name, (cpu_s, size) in measured.items()
    ]


if __name__ == "__main__":
    main()
