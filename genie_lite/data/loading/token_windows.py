"""Windows of token shards: every epoch is a new permutation of all places where a window fits into a sample."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch

from genie_lite.data.loading.clip import TokenClip
from genie_lite.data.loading.held_out import in_turn, told
from genie_lite.data.loading.loader import Loader
from genie_lite.data.loading.mixture import Corpora, apportion, mix
from genie_lite.data.loading.windows import Careful, Damage, Share
from genie_lite.data.shards.shards import ShardDamage
from genie_lite.data.shards.token_shards import MappedShard, TokenShards
from genie_lite.errors import UserError

MAPPED_SHARDS = 128  # each holds a file open; processes are usually allowed 1024


def token_loader(
    tokens: TokenShards | Corpora[TokenShards],
    clip_frames: int,
    batch: int,
    seed: int,
    *,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
    split: str = "train",
    strict: bool = False,
) -> Loader[TokenClip]:
    """An endless loader of `TokenClip`s, for the rest as `loader.train_loader`.

    A rank takes every `world_size`-th window, as the dynamics model shares out what it draws for the whole batch.

    Raises:
        UserError: no sample of the split is long enough, there are no codes, or corpora of different rates.
    """
    corpora = Corpora.of(tokens)
    corpora.expect_one_rate()
    parts = [TokenWindows(corpus.shards, clip_frames, seed, split, strict=strict) for corpus in corpora.parts]
    share = Share(batch, rank, world_size, interleaved=True)
    return Loader(mix(parts, corpora, seed), share, pack, _as_it_is, num_workers)


class TokenWindow(NamedTuple):
    """One window where it lies: all its tokens in a row, uint16 `t * n`, and its codes, uint16 `t - 1`."""

    tokens: np.ndarray
    codes: np.ndarray
    num_tokens: int


def pack(windows: Sequence[TokenWindow]) -> TokenClip:
    """Read windows into a batch."""
    first = windows[0]
    tokens = np.empty((len(windows), len(first.tokens)), np.int64)
    codes = np.empty((len(windows), len(first.codes)), np.int64)
    for row, window in enumerate(windows):
        tokens[row] = window.tokens
        codes[row] = window.codes
    return TokenClip(
        torch.from_numpy(tokens).unflatten(1, (-1, first.num_tokens)),
        torch.from_numpy(codes),
    )


class TokenWindows:
    """All windows of `clip_frames` consecutive frames that lie within one sample, numbered in order of the shards."""

    def __init__(
        self, tokens: TokenShards, clip_frames: int, seed: int, split: str, *, strict: bool = False
    ) -> None:
        """Prepare a sequence; nothing is read yet.

        Raises:
            UserError: no sample of the split is long enough, or there are no codes.
        """
        self._tokens, self._clip_frames, self._seed, self._split = tokens, clip_frames, seed, split
        self._shards = tokens.of(split)
        self._careful = Careful(tokens.place, strict=strict)
        _expect_codes(tokens)
        rows = [
            (number, index, length - clip_frames + 1)
            for number, shard in enumerate(self._shards)
            for index, length in enumerate(shard.lengths)
            if length >= clip_frames
        ]
        if not rows:
            raise UserError(
                f"{tokens.place}: no shot of split '{split}' has {clip_frames} frames; "
                "lower dynamics.train.clip_frames or ingest longer shots"
            )
        self._shard_of, self._index_of, counts = np.asarray(rows, np.int64).T  # of each sample
        self._ends = np.cumsum(counts)
        self._begins = self._ends - counts
        self._order = lru_cache(maxsize=1)(self._permutation)
        self._broken: dict[int, ShardDamage] = {}
        self._map = lru_cache(maxsize=MAPPED_SHARDS)(self._mapped)

    def __len__(self) -> int:
        """Windows of an epoch, over all ranks."""
        return int(self._ends[-1])

    def identity(self) -> dict[str, Any]:
        return {
            "fingerprint": self._tokens.fingerprint,
            "split": self._split,
            "seed": self._seed,
            "clip_frames": self._clip_frames,
        }

    def read(self, numbers: Sequence[int]) -> list[TokenWindow]:
        found: list[TokenWindow] = []
        for number, where in zip(numbers, self._locate(self._places(numbers)), strict=True):
            try:
                found.append(self._window(*where))
            except ShardDamage:
                found.append(self._careful.first(self._candidates(number), self.at))
        return found

    def take_damage(self) -> list[Damage]:
        return self._careful.take_damage()

    def at(self, place: int) -> TokenWindow:
        """The window of a place, from 0 to the number of windows of an epoch.

        Raises:
            ShardDamage: its shard cannot be read any more.
        """
        (where,) = self._locate(np.asarray([place]))
        return self._window(*where)

    def _places(self, numbers: Sequence[int]) -> np.ndarray:
        """Of each number the place; most often they are all of one epoch."""
        epochs, at = np.divmod(np.asarray(numbers, np.int64), len(self))
        places = np.empty(len(numbers), np.int64)
        for epoch in np.unique(epochs).tolist():
            places[epochs == epoch] = self._order(epoch)[at[epochs == epoch]]
        return places

    def _candidates(self, number: int) -> Iterable[int]:
        """The place of a window, then those of the windows after it in the epoch, from all over the shards."""
        epoch, at = divmod(number, len(self))
        order = self._order(epoch)
        return (int(order[(at + step) % len(self)]) for step in range(len(self)))

    def _permutation(self, epoch: int) -> np.ndarray:
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self))
        return order.astype(np.min_scalar_type(len(self)))

    def _locate(self, places: np.ndarray) -> Iterator[tuple[int, int, int]]:
        """Of each place the shard, the sample in it, and the frame that the window begins at."""
        samples = np.searchsorted(self._ends, places, side="right")
        starts = places - self._begins[samples]
        shards, indices = self._shard_of[samples], self._index_of[samples]
        return zip(shards.tolist(), indices.tolist(), starts.tolist(), strict=True)

    def _window(self, number: int, index: int, start: int) -> TokenWindow:
        shard, width = self._map(number), self._tokens.origin.num_tokens
        tokens = shard.tokens[index] + start * width
        codes = shard.codes[index] + start
        window = TokenWindow(
            shard.words[tokens : tokens + self._clip_frames * width],
            shard.words[codes : codes + self._clip_frames - 1],
            width,
        )
        self._expect_known(number, window)
        return window

    def _expect_known(self, number: int, window: TokenWindow) -> None:
        """An embedding must never be asked for what it does not have; of a window, where it is in memory anyway."""
        for name, found in (("tokenizer", window.tokens), ("lam", window.codes)):
            num = self._tokens.origin.num_codes.get(name)
            if num is not None and len(found) and (most := int(np.maximum.reduce(found))) >= num:
                file, reason = self._shards[number].file, f"holds {most}, its {name} has 0 to {num - 1}"
                message = f"{self._tokens.place}: {file}: cannot be used ({reason}); make them again: "
                raise ShardDamage(message + self._tokens.renewal(), file, reason)

    def _mapped(self, number: int) -> MappedShard:
        if number in self._broken:
            raise self._broken[number]
        try:
            return self._tokens.map(self._shards[number])
        except ShardDamage as error:
            self._broken[number] = error
            raise


def validation_tokens(
    tokens: TokenShards | Corpora[TokenShards], clip_frames: int, limit: int, split: str = "test"
) -> list[TokenClip]:
    """At most `limit` windows, always the same ones, evenly spread over each corpus, one per clip.

    Several corpora give in proportion to their weights, and take turns.

    Raises:
        UserError: no sample of the split is long enough, there are no codes, or corpora of different rates.
    """
    corpora = Corpora.of(tokens)
    corpora.expect_one_rate()
    chosen: list[list[TokenClip]] = []
    for corpus, limited in zip(corpora.parts, apportion(limit, corpora.shares), strict=True):
        windows = TokenWindows(corpus.shards, clip_frames, 0, split)
        clips: list[TokenClip] = []
        for place in spread(len(windows), limited):
            with told():
                clips.append(pack([windows.at(place)]))
        chosen.append(clips)
    return list(in_turn(chosen))


def spread(num: int, limit: int) -> list[int]:
    """At most `limit` of the numbers 0 … num - 1, evenly spread, the same every time."""
    return np.linspace(0, num - 1, min(num, limit)).round().astype(int).tolist()


def _expect_codes(tokens: TokenShards) -> None:
    if "codes.npy" not in tokens.origin.members:
        raise UserError(
            f"{tokens.place}: holds no codes, only tokens; make both with a run that has a latent action model: "
            f"{tokens.renewal()}"
        )


def _as_it_is(clip: TokenClip) -> TokenClip:
    return clip
