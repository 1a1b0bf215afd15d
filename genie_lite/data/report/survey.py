"""What became of the sources, gathered from the manifest row by row: a million rows need no memory to speak of.

Rows are taken as they are found: what a row does not say, or says in another type, counts as unknown.
"""

import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from genie_lite.data.report.facts import by_hash, figure
from genie_lite.data.report.reasons import Kind, Reasons

Row = Mapping[str, Any]

STATUSES = ("ingested", "filtered", "quarantined")
ORIGINAL = re.compile(r"(?s)\bduplicate of (.+)$")
MOST_LISTED = 100  # sources of one reason that are kept by name
MOST_ORIGINALS = 1000
MOST_COPIES = 3  # of one original that are kept by name
MOST_VALUES = 1000  # different codecs, sizes, … counted apart
SHOWN_SOURCES = 4  # of each kind of interest
COMMON_RATES_HZ = (24000 / 1001, 30000 / 1001, 60000 / 1001)


@dataclass
class Share:
    """Of some sources: how many, and how long they are together."""

    sources: int = 0
    seconds: float = 0.0

    def add(self, seconds: float | None) -> None:
        self.sources += 1
        self.seconds += seconds or 0.0


@dataclass
class Folder:
    """Of the sources in one folder: how many by what became of them, their seconds, and the frames of their clips."""

    num: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    frames: int = 0

    def add(self, status: str, seconds: float, frames: int) -> None:
        self.num[status] += 1
        self.seconds += seconds
        self.frames += frames


@dataclass
class Copies:
    """What is left out because something else is the same. num: all of them; names: of the first few."""

    num: int = 0
    names: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        self.num += 1
        if len(self.names) < MOST_COPIES:
            self.names.append(name)


class Survey:
    """Takes the rows of a manifest, in its order.

    rate_hz: of the clips, None where nothing was written. lengths_s: one entry per source of which anything was
    decoded, see `length_s`. dropped: clips of sources that were ingested. listed: of every reason the first few
    rows. most_clips, least_kept: sources at which it is worth looking; drawn: some by chance.
    """

    def __init__(self, rate_hz: float | None) -> None:
        self._rate_hz = rate_hz
        self.by_status = {status: Share() for status in (*STATUSES, "unknown")}
        self.by_split: dict[str, Share] = defaultdict(Share)
        self.reasons = {status: Reasons() for status in STATUSES[1:]}
        self.reason_seconds: dict[tuple[str, Kind], float] = defaultdict(float)
        self.listed: dict[tuple[str, Kind], list[Row]] = defaultdict(list)
        self.dropped = Reasons()
        self.clips = self.frames = self.bytes = 0
        self.unknown_length = self.unknown_bytes = 0
        self.black_s = self.short_s = self.frozen_s = self.repeated_s = 0.0
        self.lengths_s = array("d")
        self.codecs, self.sizes, self.rates = Values(), Values(), Values()
        self.licences = Values()
        self.folders: dict[str, Folder] = {}
        self.treated: Counter[str] = Counter()
        self.copies: dict[str, Copies] = {}
        self.num_copies: Counter[str] = Counter()
        self.most_clips = _Best(lambda row: _count(row, "clips"), above=1)
        self.least_kept = _Best(self._share_left_out, above=0.1)
        self.drawn = _Best(lambda row: int(by_hash(text(row, "source"))[:8], 16), above=-1)

    @property
    def sources(self) -> int:
        """Rows so far."""
        return sum(share.sources for share in self.by_status.values())

    @property
    def kept_s(self) -> float:
        """Seconds of the clips that were written."""
        return self.seconds_of(self.frames)

    def seconds_of(self, frames: int) -> float:
        """How long so many frames of the clips are."""
        return frames / self._rate_hz if self._rate_hz else 0.0

    def add(self, row: Row) -> None:
        """Count a row."""
        status, seconds = text(row, "status"), length_s(row)
        self.by_status[status if status in STATUSES else "unknown"].add(seconds)
        if status == "ingested":
            self.by_split[text(row, "split")].add(seconds)
        self.clips += _count(row, "clips")
        self.frames += _count(row, "frames")
        self.bytes += _count(row, "bytes")
        self._add_file(row, seconds)
        self._folder(text(row, "source")).add(status, seconds or 0.0, _count(row, "frames"))
        for clip, original in _items(row, "duplicates"):
            self._add_copy("clips", str(original), f"{text(row, 'source')}, clip {clip}")
        if status == "ingested":
            self._add_ingested(row, seconds or 0.0)
        elif status in self.reasons:
            self._add_set_aside(row, status, seconds or 0.0)

    def _add_file(self, row: Row, seconds: float | None) -> None:
        if seconds is None:
            self.unknown_length += 1
            self.unknown_bytes += _count(row, "bytes")
        else:
            self.lengths_s.append(seconds)
        height, width, rate_hz = (number(row, name) for name in ("height", "width", "source_rate_hz"))
        if text(row, "codec"):
            self.codecs.add(text(row, "codec"), seconds)
        if height and width:
            self.sizes.add(f"{width:.0f} × {height:.0f}", seconds)
        if rate_hz:
            self.rates.add(_rate(rate_hz), seconds)
        if text(row, "licence"):
            self.licences.add(text(row, "licence"), seconds)

    def _add_ingested(self, row: Row, seconds: float) -> None:
        frames = _count(row, "source_frames")
        self.black_s += seconds * min(_count(row, "black") / frames, 1.0) if frames else 0.0
        self.short_s += self.seconds_of(_count(row, "short"))
        self.frozen_s += self.seconds_of(_count(row, "frozen"))
        self.repeated_s += self.seconds_of(_count(row, "repeated"))
        source = text(row, "source")
        for reason, num in _items(row, "dropped"):
            if isinstance(num, int) and num > 0:
                self.dropped.add(reason, source, num)
        for what in ("letterbox", "rotation", "frozen", "repeated", "moved_from"):
            self.treated[what] += bool(row.get(what))
        for best in (self.most_clips, self.least_kept, self.drawn):
            best.add(row)

    def _add_set_aside(self, row: Row, status: str, seconds: float) -> None:
        reason, source = text(row, "reason"), text(row, "source")
        kind = self.reasons[status].add(reason, source)
        self.reason_seconds[status, kind] += seconds
        if len(self.listed[status, kind]) < MOST_LISTED:
            self.listed[status, kind].append(row)
        if original := ORIGINAL.search(reason):
            self._add_copy("sources", original[1], source)

    def _folder(self, source: str) -> "Folder":
        """By the first part of a source's name; that of sources without a folder is empty."""
        name = source.partition("/")[0] if "/" in source else ""
        if name not in self.folders and len(self.folders) >= MOST_VALUES:
            name = "others"
        return self.folders.setdefault(name, Folder())

    def _add_copy(self, what: str, original: str, name: str) -> None:
        self.num_copies[what] += 1
        if original in self.copies or len(self.copies) < MOST_ORIGINALS:
            self.copies.setdefault(original, Copies()).add(name)

    def _share_left_out(self, row: Row) -> float:
        seconds = length_s(row)
        return 1 - self.seconds_of(_count(row, "frames")) / seconds if seconds else 0.0


class Values:
    """Counts sources by a value that they have, and their seconds with them."""

    def __init__(self) -> None:
        self._shares: dict[str, Share] = {}

    def add(self, value: str, seconds: float | None) -> None:
        if value not in self._shares and len(self._shares) >= MOST_VALUES:
            value = "others"
        self._shares.setdefault(value, Share()).add(seconds)

    def tree(self) -> list[dict[str, Any]]:
        """The commonest first."""
        order = sorted(self._shares.items(), key=lambda item: (-item[1].sources, item[0]))
        return [
            {"value": value, "sources": share.sources, "seconds": round(share.seconds, 3)}
            for value, share in order
        ]


class _Best:
    """The rows that are highest by `key`, at most `SHOWN_SOURCES`, all `above` a value; of equals the first."""

    def __init__(self, key: Callable[[Row], float | int], above: float | int) -> None:
        self._key, self._above = key, above
        self._found: list[tuple[float | int, Row]] = []

    def add(self, row: Row) -> None:
        value = self._key(row)
        if value > self._above:
            found = [*self._found, (value, row)]
            self._found = sorted(found, key=lambda pair: pair[0], reverse=True)[:SHOWN_SOURCES]

    @property
    def rows(self) -> list[Row]:
        return [row for _, row in self._found]


def length_s(row: Row) -> float | None:
    """From a source's first frame to the end of its last, in seconds; None if nothing of it was decoded."""
    seconds, rate_hz = number(row, "seconds"), number(row, "source_rate_hz")
    if seconds is None or not number(row, "source_frames"):
        return None
    return seconds + (1 / rate_hz if rate_hz else 0.0)


def number(row: Row, name: str) -> float | None:
    """A figure that is not negative; None if there is none."""
    value = figure(row.get(name))
    return value if value is not None and value >= 0 else None


def text(row: Row, name: str) -> str:
    """A text, empty if there is none."""
    value = row.get(name)
    return value if isinstance(value, str) else ""


def _count(row: Row, name: str) -> int:
    return int(number(row, name) or 0)


def _items(row: Row, name: str) -> list[tuple[str, Any]]:
    value = row.get(name)
    return list(value.items()) if isinstance(value, dict) else []


def _rate(rate_hz: float) -> str:
    """Rates that differ by rounding alone are one: 29.97, 29.9701."""
    near = [
        rate for rate in (*COMMON_RATES_HZ, round(rate_hz)) if rate and abs(rate_hz - rate) < 0.005 * rate
    ]
    best = min(near, key=lambda rate: abs(rate - rate_hz), default=rate_hz)
    return f"{best:.4g} Hz"
