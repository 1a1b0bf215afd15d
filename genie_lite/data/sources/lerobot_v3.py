"""Episodes of a LeRobot dataset of version 3: many share one video and one table.

    meta/episodes/chunk-000/file-000.parquet       one row per episode:
        episode_index, length                          its number, and how many frames it has
        data/chunk_index, data/file_index              its table
        videos/<camera>/chunk_index, .../file_index    its video, and the seconds in it:
        videos/<camera>/from_timestamp, .../to_timestamp
    data/chunk-000/file-000.parquet                episode_index, frame_index, action, a row per frame
    videos/<camera>/chunk-000/file-000.mp4         episodes one after another

Episodes are found in a table by `episode_index`, for the numbers of rows (`dataset_from_index`) are those of
the whole dataset. A video's seconds were added up in floating point by whoever wrote it, which drifts
(huggingface/lerobot#3177); so a span ends as many frames after its begin as the episode has.
"""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from genie_lite.data.sources.lerobot_info import Info, Listed
from genie_lite.data.video.place import Place
from genie_lite.errors import UserError


def list_episodes(info: Info, camera: str) -> list[Listed]:
    """Every episode that the dataset says it has, in the order of their numbers.

    Raises:
        UserError: the list is missing or damaged, or knows no such camera.
    """
    files = sorted((info.root / "meta" / "episodes").glob("*/*.parquet"))
    if not files:
        raise UserError(
            f"{info.root}/meta/episodes: no chunk-000/file-000.parquet; expected a row per episode"
        )
    rows = {row["episode_index"]: row for file in files for row in _rows(file, camera)}
    if None in rows:
        raise UserError(f"{info.root}/meta/episodes: a row without episode_index")
    return [_listed(info, camera, row) for _, row in sorted(rows.items())]


def _rows(file: Path, camera: str) -> list[dict[str, Any]]:
    """The columns that are needed, by their last names; where both tell of a file, the video's have `video_`."""
    video = f"videos/{camera}"
    columns = {
        "episode_index": "episode_index",
        "length": "length",
        "data/chunk_index": "chunk_index",
        "data/file_index": "file_index",
        f"{video}/chunk_index": "video_chunk_index",
        f"{video}/file_index": "video_file_index",
        f"{video}/from_timestamp": "from_s",
        f"{video}/to_timestamp": "to_s",
    }
    try:
        with pq.ParquetFile(file) as opened:
            missing = [name for name in columns if name not in opened.schema_arrow.names]
            if missing:
                raise UserError(f"{file}: no column {', '.join(missing)}; expected them in a v3.0 dataset")
            return (
                opened.read(list(columns))
                .select(list(columns))
                .rename_columns(list(columns.values()))
                .to_pylist()
            )
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file}: unreadable: {' '.join(str(error).split())}") from error


def _listed(info: Info, camera: str, row: dict[str, Any]) -> Listed:
    unknown = [name for name, value in row.items() if value is None]
    known = {name: value or 0 for name, value in row.items()}
    index, length, begin_s = known["episode_index"], known["length"], float(known["from_s"])
    values = {"chunk_index": known["video_chunk_index"], "file_index": known["video_file_index"]}
    video = info.file("video_path", video_key=camera, **values)
    table = info.file("data_path", chunk_index=known["chunk_index"], file_index=known["file_index"])
    part = f"#episode_{index:06d}"
    fault = _misfit((float(known["to_s"]) - begin_s) * info.rate_hz, length)
    if unknown:
        fault = f"meta/episodes does not say its {', '.join(unknown)} for this camera"
    return Listed(
        index=index,
        source=video.as_posix() + part,
        place=Place(info.root / video, span_s=(begin_s, begin_s + length / info.rate_hz)),
        table=info.root / table,
        length=length,
        part=part,
        fault=fault,
    )


def _misfit(num_frames: float, length: int) -> str | None:
    """Why a span of so many frames is not that of an episode; half a frame more or less is rounding."""
    if abs(num_frames - length) < 0.5:
        return None
    return (
        f"meta/episodes: {num_frames:g} frames from from_timestamp to to_timestamp, and a length of {length}"
    )
