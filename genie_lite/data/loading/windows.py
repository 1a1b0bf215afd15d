"""Which windows are seen, in which order: an endless sequence per corpus, a pure function of its seed.

A corpus is anything that windows are read out of by number (`Windows`): video shards (`clip_windows.py`) or token
shards (`token_windows.py`). Several are mixed by weight (`mixture.py`). From there on everything is the same for
all stages: a joint batch is the next `batch * world_size` windows, `Share` says which of them a rank reads, and
loading processes make whole batches in turn (`loader.py`). So a position is one number, that of the windows handed
out so far by all ranks together, and neither the number of loading processes nor of ranks changes what is seen.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Any, Protocol, TypeVar, runtime_checkable

from pydantic import Field, model_validator

from genie_lite.config import Config
from genie_lite.data.loading.weight import EvenWeight, WeightConfig
from genie_lite.data.shards.shards import ShardDamage
from genie_lite.errors import UserError

WindowT = TypeVar("WindowT")
PlaceT = TypeVar("PlaceT")

ROUNDING = 1e-6  # 0.7 s are 7 frames at 10 Hz, also where they are 6.999… in floating point


class LoaderConfig(Config):
    """How windows are drawn.

    clip_frames: frames of a window. batch: windows per batch and rank. stride: samples' frames from one
    frame of a window to the next. pair_s: the same as a range of seconds, least and most; then every window draws
    its stride from all whole ones in the range, and corpora of different rates may be mixed. weight: how much
    each pixel counts. shuffle_shards: shards in memory, and shuffled together, at a time.
    cache_gb: decoded frames kept, per rank. num_workers: loading processes, 0 to load in the trainer's.
    strict: stop at a shard that cannot be read any more, instead of taking other windows for its own.

    The shards in memory are the encoded bytes, whole, and come on top of `cache_gb`: every loading process (that of
    each rank without any) holds up to `shuffle_shards` times the size of a shard. With shards of 600 MB, 4 of them
    and 8 processes these are 19 GB; write smaller shards, or lower `shuffle_shards`, where that is too much.
    """

    clip_frames: int = Field(default=16, ge=1)
    batch: int = Field(default=16, ge=1)
    stride: int = Field(default=1, ge=1)
    pair_s: tuple[float, float] | None = None
    weight: WeightConfig = EvenWeight()
    shuffle_shards: int = Field(default=4, ge=1)
    cache_gb: float = Field(default=2.0, ge=0)
    num_workers: int = Field(default=0, ge=0)
    strict: bool = False

    @model_validator(mode="after")
    def _settings_fit(self) -> "LoaderConfig":
        if self.pair_s is not None:
            least, most = self.pair_s
            if not 0 < least <= most:
                raise ValueError(f"pair_s {least:g} to {most:g}: expected seconds above 0, the smaller first")
            if self.stride != 1:
                raise ValueError(
                    f"stride {self.stride} and pair_s both say how far frames are apart; give one"
                )
        if self.clip_frames < 2 and (self.pair_s is not None or self.weight.kind != "none"):
            raise ValueError(
                "pair_s and weight are about pairs of frames; expected clip_frames of at least 2"
            )
        return self

    def strides(self, rate_hz: float) -> range:
        """All strides that windows of a corpus of this rate may have; it may hold none.

        A stride on the rim of the range belongs to it, whatever the rounding.
        """
        if self.pair_s is None:
            return range(self.stride, self.stride + 1)
        least, most = self.pair_s
        first = max(1, ceil(least * rate_hz * (1 - ROUNDING)))
        return range(first, floor(most * rate_hz * (1 + ROUNDING)) + 1)

    def span_of(self, stride: int) -> int:
        """Frames of a sample from a window's first frame to its last, both included."""
        return (self.clip_frames - 1) * stride + 1


@dataclass(frozen=True)
class Damage:
    """A window that another stood in for, or that came without its weights.

    what: the shard that could not be read, or the source without masks. reason: why, and what to do. is_replaced:
    another stood in.
    """

    what: str
    reason: str
    is_replaced: bool = True


@runtime_checkable
class Windows(Protocol[WindowT]):
    """The endless sequence of windows of one corpus, or of a mixture.

    Every process that loads has one of its own: what it keeps open or in memory is nobody else's.
    """

    def identity(self) -> dict[str, Any]:
        """Everything that decides which window has which number, as plain data."""
        ...

    def read(self, numbers: Sequence[int]) -> list[WindowT]:
        """The windows of these numbers, from 0 on."""
        ...

    def take_damage(self) -> list[Damage]:
        """What `read` found damaged since it was last asked, once per window that another stood in for."""
        ...


@dataclass(frozen=True)
class Share:
    """The windows of a joint batch that one of several processes trains on.

    interleaved: it takes every `world_size`-th of them, from `rank` on; otherwise the `rank`-th run of `batch`.
    """

    batch: int
    rank: int = 0
    world_size: int = 1
    interleaved: bool = False

    @property
    def joint(self) -> int:
        """Windows that all processes take together."""
        return self.batch * self.world_size

    def numbers(self, position: int) -> range:
        """Of the joint batch that begins at window `position`, what this process reads."""
        if self.interleaved:
            return range(position + self.rank, position + self.joint, self.world_size)
        first = position + self.rank * self.batch
        return range(first, first + self.batch)


class Careful:
    """Reads a window, or the next candidate that can be read, and keeps account of what could not.

    What stands in follows from the order of the candidates and from what is damaged, whenever that was found.
    """

    def __init__(self, place: str, *, strict: bool) -> None:
        """Read from the shards at `place`."""
        self._place, self._strict = place, strict
        self._damage: list[Damage] = []

    def first(self, candidates: Iterable[PlaceT], read: Callable[[PlaceT], WindowT]) -> WindowT:
        """The first of the candidates that `read` can read; the first of all was wanted.

        Raises:
            ShardDamage: strict and that one cannot be read.
            UserError: none can, or something else is wrong.
        """
        first: ShardDamage | None = None
        for place in candidates:
            try:
                window = read(place)
            except ShardDamage as error:
                if self._strict:
                    raise
                first = first or error
            else:
                if first is not None:
                    self._damage.append(Damage(f"{self._place}: {first.file}", str(first)))
                return window
        raise UserError(f"{self._place}: no window can be read any more; {first}")

    def take_damage(self) -> list[Damage]:
        """What was found since it was last asked."""
        found, self._damage = self._damage, []
        return found
