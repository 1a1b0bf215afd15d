"""Shards to batches: an endless, exactly resumable stream for training (`held_out.py` has what validates).

    corpora ──numbers──▶ windows ──Share──▶ batches of a rank ──loading processes──▶ Loader

`windows.py` says what decides which window comes when. A loader's position is the number of windows that all ranks
together have taken from it; what loading processes have read ahead does not count, and is read again after a resume.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from genie_lite.config import change
from genie_lite.data.loading.clip import Clip, PackedClip, to_frames
from genie_lite.data.loading.clip_windows import ClipWindows
from genie_lite.data.loading.held_out import UNWEIGHED, validation_clips
from genie_lite.data.loading.mixture import Corpora, mix
from genie_lite.data.loading.windows import Damage, LoaderConfig, Share, Windows
from genie_lite.data.shards.shards import ShardSet
from genie_lite.errors import UserError

__all__ = ["Clip", "Loader", "LoaderConfig", "to_frames", "train_loader", "validation_clips", "worker_death"]

log = logging.getLogger(__name__)

PackedT = TypeVar("PackedT")
BatchT_co = TypeVar("BatchT_co", covariant=True)


def train_loader(
    shards: ShardSet | Corpora[ShardSet],
    config: LoaderConfig,
    seed: int,
    *,
    rank: int = 0,
    world_size: int = 1,
    split: str = "train",
) -> "Loader[Clip]":
    """An endless loader of `Clip`s; `state_dict` and `load_state_dict` resume it at the very next batch.

    Resuming decodes nothing that was seen before.

    Raises:
        UserError: no sample of the split is long enough for a window, corpora of different rates without a range
            of seconds, or a range that holds no stride.
    """
    corpora = Corpora.of(shards)
    if config.pair_s is None:
        corpora.expect_one_rate()
    parts = [ClipWindows(corpus.shards, config, seed, split) for corpus in corpora.parts]
    share = Share(config.batch, rank, world_size)
    windows = mix(parts, corpora, seed)
    return Loader(windows, share, PackedClip.of, PackedClip.unpack, config.num_workers)


@dataclass(frozen=True)
class Packet:
    """What a loading process hands over: a batch, or the one line that says why there is none."""

    content: Any = None
    damage: tuple[Damage, ...] = ()
    failure: str | None = None


class Packets(IterableDataset[Packet]):
    """A rank's batches from a position on, packed; each loading process makes every `num_workers`-th of them."""

    def __init__(
        self, windows: Windows[Any], share: Share, position: int, pack: Callable[[list[Any]], Any]
    ) -> None:
        super().__init__()
        self._windows, self._share, self._position, self._pack = windows, share, position, pack

    def __iter__(self) -> Iterator[Packet]:
        worker = get_worker_info()
        return self.made_by(worker.id, worker.num_workers) if worker else self.made_by(0, 1)

    def made_by(self, worker: int, num_workers: int) -> Iterator[Packet]:
        """What one of the loading processes makes. Nothing more comes after a failure."""
        for batch in count(worker, num_workers):
            numbers = self._share.numbers(self._position + batch * self._share.joint)
            try:
                content = self._pack(self._windows.read(numbers))
            except UserError as error:  # as it is: torch would add a traceback to its one line
                yield Packet(failure=str(error))
                return
            yield Packet(content, tuple(self._windows.take_damage()))


class Loader(Generic[BatchT_co]):
    """An endless stream of batches: one rank's share of all windows, from its position on.

    The position belongs to one sequence of windows (UserError otherwise), but neither to a number of loading
    processes nor of ranks, nor to a batch size: with others, every window still comes once and none is left out.
    """

    def __init__(
        self,
        windows: Windows[Any],
        share: Share,
        pack: Callable[[list[Any]], Any],
        unpack: Callable[[Any], BatchT_co],
        num_workers: int = 0,
    ) -> None:
        """Prepare a stream; nothing is read yet.

        Args:
            windows: what to read.
            share: which of it this rank reads.
            pack: makes of the windows of a batch what travels between processes; in the loading process.
            unpack: makes a batch of that; in the trainer's process.
            num_workers: loading processes, 0 to load in the trainer's.
        """
        self._windows, self._share = windows, share
        self._pack, self._unpack, self._num_workers = pack, unpack, num_workers
        self._position = 0
        self.replaced: Counter[str] = Counter()  # windows that others stood in for, by what was damaged
        self.unweighed: Counter[str] = Counter()  # windows without masks, by the source

    def __iter__(self) -> Iterator[BatchT_co]:
        """Batches from the position on."""
        for packet in self._packets():
            if packet.failure is not None:
                raise UserError(packet.failure)
            self._note(packet.damage)
            self._position += self._share.joint
            yield self._unpack(packet.content)

    def state_dict(self) -> dict[str, Any]:
        """How many windows all ranks together have taken, and what is counted."""
        return {"windows": self._position, "of": self._windows.identity()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved position; nothing is read until the next batch is wanted.

        Raises:
            UserError: it is a position in other data, or no position that this version knows.
        """
        if not {"windows", "of"} <= state_dict.keys():
            raise UserError(
                f"the saved data position holds {', '.join(map(str, state_dict))}, expected windows and of: it was "
                "written by another version; begin anew without the checkpoint"
            )
        if difference := change(state_dict["of"], self._windows.identity()):
            raise UserError(
                f"the saved data position belongs to other data: {difference}; "
                "restore that, or begin anew without the checkpoint"
            )
        self._position = state_dict["windows"]

    def _packets(self) -> Iterator[Packet]:
        packets = Packets(self._windows, self._share, self._position, self._pack)
        if not self._num_workers:
            yield from packets
            return
        loader = DataLoader(
            packets,
            batch_size=None,  # a loading process makes whole batches
            num_workers=self._num_workers,
            generator=torch.Generator().manual_seed(0),  # leaves torch's global generator alone
        )
        try:
            yield from loader
        except RuntimeError as error:
            if (death := worker_death(error)) is not None:
                raise death from error
            raise

    def _note(self, damage: Sequence[Damage]) -> None:
        for each in damage:
            if not each.is_replaced:
                self._note_unweighed(each)
                continue
            if each.what not in self.replaced:
                log.warning("%s; other windows stand in for what cannot be read", each.reason)
            self.replaced[each.what] += 1

    def _note_unweighed(self, damage: Damage) -> None:
        if not self.unweighed:
            log.warning("%s; %s", damage.reason, UNWEIGHED)
        self.unweighed[damage.what] += 1


def worker_death(error: BaseException) -> UserError | None:
    """What to tell of an error that says that a loading process has died; None for any other error.

    torch raises it wherever the trainer's process happens to be.
    """
    text = " ".join(str(error).split())
    if not isinstance(error, RuntimeError) or "DataLoader worker (pid" not in text:
        return None
    return UserError(
        f"a loading process died ({text}); if memory was short, lower train.cache_gb or train.num_workers, "
        "and if it dies again, set train.num_workers=0 and check the shards"
    )
