"""What the shards say about their clips, read without decoding them; and what must be decoded to be known.

Only the JSON of a sample is read, and where its video lies is remembered: a terabyte of shards is a matter of
seeking. Of very many clips those of some shards stand for all, chosen by hash.
"""

import hashlib
import json
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from genie_lite.data.cutting.motion import brightness_of, luma_of, motion_of
from genie_lite.data.shards.index import Shard
from genie_lite.data.video.codec import read_frames
from genie_lite.errors import UserError

MOST_CLIPS = 200_000  # held in memory, about 100 MB
MOST_MEASURED = 200  # clips decoded in full, where the shards do not say what was measured
MOST = 1e15  # no true figure is larger; of sums of such the arithmetic holds

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ClipFact:
    """One clip.

    offset, size: of its video in the shard, in bytes. begin_s, end_s: its span in the source. motion: mean
    absolute change of luma from frame to frame, 0 to 255. brightness: mean luma, 0 to 255. quality: how good a
    classifier finds it, 0 to 1. None where it is not known.
    """

    key: str
    shard: Path
    offset: int
    size: int
    source: str
    segment: int
    split: str
    num_frames: int
    begin_s: float
    end_s: float
    motion: float | None
    brightness: float | None
    quality: float | None

    def frames(self, indices: Sequence[int] | None = None) -> UInt8[np.ndarray, "t h w c"] | None:
        """All frames, or those at `indices`; None if they cannot be decoded."""
        try:
            with self.shard.open("rb") as file:
                file.seek(self.offset)
                return read_frames(file.read(self.size), indices)
        except (UserError, OSError):
            return None


def read_facts(
    folder: Path, shards: Sequence[Shard], progress: Progress = lambda done, total: None
) -> tuple[list[ClipFact], list[str]]:
    """The clips of the shards, in the shards' order, and what is wrong with shards, one line each.

    A damaged shard costs its own clips at most.
    """
    facts: dict[str, list[ClipFact]] = {}
    faults, num = [], 0
    for done, shard in enumerate(sorted(shards, key=lambda shard: by_hash(shard.file)), start=1):
        if num >= MOST_CLIPS:
            break
        facts[shard.file], fault = _read_shard(folder / shard.file, shard)
        num += len(facts[shard.file])
        faults += [fault] if fault else []
        progress(done, len(shards))
    return [fact for shard in shards for fact in facts.get(shard.file, ())], sorted(faults)


def measured(facts: Sequence[ClipFact], progress: Progress = lambda done, total: None) -> list[ClipFact]:
    """The same clips, with the motion and the brightness of those that lack it, as far as time allows."""
    lacking = [fact for fact in facts if fact.motion is None or fact.brightness is None]
    chosen = spread(lacking, MOST_MEASURED)
    found: dict[str, ClipFact] = {}
    for done, fact in enumerate(chosen, start=1):
        frames = fact.frames()
        if frames is not None:
            motion, brightness = measure(frames)
            found[fact.key] = replace(fact, motion=motion, brightness=brightness)
        progress(done, len(chosen))
    return [found.get(fact.key, fact) for fact in facts]


def spread(facts: Iterable[ClipFact], num: int) -> list[ClipFact]:
    """Clips of as many sources as there can be, at most `num`: the same ones every time, in order of name."""
    chosen = one_per_source(facts, num, lambda fact: by_hash(fact.key), lambda fact: by_hash(fact.source))
    return sorted(chosen, key=lambda fact: (fact.source, fact.segment))


def one_per_source(
    facts: Iterable[ClipFact],
    num: int,
    within: Callable[[ClipFact], Any],
    between: Callable[[ClipFact], Any],
) -> list[ClipFact]:
    """The first clip of each source, then the second of each, and so on, at most `num`.

    within: order of a source's own clips. between: order of the sources, by the clip in question.
    """
    by_source: dict[str, list[ClipFact]] = defaultdict(list)
    for fact in facts:
        by_source[fact.source].append(fact)
    ranked = [
        (rank, fact) for own in by_source.values() for rank, fact in enumerate(sorted(own, key=within)[:num])
    ]
    ranked.sort(key=lambda each: (each[0], between(each[1])))
    return [fact for _, fact in ranked[:num]]


def measure(frames: UInt8[np.ndarray, "t h w c"]) -> tuple[float, float]:
    """Motion and brightness, as the ingest measures them."""
    lumas = np.stack([luma_of(frame) for frame in frames])
    return motion_of(lumas), brightness_of(lumas)


def by_hash(name: str) -> str:
    """A key to sort by: an order without meaning, but always the same.

    Another one than the split's: by that, the first would all be held out.
    """
    return hashlib.sha256(f"report {name}".encode("utf-8", "surrogatepass")).hexdigest()


def _read_shard(path: Path, shard: Shard) -> tuple[list[ClipFact], str | None]:
    facts: list[ClipFact] = []
    try:
        if path.stat().st_size != shard.bytes:
            return facts, f"{shard.file}: {path.stat().st_size} bytes, expected {shard.bytes}"
        for fact in _samples(path):
            if len(facts) == shard.samples or fact.num_frames != shard.lengths[len(facts)]:
                return facts, f"{shard.file}: clip {fact.key} is not as expected"
            facts.append(fact)  # one by one: those before the damage count
    except FileNotFoundError:
        return facts, f"{shard.file}: missing"
    except (
        OSError,
        tarfile.TarError,
        ArithmeticError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        return facts, f"{shard.file}: cannot be read to its end ({error!r})"
    if len(facts) != shard.samples:
        return facts, f"{shard.file}: {len(facts)} clips, expected {shard.samples}"
    return facts, None


def _samples(path: Path) -> Iterator[ClipFact]:
    with tarfile.open(path, "r:") as tar:
        videos: dict[str, tarfile.TarInfo] = {}
        for member in tar:
            key, _, kind = member.name.partition(".")
            if kind == "mp4":
                videos[key] = member
            elif kind == "json" and key in videos:
                file = tar.extractfile(member)
                assert file is not None, "a regular file"
                yield _fact(path, key, videos.pop(key), json.load(file))


def _fact(path: Path, key: str, video: tarfile.TarInfo, meta: dict[str, Any]) -> ClipFact:
    times_s = meta.get("times_s") or [0.0]
    return ClipFact(
        key=key,
        shard=path,
        offset=video.offset_data,
        size=video.size,
        source=str(meta["source"]),
        segment=int(meta["segment"]),
        split=str(meta["split"]),
        num_frames=int(meta["num_frames"]),
        begin_s=float(times_s[0]),
        end_s=float(times_s[-1]) + 1 / float(meta["rate_hz"]),
        motion=figure(meta.get("motion")),
        brightness=figure(meta.get("brightness")),
        quality=figure(meta.get("quality")),
    )


def figure(value: object) -> float | None:
    """A number that a file states; None if it is none, or none that anybody could have measured."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < MOST:
        return None
    return float(value)
