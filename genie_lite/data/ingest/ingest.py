"""Videos in, shards out; every source ends as exactly one row of the manifest.

    sources ─▶ plan ─▶ engine (decode, cut, encode) ─▶ packer (duplicates, shards) ─▶ manifest.jsonl ─▶ shards.json

A folder of shards grows: sources that its manifest does not know become new shards beside the old ones, which
stay as they are. Each such round works from a plan that is written first, and is over when `shards.json` is
there:

    .ingest/plan.json            the sources of the round; its settings
            twins.json, moves.json   what was decided about them, once
            results/             of processes that each read a share of the sources (`Share`)
            train-000000.json    a finished part, see `packer`

Interrupted at any point and started again, a round ends with the same bytes: sources are taken in a fixed
order, by whichever engine. Which sources are tested is drawn by the hash of their names, before anything is
read. Only where nothing that was drawn for a side can be used does a source of the other side stand in
(`moved_from` in its row). Of files with the same content one is used and the others are filtered, so that none
is on both sides; nor is a clip that shows what another one does.

A sample is `{key}.mp4` and `{key}.json`:

    source, episode     name of the file (an episode is a source; the split is by source)
    segment             number of the piece in its source, from 0
    split               train or test
    rate_hz, num_frames, height, width
    source_rate_hz      of the file
    source_frames       of each frame, its index in the file;  times_s  its time there
    motion, brightness  of the clip, see `motion`;  signature  what near duplicates are found by
    sha256              of the file;  licence  where it is known
"""

import fcntl
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.data.ingest.curate import SIGNATURES_FILE, Curator, identified, judge_of
from genie_lite.data.ingest.engine import Engine, Pool
from genie_lite.data.ingest.manifest import IngestSummary, Row, read_rows, summary_of, write_rows
from genie_lite.data.ingest.packer import Packer, Part
from genie_lite.data.ingest.plan import Plan, expect_same_config, expect_same_sources
from genie_lite.data.ingest.reading import Reading, settled
from genie_lite.data.ingest.spill import Spills
from genie_lite.data.shards.shards import INDEX_FILE, MANIFEST_FILE, index_of, read_index
from genie_lite.data.sources.find import WORK_FOLDER, find_moves, find_sources, find_twins, match_known
from genie_lite.data.sources.source import Source
from genie_lite.errors import UserError
from genie_lite.files import read_json, write_bytes, write_once

__all__ = ["IngestConfig", "IngestSummary", "Share", "Workers", "ingest"]

RESULTS_FOLDER = "results"
PLAN_FILE = "plan.json"
TWINS_FILE = "twins.json"
MOVES_FILE = "moves.json"
AGAIN = "delete the folder and ingest again"
SPLITS: tuple[str, ...] = ("train", "test")
PACKING_S = 30.0  # how long the last process of a shared ingest waits for those that are about to leave

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Workers:
    """Who reads the videos. The result does not depend on it.

    engine: child processes of this machine, or the workers of a Ray cluster. num: how many at a time, None for
    one per core. address: of the cluster; None starts one on this machine.
    """

    engine: Literal["pool", "ray"] = "pool"
    num: int | None = None
    address: str | None = None

    def start(self, config: IngestConfig, num_sources: int, folder: Path) -> Engine:
        """An engine for so many sources; `folder` may hold what waits for its shard."""
        if self.engine == "ray":
            from genie_lite.data.ingest.ray_engine import RayEngine  # an extra that most do without

            return RayEngine(config, self.num, self.address)
        return Pool(config, max(1, min(self.num or os.cpu_count() or 1, num_sources)), folder)


POOL = Workers()


@dataclass(frozen=True)
class Share:
    """One of `num` processes, on any machines that see the same folder; each reads its share of the sources."""

    index: int
    num: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.num:
            raise UserError(f"--shard-index: found {self.index}, expected 0 to {self.num - 1} (--num-shards)")


def ingest(
    sources: Sequence[Path | str],
    out: Path,
    config: IngestConfig,
    *,
    test_sources: Sequence[Path | str] = (),
    camera: str | None = None,
    progress: Progress | None = None,
    workers: Workers = POOL,
    share: Share | None = None,
    grow: bool = False,
) -> IngestSummary:
    """Turn videos into shards; where nothing is left to do it returns at once.

    Args:
        sources: videos, folders, patterns, lists, tars, robots' datasets; see `sources`.
        out: folder of the shards.
        config: what a sample is.
        test_sources: all of these are test, and then nothing of `sources` is held out.
        camera: of robots' datasets that have several.
        progress: called with (sources done, sources in all).
        workers: who reads the videos.
        share: this process reads only its share; the one that is done last makes the shards of all.
        grow: sources that finished shards do not hold are added to them, and those that are gone stay; without
            it the shards must be of these sources and no others.

    Raises:
        UserError: nothing to read, nothing usable in it, or `out` holds other shards.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; expected a folder to write shards to")
    config = identified(config)
    found = find_sources(sources, test_sources, config.test_share, camera=camera)
    while (proposal := _proposal(found, out, config, grow, is_drawn=not test_sources)) is not None:
        round_ = _Round(proposal, out, config, grow, progress, workers)
        if not (round_.read_share(share) if share else round_.run()):
            return round_.unfinished
    return summary_of(read_rows(out))


def _proposal(
    found: list[Source], out: Path, config: IngestConfig, grow: bool, *, is_drawn: bool
) -> Plan | None:
    """What is to be done, None if nothing is."""
    first: dict[str, int] = dict.fromkeys(SPLITS, 0)
    if not (out / INDEX_FILE).is_file():
        return Plan(tuple(found), config.model_dump(mode="json"), first, is_drawn)
    old_config, shards = read_index(out)
    expect_same_config(out, old_config, config)
    rows = read_rows(out)
    if grow:
        new = _news(found, rows, out)
    else:
        old = {(row["source"], row.get("moved_from", row["split"]), row["bytes"]) for row in rows}
        expect_same_sources(out, old, found)
        new = []
    if not new and not (out / WORK_FOLDER / PLAN_FILE).is_file():
        return None
    for shard in shards:
        first[shard.split] = max(first[shard.split], 1 + int(Path(shard.file).stem.rpartition("-")[2]))
    return Plan(tuple(new), old_config, first, is_drawn=False)


def _news(found: list[Source], rows: list[Row], out: Path) -> list[Source]:
    """Sources that finished shards do not know.

    Raises:
        UserError: a file has changed since.
    """
    matched = match_known(found, rows)
    if matched.changed:
        raise UserError(
            f"{out}: {len(matched.changed)} of its videos have changed since they were ingested "
            f"({matched.changed[0].path}); give them other names, or use another folder"
        )
    return matched.new


class _Round:
    """Carries a plan out, the one that is there already if there is one."""

    def __init__(
        self,
        proposal: Plan,
        out: Path,
        config: IngestConfig,
        grow: bool,
        progress: Progress | None,
        workers: Workers,
    ) -> None:
        self._proposal, self._out, self._config, self._grow = proposal, out, config, grow
        self._progress, self._workers = progress, workers
        self._work = out / WORK_FOLDER
        self._spills = Spills(self._work / RESULTS_FOLDER)
        self._num_done = self._num_all = 0

    @property
    def unfinished(self) -> IngestSummary:
        """What there is to say while other processes still read their shares."""
        if not (self._work / PLAN_FILE).is_file():  # they are done by now
            return summary_of(read_rows(self._out))
        plan = Plan.read(self._work / PLAN_FILE)
        return replace(summary_of([]), sources=len(plan.sources), waiting=len(self._unread(plan)))

    def run(self) -> bool:
        """Read what is to be read and make the shards; True: the round is over."""
        with _locked(self._work, fcntl.LOCK_EX, 0.0) as is_ours:
            if not is_ours:
                raise UserError(
                    f"{self._out}: another ingest is writing here; wait for it or use another folder"
                )
            self._clear_leftovers()
            self._pack(self._agreed())
        return True

    def read_share(self, share: Share) -> bool:
        """Read a share of the sources; whoever is last makes the shards, and then the round is over."""
        with _locked(self._work, fcntl.LOCK_SH, 0.0) as is_ours:
            if not is_ours:
                raise UserError(f"{self._out}: an ingest that is not shared is writing here; wait for it")
            plan = self._agreed()
            self._read(plan, share)
        if self._unread(plan):
            return False
        with _locked(self._work, fcntl.LOCK_EX, PACKING_S) as is_ours:
            if is_ours and (self._work / PLAN_FILE).is_file():
                self._clear_leftovers()
                self._pack(plan)
        return is_ours

    def _agreed(self) -> Plan:
        plan = Plan.agreed(self._work / PLAN_FILE, self._proposal)
        expect_same_config(self._out, plan.config, self._config)
        if not self._grow:
            old = {(source.name, source.split, source.size) for source in plan.sources}
            expect_same_sources(self._out, old, self._proposal.sources)
        rows = read_rows(self._out) if (self._out / INDEX_FILE).is_file() else []
        twins = self._decided(TWINS_FILE, lambda: find_twins(plan.sources, rows))
        self._num_all = len(plan.sources)
        return replace(
            plan, sources=tuple(replace(source, twin=twins.get(source.name)) for source in plan.sources)
        )

    def _read(self, plan: Plan, share: Share) -> None:
        mine = [source for source in plan.sources[share.index :: share.num] if not self._is_read(source)]
        self._num_all = len(mine)
        with self._workers.start(self._config, len(mine), self._work) as engine:
            for source, result in zip(mine, engine.read([source.place for source in mine]), strict=True):
                self._spills.put(source.name, result)
                self._advance(1)

    def _unread(self, plan: Plan) -> list[Source]:
        return [source for source in plan.sources if not self._is_read(source)]

    def _is_read(self, source: Source) -> bool:
        return settled(source) is not None or source.name in self._spills

    def _pack(self, plan: Plan) -> None:
        self._num_all = len(plan.sources)
        curator = Curator(self._config, judge_of(self._config))
        curator.recall(_signatures(self._out))
        packer = Packer(self._out, self._work, self._config, curator, self._advance)
        with self._workers.start(self._config, len(plan.sources), self._work) as engine:
            reading = Reading(engine, self._spills)
            sources = self._settled(plan, reading)
            parts = [
                part
                for split in SPLITS
                for part in packer.pack(
                    split, plan.first[split], [source for source in sources if source.split == split], reading
                )
            ]
        _finish(self._out, self._work, self._config, parts)

    def _settled(self, plan: Plan, reading: Reading) -> list[Source]:
        """The sources, with a usable one on either side."""
        sources = list(plan.sources)
        if not plan.is_drawn or all(source.split == "train" for source in sources):
            return sources
        moves = self._decided(MOVES_FILE, lambda: find_moves(sources, reading.is_usable))
        return [
            replace(source, split=moves[source.name], moved_from=source.split)
            if source.name in moves
            else source
            for source in sources
        ]

    def _decided(self, file: str, decide: Callable[[], dict[str, str]]) -> dict[str, str]:
        """What was decided at the first start, which holds for every later one."""
        path = self._work / file
        if not path.is_file():
            write_once(path, json.dumps(decide()).encode())
        return read_json(path, "what an unfinished ingest decided", AGAIN)

    def _advance(self, num: int) -> None:
        self._num_done += num
        if self._progress is not None:
            self._progress(self._num_done, self._num_all)

    def _clear_leftovers(self) -> None:
        for folder in (self._out, self._work):
            for leftover in folder.glob(".*.tmp"):
                leftover.unlink()


@contextmanager
def _locked(work: Path, kind: int, patience_s: float) -> Iterator[bool]:
    """Hold the lock of a folder for unfinished work; False where others would not give it in time."""
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as lock:
        yield _taken(lock.fileno(), kind, time.monotonic() + patience_s)


def _taken(lock: int, kind: int, end_s: float) -> bool:
    while True:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() >= end_s:
                return False
            time.sleep(0.1)
        else:
            return True


def _finish(out: Path, work: Path, config: IngestConfig, parts: list[Part]) -> None:
    """Declare a round finished. What it adds is merged by name, so that doing it twice changes nothing."""
    is_first = not (out / INDEX_FILE).is_file()
    rows = {row["source"]: row for row in ([] if is_first else read_rows(out))}
    rows |= {row["source"]: row for part in parts for row in part.rows}
    write_rows(out, rows.values())
    shards = {shard.file: shard for shard in ([] if is_first else read_index(out)[1])}
    shards |= {part.shard.file: part.shard for part in parts if part.shard is not None}
    if shards:
        _keep_signatures(out, parts)
        index = index_of(
            [shards[file] for file in sorted(shards, key=_order)], config.model_dump(mode="json")
        )
        write_bytes(out / INDEX_FILE, (json.dumps(index) + "\n").encode())
    (work / PLAN_FILE).unlink()  # from here on the rest of the folder means nothing
    shutil.rmtree(work)
    if not shards:
        raise UserError(_nothing_usable(out, list(rows.values())))


def _order(file: str) -> tuple[bool, str]:
    return not file.startswith("train"), file


def _signatures(out: Path) -> dict[str, str]:
    path = out / SIGNATURES_FILE
    if not path.is_file():
        return {}
    try:
        return {line["key"]: line["signature"] for line in map(json.loads, path.read_bytes().splitlines())}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error!r}); copy it again, or {AGAIN}") from error


def _keep_signatures(out: Path, parts: list[Part]) -> None:
    new = {key: signature for part in parts for key, signature in part.signatures.items()}
    if not new:
        return
    lines = [
        json.dumps({"key": key, "signature": value}) + "\n" for key, value in (_signatures(out) | new).items()
    ]
    write_bytes(out / SIGNATURES_FILE, "".join(lines).encode())


def _nothing_usable(out: Path, rows: list[Row]) -> str:
    reasons = Counter(row["reason"] for row in rows)
    told = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3))
    return f"none of {len(rows)} videos can be used: {told}; every reason is in {out / MANIFEST_FILE}"
