"""The data of each stage as Lightning sees it: a stream that resumes exactly, and validation clips."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from genie_lite.data.loading.clip import Clip, TokenClip
from genie_lite.data.loading.loader import LoaderConfig, train_loader, validation_clips
from genie_lite.data.loading.mixture import Corpora, Corpus
from genie_lite.data.loading.token_windows import token_loader, validation_tokens
from genie_lite.data.loading.weight import EvenWeight, WeightConfig
from genie_lite.data.shards.shards import ShardSet
from genie_lite.data.shards.token_shards import TokenShards
from genie_lite.errors import UserError
from genie_lite.models.lam import load_lam
from genie_lite.models.tokenizer import load_tokenizer
from genie_lite.progress import bar
from genie_lite.train.config import TrainConfig
from genie_lite.train.framework import L
from genie_lite.train.tokens import tokenize


@runtime_checkable
class StatefulLoader(Protocol):
    """An endless iterable of batches that can tell and take back its position."""

    def __iter__(self) -> Iterator[Any]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any], /) -> None: ...


class Stream:
    """As many batches of an endless loader as a run takes.

    It has a length because Lightning fetches one batch ahead of a loader without, and loses it on resume. Lightning
    stores the state of process 0 alone, which is enough: a position counts what all processes have taken together.
    """

    def __init__(self, loader: StatefulLoader, length: int) -> None:
        self._loader, self._length = loader, length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        return iter(self._loader)

    def state_dict(self) -> dict[str, Any]:
        """The position, the same in every process."""
        return self._loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to a position, saved by however many processes.

        Raises:
            UserError: it is one in other data.
        """
        try:
            self._loader.load_state_dict(state_dict)
        except UserError as error:
            raise UserError(f"last.ckpt: {error}") from error


class ClipData(L.LightningDataModule):
    """Clips of frames, for the tokenizer and the latent action model."""

    def __init__(
        self,
        shards: ShardSet | Corpora[ShardSet],
        train: TrainConfig,
        seed: int,
        *,
        pair_s: tuple[float, float] | None = None,
        weight: WeightConfig | None = None,
        strict: bool = False,
    ) -> None:
        """Prepare to read; nothing is read yet.

        Args:
            shards: of video, all of one rate unless `pair_s` is given.
            train: of the stage.
            seed: of the order.
            pair_s: least and most seconds from one frame of a clip to the next; None: frames that are adjacent.
            weight: how much each pixel counts; None: all the same.
            strict: stop where something cannot be read any more.

        Raises:
            UserError: corpora of different rates, without a range of seconds.
        """
        super().__init__()
        if pair_s is None:
            Corpora.of(shards).expect_one_rate()
        self._shards, self._train, self._seed, self._strict = shards, train, seed, strict
        self._pair_s, self._weight = pair_s, weight or EvenWeight()

    def train_dataloader(self) -> Stream:
        assert self.trainer is not None
        rank, world_size, batch = _share(self.trainer, self._train)
        same = {name: getattr(self._train, name) for name in ("clip_frames", "num_workers", "cache_gb")}
        own = {"batch": batch, "strict": self._strict, "pair_s": self._pair_s, "weight": self._weight}
        config = LoaderConfig.model_validate(own | same)
        loader = train_loader(self._shards, config, self._seed, rank=rank, world_size=world_size)
        return Stream(loader, self._train.steps * self._train.accumulate)

    def validation_clips(self) -> Sequence[Clip]:
        """Clips of held-out sources, always the same."""
        return validation_clips(
            self._shards,
            "test",
            self._train.clip_frames,
            self._train.val_clips,
            pair_s=self._pair_s,
            weight=self._weight,
        )


class TokenData(L.LightningDataModule):
    """Windows of tokens and codes, for the dynamics model: of video, tokenised first, or of ready token shards."""

    def __init__(
        self,
        shards: ShardSet | TokenShards | Corpora[ShardSet] | Corpora[TokenShards],
        run: Path,
        parents: Mapping[str, str],
        train: TrainConfig,
        seed: int,
        *,
        strict: bool = False,
    ) -> None:
        """Prepare to read token shards; those of video are kept in `run / "tokens"`.

        Args:
            shards: of video or of tokens.
            run: where the tokenizer and the latent action model are.
            parents: the sha256 of their weights.
            train: of the stage.
            seed: of the order.
            strict: stop where something cannot be read any more.

        Raises:
            UserError: ready tokens that are not those of the parents, or corpora of different rates.
        """
        super().__init__()
        self.prepare_data_per_node = False  # all nodes share the run's folder: one process writes into it
        self._run, self._parents, self._train, self._seed = run, parents, train, seed
        self._strict = strict
        self._corpora: Corpora[ShardSet | TokenShards] = Corpora.of(shards)
        self._corpora.expect_one_rate()
        self._tokens: Corpora[TokenShards] | None = None
        for corpus in self._corpora.parts:
            if isinstance(corpus.shards, TokenShards):
                corpus.shards.expect(parents, run)

    def prepare_data(self) -> None:
        """Make what is missing of the run's own tokens; Lightning lets one process do it, all others wait."""
        videos = [
            (corpus.shards, folder)
            for corpus, folder in zip(self._corpora.parts, self._folders(), strict=True)
            if isinstance(corpus.shards, ShardSet)
        ]
        if not videos:
            return
        assert self.trainer is not None
        device = self.trainer.strategy.root_device
        tokenizer = load_tokenizer(self._run / "tokenizer").to(device)
        lam = load_lam(self._run / "lam").to(device)
        for shards, folder in videos:
            with bar("tokens") as show:
                tokenize(shards, tokenizer, lam, folder, self._parents, show)

    def train_dataloader(self) -> Stream:
        assert self.trainer is not None
        rank, world_size, batch = _share(self.trainer, self._train)
        loader = token_loader(
            self.opened(),
            self._train.clip_frames,
            batch,
            self._seed,
            rank=rank,
            world_size=world_size,
            num_workers=self._train.num_workers,
            strict=self._strict,
        )
        return Stream(loader, self._train.steps * self._train.accumulate)

    def validation_clips(self) -> Sequence[TokenClip]:
        """Windows of held-out sources, always the same."""
        return validation_tokens(self.opened(), self._train.clip_frames, self._train.val_clips)

    def opened(self) -> Corpora[TokenShards]:
        """The token shards of every corpus, once they are made."""
        if self._tokens is None:
            parts: list[Corpus[TokenShards]] = []
            for corpus, folder in zip(self._corpora.parts, self._folders(), strict=True):
                shards = corpus.shards
                if isinstance(shards, ShardSet):
                    shards = TokenShards.open(folder, self._parents, run=self._run, strict=self._strict)
                parts.append(Corpus(shards, corpus.weight))
            self._tokens = Corpora(tuple(parts))
        return self._tokens

    def _folders(self) -> list[Path]:
        """Where the run keeps the tokens of each corpus, if they are its own."""
        own, num = self._run / "tokens", len(self._corpora.parts)
        return [own] if num == 1 else [own / f"{number:03d}" for number in range(num)]


def _share(trainer: L.Trainer, train: TrainConfig) -> tuple[int, int, int]:
    """Rank, number of processes, and clips per process and forward pass."""
    parts = trainer.world_size * train.accumulate
    if train.batch % parts:
        raise UserError(
            f"train.batch: {train.batch} clips cannot be shared equally by {trainer.world_size} processes "
            f"and accumulate={train.accumulate}; choose a multiple of {parts}"
        )
    return trainer.global_rank, trainer.world_size, train.batch // parts
