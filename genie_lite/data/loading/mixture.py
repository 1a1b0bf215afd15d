"""Several corpora as one: of every block of windows each gives its share, in shuffled order.

What window a number means stays a pure function of the number. Up to window n, corpus i has given
floor(n C_i) - floor(n C_{i-1}) windows, C_i being the sum of the shares up to i: within one window of its share, for
any n, so that the long run is exact and nothing has to be counted to begin anywhere. Within a block (256 windows, more
where a corpus is due less than one of them) the order is drawn from seed and block, and in a corpus the windows follow
its own sequence without a gap.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate, pairwise
from math import ceil, floor
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np

from genie_lite.data.loading.windows import Damage, Windows, WindowT
from genie_lite.errors import UserError

BLOCK = 256
SMALLEST_SHARE = Fraction(1, 10_000)  # a block must hold a window of each corpus, and is kept in memory


@runtime_checkable
class DataSet(Protocol):
    """What is asked of a set of shards here, whether they hold video or tokens."""

    @property
    def folder(self) -> Path: ...
    @property
    def place(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def frame_hw(self) -> tuple[int, int]: ...
    @property
    def rate_hz(self) -> float: ...
    def num_frames(self, split: str) -> int: ...


DataSetT = TypeVar("DataSetT", bound=DataSet)
DataSetT_co = TypeVar("DataSetT_co", bound=DataSet, covariant=True)


@dataclass(frozen=True)
class Corpus(Generic[DataSetT_co]):
    """A set of shards, and how much of all windows come from it, in proportion to the other weights."""

    shards: DataSetT_co
    weight: float = 1.0


@dataclass(frozen=True)
class Corpora(Generic[DataSetT_co]):
    """What a stage trains on: one corpus or several whose frames have one size; `expect_one_rate` asks for one rate.

    Raises:
        UserError: none, a weight that is not above 0 or next to nothing beside the others, or frames of another size
            in one of them.
    """

    parts: tuple[Corpus[DataSetT_co], ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise UserError("no corpus to train on; name at least one")
        for corpus in self.parts:
            if not (0 < corpus.weight < float("inf")):
                raise UserError(
                    f"{corpus.shards.place}: weight {corpus.weight:g}, expected a number above 0; "
                    "leave the corpus out instead"
                )
            self._expect_same(corpus.shards, "frames (height, width) of {} pixels", _size)
        for corpus, share in zip(self.parts, self.shares, strict=True):
            if share < SMALLEST_SHARE:
                raise UserError(
                    f"{corpus.shards.place}: weight {corpus.weight:g} is {float(share):.1g} of all weights, "
                    f"expected at least {float(SMALLEST_SHARE):g}; raise it, lower the others, or leave the corpus out"
                )

    @classmethod
    def of(cls, given: "DataSetT | Corpora[DataSetT]") -> "Corpora[DataSetT]":
        """One set of shards as corpora of one; corpora as they are."""
        return given if isinstance(given, Corpora) else Corpora((Corpus(given),))

    @property
    def folder(self) -> Path:
        """Of the first."""
        return self.parts[0].shards.folder

    @property
    def place(self) -> str:
        """Of all, as they are shown."""
        return ", ".join(corpus.shards.place for corpus in self.parts)

    @property
    def frame_hw(self) -> tuple[int, int]:
        return self.parts[0].shards.frame_hw

    @property
    def rate_hz(self) -> float:
        """Of the first; that of all of them after `expect_one_rate`."""
        return self.parts[0].shards.rate_hz

    @property
    def fingerprint(self) -> str:
        """Changes with any byte of any corpus and with any share; that of a single corpus is its own."""
        if len(self.parts) == 1:
            return self.parts[0].shards.fingerprint
        lines = [
            f"{corpus.shards.fingerprint} {share}\n"
            for corpus, share in zip(self.parts, self.shares, strict=True)
        ]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def shares(self) -> tuple[Fraction, ...]:
        """Of all windows, exactly; they add up to 1. A weight counts as the decimal number it is written as."""
        weights = [Fraction(repr(float(corpus.weight))) for corpus in self.parts]
        return tuple(weight / sum(weights) for weight in weights)

    def num_frames(self, split: str) -> int:
        """Frames of a split in all of them."""
        return sum(corpus.shards.num_frames(split) for corpus in self.parts)

    def expect_one_rate(self) -> None:
        """What counts in frames instead of seconds means the same in all of them.

        Raises:
            UserError: it does not.
        """
        for corpus in self.parts:
            self._expect_same(corpus.shards, "{} frames per second", _rate)

    def _expect_same(self, other: DataSet, name: str, of: Callable[[DataSet], object]) -> None:
        first = self.parts[0].shards
        if of(first) != of(other):
            raise UserError(
                f"{other.place}: {name.format(of(other))}, but {first.place} has {name.format(of(first))}; "
                "ingest both with the same size_px and rate_hz"
            )


def _size(shards: DataSet) -> tuple[int, int]:
    return shards.frame_hw


def _rate(shards: DataSet) -> str:
    return f"{shards.rate_hz:g}"


class OfCorpus(NamedTuple):
    """A window's corpus, and its number in that."""

    corpus: int
    number: int


class Mixture:
    """The windows of several corpora as one sequence; see the top of this file."""

    def __init__(self, parts: Sequence[Windows[WindowT]], shares: Sequence[Fraction], seed: int) -> None:
        """Mix sequences; `shares` are above 0 and add up to 1."""
        assert len(parts) == len(shares)
        assert sum(shares) == 1
        self._parts, self._shares, self._seed = parts, shares, seed
        self._ends = [Fraction(0), *accumulate(shares)]
        # With less than one window due in a block, rounding could take back one that was given.
        self.block = max(BLOCK, ceil(1 / min(shares)))
        self._shuffled = lru_cache(maxsize=4)(self._shuffle)

    def identity(self) -> dict[str, Any]:
        return {
            "seed": self._seed,
            "corpora": {
                str(number): {"share": str(share), **part.identity()}
                for number, (part, share) in enumerate(zip(self._parts, self._shares, strict=True))
            },
        }

    def read(self, numbers: Sequence[int]) -> list[Any]:
        places = [self.place(number) for number in numbers]
        windows: list[Any] = [None] * len(places)
        for corpus, part in enumerate(self._parts):
            slots = [slot for slot, place in enumerate(places) if place.corpus == corpus]
            found = part.read([places[slot].number for slot in slots])
            for slot, window in zip(slots, found, strict=True):
                windows[slot] = window
        return windows

    def take_damage(self) -> list[Damage]:
        return [damage for part in self._parts for damage in part.take_damage()]

    def place(self, number: int) -> OfCorpus:
        """Where a window comes from."""
        block, slot = divmod(number, self.block)
        corpus_of, numbers = self._shuffled(block)
        return OfCorpus(int(corpus_of[slot]), int(numbers[slot]))

    def given(self, number: int) -> list[int]:
        """How many of the windows before `number` come from each corpus."""
        return [floor(number * end) - floor(number * begin) for begin, end in pairwise(self._ends)]

    def _shuffle(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        """Of each window of a block, its corpus and its number there."""
        before, after = self.given(block * self.block), self.given((block + 1) * self.block)
        counts = [end - begin for begin, end in zip(before, after, strict=True)]
        corpus_of = np.random.default_rng([self._seed, block]).permutation(
            np.repeat(np.arange(len(counts)), counts)
        )
        numbers = np.empty(self.block, np.int64)
        for corpus, (first, count) in enumerate(zip(before, counts, strict=True)):
            numbers[corpus_of == corpus] = np.arange(first, first + count)
        return corpus_of, numbers


def mix(parts: Sequence[Windows[WindowT]], corpora: Corpora[Any], seed: int) -> Windows[WindowT]:
    """Windows of corpora as one sequence; those of a single corpus are left as they are."""
    return parts[0] if len(parts) == 1 else Mixture(parts, corpora.shares, seed)


def apportion(total: int, shares: Sequence[Fraction]) -> list[int]:
    """Whole numbers in proportion to shares, by largest remainder; where `total` allows, at least one each."""
    due = [total * share for share in shares]
    counts = [floor(each) for each in due]
    by_remainder = sorted(range(len(due)), key=lambda k: counts[k] - due[k])
    for k in by_remainder[: total - sum(counts)]:
        counts[k] += 1
    if total >= len(shares):
        for k in [k for k, count in enumerate(counts) if not count]:
            counts[counts.index(max(counts))] -= 1
            counts[k] += 1
    return counts
