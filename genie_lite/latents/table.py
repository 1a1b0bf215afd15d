"""Extracted latent actions: a folder of Parquet parts, one per shard, and a manifest that is written last.

Row k of a shot describes the change from frame k to frame k + 1. The last frame of a shot has a row too,
so that rows and frames stay aligned, but it is not valid: code -1, every measurement NaN, never clamped.

Any Parquet reader can use the parts; `read_latents` puts them into arrays.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genie_lite.card import read_card
from genie_lite.errors import UserError
from genie_lite.files import write_bytes

FORMAT = 1
MANIFEST_KEYS = {
    "lam": dict,
    "shards": dict,
    "num_codes": int,
    "counts": dict,
    "quality": dict,
    "parts": list,
}
STAMP_KEY = b"genie_lite"


@dataclass(frozen=True)
class Latents:
    """Columns, one entry per frame, in the order of the shards.

    source: video file, relative to the folder that was ingested. key: of the shot's sample in the shards.
    split: train or test. frame_index: native index of frame k in its file. timestamp_s: its time.
    horizon_frames: native frames from frame k to frame k + 1. dt_s: the same in seconds.
    code: index of the latent action, -1 where not valid. embedding: (rows, d), the vector before it was
    quantized. recon_psnr_db: of the predicted frame k + 1. copy_psnr_db: of frame k in its place.
    valid: whether there is a frame k + 1 in this shot.
    """

    source: np.ndarray
    key: np.ndarray
    split: np.ndarray
    frame_index: np.ndarray
    timestamp_s: np.ndarray
    horizon_frames: np.ndarray
    dt_s: np.ndarray
    code: np.ndarray
    embedding: np.ndarray
    recon_psnr_db: np.ndarray
    copy_psnr_db: np.ndarray
    valid: np.ndarray

    def __len__(self) -> int:
        """Number of rows, the invalid ones included."""
        return len(self.code)

    def select(self, rows: np.ndarray) -> "Latents":
        """The given rows, by a mask or by indices."""
        return Latents(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def concatenate(parts: Sequence[Latents]) -> Latents:
    """Rows of several parts, one after another."""
    return Latents(
        **{
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(Latents)
        }
    )


def write_part(path: Path, rows: Latents, stamp: Mapping[str, str]) -> None:
    """Write one part atomically; `stamp` says what it was made from, see `read_stamp`."""
    width = rows.embedding.shape[1]
    flat = pa.array(rows.embedding.astype(np.float32).ravel())
    columns = {
        "source": pa.array(rows.source, pa.string()),
        "key": pa.array(rows.key, pa.string()),
        "split": pa.array(rows.split, pa.string()),
        "frame_index": pa.array(rows.frame_index, pa.int64()),
        "timestamp_s": pa.array(rows.timestamp_s, pa.float64()),
        "horizon_frames": pa.array(rows.horizon_frames, pa.int32()),
        "dt_s": pa.array(rows.dt_s, pa.float32()),
        "code": pa.array(rows.code, pa.int32()),
        "embedding": pa.FixedSizeListArray.from_arrays(flat, width),
        "recon_psnr_db": pa.array(rows.recon_psnr_db, pa.float32()),
        "copy_psnr_db": pa.array(rows.copy_psnr_db, pa.float32()),
        "valid": pa.array(rows.valid, pa.bool_()),
    }
    table = pa.table(columns).replace_schema_metadata({STAMP_KEY: json.dumps(dict(stamp)).encode()})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    write_bytes(path, buffer.getvalue())


def read_stamp(path: Path) -> dict[str, str] | None:
    """What a part was made from, None where there is no readable part."""
    try:
        metadata = pq.read_schema(path).metadata or {}
        return json.loads(metadata[STAMP_KEY])
    except (OSError, KeyError, ValueError, pa.ArrowException):
        return None


def read_part(path: Path) -> Latents:
    """Read one part.

    Raises:
        UserError: missing, not Parquet, or without one of the columns.
    """
    try:
        table = pq.read_table(path)
        columns = {field.name: _array(table[field.name]) for field in fields(Latents)}
    except (OSError, KeyError, pa.ArrowException) as error:
        raise UserError(f"{path}: not a part of extracted latents: {' '.join(str(error).split())}") from error
    return Latents(**columns)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of finished latents.

    Raises:
        UserError: not finished, damaged, or another format.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise UserError(f"{folder}: no finished latents here (manifest.json is missing); run extract first")
    return read_card(path, "a manifest of latents", FORMAT, MANIFEST_KEYS, "run extract again")


def read_latents(folder: Path) -> Latents:
    """All rows of finished latents.

    Raises:
        UserError: not finished, another format, a part missing.
    """
    return concatenate([read_part(folder / part["file"]) for part in read_manifest(folder)["parts"]])


def _array(column: pa.ChunkedArray) -> np.ndarray:
    if pa.types.is_fixed_size_list(column.type):
        return column.combine_chunks().flatten().to_numpy().reshape(len(column), column.type.list_size)
    if pa.types.is_string(column.type):
        return np.asarray(column.to_pylist(), dtype=str)
    return column.to_numpy()
