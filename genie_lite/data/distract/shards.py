"""A folder of shards once more, with a distractor over every clip: what a latent action model must not fall for.

Keys, sources, splits, frame numbers and everything else that is known of a clip stay, so that labels join as before;
only the frames are others. Clips of the train and of the test split never share a background.

    .distract.json                     what the folder is made from; written first, stays until it is finished
    .train-000000.distracted.json      the line of a shard that is whole

Each shard is written whole or not at all, and `shards.json` comes last, so a call that was broken off goes on with the
next shard. Its config is that of the source plus `distract`: what was done, in order, if it was done more than once.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from genie_lite.config import parse
from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.data.distract.backgrounds import Backgrounds
from genie_lite.data.distract.distractor import DistractConfig, times
from genie_lite.data.distract.draw import draw_distractor
from genie_lite.data.ingest.lock import ALONE, LOCK_FILE, locked
from genie_lite.data.shards.index import INDEX_FILE, MANIFEST_FILE, Shard, index_of, load_index, parse_shard
from genie_lite.data.shards.shards import Sample, ShardDamage, ShardSet, ShardWriter
from genie_lite.data.sources.robot_labels import LABELS_FILE
from genie_lite.data.video.codec import encode_mp4
from genie_lite.errors import UserError
from genie_lite.files import read_json, sha256_of, write_bytes, write_json

log = logging.getLogger(__name__)

CONFIG_KEY = "distract"  # in the config of `shards.json`
_ORIGIN_FILE = ".distract.json"
_RECORDS = ".*.distracted.json"
ELSEWHERE = "give another folder, or delete this one"


@dataclass(frozen=True)
class DistractSummary:
    """What `distract_shards` did.

    name: of the distractor. made: shards written by this call. kept: shards that were there already. damaged: shards
    that could not be read and were left out. samples, frames: of all shards that there are now.
    """

    name: str
    made: int
    kept: int
    damaged: int
    samples: int
    frames: int


def distract_shards(
    shards: ShardSet,
    out: Path,
    config: DistractConfig,
    backgrounds: ShardSet | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DistractSummary:
    """Write the shards again with a distractor; do what is missing of that.

    Args:
        shards: what to distract from.
        out: folder of the new shards: a new one, or one that the same call was broken off in.
        config: kind, strength and seed.
        backgrounds: footage of something else; kind `background` needs it, no other takes it.
        progress: called with (clips done, clips).

    Raises:
        UserError: backgrounds are missing or not wanted, `out` holds something else, or no shard can be read.
    """
    _expect_backgrounds(config, backgrounds)
    if not shards.shards:
        raise UserError(f"{shards.place}: no shard can be used")
    with locked(out, ALONE):
        work = _Work(shards, out, config, backgrounds)
        if (done := work.finished()) is not None:
            return _summary(config, done, made=0, damaged=0)
        return work.do(progress or (lambda done, total: None))


class _Work:
    """One folder of distracted shards in the making."""

    def __init__(
        self, shards: ShardSet, out: Path, config: DistractConfig, backgrounds: ShardSet | None
    ) -> None:
        self._shards, self._out, self._config, self._backgrounds = shards, out, config, backgrounds
        known = {name: value for name, value in shards.config.items() if name in IngestConfig.model_fields}
        self._coding = parse(known, IngestConfig, f"{shards.place}: {INDEX_FILE}")
        self._origin = json.loads(config.model_dump_json()) | {
            "shards": shards.fingerprint,
            "backgrounds": None if backgrounds is None else backgrounds.fingerprint,
        }

    def finished(self) -> list[Shard] | None:
        """The shards of a finished folder, None where it is not finished.

        Raises:
            UserError: the folder holds others than those that are wanted, or they are not whole.
        """
        if (self._out / INDEX_FILE).is_file():
            steps = load_index(self._out).config.get(CONFIG_KEY)
            self._expect_ours(steps[-1] if isinstance(steps, list) else None)
            return list(ShardSet.open(self._out, strict=True).shards)
        origin = self._out / _ORIGIN_FILE
        if origin.is_file():
            self._expect_ours(read_json(origin, "what distracted shards are made from", "delete it"))
        elif strange := [path for path in self._out.iterdir() if path.name != LOCK_FILE]:
            raise UserError(f"{self._out}: holds something else ({min(strange).name}); {ELSEWHERE}")
        return None

    def do(self, progress: Callable[[int, int], None]) -> DistractSummary:
        """Make what is missing, and declare it finished."""
        write_json(self._out / _ORIGIN_FILE, self._origin)
        for path in self._out.glob(".*.tmp"):  # what a kill left half written
            path.unlink()
        total, done = sum(shard.samples for shard in self._shards.shards), 0
        footage = None if self._backgrounds is None else Backgrounds.of(self._backgrounds)
        written: list[Shard] = []
        num_made = num_damaged = 0
        numbers: Counter[str] = Counter()
        for source in self._shards.shards:
            number = numbers[source.split]
            numbers[source.split] += 1
            try:
                if (shard := self._recorded(source.split, number)) is None:
                    shard, num_made = self._write(source, number, footage), num_made + 1
                written.append(shard)
            except ShardDamage as error:
                log.warning("%s; left out", error)
                num_damaged += 1
            done += source.samples
            progress(done, total)
        if not written:
            raise UserError(f"{self._shards.place}: no shard can be read; copy them again")
        self._finish(written)
        return _summary(self._config, written, num_made, num_damaged)

    def _write(self, source: Shard, number: int, footage: Backgrounds | None) -> Shard:
        with ShardWriter(self._out, source.split, number) as writer:
            for sample in self._shards.read(source):
                writer.add(self._distracted(sample, source.split, footage))
            shard = writer.close()
        assert shard is not None, "a shard has samples"
        write_json(self._record_of(source.split, number), asdict(shard))
        return shard

    def _distracted(self, sample: Sample, split: str, footage: Backgrounds | None) -> Sample:
        if self._config.kind == "none":
            return sample
        try:
            frames = sample.frames()
        except UserError as error:
            raise ShardDamage(f"{self._shards.place}: sample {sample.key}: {error}") from error
        drawn = draw_distractor(self._config, sample.key, split, self._shards.frame_hw, footage)
        coding, rate_hz = self._coding, self._shards.rate_hz
        mp4 = encode_mp4(
            drawn(frames, times(len(frames), rate_hz)),
            rate_hz,
            coding.gop,
            coding.crf,
            coding.pixel_format,
            coding.codec,
            coding.jpeg_quality,
        )
        return replace(sample, mp4=mp4)

    def _finish(self, written: list[Shard]) -> None:
        """What is kept of the source beside the shards, then the index, then away with the records."""
        manifest = self._shards.manifest()
        if manifest is not None:
            write_bytes(self._out / MANIFEST_FILE, manifest.read_bytes())
        if (labels := self._shards.folder / LABELS_FILE).is_file():
            write_bytes(self._out / LABELS_FILE, labels.read_bytes())
        steps = [*self._shards.config.get(CONFIG_KEY, []), self._origin]
        write_json(self._out / INDEX_FILE, index_of(written, self._shards.config | {CONFIG_KEY: steps}))
        for path in (self._out / _ORIGIN_FILE, *self._out.glob(_RECORDS)):
            path.unlink()

    def _recorded(self, split: str, number: int) -> Shard | None:
        """A shard that was made before, and is still whole."""
        path = self._record_of(split, number)
        if not path.is_file():
            return None
        shard = parse_shard(read_json(path, "a record of a distracted shard", "delete it"))
        tar = self._out / shard.file
        return shard if tar.is_file() and sha256_of(tar) == shard.sha256 else None

    def _record_of(self, split: str, number: int) -> Path:
        return self._out / f".{split}-{number:06d}.distracted.json"

    def _expect_ours(self, origin: Any) -> None:
        if origin != self._origin:
            raise UserError(f"{self._out}: holds other shards than {self._config.name} of these; {ELSEWHERE}")


def _expect_backgrounds(config: DistractConfig, backgrounds: ShardSet | None) -> None:
    if config.kind == "background" and backgrounds is None:
        raise UserError("distract: kind background needs footage of something else; name its shards")
    if config.kind != "background" and backgrounds is not None:
        raise UserError(f"distract: kind {config.kind} shows no backgrounds; leave them out")


def _summary(config: DistractConfig, shards: list[Shard], made: int, damaged: int) -> DistractSummary:
    return DistractSummary(
        name=config.name,
        made=made,
        kept=len(shards) - made,
        damaged=damaged,
        samples=sum(shard.samples for shard in shards),
        frames=sum(shard.frames for shard in shards),
    )
