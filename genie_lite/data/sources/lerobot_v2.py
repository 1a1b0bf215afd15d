"""Episodes of a LeRobot dataset of version 2: every episode has its files.

meta/episodes.jsonl                            one line per episode
data/chunk-000/episode_000000.parquet          frame_index, action, one row per frame
videos/chunk-000/<camera>/episode_000000.mp4   one file per episode and camera
"""

import json

from genie_lite.data.sources.lerobot_info import Info, Listed
from genie_lite.data.video.place import Place
from genie_lite.errors import UserError


def list_episodes(info: Info, camera: str) -> list[Listed]:
    """Every episode that the dataset says it has, in the order of their numbers.

    Raises:
        UserError: the list is missing or damaged.
    """
    return [_listed(info, camera, index, length) for index, length in sorted(_lengths(info).items())]


def _lengths(info: Info) -> dict[int, int]:
    """Number of frames by episode; a line that comes later replaces one of the same episode."""
    path = info.root / "meta" / "episodes.jsonl"
    if not path.is_file():
        raise UserError(f"{path}: missing; expected one JSON line per episode")
    try:
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
        return {int(line["episode_index"]): int(line["length"]) for line in lines}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: expected lines with episode_index and length: {error!r}") from error


def _listed(info: Info, camera: str, index: int, length: int) -> Listed:
    values = {"episode_chunk": index // int(info.tree["chunks_size"]), "episode_index": index}
    video = info.file("video_path", video_key=camera, **values)
    table = info.file("data_path", video_key=camera, **values)
    return Listed(index, video.as_posix(), Place(info.root / video), info.root / table, length)
