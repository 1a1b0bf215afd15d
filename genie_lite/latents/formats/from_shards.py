"""Shots of shards as episodes: the mp4 of a shot as it is, no state, no robot, one task.

Episodes of the train split come first, so that a split is a range of episodes.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from genie_lite.data.shards.shards import Sample, ShardSet
from genie_lite.errors import UserError
from genie_lite.latents.formats.episodes import Episode, Episodes, LeftOut

CAMERA = "observation.images.video"
UNKNOWN_TASK = "unlabelled video"
TRAIN = "train"


def episodes_of_shards(shards: ShardSet) -> Episodes:
    """Every shot of the shards.

    Raises:
        UserError: frames per second that are no whole number, which LeRobot cannot tell.
    """
    rate_hz = shards.rate_hz
    if rate_hz != int(rate_hz):
        raise UserError(
            f"{shards.place}: {rate_hz:g} frames per second, LeRobot knows whole numbers only; ingest again with "
            f"rate_hz={round(rate_hz) or 1}"
        )
    height, width = shards.frame_hw
    return Episodes(
        place=shards.place,
        fps=int(rate_hz),
        robot_type=None,
        features={CAMERA: video_feature(height, width, int(rate_hz))},
        tasks=(UNKNOWN_TASK,),
        num=sum(shard.samples for shard in shards.shards),
        frames=sum(shard.frames for shard in shards.shards),
        names=frozenset(),
        modality=None,
        fingerprint=shards.fingerprint,
        read=lambda: _episodes(shards),
    )


def video_feature(height: int, width: int, fps: int) -> dict[str, Any]:
    """LeRobot's description of a camera."""
    return {
        "dtype": "video",
        "shape": [height, width, 3],
        "names": ["height", "width", "channels"],
        "info": {
            "video.height": height,
            "video.width": width,
            "video.fps": fps,
            "video.channels": 3,
            "video.is_depth_map": False,
            "has_audio": False,
        },
    }


def _episodes(shards: ShardSet) -> Iterator[Episode | LeftOut]:
    for shard in sorted(shards.shards, key=lambda shard: shard.split != TRAIN):
        yield from map(_episode, shards.read(shard))


def _episode(sample: Sample) -> Episode:
    frames = np.asarray(sample.meta["source_frames"], dtype=np.int64)
    return Episode(
        name=sample.meta["source"],
        split=sample.meta["split"],
        names={},
        key=sample.key,
        table=pa.table({}),
        frames=frames,
        task_index=np.zeros(len(frames), dtype=np.int64),
        clips={CAMERA: sample.mp4},
    )
