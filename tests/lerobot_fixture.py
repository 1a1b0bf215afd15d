"""A tiny robot dataset in the LeRobot v2.1 layout, written by the tests themselves."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genie_lite.data.video import encode_mp4

JOINTS = ("kLeftShoulderPitch", "kRightElbow", "kLeftHandIndex", "kRightHandThumbBend")
CAMERA = "observation.images.cam_high"


def write_lerobot(
    root: Path,
    num_episodes: int = 3,
    num_frames: int = 12,
    size_px: int = 32,
    rate_hz: int = 10,
    cameras: tuple[str, ...] = (CAMERA,),
) -> dict[str, np.ndarray]:
    """Write a dataset in which two joints are where the bright square is; returns actions by source.

    The square's place is the left arm's (across) and the right arm's (down) angle in [-1, 1], and the hands
    repeat the arms, so a decoder of motion or of pictures has something to find.
    """
    (root / "meta").mkdir(parents=True)
    actions = {}
    lines = []
    for number in range(num_episodes):
        path = np.random.default_rng(number).normal(size=(num_frames, 2)).cumsum(axis=0) * 0.25
        place = np.sin(path)
        action = np.concatenate([place, place], axis=1).astype(np.float32)
        _write_table(root / f"data/chunk-000/episode_{number:06d}.parquet", action, number, rate_hz)
        for camera in cameras:
            source = f"videos/chunk-000/{camera}/episode_{number:06d}.mp4"
            (root / source).parent.mkdir(parents=True, exist_ok=True)
            (root / source).write_bytes(encode_mp4(_frames(place, size_px), float(rate_hz)))
            actions[source] = action
        lines.append({"episode_index": number, "tasks": ["move the square"], "length": num_frames})
    (root / "meta/episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (root / "meta/info.json").write_text(
        json.dumps(_info(num_episodes, num_frames, size_px, rate_hz, cameras))
    )
    return actions


def _frames(place: np.ndarray, size_px: int) -> np.ndarray:
    frames = np.full((len(place), size_px, size_px, 3), 40, dtype=np.uint8)
    side = size_px // 4
    for frame, (across, down) in zip(frames, place, strict=True):
        left, top = (round((each + 1) / 2 * (size_px - side)) for each in (across, down))
        frame[top : top + side, left : left + side] = (250, 200, 30)
    return frames


def _write_table(path: Path, action: np.ndarray, number: int, rate_hz: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    index = np.arange(len(action))
    columns = {
        "action": pa.FixedSizeListArray.from_arrays(pa.array(action.ravel()), action.shape[1]),
        "timestamp": pa.array((index / rate_hz).astype(np.float32)),
        "frame_index": pa.array(index),
        "episode_index": pa.array(np.full(len(action), number)),
    }
    pq.write_table(pa.table(columns), path)


def _info(num_episodes: int, num_frames: int, size_px: int, rate_hz: int, cameras: tuple[str, ...]) -> dict:
    video = {"dtype": "video", "shape": [size_px, size_px, 3], "names": ["height", "width", "channel"]}
    return {
        "codebase_version": "v2.1",
        "robot_type": "square",
        "total_episodes": num_episodes,
        "total_frames": num_episodes * num_frames,
        "chunks_size": 1000,
        "fps": rate_hz,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": {
            "action": {"dtype": "float32", "shape": [len(JOINTS)], "names": [list(JOINTS)]},
            **dict.fromkeys(cameras, video),
        },
    }
