"""Episodes as the writers see them, whether they come from robots or are shots of shards.

`read` gives every episode of a source in order, or why one cannot be used. Nothing here knows of latents, or of any
layout that is written.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from genie_lite.data.video.place import Place

Clip = Place | bytes  # a video somewhere, or in memory
Stats = dict[str, Any]  # min, max, mean, std, count, q01, ... of one feature, as nested lists
COUNTERS = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
"""Features that every dataset of LeRobot has: scalars that are made anew, for they must be contiguous."""


@dataclass(frozen=True)
class Episode:
    """One episode.

    Args:
        name: what it is called where it comes from.
        split: train or test.
        names: by camera, the name of its video in an ingest of the dataset alone; empty for a shot.
        key: of the shot in its shards, None for a robot's.
        table: its columns, those of `COUNTERS` left out, a row per frame.
        frames: (rows,) int64, native index of each row's frame in its video.
        task_index: (rows,) int64, into the tasks of the source.
        clips: its video by camera.
        stats: what is known of its pictures, by camera.
    """

    name: str
    split: str
    names: Mapping[str, str]
    key: str | None
    table: pa.Table
    frames: np.ndarray
    task_index: np.ndarray
    clips: Mapping[str, Clip]
    stats: Mapping[str, Stats] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.frames)


@dataclass(frozen=True)
class LeftOut:
    """An episode that cannot be used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Episodes:
    """All episodes of one source.

    Args:
        place: folder or URL, as it is shown.
        rate_hz: frames per second.
        robot_type: None for video of whatever.
        features: LeRobot's description of each column and camera, those of `COUNTERS` left out.
        tasks: what is done, by task_index.
        num: of episodes, those that are left out among them.
        frames: of all of them, about.
        names: every name that a video may have in latents, see `Episode.names`; empty for shots.
        modality: GR00T's `modality.json` of the source, if it has one.
        fingerprint: changes with the source.
        read: gives them in order.
        title: what they are called in what is written; None for the name of the folder.
    """

    place: str
    rate_hz: float
    robot_type: str | None
    features: dict[str, dict[str, Any]]
    tasks: tuple[str, ...]
    num: int
    frames: int
    names: frozenset[str]
    modality: dict[str, Any] | None
    fingerprint: str
    read: Callable[[], Iterator[Episode | LeftOut]]
    title: str | None = None

    @property
    def name(self) -> str:
        """The title, or the last folder of the place: what is published says nothing of the machine it was made on."""
        return self.title or self.place.rstrip("/").rpartition("/")[2]

    @property
    def cameras(self) -> tuple[str, ...]:
        """Features that are video files."""
        return tuple(name for name, feature in self.features.items() if feature["dtype"] == "video")
