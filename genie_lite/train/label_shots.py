"""Which transitions have labels that training may look at, and the shots that they lie in.

Only the training split is looked at, and only labels within the budget are kept. Every robot has the whole budget to
itself: the same labels as `adapt`, which is about one robot, takes with the same seed and budget. The action of a
transition k -> k + n is the label of frame k. A game's choice at frame k does not say what else was chosen before
frame k + n, so choices count only where a transition is one frame of the video.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int, UInt8

from genie_lite.data.labels import Labels
from genie_lite.data.loading.mixture import Corpora
from genie_lite.data.loading.windows import LoaderConfig
from genie_lite.data.shards.index import Shard
from genie_lite.data.shards.shards import Sample, ShardDamage, ShardSet
from genie_lite.errors import UserError
from genie_lite.train.config import LabelsConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledShot:
    """A shot of which some frames are labelled.

    pixels: all frames. robot: whose. native: index of each in its video. action: one-hot, or in its own units; zero
    where not known. known: within the budget. strides: how far frames of a clip may be apart.
    """

    pixels: UInt8[np.ndarray, "t h w c"]
    robot: int
    native: Int[np.ndarray, " t"]
    action: Float32[np.ndarray, "t a"]
    known: Bool[np.ndarray, " t"]
    strides: tuple[int, ...]
    is_discrete: bool

    def counts(self, stride: int) -> Bool[np.ndarray, " t"]:
        """Of each frame k, whether the action of k -> k + stride is known."""
        return self.known & self._exists(stride)

    def strides_at(self, frame: int) -> list[int]:
        """Those by which the action of a frame is known."""
        return [stride for stride in self.strides if self.counts(stride)[frame]]

    def _exists(self, stride: int) -> np.ndarray:
        return transitions_of(self.native, stride, is_discrete=self.is_discrete)


def read_shots(
    corpora: Corpora[ShardSet],
    robots: Sequence[tuple[str, Labels]],
    pair: LoaderConfig,
    config: LabelsConfig,
    seed: int,
    *,
    strict: bool,
) -> list[LabelledShot]:
    """Draw the budget of every robot and decode the shots that it lies in.

    Args:
        corpora: the video.
        robots: names and labels.
        pair: how far the frames of a clip are apart.
        config: the budget.
        seed: of the order in which episodes enter it.
        strict: stop at a shard that cannot be read, instead of going on without it.

    Raises:
        UserError: a robot's labels fit no transition of the training split, or fit two corpora at once; a shot with
            labels that cannot be decoded, or has other frames than it says.
    """
    places = list(_places(corpora, pair, strict=strict))
    wanted: list[_Wanted] = []
    for number, (name, labels) in enumerate(robots):
        budget = _within_budget(name, labels, places, config, seed)
        rows = [(place, budget.locate(_sources(place), place.native)) for place in places]
        wanted += [_Wanted(place, number, budget, row) for place, row in rows if (row >= 0).any()]
    return list(_decoded(wanted))


@dataclass(frozen=True)
class _Place:
    """A shot that may have labels, not decoded. corpus: its number. native: of each frame."""

    shards: ShardSet
    shard: Shard
    sample: int
    corpus: int
    source: str
    native: np.ndarray
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _Wanted:
    """A shot that has labels of a robot. row: of the budget, of each frame; -1 where there is none."""

    place: _Place
    robot: int
    budget: Labels
    row: np.ndarray


def robots_of(labels: Sequence[Labels] | Mapping[str, Labels]) -> dict[str, Labels]:
    """Labels by the name of the robot that they are of, which its head has in `heads.json`.

    Every set of labels is another robot's, even where its actions have the same names: two arms of one make may be
    mounted or driven differently. Several files about one robot are one set after `join_labels`. Without names,
    robots are called robot-0, robot-1, in the order in which they come.
    """
    return (
        dict(labels)
        if isinstance(labels, Mapping)
        else {f"robot-{number}": each for number, each in enumerate(labels)}
    )


def transitions_of(
    native: Int[np.ndarray, " t"], stride: int, *, is_discrete: bool
) -> Bool[np.ndarray, " t"]:
    """Of each frame k of a shot, whether k -> k + stride is a transition whose action frame k can tell."""
    exists = np.zeros(len(native), dtype=bool)
    span = native[stride:] - native[:-stride]
    exists[: len(span)] = (span == 1) if is_discrete else True
    return exists


def _places(corpora: Corpora[ShardSet], pair: LoaderConfig, *, strict: bool) -> Iterator[_Place]:
    """All shots of the training split that are long enough for a transition."""
    for number, corpus in enumerate(corpora.parts):
        shards = corpus.shards
        strides = tuple(pair.strides(shards.rate_hz))
        for shard in shards.of("train") if strides else ():
            try:
                samples = shards.read(shard)
            except ShardDamage as error:
                if strict:
                    raise
                log.warning("%s; its labels are left out", error)
                continue
            for place, sample in enumerate(samples):
                native = np.asarray(sample.meta["source_frames"], dtype=np.int64)
                if len(native) > strides[0]:
                    yield _Place(shards, shard, place, number, sample.meta["source"], native, strides)


def _sources(place: _Place) -> np.ndarray:
    return np.full(len(place.native), place.source)


def _within_budget(
    name: str, labels: Labels, places: Sequence[_Place], config: LabelsConfig, seed: int
) -> Labels:
    """The labels of one robot that training may look at; each has a budget of its own."""
    corpus_of = np.full(len(labels), -1)
    spans_more = 0
    for place in places:
        exists = transitions_of(place.native, place.strides[0], is_discrete=labels.kind == "discrete")
        row = labels.locate(_sources(place), place.native)
        found = row[(row >= 0) & exists]
        spans_more += int(((row[: -place.strides[0]] >= 0) & ~exists[: -place.strides[0]]).sum())
        if ((corpus_of[found] >= 0) & (corpus_of[found] != place.corpus)).any():
            raise UserError(
                f"labels of {name}: {place.source} is in two corpora, so it is not known which of them the labels "
                "are of; ingest one of them again from a folder above, which makes its name another"
            )
        corpus_of[found] = place.corpus
    usable = labels.select(corpus_of >= 0)
    if not len(usable):
        raise UserError(_why_none(name, labels, places, spans_more))
    if config.episodes is not None:
        return usable.budget_episodes(config.episodes, seed, f"labels of {name}: lam.labels.episodes")
    return usable.budget(config.budget, seed, f"labels of {name}: lam.labels.budget")


def _why_none(name: str, labels: Labels, places: Sequence[_Place], spans_more: int) -> str:
    if not len(labels):
        return f"labels of {name}: there are none; a run leaves those out that adapt.demonstrations does not match"
    if spans_more:
        return (
            f"labels of {name}: {spans_more} labelled transitions span more than one frame of their video; expected "
            "one choice per transition: ingest at the video's own rate, and leave lam.model.pair_s out"
        )
    sources = [str(each) for each in labels.sources[:1]], [place.source for place in places[:1]]
    return (
        f"labels of {name}: no transition of the training split has one. Label source {sources[0]}, video source "
        f"{sources[1]}: both must be the video's path below the ingested folder"
    )


def _decoded(wanted: Sequence[_Wanted]) -> Iterator[LabelledShot]:
    """The shots, one shard in memory at a time."""
    by_shard: dict[tuple[int, str], list[_Wanted]] = {}
    for each in wanted:
        by_shard.setdefault((each.place.corpus, each.place.shard.file), []).append(each)
    for group in by_shard.values():
        samples = group[0].place.shards.read(group[0].place.shard)
        for each in group:
            yield _shot(each, samples[each.place.sample])


def _shot(wanted: _Wanted, sample: Sample) -> LabelledShot:
    budget, known, is_discrete = wanted.budget, wanted.row >= 0, wanted.budget.kind == "discrete"
    given = budget.action[np.maximum(wanted.row, 0)]
    dense = np.eye(budget.num_actions, dtype=np.float32)[given] if is_discrete else given.astype(np.float32)
    return LabelledShot(
        pixels=sample.whole(),
        robot=wanted.robot,
        native=wanted.place.native,
        action=dense * known[:, None],
        known=known,
        strides=wanted.place.strides,
        is_discrete=is_discrete,
    )
