"""What both versions of LeRobot's layout have in common: every episode with its latents, numbered and described.

Episodes get their number when everything of them has been written, so that one whose video turns out to be broken
leaves no gap.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from genie_lite.data.shards.shards import ShardSet
from genie_lite.data.video.container import BadVideo
from genie_lite.errors import UserError
from genie_lite.latents.formats.columns import ACTION, LABELS, Columns, Way, numbers, only_valid
from genie_lite.latents.formats.episodes import Episode, Episodes, LeftOut, Stats
from genie_lite.latents.formats.from_lerobot import episodes_of_lerobot
from genie_lite.latents.formats.from_shards import episodes_of_shards
from genie_lite.latents.formats.join import Aligned, Join
from genie_lite.latents.formats.rows import Rows
from genie_lite.latents.formats.stats import Totals, describe, describe_clip, is_complete

Source = ShardSet | Path
Progress = Callable[[int, int], None]
Store = Callable[[int, Episode], Any]

MANIFEST = "meta/label_manifest.json"
INFO = "meta/info.json"
EPISODES = "meta/label_episodes.jsonl"
CHUNK = 1000  # files of a folder, as LeRobot has it
WIDE = 32  # π0 and SmolVLA pad actions to so many components
NO_LATENT = "no valid latent action"
MIN_VALID = 0.5  # share of the frames that must have a latent action where it is the action


@dataclass(frozen=True)
class Labelled:
    """One episode as it is written.

    index: its number in the result. first: its first row there. table: all columns. stats: by feature; a feature
    without a valid row is not there. kept: what `store` gave.
    """

    index: int
    first: int
    episode: Episode
    aligned: Aligned
    table: pa.Table
    stats: dict[str, Stats]
    kept: Any


@dataclass
class Gathered:
    """What is known of all of them once they have been written."""

    totals: Totals
    left_out: list[LeftOut] = field(default_factory=list)
    episodes: list[dict[str, Any]] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    frames: int = 0
    valid: int = 0


class Labels:
    """Latents and the episodes that they belong to, opened for one way of writing them.

    Args:
        folder: finished latents.
        source: shards, or the folder of a LeRobot dataset.
        way: see `columns`.
        title: see `registry.write`.

    Raises:
        UserError: one of them cannot be read, or they do not belong together; no whole number of frames per second,
            which is all that LeRobot can tell.
    """

    def __init__(self, folder: Path, source: Source, way: Way, title: str | None = None) -> None:
        self.episodes = open_episodes(source, title)
        self.fps = whole_fps(
            self.episodes.rate_hz, self.episodes.place, is_shards=isinstance(source, ShardSet)
        )
        self.rows = Rows(folder)
        self.join = Join(self.rows, self.episodes)
        mean = self.rows.mean_embedding(self.join.sources)
        self.columns = Columns(way, self.episodes.features, self.rows.width, self.rows.num_tokens, mean)
        self.gathered = Gathered(Totals(self.episodes.frames))
        self._schema: pa.Schema | None = None  # of the first episode, and so of all

    def written(self, store: Store, progress: Progress | None = None) -> Iterator[Labelled]:
        """Every usable episode in order.

        Args:
            store: writes the videos of an episode under its number; a `BadVideo` leaves the episode out.
            progress: called with (episodes done, episodes).
        """
        gathered = self.gathered
        for done, episode in enumerate(self.episodes.read(), start=1):
            labelled = episode if isinstance(episode, LeftOut) else self._labelled(episode, store)
            if isinstance(labelled, LeftOut):
                gathered.left_out.append(labelled)
            else:
                self._gather(labelled)
                yield labelled
            if progress is not None:
                progress(done, self.episodes.num)
        self._expect_enough()

    def completed(self, stats: dict[str, Stats], totals: dict[str, Stats]) -> dict[str, Stats]:
        """Of one episode; where it has no valid row, the mean of all and a count of 0, which changes no total."""
        return {name: stats.get(name) or _none_of(total) for name, total in totals.items()}

    def describe(self) -> dict[str, Any]:
        """For the manifest: what the new columns are and what they were made with."""
        manifest, gathered = self.rows.manifest, self.gathered
        known = ("lam", "rate_hz", "every", "window", "num_codes", "num_tokens", "embedding_width")
        invalid = "the mean of the valid ones" if self.columns.way == "action" else 0.0
        return {
            "source": self.episodes.name,
            "latents": {name: manifest[name] for name in known if name in manifest}
            | {"shards": manifest["shards"].get("fingerprint")},
            "quality": manifest["quality"],
            "code_centres": manifest["code_centres"],
            "columns": {name: spec for name, spec in self.columns.described.items() if self._is_ours(name)},
            "invalid_rows": {"valid": 0, "code": -1, "horizon": 0, "dt": 0.0, "embedding": invalid},
            "renamed": self.columns.names,
            "counts": {
                "episodes": len(gathered.episodes),
                "frames": gathered.frames,
                "valid": gathered.valid,
                "left_out": len(gathered.left_out),
            },
            "left_out": [{"episode": each.name, "reason": each.reason} for each in gathered.left_out],
        }

    def splits(self) -> dict[str, str]:
        """Ranges of episodes; episodes of a split lie together."""
        names = self.gathered.splits
        found = {name: names.index(name) for name in dict.fromkeys(names)}
        return {name: f"{first}:{first + names.count(name)}" for name, first in found.items()}

    def _labelled(self, episode: Episode, store: Store) -> Labelled | LeftOut:
        index, first = len(self.gathered.episodes), self.gathered.frames
        aligned = self.join.of(episode)
        if self.columns.way == "action" and not aligned.valid.any():
            return LeftOut(episode.name, NO_LATENT)
        try:
            table = self._table(episode, aligned, index, first)
            pictures = {
                camera: known
                if is_complete(known := episode.stats.get(camera))
                else describe_clip(clip, len(episode))
                for camera, clip in episode.clips.items()
            }
            kept = store(index, episode)
        except BadVideo as error:
            return LeftOut(episode.name, error.reason)
        except pa.ArrowException as error:
            return LeftOut(
                episode.name, f"columns of other types than before: {' '.join(str(error).split())}"
            )
        self._schema = table.schema
        stats = {name: known for name, known in pictures.items() if known is not None}
        return Labelled(index, first, episode, aligned, table, stats | self._numbers(table, aligned), kept)

    def _table(self, episode: Episode, aligned: Aligned, index: int, first: int) -> pa.Table:
        """All columns of an episode, of the types that those before it have."""
        table = self.columns.table(episode, self.columns.values(aligned), index, first, self.fps)
        return table if self._schema is None else table.cast(self._schema)

    def _numbers(self, table: pa.Table, aligned: Aligned) -> dict[str, Stats]:
        """Statistics of the columns of one episode, which the totals get to know as well."""
        found = {}
        for name in table.column_names:
            values = numbers(table[name])
            if values is None:
                continue
            if only_valid(name) or (name == ACTION and self.columns.way == "action"):
                values = values[aligned.valid]
            stats = describe(values)
            self.gathered.totals.add(name, stats, values)
            if stats is not None:
                found[name] = stats
        return found

    def _gather(self, labelled: Labelled) -> None:
        gathered, episode = self.gathered, labelled.episode
        for camera in episode.clips:
            gathered.totals.add(camera, labelled.stats[camera])
        valid = int(labelled.aligned.valid.sum())
        gathered.frames += len(episode)
        gathered.valid += valid
        gathered.splits.append(episode.split)
        gathered.episodes.append(
            {
                "episode_index": labelled.index,
                "name": episode.name,
                "split": labelled.aligned.split or episode.split,
                "frames": len(episode),
                "valid": valid,
                "latents_of": labelled.aligned.source,
                "camera": labelled.aligned.camera,
            }
        )

    def _expect_enough(self) -> None:
        gathered = self.gathered
        if not gathered.episodes:
            first = gathered.left_out[0]
            raise UserError(
                f"{self.episodes.place}: none of {len(gathered.left_out)} episodes can be used; the first, "
                f"{first.name}: {first.reason}"
            )
        share = gathered.valid / gathered.frames
        told = f"{self.rows.folder}: {gathered.valid} of {gathered.frames} frames have a latent action"
        if self.columns.way == "action" and share < MIN_VALID:
            raise UserError(
                f"{told}, expected half of them or more where it is the action; extract again and leave out --rate"
            )
        if share < MIN_VALID:
            warnings.warn(f"{told}; for one per frame extract again and leave out --rate", stacklevel=2)
        if self.columns.way == "action" and self.rows.width > WIDE:
            warnings.warn(
                f"{self.rows.folder}: the action has {self.rows.width} components; some policies (π0, SmolVLA) take "
                f"{WIDE} at most",
                stacklevel=2,
            )

    def _is_ours(self, name: str) -> bool:
        return name.startswith(f"{LABELS}.") or (name == ACTION and self.columns.way == "action")


def open_episodes(source: Source, title: str | None = None) -> Episodes:
    """The episodes of shards, or of the folder of a LeRobot dataset, under a title of their own if one is given."""
    found = episodes_of_shards(source) if isinstance(source, ShardSet) else episodes_of_lerobot(source)
    return replace(found, title=title)


def whole_fps(rate_hz: float, place: str, *, is_shards: bool) -> int:
    """Frames per second as LeRobot has them.

    Raises:
        UserError: they are no whole number.
    """
    if rate_hz == int(rate_hz):
        return int(rate_hz)
    advice = (
        f"extract from the videos again with --rate {round(rate_hz) or 1}"
        if is_shards
        else "export as webdataset, lapa or lary"
    )
    raise UserError(f"{place}: {rate_hz:g} frames per second, LeRobot knows whole numbers only; {advice}")


def _none_of(total: Stats) -> Stats:
    mean = total["mean"]
    return {name: [0] if name == "count" else np.multiply(mean, name != "std").tolist() for name in total}
