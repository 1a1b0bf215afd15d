"""Shots of shards as episodes: the mp4 of a shot as it is, no state, no robot, one task.

Episodes of the train split come first, so that a split is a range of episodes.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from genie_lite.data.shards.shards import Sample, ShardSet
from genie_lite.latents.formats.episodes import Episode, Episodes, LeftOut
from genie_lite.latents.formats.names import fault_of_name, fault_of_split

CAMERA = "observation.images.video"
UNKNOWN_TASK = "unlabelled video"
TRAIN = "train"


def episodes_of_shards(shards: ShardSet) -> Episodes:
    """Every shot of the shards; one whose key or split leads elsewhere is left out."""
    height, width = shards.frame_hw
    return Episodes(
        place=shards.place,
        rate_hz=shards.rate_hz,
        robot_type=None,
        features={CAMERA: video_feature(height, width, shards.rate_hz)},
        tasks=(UNKNOWN_TASK,),
        num=sum(shard.samples for shard in shards.shards),
        frames=sum(shard.frames for shard in shards.shards),
        names=frozenset(),
        modality=None,
        fingerprint=shards.fingerprint,
        read=lambda: _episodes(shards),
    )


def video_feature(height: int, width: int, rate_hz: float) -> dict[str, Any]:
    """LeRobot's description of a camera."""
    return {
        "dtype": "video",
        "shape": [height, width, 3],
        "names": ["height", "width", "channels"],
        "info": {
            "video.height": height,
            "video.width": width,
            "video.fps": int(rate_hz) if rate_hz.is_integer() else rate_hz,
            "video.channels": 3,
            "video.is_depth_map": False,
            "has_audio": False,
        },
    }


def _episodes(shards: ShardSet) -> Iterator[Episode | LeftOut]:
    for shard in sorted(shards.shards, key=lambda shard: shard.split != TRAIN):
        for sample in shards.read(shard):
            yield _episode(sample, shard.split)


def _episode(sample: Sample, split: str) -> Episode | LeftOut:
    fault = fault_of_name(sample.key) or fault_of_split(sample.meta["split"], split)
    if fault is not None:
        return LeftOut(sample.meta["source"], fault)
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
