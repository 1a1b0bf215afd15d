"""The data of each stage as Lightning sees it: a stream that resumes exactly, and validation clips."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch.distributed

from genie_lite.data.loader import Clip, LoaderConfig, train_loader, validation_clips
from genie_lite.data.shards import ShardSet
from genie_lite.errors import UserError
from genie_lite.models.lam import load_lam
from genie_lite.models.tokenizer import load_tokenizer
from genie_lite.progress import Bar
from genie_lite.train.config import TrainConfig
from genie_lite.train.framework import L
from genie_lite.train.tokens import TokenClip, TokenLoader, TokenWindows, spread, write_tokens


@runtime_checkable
class StatefulLoader(Protocol):
    """An endless iterable of batches that can tell and take back its position."""

    def __iter__(self) -> Iterator[Any]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


class Stream:
    """As many batches of an endless loader as a run takes, with the position of every process.

    It has a length because Lightning fetches one batch ahead of a loader without, and loses it on
    resume; and it gathers all positions because Lightning stores only those of process 0.
    """

    def __init__(self, loader: StatefulLoader, length: int, rank: int, world_size: int) -> None:
        self._loader, self._length, self._rank, self._world_size = loader, length, rank, world_size

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        return iter(self._loader)

    def state_dict(self) -> dict[str, Any]:
        """The positions of all processes; every process must call it at the same step."""
        own = self._loader.state_dict()
        if self._world_size == 1:
            return {"ranks": [own]}
        states: list[dict[str, Any]] = [{} for _ in range(self._world_size)]
        torch.distributed.all_gather_object(states, own)
        return {"ranks": states}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to this process's position.

        Raises:
            UserError: the checkpoint is of another number of processes.
        """
        found = len(state_dict["ranks"])
        if found != self._world_size:
            raise UserError(
                f"last.ckpt: written by {found} processes, this run has {self._world_size}; "
                f"resume with trainer.devices={found}, or delete the stage's folder to begin again"
            )
        self._loader.load_state_dict(state_dict["ranks"][self._rank])


class ClipData(L.LightningDataModule):
    """Clips of frames, for the tokenizer and the latent action model."""

    def __init__(self, shards: ShardSet, train: TrainConfig, seed: int) -> None:
        super().__init__()
        self._shards, self._train, self._seed = shards, train, seed

    def train_dataloader(self) -> Stream:
        assert self.trainer is not None
        rank, world_size, batch = _share(self.trainer, self._train)
        same = {name: getattr(self._train, name) for name in ("clip_frames", "num_workers", "cache_gb")}
        config = LoaderConfig.model_validate({"batch": batch, **same})
        loader = train_loader(self._shards, config, self._seed, rank=rank, world_size=world_size)
        return Stream(loader, self._train.steps * self._train.accumulate, rank, world_size)

    def validation_clips(self) -> Sequence[Clip]:
        """Clips of held-out sources, always the same."""
        return validation_clips(self._shards, "test", self._train.clip_frames, self._train.val_clips)


class TokenData(L.LightningDataModule):
    """Windows of tokens and codes, for the dynamics model."""

    def __init__(
        self, shards: ShardSet, run: Path, parents: Mapping[str, str], train: TrainConfig, seed: int
    ) -> None:
        """Prepare to make and read `run / "tokens"`; `parents` are the sha256 of tokenizer and lam."""
        super().__init__()
        self._shards, self._run, self._parents, self._train, self._seed = shards, run, parents, train, seed

    def prepare_data(self) -> None:
        """Make what is missing of the tokens; Lightning lets one process do it and the others wait."""
        assert self.trainer is not None
        device = self.trainer.strategy.root_device
        tokenizer = load_tokenizer(self._run / "tokenizer").to(device)
        lam = load_lam(self._run / "lam").to(device)
        bar = Bar("tokens", len(self._shards.shards))
        write_tokens(self._run / "tokens", self._shards, tokenizer, lam, self._parents, bar.show)
        bar.close()

    def train_dataloader(self) -> Stream:
        assert self.trainer is not None
        rank, world_size, batch = _share(self.trainer, self._train)
        loader = TokenLoader(self._windows("train"), batch, self._seed, rank=rank, world_size=world_size)
        return Stream(loader, self._train.steps * self._train.accumulate, rank, world_size)

    def validation_clips(self) -> Sequence[TokenClip]:
        """Windows of held-out sources, always the same."""
        windows = self._windows("test")
        return [windows.read([window]) for window in spread(len(windows), self._train.val_clips)]

    def _windows(self, split: str) -> TokenWindows:
        return TokenWindows(self._run / "tokens", self._shards, self._parents, split, self._train.clip_frames)


def _share(trainer: L.Trainer, train: TrainConfig) -> tuple[int, int, int]:
    """Rank, number of processes, and clips per process and forward pass."""
    parts = trainer.world_size * train.accumulate
    if train.batch % parts:
        raise UserError(
            f"train.batch: {train.batch} clips cannot be shared equally by {trainer.world_size} processes "
            f"and accumulate={train.accumulate}; choose a multiple of {parts}"
        )
    return trainer.global_rank, trainer.world_size, train.batch // parts
