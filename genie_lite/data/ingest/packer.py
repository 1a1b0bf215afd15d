"""Results in, shards out: parts of an ingest, each finished for good once its file is written.

    .ingest/train-000003.json    a part: the line of its shard, the rows of its sources, the clips' signatures

A shard is closed at the first source that fills it, so that no source is split over two of them. A process
that is killed between two parts goes on with the next one; what it had begun is read again and comes out
the same.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from genie_lite.data.cutting.sandbox import Result
from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.data.ingest.curate import Curator
from genie_lite.data.ingest.manifest import Row, Taken, row_of
from genie_lite.data.ingest.plan import AGAIN
from genie_lite.data.ingest.reading import Reading
from genie_lite.data.shards.index import Shard, parse_shard
from genie_lite.data.shards.shards import Sample, ShardWriter
from genie_lite.data.sources.licence import Licences
from genie_lite.data.sources.source import Source, key_of
from genie_lite.files import read_json, write_bytes


@dataclass(frozen=True)
class Part:
    """A finished shard (None where nothing was usable), the rows of its sources, its clips' signatures by key."""

    shard: Shard | None
    rows: list[Row]
    signatures: dict[str, str]


class Packer:
    """Makes the parts of one split after another.

    out: where shards go. work: where parts are declared finished. curator: knows the clips of finished shards.
    on_source: called after every source with how many more are done.
    """

    def __init__(
        self, out: Path, work: Path, config: IngestConfig, curator: Curator, on_source: Callable[[int], None]
    ) -> None:
        self._out, self._work, self._config = out, work, config
        self._curator, self._on_source = curator, on_source
        self._licences = Licences()

    def pack(self, split: str, first: int, sources: Sequence[Source], reading: Reading) -> list[Part]:
        """All parts of a split, those of an interrupted run included; shards are numbered from `first` on."""
        parts: list[Part] = []
        for part in self._finished(split, first):
            self._curator.recall(part.signatures)
            parts.append(part)
        num_before = sum(len(part.rows) for part in parts)
        self._on_source(num_before)
        results = reading.results(sources[num_before:])
        while sum(len(part.rows) for part in parts) < len(sources):
            number = first + len(parts)
            part = self._make(split, number, results)
            write_bytes(self._file(split, number), json.dumps(asdict(part)).encode())
            parts.append(part)
        return parts

    def _make(self, split: str, number: int, results: Iterator[tuple[Source, Result]]) -> Part:
        rows: list[Row] = []
        signatures: dict[str, str] = {}
        with ShardWriter(self._out, split, number) as writer:
            for source, result in results:
                licence = self._licences.of(source)
                taken = self._take(_samples(source, result, self._config, licence), writer, signatures)
                rows.append(row_of(source, result, taken, licence))
                result.close()
                self._on_source(1)
                if len(writer) >= self._config.shard_samples:
                    break
            return Part(writer.close(), rows, signatures)

    def _take(self, samples: Iterable[Sample], writer: ShardWriter, signatures: dict[str, str]) -> Taken:
        taken = Taken()
        for sample in samples:
            refusal = self._curator.refusal(sample)
            if refusal is not None:
                taken.dropped[refusal.reason] += 1
                if refusal.of is not None:
                    taken.duplicates[str(sample.meta["segment"])] = refusal.of
                continue
            writer.add(sample)
            taken.clips += 1
            taken.frames += sample.meta["num_frames"]
            if "signature" in sample.meta:
                signatures[sample.key] = sample.meta["signature"]
        return taken

    def _finished(self, split: str, first: int) -> Iterator[Part]:
        number = first
        while (file := self._file(split, number)).is_file():
            tree = read_json(file, "a part of an unfinished ingest", AGAIN)
            shard = tree["shard"] and parse_shard(tree["shard"])
            if shard and not _is_whole(self._out / shard.file, shard.bytes):
                return
            yield Part(shard, tree["rows"], tree["signatures"])
            number += 1

    def _file(self, split: str, number: int) -> Path:
        return self._work / f"{split}-{number:06d}.json"


def _samples(source: Source, result: Result, config: IngestConfig, licence: str | None) -> Iterator[Sample]:
    known = {} if licence is None else {"licence": licence}
    for number, segment in enumerate(result.segments):
        meta = (
            segment.about
            | known
            | {
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
        )
        yield Sample(key_of(source.name, number), segment.mp4, meta)


def _is_whole(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size
