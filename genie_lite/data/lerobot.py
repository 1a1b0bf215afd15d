"""Robots in the LeRobot v2.1 layout: which videos there are, and which actions belong to their frames.

    meta/info.json        paths, frame rate, features    meta/episodes.jsonl   one line per episode
    data/chunk-000/episode_000000.parquet                frame_index, action, one row per frame
    videos/chunk-000/<camera>/episode_000000.mp4         one file per episode and camera

`read` gives the mp4 files to ingest and `read_labels` their actions. A label's source is the path of the
mp4 relative to the root, which is the name that ingest gives it. An episode whose files are missing or do not
fit together is quarantined with a reason; the rest is used.
Source: github.com/huggingface/lerobot, dataset format v2.1 (v3.0 packs many episodes into one file).
"""

import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genie_lite.data.labels import Labels
from genie_lite.data.sandbox import Sandbox
from genie_lite.data.segment import IngestConfig
from genie_lite.errors import UserError

VERSIONS = ("v2.0", "v2.1")


@dataclass(frozen=True)
class Episode:
    """One usable episode.

    Args:
        source: path of its mp4, relative to the root, with forward slashes.
        path: the mp4 itself.
        action: (frames, num_actions) float32, row k belongs to frame k.
    """

    source: str
    path: Path
    action: np.ndarray


@dataclass(frozen=True)
class RobotData:
    """A dataset as read: what can be used, and what cannot with the reason.

    Args:
        episodes: in the order of their index.
        quarantined: (source, reason) of every episode that was left out.
        names: one name per action component.
        rate_hz: frames and actions per second.
        camera: the video feature that was read, such as "observation.images.cam_high".
    """

    episodes: tuple[Episode, ...]
    quarantined: tuple[tuple[str, str], ...]
    names: tuple[str, ...]
    rate_hz: float
    camera: str


def is_lerobot(root: Path) -> bool:
    """Whether a folder looks like a LeRobot dataset of any version."""
    return (root / "meta" / "info.json").is_file()


def read_labels(root: Path, camera: str | None = None) -> Labels:
    """The actions of every usable episode as continuous labels; `camera` as in `read`."""
    data = read(root, camera)
    lengths = [len(episode.action) for episode in data.episodes]
    return Labels(
        sources=np.repeat(np.asarray([episode.source for episode in data.episodes], dtype=str), lengths),
        frame_index=np.concatenate([np.arange(length, dtype=np.int64) for length in lengths]),
        action=np.concatenate([episode.action for episode in data.episodes]),
        kind="continuous",
        names=data.names,
    )


def read(root: Path, camera: str | None = None) -> RobotData:
    """Read a dataset's episodes without decoding a frame; headers of videos are read in a child process.

    Args:
        root: the folder that holds `meta/info.json`.
        camera: a video feature or the end of its name ("cam_high"); None takes the only one, or the first
            with a warning.

    Raises:
        UserError: not a v2.x dataset, no such camera, no usable episode.
    """
    info = _info(root)
    camera = _camera(info, camera, root)
    names = _action_names(info, root)
    good: list[Episode] = []
    bad: list[tuple[str, str]] = []
    with Sandbox(IngestConfig()) as sandbox:
        for index, length in _listed(root):
            source, table = _paths(info, index, camera, root)
            reason_or_action = _read_action(root / table, root / source, length, len(names), sandbox)
            if isinstance(reason_or_action, str):
                bad.append((source, reason_or_action))
            else:
                good.append(Episode(source, root / source, reason_or_action))
    if not good:
        first = f"; the first: {bad[0][0]}: {bad[0][1]}" if bad else ""
        raise UserError(f"{root}: no usable episode among {len(bad)}{first}")
    return RobotData(tuple(good), tuple(bad), names, float(info["fps"]), camera)


def _info(root: Path) -> dict[str, Any]:
    path = root / "meta" / "info.json"
    if not path.is_file():
        raise UserError(f"{path}: missing; expected the root folder of a LeRobot {VERSIONS[-1]} dataset")
    try:
        info = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON: {error}") from error
    version = info.get("codebase_version") if isinstance(info, dict) else None
    if version not in VERSIONS:
        raise UserError(f"{path}: codebase_version is {version!r}, expected one of {', '.join(VERSIONS)}")
    missing = [
        key for key in ("fps", "features", "data_path", "video_path", "chunks_size") if not info.get(key)
    ]
    if missing:
        raise UserError(f"{path}: {', '.join(missing)} missing or empty; a dataset with videos has them")
    return info


def _camera(info: dict[str, Any], wanted: str | None, root: Path) -> str:
    cameras = [name for name, feature in info["features"].items() if feature.get("dtype") == "video"]
    if not cameras:
        raise UserError(
            f"{root}: no feature of dtype 'video' in meta/info.json; expected at least one camera"
        )
    if wanted is None:
        if len(cameras) > 1:
            warnings.warn(
                f"{root}: {len(cameras)} cameras, using {cameras[0]} of {', '.join(cameras)}", stacklevel=3
            )
        return cameras[0]
    matches = [name for name in cameras if name == wanted or name.endswith(f".{wanted}")]
    if len(matches) != 1:
        raise UserError(f"{root}: no single camera is called '{wanted}'; found {', '.join(cameras)}")
    return matches[0]


def _action_names(info: dict[str, Any], root: Path) -> tuple[str, ...]:
    action = info["features"].get("action")
    shape = action.get("shape") if action else None
    if not (isinstance(shape, list) and len(shape) == 1):
        raise UserError(f"{root}: feature 'action' has shape {shape}, expected one dimension such as [7]")
    names = tuple(_flat(action.get("names")))
    return names if len(names) == shape[0] else tuple(f"action_{i}" for i in range(shape[0]))


def _flat(names: Any) -> Iterator[str]:
    """Names come as a list, a list in a list, a mapping group -> list, or not at all."""
    if isinstance(names, str):
        yield names
    elif isinstance(names, dict | list):
        for part in names.values() if isinstance(names, dict) else names:
            yield from _flat(part)


def _listed(root: Path) -> list[tuple[int, int]]:
    """(episode index, number of frames) of every episode that the dataset says it has."""
    path = root / "meta" / "episodes.jsonl"
    if not path.is_file():
        raise UserError(f"{path}: missing; expected one JSON line per episode")
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
        return [(int(line["episode_index"]), int(line["length"])) for line in lines]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: expected lines with episode_index and length: {error!r}") from error


def _paths(info: dict[str, Any], index: int, camera: str, root: Path) -> tuple[str, str]:
    values = {"episode_chunk": index // int(info["chunks_size"]), "episode_index": index, "video_key": camera}
    try:
        video, data = (Path(info[key].format(**values)) for key in ("video_path", "data_path"))
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise UserError(
            f"{root}/meta/info.json: video_path or data_path has an unknown field: {error!r}"
        ) from error
    if any(path.is_absolute() or ".." in path.parts for path in (video, data)):
        raise UserError(f"{root}/meta/info.json: video_path and data_path must stay inside the dataset")
    return video.as_posix(), data.as_posix()


def _read_action(table: Path, video: Path, length: int, width: int, sandbox: Sandbox) -> np.ndarray | str:
    """The actions of one episode, or why it cannot be used."""
    if not video.is_file():
        return "the video file is missing"
    if not table.is_file():
        return "the data file is missing"
    try:
        rows = pq.read_table(table, columns=["frame_index", "action"])
    except (pa.ArrowException, OSError) as error:
        return f"unreadable: {' '.join(str(error).split())}"
    header = sandbox.read_header(video)
    if header.fault is not None:
        return f"unreadable: {header.fault}"
    num_frames = header.figures["num_frames"]
    if len(rows) != length:
        return f"{len(rows)} rows in the data file, meta/episodes.jsonl says {length}"
    if num_frames not in (None, length):
        return f"{num_frames} frames in the video, {length} rows in the data file"
    if not np.array_equal(rows["frame_index"].to_numpy(), np.arange(length)):
        return "frame_index does not count 0, 1, 2, ..."
    flat = rows["action"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    if len(flat) != length * width:
        return f"{len(flat)} action numbers, expected {length} x {width}"
    if not np.isfinite(flat).all():
        return "an action is infinite or missing"
    return flat.astype(np.float32).reshape(length, width)
