"""Folders of videos in, shards out; every source ends as exactly one row of the manifest.

    sources -> Sandbox (decode, cut, resample, encode) -> ShardWriter -> manifest.jsonl -> shards.json

Interrupted at any point and started again, it ends with the same bytes: sources are taken in a fixed order,
a shard is closed at the first source that fills it, and a small file in `.ingest/` (the shard's line and the
rows of its sources) declares it finished. `shards.json` comes last.

Which sources are tested is drawn by the hash of their names, before anything is read. Only where nothing that
was drawn for a side can be used does a source of the other side stand in (`moved_from` in its row). Of files
with the same content one is used and the others are filtered, so that none is on both sides.

A sample is `{key}.mp4` and `{key}.json`:

    source, episode     name of the file (an episode is a source; the split is by source)
    segment             number of the piece in its source, from 0
    split               train or test
    rate_hz, num_frames, height, width
    source_rate_hz      of the file
    source_frames       of each frame, its index in the file;  times_s  its time there
    sha256              of the file
"""

import fcntl
import json
import os
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from genie_lite.data.sandbox import Result, Sandbox
from genie_lite.data.segment import IngestConfig
from genie_lite.data.shards import (
    INDEX_FILE,
    MANIFEST_FILE,
    Sample,
    Shard,
    ShardWriter,
    index_of,
    parse_shard,
    read_index,
)
from genie_lite.data.sources import Source, find_moves, find_sources, find_twins, key_of
from genie_lite.errors import UserError
from genie_lite.files import read_json, write_bytes

__all__ = ["IngestConfig", "IngestSummary", "ingest"]

WORK_FOLDER = ".ingest"
PLAN_FILE = "plan.json"
TWINS_FILE = "twins.json"
MOVES_FILE = "moves.json"
AGAIN = "delete the folder and ingest again"

Progress = Callable[[int, int], None]
Row = dict[str, Any]


@dataclass(frozen=True)
class IngestSummary:
    """Counts over the whole folder: of sources by what became of them, of samples and of their frames."""

    sources: int
    ingested: int
    filtered: int
    quarantined: int
    samples: int
    frames: int


def ingest(
    sources: Sequence[Path],
    out: Path,
    config: IngestConfig,
    *,
    test_sources: Sequence[Path] = (),
    progress: Progress | None = None,
    num_workers: int | None = None,
) -> IngestSummary:
    """Turn videos into shards; where nothing is left to do it returns at once.

    Args:
        sources: video files, folders of them (searched to the bottom), LeRobot v2 datasets.
        out: folder of the shards.
        config: what a sample is.
        test_sources: all of these are test, and then nothing of `sources` is held out.
        progress: called with (sources done, sources in all).
        num_workers: child processes that decode, None for one per core. The result does not depend on it.

    Raises:
        UserError: nothing to read, nothing usable in it, or `out` holds other shards.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; expected a folder to write shards to")
    plan = find_sources(sources, test_sources, config.test_share)
    if (out / INDEX_FILE).is_file():
        rows = _read_rows(out)
        found = {(row["source"], row.get("moved_from", row["split"]), row["bytes"]) for row in rows}
        _expect_same(out, read_index(out)[0], found, config, plan)
        shutil.rmtree(out / WORK_FOLDER, ignore_errors=True)  # of a run that was stopped at its last step
        return _summary(rows)
    with _claimed(out, config, plan) as work:
        parts = _Job(plan, out, work, config, progress).run(num_workers, is_drawn=not test_sources)
        return _finish(out, config, parts)


@dataclass(frozen=True)
class _Part:
    """A finished shard (None where nothing was usable) and the rows of the sources it was made from."""

    shard: Shard | None
    rows: list[Row]


class _Job:
    """Makes the parts that are still missing."""

    def __init__(
        self, plan: list[Source], out: Path, work: Path, config: IngestConfig, progress: Progress | None
    ) -> None:
        self._plan, self._out, self._work, self._config = plan, out, work, config
        self._progress = progress
        self._num_done = 0

    def run(self, num_workers: int | None, *, is_drawn: bool) -> list[_Part]:
        """All parts, those of an interrupted run included; `is_drawn`: nobody chose the test sources."""
        num_children = min(num_workers or os.cpu_count() or 1, len(self._plan))
        twins = self._decided(TWINS_FILE, lambda: find_twins(self._plan))
        plan = [replace(source, twin=twins.get(source.name)) for source in self._plan]
        with _Readers(self._config, num_children, self._work) as readers:
            plan = self._settled(plan, readers) if is_drawn else plan
            return [part for split in ("train", "test") for part in self._run_split(split, plan, readers)]

    def _settled(self, plan: list[Source], readers: "_Readers") -> list[Source]:
        """The plan with a usable source on either side."""
        if all(source.split == "train" for source in plan):
            return plan
        moves = self._decided(MOVES_FILE, lambda: find_moves(plan, readers.is_usable))
        return [
            replace(source, split=moves[source.name], moved_from=source.split)
            if source.name in moves
            else source
            for source in plan
        ]

    def _decided(self, file: str, decide: Callable[[], dict[str, str]]) -> dict[str, str]:
        """What was decided at the first start, which holds for every later one."""
        path = self._work / file
        if not path.is_file():
            write_bytes(path, json.dumps(decide()).encode())
        return read_json(path, "what an unfinished ingest decided", AGAIN)

    def _run_split(self, split: str, plan: list[Source], readers: "_Readers") -> list[_Part]:
        sources = [source for source in plan if source.split == split]
        parts = list(self._finished_parts(split))
        num_before = sum(len(part.rows) for part in parts)
        self._advance(num_before)
        results = readers.read_all(sources[num_before:])
        while sum(len(part.rows) for part in parts) < len(sources):
            part = self._make_part(split, len(parts), results)
            write_bytes(self._part_file(split, len(parts)), json.dumps(asdict(part)).encode())
            parts.append(part)
        return parts

    def _make_part(self, split: str, number: int, results: Iterator[tuple[Source, Result]]) -> _Part:
        rows: list[Row] = []
        with ShardWriter(self._out, split, number) as writer:
            for source, result in results:
                for sample in _samples(source, result, self._config):
                    writer.add(sample)
                rows.append(_row(source, result))
                result.close()
                self._advance(1)
                if len(writer) >= self._config.shard_samples:
                    break
            return _Part(writer.close(), rows)

    def _finished_parts(self, split: str) -> Iterator[_Part]:
        number = 0
        while (file := self._part_file(split, number)).is_file():
            tree = read_json(file, "a part of an unfinished ingest", AGAIN)
            shard = tree["shard"] and parse_shard(tree["shard"])
            if shard and not _is_whole(self._out / shard.file, shard.bytes):
                return
            yield _Part(shard, tree["rows"])
            number += 1

    def _part_file(self, split: str, number: int) -> Path:
        return self._work / f"{split}-{number:06d}.json"

    def _advance(self, num: int) -> None:
        self._num_done += num
        if self._progress is not None:
            self._progress(self._num_done, len(self._plan))


class _Readers:
    """Several sandboxes, each used by one thread at a time; results come in the order of the sources."""

    def __init__(self, config: IngestConfig, num: int, folder: Path) -> None:
        self._sandboxes = [Sandbox(config, folder) for _ in range(num)]
        self._threads = ThreadPoolExecutor(num)
        self._known: dict[str, Future[Result]] = {}
        self._idle: SimpleQueue[Sandbox] = SimpleQueue()
        for sandbox in self._sandboxes:
            self._idle.put(sandbox)

    def __enter__(self) -> "_Readers":
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for sandbox in self._sandboxes:
            sandbox.kill()  # its thread, if one is waiting, sees the end of the connection
        self._threads.shutdown()
        for sandbox in self._sandboxes:
            sandbox.close()

    def read_all(self, sources: Sequence[Source]) -> Iterator[tuple[Source, Result]]:
        """Read a few files ahead of the consumer, no more: results hold encoded video.

        The consumer closes the results.
        """
        ahead: deque[tuple[Source, Future[Result]]] = deque()
        for source in sources:
            ahead.append((source, self._known.pop(source.name, None) or self._begin(source)))
            if len(ahead) > 2 * len(self._sandboxes):
                first, result = ahead.popleft()
                yield first, result.result()
        for source, result in ahead:
            yield source, result.result()

    def is_usable(self, source: Source) -> bool:
        """Whether samples come of it; what was read for that is not read again."""
        if source.name not in self._known:
            self._known[source.name] = self._begin(source)
        return bool(self._known[source.name].result().segments)

    def _begin(self, source: Source) -> Future[Result]:
        return self._threads.submit(self._read, source)

    def _read(self, source: Source) -> Result:
        if source.fault is not None:
            return Result(source.fault)
        if source.twin is not None:
            return Result(None, complaint=f"duplicate of {source.twin}")
        sandbox = self._idle.get()
        try:
            return sandbox.read(source.path)
        finally:
            self._idle.put(sandbox)


def _samples(source: Source, result: Result, config: IngestConfig) -> Iterator[Sample]:
    for number, segment in enumerate(result.segments):
        meta = segment.about | {
            "source": source.name,
            "episode": source.name,
            "segment": number,
            "split": source.split,
            "rate_hz": config.rate_hz,
            "height": config.size_px,
            "width": config.size_px,
            "source_rate_hz": result.figures["source_rate_hz"],
            "sha256": result.figures["sha256"],
        }
        yield Sample(key_of(source.name, number), segment.mp4, meta)


def _row(source: Source, result: Result) -> Row:
    status = "quarantined" if result.fault else "filtered" if result.complaint else "ingested"
    row = {
        "path": str(source.path),
        "source": source.name,
        "status": status,
        "reason": result.fault or result.complaint,
        "clips": len(result.segments),
        "frames": sum(segment.about["num_frames"] for segment in result.segments),
        "split": source.split,
        "bytes": source.size,
    }
    if source.moved_from is not None:
        row["moved_from"] = source.moved_from
    return row | {name: value for name, value in result.figures.items() if name != "kept"}


def _finish(out: Path, config: IngestConfig, parts: list[_Part]) -> IngestSummary:
    rows = sorted((row for part in parts for row in part.rows), key=lambda row: row["source"])
    shards = [part.shard for part in parts if part.shard is not None]
    write_bytes(out / MANIFEST_FILE, "".join(json.dumps(row) + "\n" for row in rows).encode())
    if shards:
        index = index_of(shards, config.model_dump(mode="json"))
        write_bytes(out / INDEX_FILE, (json.dumps(index) + "\n").encode())
    shutil.rmtree(out / WORK_FOLDER)
    if not shards:
        raise UserError(_nothing_usable(out, rows))
    return _summary(rows)


def _nothing_usable(out: Path, rows: list[Row]) -> str:
    reasons = Counter(row["reason"] for row in rows)
    told = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3))
    return f"none of {len(rows)} videos can be used: {told}; every reason is in {out / MANIFEST_FILE}"


def _summary(rows: list[Row]) -> IngestSummary:
    count = Counter(row["status"] for row in rows)
    return IngestSummary(
        sources=len(rows),
        ingested=count["ingested"],
        filtered=count["filtered"],
        quarantined=count["quarantined"],
        samples=sum(row["clips"] for row in rows),
        frames=sum(row["frames"] for row in rows),
    )


def _read_rows(out: Path) -> list[Row]:
    try:
        return [json.loads(line) for line in (out / MANIFEST_FILE).read_text().splitlines()]
    except (OSError, ValueError) as error:
        path = out / MANIFEST_FILE
        raise UserError(f"{path}: cannot be read ({error}); {AGAIN}") from error


@contextmanager
def _claimed(out: Path, config: IngestConfig, plan: list[Source]) -> Iterator[Path]:
    """The folder for unfinished work: ours alone, and of the same plan."""
    work = out / WORK_FOLDER
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            message = f"{out}: another ingest is writing here; wait for it or use another folder"
            raise UserError(message) from error
        for folder in (out, work):
            for leftover in folder.glob(".*.tmp"):
                leftover.unlink()
        _expect_same_plan(out, work / PLAN_FILE, config, plan)
        yield work


def _expect_same_plan(out: Path, file: Path, config: IngestConfig, plan: list[Source]) -> None:
    if file.is_file():
        tree = read_json(file, "the plan of an unfinished ingest", AGAIN)
        _expect_same(out, tree["config"], {tuple(source) for source in tree["sources"]}, config, plan)
    else:
        tree = {"config": config.model_dump(mode="json"), "sources": sorted(_identity(plan))}
        write_bytes(file, json.dumps(tree).encode())


def _expect_same(
    out: Path, old_config: dict[str, Any], old_sources: set[Any], config: IngestConfig, plan: list[Source]
) -> None:
    advice = "use another folder, or delete this one to ingest again"
    new_config = config.model_dump(mode="json")
    changed = [key for key in old_config | new_config if old_config.get(key) != new_config.get(key)]
    if changed:
        told = ", ".join(f"{key} was {old_config.get(key)}, now {new_config.get(key)}" for key in changed)
        raise UserError(f"{out}: was made with other settings: {told}; {advice}")
    new_sources = _identity(plan)
    if new_sources != old_sources:
        added, gone = new_sources - old_sources, old_sources - new_sources
        told = "; ".join(
            f"{len(sources)} {what} ({min(sources)[0]}{', ...' if len(sources) > 1 else ''})"
            for what, sources in (("new", added), ("gone or changed", gone))
            if sources
        )
        raise UserError(f"{out}: was made from other videos: {told}; {advice}")


def _identity(plan: list[Source]) -> set[tuple[str, str, int]]:
    return {(source.name, source.split, source.size) for source in plan}


def _is_whole(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size
