"""Few labelled windows of token shards, kept in memory, from which every step of the dynamics model draws some.

    token shards + labels ──gather──▶ LabelledTokens ──draw(step)──▶ tokens, codes, known actions

What a sample says of itself in a token shard (its source, and which frame of it each row is) is all that labels are
joined by, so no video is opened. Row k of `actions` is the choice at frame k, which led to frame k + 1, and UNKNOWN
where no label within the budget says it. The budget is drawn as for the latent action model (`label_shots.py`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import torch
from jaxtyping import Int, Integer
from torch import Tensor

from genie_lite.data.labels import Labels
from genie_lite.data.loading.mixture import Corpora
from genie_lite.data.loading.token_windows import spread
from genie_lite.data.shards.token_shards import TokenShards
from genie_lite.errors import UserError
from genie_lite.models.condition import UNKNOWN
from genie_lite.train.config import LabelsConfig
from genie_lite.train.label_shots import transitions_of

Share = tuple[
    int, int
]  # (rank, number of processes): of a joint draw, every so-manieth window from `rank` on


@dataclass(frozen=True)
class ActionClip:
    """A batch of windows whose actions are known in part. Row k of `codes` and `actions` is of frame k -> k + 1."""

    tokens: Int[Tensor, "b t n"]
    codes: Int[Tensor, "b k"]
    actions: Int[Tensor, "b k"]

    def to(self, device: torch.device | str) -> "ActionClip":
        """The same on a device."""
        return ActionClip(self.tokens.to(device), self.codes.to(device), self.actions.to(device))


@dataclass(frozen=True)
class LabelledSample:
    """A sample of token shards. tokens: `t n`. codes, actions: `t`; the last row of neither is ever read."""

    tokens: Integer[np.ndarray, "t n"]
    codes: Integer[np.ndarray, " t"]
    actions: Integer[np.ndarray, " t"]

    def cut(self, start: int, num: int) -> "LabelledSample":
        """So many frames of it."""
        rows = slice(start, start + num)
        return LabelledSample(self.tokens[rows], self.codes[rows], self.actions[rows])


class LabelledTokens:
    """Windows around labelled transitions; `draw` is a function of its generator alone."""

    def __init__(self, samples: Sequence[LabelledSample], clip_frames: int, batch: int) -> None:
        """Keep samples in memory.

        Args:
            samples: each of at least `clip_frames` frames.
            clip_frames: frames of a window.
            batch: windows of a joint draw.
        """
        self._samples, self._clip_frames, self._batch = samples, clip_frames, batch
        self._labelled = [
            (number, int(frame))
            for number, sample in enumerate(samples)
            for frame in np.flatnonzero(sample.actions[:-1] != UNKNOWN)
        ]

    @classmethod
    def gather(
        cls,
        tokens: Corpora[TokenShards],
        labels: Labels,
        config: LabelsConfig,
        clip_frames: int,
        batch: int,
        seed: int,
    ) -> "LabelledTokens":
        """Draw the budget from the training split.

        Raises:
            UserError: the labels fit no transition that a window holds.
        """
        found = list(_samples(tokens, labels, "train"))
        usable = labels.select(_rows(found))
        if not len(usable):
            raise UserError(
                f"{tokens.place}: no transition of the training split has a label. Label sources are called like "
                f"{labels.sources[:1].tolist()}: each must be the video's path below the ingested folder, and the "
                "video ingested at its own rate"
            )
        if config.episodes is not None:
            budget = usable.budget_episodes(config.episodes, seed, "dynamics.labels.episodes")
        else:
            budget = usable.budget(config.budget, seed, "dynamics.labels.budget")
        samples = [each.within(budget) for each in found if len(each.tokens) >= clip_frames]
        windows = cls([each for each in samples if _is_labelled(each)], clip_frames, batch)
        if not len(windows):
            raise UserError(
                f"{tokens.place}: no labelled shot has {clip_frames} frames; lower dynamics.train.clip_frames, or "
                "raise dynamics.labels.budget"
            )
        return windows

    @classmethod
    def held_out(cls, tokens: Corpora[TokenShards], labels: Labels, clip_frames: int) -> "LabelledTokens":
        """All labelled windows of the test split, to measure by; there may be none."""
        found = [each for each in _samples(tokens, labels, "test") if len(each.tokens) >= clip_frames]
        samples = [each.within(labels) for each in found]
        return cls([each for each in samples if _is_labelled(each)], clip_frames, 1)

    def __len__(self) -> int:
        """Labelled transitions."""
        return len(self._labelled)

    def draw(self, generator: torch.Generator, share: Share = (0, 1)) -> ActionClip:
        """One process's part of the windows of a step.

        Args:
            generator: the only source of randomness; the same on every process.
            share: which part it is, of how many.

        Raises:
            UserError: the windows cannot be shared equally.
        """
        rank, world_size = share
        if self._batch % world_size:
            raise UserError(
                f"dynamics.labels.batch: {self._batch} windows cannot be shared equally by {world_size} processes"
            )
        chance = torch.rand(self._batch, 2, generator=generator, dtype=torch.float64).numpy()
        return self._pack([self._around(*row) for row in chance[rank::world_size]])

    def spread(self, limit: int) -> list[ActionClip]:
        """At most `limit` windows, always the same ones, one per clip: around evenly spread transitions."""
        places = spread(len(self), limit) if len(self) else []
        return [self._pack([self._around((place + 0.5) / len(self), 0.5)]) for place in places]

    def _around(self, which: float, where: float) -> tuple[int, int]:
        """A sample and the first frame of a window with a labelled transition, from two numbers in [0, 1)."""
        number, frame = self._labelled[int(which * len(self))]
        first = max(0, frame + 2 - self._clip_frames)
        last = min(frame, len(self._samples[number].tokens) - self._clip_frames)
        return number, first + int(where * (last - first + 1))

    def _pack(self, places: Sequence[tuple[int, int]]) -> ActionClip:
        parts = [self._samples[number].cut(start, self._clip_frames) for number, start in places]
        columns = ([getattr(part, name) for part in parts] for name in ("tokens", "codes", "actions"))
        tokens, codes, actions = (torch.from_numpy(np.stack(each).astype(np.int64)) for each in columns)
        return ActionClip(tokens, codes[:, :-1], actions[:, :-1])


@dataclass(frozen=True)
class ShownChoices:
    """What a dynamics model that is led by true actions is shown of them.

    names: of the actions. train: the labelled windows of the training split, within the budget. held_out: at most so
    many of the test split. Both can be asked once there are tokens.
    """

    names: tuple[str, ...]
    train: Callable[[], LabelledTokens]
    held_out: Callable[[int], Sequence[ActionClip]]


@dataclass(frozen=True)
class _Sample:
    """A sample of which transitions may have labels. rows: of all labels there are, -1 where there is none."""

    tokens: np.ndarray
    codes: np.ndarray
    source: np.ndarray
    native: np.ndarray
    rows: np.ndarray

    def within(self, budget: Labels) -> LabelledSample:
        """With the labels of a budget."""
        rows = np.where(self.rows >= 0, budget.locate(self.source, self.native), -1)
        actions = np.where(rows >= 0, budget.action[np.maximum(rows, 0)], UNKNOWN)
        return LabelledSample(self.tokens, self.codes, actions.astype(np.int64))


def _samples(tokens: Corpora[TokenShards], labels: Labels, split: str) -> Iterator[_Sample]:
    """The samples of a split of which a transition has a label, one shard in memory at a time."""
    for corpus in tokens.parts:
        shards = corpus.shards
        for shard in shards.of(split):
            for record in shards.files.records(shard):
                native = np.asarray(record.meta["source_frames"], dtype=np.int64)
                source = np.full(len(native), record.meta["source"])
                exists = transitions_of(native, 1, is_discrete=True)
                rows = np.where(exists, labels.locate(source, native), -1)
                if (rows >= 0).any():
                    found, codes = (_array(record.members[name]) for name in ("tokens.npy", "codes.npy"))
                    yield _Sample(found, codes, source, native, rows)


def _rows(samples: Sequence[_Sample]) -> np.ndarray:
    """Rows of the labels that transitions have, each once, in order."""
    rows = np.concatenate([np.empty(0, np.int64), *(each.rows for each in samples)])
    return np.unique(rows[rows >= 0])


def _is_labelled(sample: LabelledSample) -> bool:
    return bool((sample.actions[:-1] != UNKNOWN).any())


def _array(data: bytes) -> np.ndarray:
    return np.load(BytesIO(data), allow_pickle=False)
