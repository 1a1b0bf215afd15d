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

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.data.ingest.curate import Curator, identified, judge_of
from genie_lite.data.ingest.finish import finish, read_signatures
from genie_lite.data.ingest.lock import ALONE, TOGETHER, locked
from genie_lite.data.ingest.manifest import IngestSummary, Row, read_rows, summary_of
from genie_lite.data.ingest.packer import Packer
from genie_lite.data.ingest.plan import AGAIN, PLAN_FILE, Plan, expect_same_config, expect_same_sources
from genie_lite.data.ingest.reading import Reading, settled
from genie_lite.data.ingest.spill import Spills
from genie_lite.data.ingest.workers import POOL, Share, Workers
from genie_lite.data.shards.index import INDEX_FILE, load_index
from genie_lite.data.sources.content import find_twins, match_known
from genie_lite.data.sources.find import WORK_FOLDER, find_moves, find_sources
from genie_lite.data.sources.source import Source
from genie_lite.errors import UserError
from genie_lite.files import read_json, write_json

RESULTS_FOLDER = "results"
TWINS_FILE = "twins.json"
MOVES_FILE = "moves.json"
SPLITS: tuple[str, ...] = ("train", "test")

Progress = Callable[[int, int], None]


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
    _expect_folder(out)
    config = identified(config)
    found = find_sources(sources, test_sources, config.test_share, camera=camera)
    return ingest_found(
        found,
        out,
        config,
        is_drawn=not test_sources,
        progress=progress,
        workers=workers,
        share=share,
        grow=grow,
    )


def ingest_found(
    found: list[Source],
    out: Path,
    config: IngestConfig,
    *,
    is_drawn: bool = True,
    progress: Progress | None = None,
    workers: Workers = POOL,
    share: Share | None = None,
    grow: bool = False,
) -> IngestSummary:
    """`ingest` of sources that were listed before.

    Args:
        found: by `find_sources`, with the share of test sources that `config` asks for.
        out: see `ingest`.
        config: what a sample is.
        is_drawn: whether the test sources were drawn from all of them.
        progress: see `ingest`; so are the others.
        workers: who reads the videos.
        share: of this process.
        grow: whether sources are added.

    Raises:
        UserError: nothing usable among them, or `out` holds other shards.
    """
    _expect_folder(out)
    config = identified(config)
    _expect_apart(found, out)
    rounds = _Rounds(found, out, config, grow, is_drawn, progress, workers)
    while rounds.next_plan() is not None:
        unfinished = rounds.take_part(share) if share else rounds.carry_out()
        if unfinished is not None:
            return unfinished
    return summary_of(read_rows(out))


def _expect_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; expected a folder to write shards to")


def _expect_apart(found: list[Source], out: Path) -> None:
    """Shards among the videos would be taken for a part of the footage, or the folder for shards."""
    place = out.resolve()
    for source in found:
        if source.path.parent.resolve() == place:
            raise UserError(
                f"{out}: holds the video {source.path.name}; give a folder of their own to the shards"
            )


class _Rounds:
    """Round after round, until the shards hold all that was found.

    A plan is written, and a round is packed, by the one process that holds the lock alone; those that read shares of
    a plan hold it together. The lock file stays when all is done: one that is removed would be two locks.
    """

    def __init__(
        self,
        found: list[Source],
        out: Path,
        config: IngestConfig,
        grow: bool,
        is_drawn: bool,
        progress: Progress | None,
        workers: Workers,
    ) -> None:
        self._found, self._out, self._config = found, out, config
        self._grow, self._is_drawn = grow, is_drawn
        self._progress, self._workers = progress, workers
        self._work = out / WORK_FOLDER
        self._spills = Spills(self._work / RESULTS_FOLDER)
        self._num_done = self._num_all = 0

    def next_plan(self) -> Plan | None:
        """The plan that is under way, or else what is to be done next; None if nothing is.

        Raises:
            UserError: the folder holds, or is being made into, other shards.
        """
        first: dict[str, int] = dict.fromkeys(SPLITS, 0)
        config, new, is_drawn = self._config.model_dump(mode="json"), self._found, self._is_drawn
        if (self._out / INDEX_FILE).is_file():
            index = load_index(self._out)
            config = index.config
            expect_same_config(self._out, config, self._config)
            new, is_drawn = self._unknown(read_rows(self._out)), False
            for shard in index.shards:
                number = int(Path(shard.file).stem.rpartition("-")[2])
                first[shard.split] = max(first[shard.split], 1 + number)
        if self._plan_bytes() is None:
            return Plan(tuple(new), config, first, is_drawn) if new else None
        try:
            return self._agreed()
        except FileNotFoundError:  # the round has ended just now, so the shards are others
            return self.next_plan()

    def carry_out(self) -> None:
        """Read what is to be read and make the shards, alone."""
        with locked(self._out, ALONE, lambda: True) as is_ours:
            if not is_ours:
                raise UserError(
                    f"{self._out}: another ingest is writing here; wait for it or use another folder"
                )
            if (plan := self._begun()) is not None:
                self._pack(plan)

    def take_part(self, share: Share) -> IngestSummary | None:
        """Read a share of the sources, if there is a plan; make one, or the shards, if that is what is missing.

        Returns:
            What there is to say while others still read their shares; None where the round is over or only begun.
        """
        with locked(self._out, TOGETHER) as _:
            before = self._plan_bytes()
            if before is not None:
                plan = self._with_twins(self._agreed())
                self._read(plan, share)
                if unread := self._unread(plan):
                    return replace(summary_of([]), sources=len(plan.sources), waiting=len(unread))
        # Nobody is waited for who has begun something else meanwhile.
        with locked(self._out, ALONE, lambda: self._plan_bytes() != before) as is_ours:
            if is_ours and (plan := self._begun()) is not None and not self._unread(plan):
                self._pack(plan)
        return None

    def _unknown(self, rows: list[Row]) -> list[Source]:
        """Sources that finished shards do not hold.

        Raises:
            UserError: a file has changed since, or, where shards are not to grow, they are of other sources.
        """
        if not self._grow:
            old = {(row["source"], row.get("moved_from", row["split"]), row["bytes"]) for row in rows}
            expect_same_sources(self._out, old, self._found)
            return []
        matched = match_known(self._found, rows)
        if matched.changed:
            raise UserError(
                f"{self._out}: {len(matched.changed)} of its videos have changed since they were ingested "
                f"({matched.changed[0].path}); give them other names, or use another folder"
            )
        return matched.new

    def _plan_bytes(self) -> bytes | None:
        try:
            return (self._work / PLAN_FILE).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _begun(self) -> Plan | None:
        """The plan of a round that is under way, made now if there is none; the lock is held alone."""
        plan = self.next_plan()
        if plan is None:
            return None
        if self._plan_bytes() is None:
            # What is left of a round that is over means nothing any more.
            shutil.rmtree(self._work, ignore_errors=True)
            rows = read_rows(self._out) if (self._out / INDEX_FILE).is_file() else []
            write_json(self._work / TWINS_FILE, find_twins(plan.sources, rows))
            plan.write(self._work / PLAN_FILE)
        for folder in (self._out, self._work):
            for leftover in folder.glob(".*.tmp"):
                leftover.unlink()
        return self._with_twins(plan)

    def _agreed(self) -> Plan:
        """The plan that is under way, if it is what is wanted here."""
        plan = Plan.read(self._work / PLAN_FILE)
        expect_same_config(self._out, plan.config, self._config)
        if not self._grow:
            old = {(source.name, source.split, source.size) for source in plan.sources}
            expect_same_sources(self._out, old, self._found)
        return plan

    def _with_twins(self, plan: Plan) -> Plan:
        twins = read_json(self._work / TWINS_FILE, "a list of copies", AGAIN)
        sources = tuple(replace(source, twin=twins.get(source.name)) for source in plan.sources)
        return replace(plan, sources=sources)

    def _read(self, plan: Plan, share: Share) -> None:
        mine = [source for source in plan.sources[share.index :: share.num] if not self._is_read(source)]
        if not mine:
            return
        self._num_done, self._num_all = 0, len(mine)
        with self._workers.start(self._config, len(mine), self._work) as engine:
            results = engine.read([source.place for source in mine])
            for source, result in zip(mine, results, strict=True):
                self._spills.put(source.name, result)
                self._advance(1)

    def _unread(self, plan: Plan) -> list[Source]:
        return [source for source in plan.sources if not self._is_read(source)]

    def _is_read(self, source: Source) -> bool:
        return settled(source) is not None or source.name in self._spills

    def _pack(self, plan: Plan) -> None:
        self._num_done, self._num_all = 0, len(plan.sources)
        curator = Curator(self._config, judge_of(self._config))
        curator.recall(read_signatures(self._out))
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
        finish(self._out, self._work, self._config, parts)

    def _settled(self, plan: Plan, reading: Reading) -> list[Source]:
        """The sources, with a usable one on either side."""
        sources = list(plan.sources)
        if not plan.is_drawn or all(source.split == "train" for source in sources):
            return sources
        file = self._work / MOVES_FILE
        if not file.is_file():  # what is decided once holds for every later start
            write_json(file, find_moves(sources, reading.is_usable))
        moves = read_json(file, "a list of moves", AGAIN)
        return [
            replace(source, split=moves[source.name], moved_from=source.split)
            if source.name in moves
            else source
            for source in sources
        ]

    def _advance(self, num: int) -> None:
        self._num_done += num
        if self._progress is not None:
            self._progress(self._num_done, self._num_all)
