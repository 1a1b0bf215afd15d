"""LeRobot v2.1 with GR00T's `modality.json`, for readers of that version (GR00T, openpi): the action is the latent.

    meta/info.json                                        last: its presence means finished
    meta/episodes.jsonl, tasks.jsonl                      one line each
    meta/episodes_stats.jsonl, stats.json                 of each episode for LeRobot, of all for GR00T
    meta/modality.json                                    action.latent, the state's groups, cameras, the task
    data/chunk-000/episode_000000.parquet                 one file per episode
    videos/chunk-000/<camera>/episode_000000.mp4          one file per episode and camera

Videos of v2.x and of shards are files of the source, byte for byte. A video that episodes share in v3.0 is cut:
without encoding where an episode begins at a key frame, see `cut`. `stats.json` has exactly the six statistics of
numbers that GR00T checks for; were one missing, it would count the frames without a latent action too.

Source: github.com/huggingface/lerobot, v2.1; github.com/NVIDIA/Isaac-GR00T, gr00t/data/dataset.py and
gr00t/data/dataset/lerobot_episode_loader.py.
"""

import json
from pathlib import Path
from typing import Any

from genie_lite.data.video.container import BadVideo
from genie_lite.data.video.cut import cut
from genie_lite.data.video.place import Place
from genie_lite.errors import UserError
from genie_lite.files import write_bytes, write_json
from genie_lite.latents.formats.columns import ACTION
from genie_lite.latents.formats.episodes import Clip, Episode, Episodes, Stats
from genie_lite.latents.formats.labelled import CHUNK, INFO, MANIFEST, Labels, Progress, Source
from genie_lite.latents.formats.lerobot_files import (
    finish,
    made_of,
    put_clip,
    put_json,
    put_table,
    tasks_of,
)
from genie_lite.latents.formats.target import Target, fingerprint, job_of

DATA_PATH = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO_PATH = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
STATE = "observation.state"
TASK = "human.task_description"
OF_GROOT = ("mean", "std", "min", "max", "q01", "q99")
OF_V21 = ("min", "max", "mean", "std", "count")


def write(
    folder: Path, source: Source, out: Path, title: str | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Write the dataset; returns the label manifest. Arguments and errors as `lerobot_v3.write`."""
    labels = Labels(folder, source, "action", title)
    expect_videos(labels.episodes)
    job = job_of("lerobot-v2.1", folder, labels.episodes.fingerprint)
    with Target(out, job, MANIFEST, last=INFO) as target:
        return target.done or _write(labels, target, progress)


def expect_videos(episodes: Episodes) -> None:
    """Refuse cameras that are no video files.

    Raises:
        UserError: there is one.
    """
    pictures = [name for name, feature in episodes.features.items() if feature["dtype"] == "image"]
    if pictures:
        raise UserError(
            f"{episodes.place}: feature '{pictures[0]}' holds pictures inside its tables, which v2.1 is not "
            "written with; expected cameras that are videos: export as lerobot-v3-action"
        )


def _write(labels: Labels, target: Target, progress: Progress | None) -> dict[str, Any]:
    out, videos = target.out, _Videos(target, labels.fps)
    lines, stats = [], []
    for labelled in labels.written(videos.put, progress):
        put_table(out / _path(DATA_PATH, labelled.index), labelled.table, target.journal)
        known = {"episode_index": labelled.index, "tasks": tasks_of(labelled.episode, labels)}
        lines.append(known | {"length": len(labelled.episode)})
        stats.append(labelled.stats)
    totals = labels.gathered.totals.result()
    described = [_of(labels.completed(each, totals), OF_V21) for each in stats]
    numbers = {name: total for name, total in totals.items() if name not in labels.episodes.cameras}
    _write_lines(out / "meta/episodes.jsonl", lines)
    _write_lines(
        out / "meta/episodes_stats.jsonl",
        [{"episode_index": index, "stats": each} for index, each in enumerate(described)],
    )
    tasks = [{"task_index": index, "task": task} for index, task in enumerate(labels.episodes.tasks)]
    _write_lines(out / "meta/tasks.jsonl", tasks)
    put_json(out / "meta/stats.json", _of(numbers, OF_GROOT))
    write_json(out / "meta/modality.json", modality(labels.episodes, labels.rows.width))
    return finish(target, labels, _info(labels))


def modality(episodes: Episodes, width: int) -> dict[str, Any]:
    """Which components of which column, and which videos, GR00T finds under which names.

    What the source's own `modality.json` says of state, cameras and annotations stays.
    """
    state = episodes.features.get(STATE)
    own = {
        "state": {"state": {"start": 0, "end": state["shape"][0]}} if state else {},
        "video": {_short(camera): {"original_key": camera} for camera in episodes.cameras},
        "annotation": {TASK: {"original_key": "task_index"}},
    }
    kept = {
        name: part
        for name, part in (episodes.modality or {}).items()
        if name in own and part and isinstance(part, dict)
    }
    return own | kept | {"action": {"latent": {"start": 0, "end": width, "original_key": ACTION}}}


def _info(labels: Labels) -> dict[str, Any]:
    gathered, episodes = labels.gathered, labels.episodes
    num = len(gathered.episodes)
    features = {
        name: _with_both(feature, labels.fps) if feature["dtype"] == "video" else feature
        for name, feature in labels.columns.described.items()
    }
    return {
        "codebase_version": "v2.1",
        "robot_type": episodes.robot_type,
        "total_episodes": num,
        "total_frames": gathered.frames,
        "total_tasks": len(episodes.tasks),
        "total_videos": num * len(episodes.cameras),
        "total_chunks": -(-num // CHUNK),
        "chunks_size": CHUNK,
        "fps": labels.fps,
        "splits": labels.splits(),
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH,
        "features": features,
    }


class _Videos:
    """One file per episode and camera."""

    def __init__(self, target: Target, fps: int) -> None:
        self._out, self._journal, self._fps = target.out, target.journal, fps

    def put(self, index: int, episode: Episode) -> None:
        """Write the videos of an episode, or none of them."""
        paths = {camera: self._out / _path(VIDEO_PATH, index, camera) for camera in episode.clips}
        try:
            for camera, clip in episode.clips.items():
                self._put(clip, paths[camera], len(episode))
        except BadVideo:
            for path in paths.values():  # the next episode gets this number
                path.unlink(missing_ok=True)
            raise

    def _put(self, clip: Clip, path: Path, num_frames: int) -> None:
        if not isinstance(clip, Place) or clip.span_s is None:
            put_clip(clip, path, self._journal)
            return
        made_from = fingerprint(made_of(clip), f"{clip.span_s} {num_frames} {self._fps}")
        if not self._journal.keeps(path, made_from):
            with self._journal.making(path, made_from):
                write_bytes(path, cut(clip, num_frames, float(self._fps))[0])


def _path(pattern: str, index: int, camera: str = "") -> str:
    return pattern.format(episode_chunk=index // CHUNK, episode_index=index, video_key=camera)


def _of(stats: dict[str, Stats], kinds: tuple[str, ...]) -> dict[str, Stats]:
    return {name: {kind: known[kind] for kind in kinds} for name, known in stats.items()}


def _with_both(feature: dict[str, Any], fps: int) -> dict[str, Any]:
    """A camera's description under both names: GR00T reads one or the other, by how the channels are called."""
    about = feature.get("info") or feature.get("video_info") or {"video.fps": fps}
    return feature | {"info": about, "video_info": about}


def _short(camera: str) -> str:
    """`observation.images.cam_high` is `cam_high` to GR00T."""
    return camera.removeprefix("observation.images.")


def _write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    write_bytes(
        path, "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines).encode()
    )
