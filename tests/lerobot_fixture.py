"""A tiny robot dataset in the layouts of LeRobot v2.1 and v3.0, written by the tests themselves."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genie_lite.data.video.codec import encode_mp4

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
        place = place_of_square(number, num_frames)
        action = np.concatenate([place, place], axis=1).astype(np.float32)
        _write(root / f"data/chunk-000/episode_{number:06d}.parquet", _table(action, number, rate_hz))
        for camera in cameras:
            source = f"videos/chunk-000/{camera}/episode_{number:06d}.mp4"
            (root / source).parent.mkdir(parents=True, exist_ok=True)
            (root / source).write_bytes(encode_mp4(_frames(place, size_px), float(rate_hz)))
            actions[source] = action
        lines.append({"episode_index": number, "tasks": ["move the square"], "length": num_frames})
    (root / "meta/episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (root / "meta/info.json").write_text(
        json.dumps(_info(num_episodes, num_episodes * num_frames, size_px, rate_hz, cameras))
    )
    return actions


def write_lerobot_v3(
    root: Path,
    lengths: Sequence[int] = (12, 9, 15, 12),
    size_px: int = 32,
    rate_hz: int = 10,
    cameras: tuple[str, ...] = (CAMERA,),
    per_video: int = 3,
    per_table: int = 2,
) -> dict[str, np.ndarray]:
    """The same robot in the layout of v3.0; returns actions by source.

    Args:
        root: folder to write.
        lengths: frames of each episode.
        size_px, rate_hz, cameras: as in `write_lerobot`.
        per_video, per_table: episodes that share a video of each camera, and a table.
    """
    places = [place_of_square(number, length) for number, length in enumerate(lengths)]
    moves = [np.concatenate([place, place], axis=1).astype(np.float32) for place in places]
    starts = np.concatenate([[0], np.cumsum(lengths)]).tolist()
    rows = []
    for number, length in enumerate(lengths):
        begin_s = sum(lengths[number - number % per_video : number]) / rate_hz
        row = {
            "episode_index": number,
            "tasks": ["move the square"],
            "length": length,
            "data/chunk_index": 0,
            "data/file_index": number // per_table,
            "dataset_from_index": starts[number],
            "dataset_to_index": starts[number + 1],
        }
        span_s = (begin_s, begin_s + length / rate_hz)
        rows.append(
            row | {k: v for camera in cameras for k, v in _in_video(camera, number // per_video, span_s)}
        )
    _write(root / "meta/episodes/chunk-000/file-000.parquet", pa.Table.from_pylist(rows))
    for file, first in enumerate(range(0, len(lengths), per_table)):
        tables = [_table(moves[k], k, rate_hz) for k in range(first, min(first + per_table, len(lengths)))]
        _write(root / f"data/chunk-000/file-{file:03d}.parquet", pa.concat_tables(tables))
    for camera in cameras:
        for file, first in enumerate(range(0, len(lengths), per_video)):
            frames = _frames(np.concatenate(places[first : first + per_video]), size_px)
            path = root / f"videos/{camera}/chunk-000/file-{file:03d}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_mp4(frames, float(rate_hz)))
    info = _info(len(lengths), starts[-1], size_px, rate_hz, cameras) | {
        "codebase_version": "v3.0",
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    return {
        f"videos/{camera}/chunk-000/file-{number // per_video:03d}.mp4#episode_{number:06d}": action
        for camera in cameras
        for number, action in enumerate(moves)
    }


def _in_video(camera: str, file: int, span_s: tuple[float, float]) -> list[tuple[str, float]]:
    """Where an episode lies in the video that it shares: columns of its row."""
    values = {
        "chunk_index": 0,
        "file_index": file,
        "from_timestamp": span_s[0],
        "to_timestamp": span_s[1],
    }
    return [(f"videos/{camera}/{name}", value) for name, value in values.items()]


def square_frames(number: int, length: int, size_px: int = 32) -> np.ndarray:
    """`t h w c`: what the camera saw in one episode."""
    return _frames(place_of_square(number, length), size_px)


def place_of_square(number: int, length: int) -> np.ndarray:
    """`t 2`: across and down, in [-1, 1]."""
    path = np.random.default_rng(number).normal(size=(length, 2)).cumsum(axis=0) * 0.25
    return np.sin(path)


def _frames(place: np.ndarray, size_px: int) -> np.ndarray:
    frames = np.full((len(place), size_px, size_px, 3), 40, dtype=np.uint8)
    side = size_px // 4
    for frame, (across, down) in zip(frames, place, strict=True):
        left, top = (round((each + 1) / 2 * (size_px - side)) for each in (across, down))
        frame[top : top + side, left : left + side] = (250, 200, 30)
    return frames


def _table(action: np.ndarray, number: int, rate_hz: int) -> pa.Table:
    index = np.arange(len(action))
    columns = {
        "action": pa.FixedSizeListArray.from_arrays(pa.array(action.ravel()), action.shape[1]),
        "timestamp": pa.array((index / rate_hz).astype(np.float32)),
        "frame_index": pa.array(index),
        "episode_index": pa.array(np.full(len(action), number)),
    }
    return pa.table(columns)


def _write(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def _info(num_episodes: int, total_frames: int, size_px: int, rate_hz: int, cameras: tuple[str, ...]) -> dict:
    video = {"dtype": "video", "shape": [size_px, size_px, 3], "names": ["height", "width", "channel"]}
    return {
        "codebase_version": "v2.1",
        "robot_type": "square",
        "total_episodes": num_episodes,
        "total_frames": total_frames,
        "chunks_size": 1000,
        "fps": rate_hz,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": {
            "action": {"dtype": "float32", "shape": [len(JOINTS)], "names": [list(JOINTS)]},
            **dict.fromkeys(cameras, video),
        },
    }
