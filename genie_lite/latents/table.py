"""Extracted latent actions: a folder of Parquet parts, one per shard, and a manifest that is written last.

Row k of a shot describes the change from frame k to the frame a window later, and lies where a dataset of robots has
`action[k]`. Frames with no such frame in their shot have a row too, so that rows and frames stay aligned, but it
is not valid: code and tokens -1, every measurement NaN, never clamped.

Any Parquet reader can use the parts; `read_latents` puts them into arrays.
"""

import hashlib
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

FORMAT = 2
MANIFEST_FILE = "manifest.json"
MANIFEST_KEYS = {
    "lam": dict,
    "shards": dict,
    "window": dict,
    "num_codes": int,
    "num_tokens": int,
    "counts": dict,
    "quality": dict,
    "parts": list,
}
STAMP_KEY = b"genie_lite"
CONTENT_KEY = b"genie_lite.content"
NO_CODE = -1  # of rows that are not valid
NO_CHOICE = -1  # of rows whose action is not known, where actions are choices; NaN where they are vectors


@dataclass(frozen=True)
class Latents:
    """Columns, one entry per frame, in the order of the shards.

    source: video file, relative to the folder that was ingested. key: of the shot's sample in the shards.
    split: train or test. frame_index: native index of frame k in its file. timestamp_s: its time.
    horizon_frames: native frames from frame k to the one that the row leads to, 0 where not valid. dt_s: the
    same in seconds. code: index of the latent action, -1 where not valid; int32, or int64 of an alphabet of more than
    2^31. tokens: (rows, m), the choices that
    it is made of. embedding: (rows, d), the vector before it was quantized. recon_psnr_db: of the predicted
    frame. copy_psnr_db: of frame k in its place. valid: whether the frame that it leads to is in this shot.
    action: the label of frame k, (rows,) of int64 with -1 where there is none, or (rows, a) of float32 with NaN
    there; None where no labels were given.
    """

    source: np.ndarray
    key: np.ndarray
    split: np.ndarray
    frame_index: np.ndarray
    timestamp_s: np.ndarray
    horizon_frames: np.ndarray
    dt_s: np.ndarray
    code: np.ndarray
    tokens: np.ndarray
    embedding: np.ndarray
    recon_psnr_db: np.ndarray
    copy_psnr_db: np.ndarray
    valid: np.ndarray
    action: np.ndarray | None = None

    def __len__(self) -> int:
        """Number of rows, the invalid ones included."""
        return len(self.code)

    @property
    def has_action(self) -> np.ndarray:
        """Mask of the rows whose action is known, valid or not."""
        if self.action is None:
            return np.zeros(len(self), dtype=bool)
        known = self.action >= 0 if self.action.ndim == 1 else np.isfinite(self.action).all(axis=1)
        return np.asarray(known)

    def select(self, rows: np.ndarray) -> "Latents":
        """The given rows, by a mask or by indices."""
        columns = _columns(self)
        for name, column in columns.items():
            columns[name] = None if column is None else column[rows]
        return Latents(**columns)


def concatenate(parts: Sequence[Latents]) -> Latents:
    """Rows of several parts, one after another; all of them have actions, or none."""
    columns = _columns(parts[0])
    assert len({part.action is None for part in parts}) == 1, "parts of different extractions"
    for name, column in columns.items():
        joined = [getattr(part, name) for part in parts]
        columns[name] = None if column is None else np.concatenate(joined)
    return Latents(**columns)


def encode_part(rows: Latents, stamp: Mapping[str, str]) -> bytes:
    """One part as a Parquet file; `stamp` says what it was made from, see `read_stamp` and `holds`.

    The same rows give the same bytes.
    """
    columns = {
        "source": pa.array(rows.source, pa.string()),
        "key": pa.array(rows.key, pa.string()),
        "split": pa.array(rows.split, pa.string()),
        "frame_index": pa.array(rows.frame_index, pa.int64()),
        "timestamp_s": pa.array(rows.timestamp_s, pa.float64()),
        "horizon_frames": pa.array(rows.horizon_frames, pa.int32()),
        "dt_s": pa.array(rows.dt_s, pa.float32()),
        "code": pa.array(rows.code, pa.int64() if _is_wide(rows.code) else pa.int32()),
        "tokens": _vectors(rows.tokens.astype(np.int32)),
        "embedding": _vectors(rows.embedding.astype(np.float32)),
        "recon_psnr_db": pa.array(rows.recon_psnr_db, pa.float32()),
        "copy_psnr_db": pa.array(rows.copy_psnr_db, pa.float32()),
        "valid": pa.array(rows.valid, pa.bool_()),
    }
    if rows.action is not None:
        columns["action"] = _actions(rows.action, ~rows.has_action)
    table = pa.table(columns)
    about = {STAMP_KEY: json.dumps(dict(stamp)).encode(), CONTENT_KEY: _digest(_latents(table)).encode()}
    table = table.replace_schema_metadata(about)
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def _is_wide(code: np.ndarray) -> bool:
    """Whether an alphabet of several tokens takes 64 bits for one number; which is so for all parts of one model."""
    return code.dtype == np.int64


def write_part(path: Path, rows: Latents, stamp: Mapping[str, str]) -> None:
    """Write one part atomically, see `encode_part`."""
    write_bytes(path, encode_part(rows, stamp))


def read_stamp(path: Path) -> dict[str, str] | None:
    """What a part was made from, None where there is no readable part."""
    try:
        metadata = pq.read_schema(path).metadata or {}
        return json.loads(metadata[STAMP_KEY])
    except (OSError, KeyError, ValueError, pa.ArrowException):
        return None


def holds(path: Path, stamp: Mapping[str, str]) -> bool:
    """Whether a part is there, was made from what `stamp` says, and has the rows that were written."""
    if read_stamp(path) != stamp:
        return False
    try:
        table = _table(path)
        return table.schema.metadata.get(CONTENT_KEY, b"").decode() == _digest(_latents(table))
    except (OSError, KeyError, ValueError, TypeError, pa.ArrowException):
        return False


def read_part(path: Path) -> Latents:
    """Read one part.

    Raises:
        UserError: missing, not Parquet, or without one of the columns.
    """
    try:
        return _latents(_table(path))
    except (OSError, KeyError, ValueError, TypeError, pa.ArrowException) as error:
        raise UserError(f"{path}: not a part of extracted latents: {' '.join(str(error).split())}") from error


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of finished latents.

    Raises:
        UserError: not finished, damaged, or another format.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise UserError(f"{folder}: no finished latents here ({MANIFEST_FILE} is missing); run extract first")
    what, again = "a manifest of latents", "run extract again"
    manifest = read_card(path, what, FORMAT, MANIFEST_KEYS, again)
    for name in ("parts", "skipped"):
        entries = manifest.get(name, [])
        if not (isinstance(entries, list) and all(_names_file(entry) for entry in entries)):
            found = str(entries)[:40]
            raise UserError(
                f"{path}: not {what}, {name}: found {found}, expected a list of files; delete it and {again}"
            )
    return manifest


def read_latents(folder: Path) -> Latents:
    """All rows of finished latents.

    Raises:
        UserError: not finished, another format, a part missing.
    """
    return concatenate([read_part(folder / part["file"]) for part in read_manifest(folder)["parts"]])


def _names_file(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("file"), str)


def _table(path: Path) -> pa.Table:
    """One file by itself; `read_table` would take the names of the folders above for columns."""
    with pq.ParquetFile(path) as file:
        return file.read()


def _latents(table: pa.Table) -> Latents:
    names = [field.name for field in fields(Latents)]
    if "action" not in table.column_names:
        names.remove("action")
    return Latents(**{name: _array(table[name]) for name in names})


def _digest(rows: Latents) -> str:
    """SHA-256 of what is in the rows, whichever way the file holds it: a NaN is a NaN and a zero a zero."""
    digest = hashlib.sha256()
    for name, column in _columns(rows).items():
        if column is None:
            continue
        if column.dtype.kind == "U":
            data = json.dumps(column.tolist()).encode()
        elif column.dtype.kind == "f":
            data = np.where(np.isnan(column), np.nan, column + 0.0).astype(column.dtype).tobytes()
        else:
            data = column.tobytes()
        digest.update(f"{name} {column.dtype.kind} {column.shape} {len(data)}\n".encode() + data)
    return digest.hexdigest()


def _columns(rows: Latents) -> dict[str, Any]:
    return {field.name: getattr(rows, field.name) for field in fields(rows)}


def _vectors(rows: np.ndarray, missing: np.ndarray | None = None) -> pa.Array:
    mask = None if missing is None else pa.array(missing)
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1], mask=mask)


def _actions(action: np.ndarray, missing: np.ndarray) -> pa.Array:
    """Null where not known, so that no reader takes a stand-in for an action."""
    if action.ndim == 1:
        return pa.array(action.astype(np.int64), mask=missing)
    return _vectors(np.where(missing[:, None], 0, action).astype(np.float32), missing)


def _array(column: pa.ChunkedArray) -> np.ndarray:
    if pa.types.is_fixed_size_list(column.type):
        return _rows(column.combine_chunks(), column.type.list_size)
    if pa.types.is_string(column.type):
        return np.asarray(column.to_pylist(), dtype=str)
    if column.null_count:
        column = column.fill_null(NO_CHOICE)
    return column.to_numpy()


def _rows(column: pa.Array, width: int) -> np.ndarray:
    """Vectors as rows, NaN where they are null; Arrow leaves null ones out of `flatten`."""
    there = column.is_valid().to_numpy(zero_copy_only=False)
    flat = column.flatten().to_numpy().reshape(-1, width)
    if there.all():
        return flat
    rows = np.full((len(column), width), np.nan, dtype=flat.dtype)
    rows[there] = flat
    return rows
