"""The report of a folder of shards: report.html for people, report.json for machines.

    manifest.jsonl    what became of every source                survey.py
    shards.json       the shards; absent where nothing was usable
    *.tar             what is said about each clip               clip_facts.py
                      and the pictures of some of them           contact_sheet.py

report.json is one object. Lengths are in seconds, from a source's first frame to the end of its last:

    sources      number by what became of them, bytes of the files
    video        seconds: in, ingested, filtered, quarantined (as far as decoded), kept, black, frozen, short, repeated;
                 sources and bytes of unknown length, of which no frame could be decoded
    reasons      [{status, reason, sources, seconds, example}]      dropped   [{reason, clips, example}]
    splits       {split: {sources, shards, clips, frames, seconds, bytes}}
    codecs, sizes, rates, licences      [{value, sources, seconds}]
    folders      [{folder, ingested, filtered, quarantined, seconds, kept}], by the first part of the names
    source_seconds, clip_seconds      {edges, counts, is_open, num, lowest, p5, median, …}, null if unknown
    motion, brightness, quality       the same of the clips, with below: [[bound, clips], …]
    duplicates   {sources, clips, of: [{of, num, names}]}
    treated      {what: sources} that were cropped, rotated, …
    faults       what is wrong with the shards, one line each
"""

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from genie_lite.data.report.contact_sheet import FIGURES
from genie_lite.data.report.facts import ClipFact, measured, read_facts
from genie_lite.data.report.histogram import Histogram, histogram, histogram_of_seconds
from genie_lite.data.report.page import render
from genie_lite.data.report.survey import STATUSES, Row, Share, Survey, number
from genie_lite.data.shards.index import INDEX_FILE, MANIFEST_FILE, VIDEO, Shard, load_index
from genie_lite.errors import UserError
from genie_lite.files import write_bytes, write_json

FORMAT = 1
PAGE_FILE, TREE_FILE = "report.html", "report.json"
# Where filters may be set.
BOUNDS = {"motion": (0.25, 0.5, 1, 2, 4), "brightness": (8, 16, 32, 64), "quality": (0.1, 0.25, 0.5, 0.75)}
MOST_ORIGINALS = 200  # duplicates are listed by what they are of

Progress = Callable[[str, int, int], None]


def write_data_report(
    shards_folder: Path, out: Path | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Write report.html and report.json beside the shards, or into another folder.

    Args:
        shards_folder: as `ingest` leaves it; also one in which nothing was usable.
        out: folder to write to.
        progress: called with (what, done, total).

    Returns:
        Counts: sources, ingested, filtered, quarantined, clips, frames, hours_in, hours_kept, faults; and report,
        the page's path.

    Raises:
        UserError: no finished ingest here, or a damaged manifest or index.
    """
    tell = progress or (lambda what, done, total: None)
    config, shards = _read_shards(shards_folder)
    survey = Survey(number(config, "rate_hz"))
    for row in _rows(shards_folder / MANIFEST_FILE):
        survey.add(row)
    facts, faults = read_facts(shards_folder, shards, lambda done, total: tell("clips", done, total))
    if faults:
        named = "; ".join(faults[:3]) + ("; …" if len(faults) > 3 else "")
        warnings.warn(f"{shards_folder}: {len(faults)} damaged shards: {named}", stacklevel=2)
    facts = measured(facts, lambda done, total: tell("motion", done, total))
    tree = _tree(shards_folder, config, shards, survey, facts, faults)
    page = render(tree, survey, facts, lambda done, total: tell("pictures", done, total))
    folder = out or shards_folder
    write_json(folder / TREE_FILE, tree)
    write_bytes(folder / PAGE_FILE, page.encode())
    return _summary(tree) | {"report": str(folder / PAGE_FILE)}


def _read_shards(folder: Path) -> tuple[dict[str, Any], list[Shard]]:
    """Settings and shards; none of either where an ingest found nothing that it could use."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected one that genie-lite ingest has written")
    if (folder / MANIFEST_FILE).is_file() and not (folder / INDEX_FILE).is_file():
        return {}, []
    index = load_index(folder)
    if index.kind != VIDEO:
        raise UserError(
            f"{folder}: holds {index.kind}, expected video; give the shards that it was made from"
        )
    if not number(index.config, "rate_hz"):
        path = folder / INDEX_FILE
        raise UserError(f"{path}: config.rate_hz is missing or no rate; copy the file again, or ingest again")
    return index.config, list(index.shards)


def _rows(path: Path) -> Iterator[Row]:
    if not path.is_file():
        raise UserError(
            f"{path}: missing, it tells what became of the sources; copy the shards again with it"
        )
    with path.open("rb") as file:
        for place, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{path}: line {place} is damaged ({error}); copy the file again") from error
            if not isinstance(row, dict):
                raise UserError(
                    f"{path}: line {place} is no object but {type(row).__name__}; copy the file again"
                )
            yield row


def _tree(
    folder: Path,
    config: dict[str, Any],
    shards: Sequence[Shard],
    survey: Survey,
    facts: Sequence[ClipFact],
    faults: Sequence[str],
) -> dict[str, Any]:
    rate_hz = number(config, "rate_hz")
    lengths_s = [length / rate_hz for shard in shards for length in shard.lengths] if rate_hz else []
    return {
        "format": FORMAT,
        "name": folder.resolve().name,
        "config": config,
        "sources": {"all": survey.sources}
        | {status: share.sources for status, share in survey.by_status.items()}
        | {"bytes": survey.bytes},
        "video": _video(survey),
        "clips": sum(shard.samples for shard in shards),
        "frames": sum(shard.frames for shard in shards),
        "shards": len(shards),
        "bytes": sum(shard.bytes for shard in shards),
        "reasons": _reasons(survey),
        "dropped": [
            {"reason": reason, "clips": num, "example": example} for _, reason, num, example in survey.dropped
        ],
        "splits": _splits(shards, survey, rate_hz),
        "codecs": survey.codecs.tree(),
        "sizes": survey.sizes.tree(),
        "rates": survey.rates.tree(),
        "licences": survey.licences.tree(),
        "folders": _folders(survey),
        "source_seconds": _plain(histogram_of_seconds(survey.lengths_s)),
        "clip_seconds": _plain(histogram(lengths_s)),
        **{figure: _spread(facts, figure) for figure in FIGURES},
        "duplicates": _duplicates(survey),
        "treated": dict(survey.treated),
        "faults": _faults(shards, survey, faults),
    }


def _video(survey: Survey) -> dict[str, float | int]:
    seconds = {status: share.seconds for status, share in survey.by_status.items()}
    figures = {"in": sum(seconds.values())} | seconds
    figures |= {"kept": survey.kept_s, "black": survey.black_s, "short": survey.short_s}
    figures |= {"frozen": survey.frozen_s, "repeated": survey.repeated_s}
    return {name: round(value, 3) for name, value in figures.items()} | {
        "unknown_sources": survey.unknown_length,
        "unknown_bytes": survey.unknown_bytes,
    }


def _reasons(survey: Survey) -> list[dict[str, Any]]:
    found = [
        {
            "status": status,
            "reason": wording,
            "sources": num,
            "seconds": round(survey.reason_seconds[status, kind], 3),
            "example": example,
        }
        for status, reasons in survey.reasons.items()
        for kind, wording, num, example in reasons
    ]
    return sorted(found, key=lambda each: -each["sources"])


def _splits(shards: Sequence[Shard], survey: Survey, rate_hz: float | None) -> dict[str, dict[str, Any]]:
    splits = {}
    for split in dict.fromkeys(["train", "test", *(shard.split for shard in shards)]):
        own = [shard for shard in shards if shard.split == split]
        frames = sum(shard.frames for shard in own)
        splits[split] = {
            "sources": survey.by_split.get(split, Share()).sources,
            "shards": len(own),
            "clips": sum(shard.samples for shard in own),
            "frames": frames,
            "seconds": round(frames / rate_hz, 3) if rate_hz else 0.0,
            "bytes": sum(shard.bytes for shard in own),
        }
    return splits


def _folders(survey: Survey) -> list[dict[str, Any]]:
    found = [
        {"folder": name}
        | {status: folder.num[status] for status in STATUSES}
        | {"seconds": round(folder.seconds, 3), "kept": round(survey.seconds_of(folder.frames), 3)}
        for name, folder in survey.folders.items()
    ]
    return sorted(found, key=lambda each: (-sum(each[status] for status in STATUSES), each["folder"]))


def _duplicates(survey: Survey) -> dict[str, Any]:
    order = sorted(survey.copies.items(), key=lambda item: (-item[1].num, item[0]))[:MOST_ORIGINALS]
    return {
        "sources": survey.num_copies["sources"],
        "clips": survey.num_copies["clips"],
        "of": [{"of": original} | asdict(copies) for original, copies in order],
    }


def _faults(shards: Sequence[Shard], survey: Survey, faults: Sequence[str]) -> list[str]:
    listed = sum(shard.samples for shard in shards)
    found = list(faults)
    if listed != survey.clips:
        found.append(f"{MANIFEST_FILE} counts {survey.clips} clips, {INDEX_FILE} {listed}")
    if num := survey.by_status["unknown"].sources:
        found.append(f"{MANIFEST_FILE}: {num} rows whose status is none of {', '.join(STATUSES)}")
    return found


def _spread(facts: Sequence[ClipFact], figure: str) -> dict[str, Any] | None:
    """How a figure of the clips is spread, and how many clips a filter at this or that value would leave out."""
    values = [value for fact in facts if (value := getattr(fact, figure)) is not None]
    drawn = _plain(histogram(values))
    return drawn and drawn | {
        "below": [[bound, sum(value < bound for value in values)] for bound in BOUNDS[figure]]
    }


def _plain(drawn: Histogram | None) -> dict[str, Any] | None:
    return None if drawn is None else asdict(drawn)


def _summary(tree: dict[str, Any]) -> dict[str, Any]:
    sources = tree["sources"]
    return {
        "sources": sources["all"],
        "ingested": sources["ingested"],
        "filtered": sources["filtered"],
        "quarantined": sources["quarantined"],
        "clips": tree["clips"],
        "frames": tree["frames"],
        "hours_in": round(tree["video"]["in"] / 3600, 3),
        "hours_kept": round(tree["video"]["kept"] / 3600, 3),
        "faults": len(tree["faults"]),
    }
