"""The actions of robots' datasets, under the names that ingest gives their videos.

Every dataset calls its first video the same, so ingest tells two of them apart by their folders.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genie_lite.data.labels import Labels, join_labels, read_labels, write_labels
from genie_lite.data.sources import lerobot
from genie_lite.data.sources.find import names_of_episodes
from genie_lite.data.sources.source import Source

LABELS_FILE = "labels.parquet"


def robot_labels(roots: Sequence[Path], sources: Sequence[Source], camera: str | None = None) -> list[Labels]:
    """The labels of each dataset.

    Args:
        roots: LeRobot datasets.
        sources: as they were found, those of the datasets among them.
        camera: whose videos they are.

    Raises:
        UserError: a dataset cannot be read.
    """
    robots = [lerobot.read(root, camera) for root in roots]
    return [lerobot.labels_of(robot).renamed(names_of_episodes(sources, robot)) for robot in robots]


def keep_labels(folder: Path, found: Sequence[Labels]) -> Path:
    """Write labels into a folder of shards, beside those of other sources that are there already.

    Raises:
        UserError: they name other actions than those that are there.
    """
    path = folder / LABELS_FILE
    new = join_labels(found)
    if path.is_file():
        old = read_labels(path)
        stays = ~np.isin(old.sources, np.unique(new.sources))
        new = join_labels([old.select(np.flatnonzero(stays)), new]) if stays.any() else new
    write_labels(
        path,
        new.sources,
        new.frame_index,
        new.action,
        kind=new.kind,
        names=new.names,
        reward=new.reward,
        ended=new.ended,
    )
    return path
