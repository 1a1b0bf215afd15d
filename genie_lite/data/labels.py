"""True actions, kept apart from the video: one Parquet file, one row per labelled frame.

    labels.parquet   source: str   frame_index: int64   action: int64 | list<float32>
                     where they are known, too: reward: float32   ended: bool
                     + file metadata `genie_lite` = {"kind", "names", "num_actions"} as JSON

`source` is the name of the video file relative to the folder that was ingested, `frame_index` counts the
frames of that file, from 0. The action of row k is the one that led from frame k to frame k + 1; its reward is
what that transition brought, and it has ended if the episode was over then.
Only `adapt`, the probe and the oracle open such a file, and training on video where `lam.labels` asks for it.
"""

import hashlib
import io
import json
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genie_lite.errors import UserError
from genie_lite.files import write_bytes

Kind = Literal["discrete", "continuous"]
METADATA_KEY = b"genie_lite"
COLUMNS = ("source", "frame_index", "action")
OUTCOMES = {"reward": np.float32, "ended": np.bool_}  # columns that a label file may have, too
ACTION = "the command at frame k"  # what is taken for the action of a transition k -> k + 1


@dataclass(frozen=True)
class Labels:
    """Actions of single frames, in the order of (source, frame_index).

    Args:
        sources: (rows,) name of the video file of each row.
        frame_index: (rows,) int64, native index of frame k in that file.
        action: (rows,) int64 in [0, num_actions), or (rows, num_actions) float32.
        kind: "discrete" choices or a "continuous" vector.
        names: one name per choice, or one per component of the vector.
        reward: (rows,) float32, of the transition; None where nobody kept it.
        ended: (rows,) bool, whether the episode was over after the transition; None where nobody kept it.
    """

    sources: np.ndarray
    frame_index: np.ndarray
    action: np.ndarray
    kind: Kind
    names: tuple[str, ...]
    reward: np.ndarray | None = None
    ended: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Hold the sizes together; these are our own mistakes, a user's file is checked in `read_labels`."""
        assert len(self.sources) == len(self.frame_index) == len(self.action)
        assert self.action.ndim == (1 if self.kind == "discrete" else 2)
        assert all(len(each) == len(self) for each in (self.reward, self.ended) if each is not None)

    def __len__(self) -> int:
        """Number of labelled frames."""
        return len(self.sources)

    @property
    def num_actions(self) -> int:
        """Number of choices, or number of components of a continuous action."""
        return len(self.names)

    @cached_property
    def _rows_of(self) -> dict[str, np.ndarray]:
        """Rows of each source, by frame index."""
        if not len(self):
            return {}
        order = np.lexsort((self.frame_index, self.sources))
        names, starts = np.unique(self.sources[order], return_index=True)
        return {str(name): rows for name, rows in zip(names, np.split(order, starts[1:]), strict=True)}

    @property
    def episodes(self) -> tuple[str, ...]:
        """The sources that have at least one row, sorted."""
        return tuple(self._rows_of)

    def select(self, rows: np.ndarray) -> "Labels":
        """The given rows, by a mask or by indices."""
        return replace(
            self,
            sources=self.sources[rows],
            frame_index=self.frame_index[rows],
            action=self.action[rows],
            reward=None if self.reward is None else self.reward[rows],
            ended=None if self.ended is None else self.ended[rows],
        )

    def renamed(self, names: Mapping[str, str]) -> "Labels":
        """The same rows under other names of their sources; `names` has one for each."""
        old, where = np.unique(self.sources, return_inverse=True)
        sources = np.asarray([names[name] for name in old.tolist()], dtype=str)[where]
        return replace(self, sources=sources)

    def of(self, sources: Collection[str]) -> "Labels":
        """The rows of the given sources."""
        return self.select(np.isin(self.sources, np.asarray(sorted(sources), dtype=str)))

    def locate(self, sources: Sequence[str] | np.ndarray, frame_index: np.ndarray) -> np.ndarray:
        """Row of each (source, frame index), -1 where there is no label."""
        return join(self.sources, self.frame_index, np.asarray(sources, dtype=str), frame_index)

    def lookup(self, source: str, frame_index: int) -> np.ndarray | None:
        """The action of one frame (a 0-d integer or a vector), None where there is no label."""
        row = int(self.locate([source], np.array([frame_index]))[0])
        return None if row < 0 else np.asarray(self.action[row])

    def budget(self, num: int, seed: int, key: str = "labels budget") -> "Labels":
        """Exactly `num` rows: whole episodes in a seeded order, the last one cut short.

        Budgets of one seed are nested: a smaller one is the beginning of a larger one. Where fewer than
        `num` rows exist, all are returned and a warning says so.

        Args:
            num: rows.
            seed: of the order of the episodes.
            key: what the user calls `num`, for messages.

        Raises:
            UserError: `num` is below 1.
        """
        if num < 1:
            raise UserError(f"{key}: found {num}, expected at least 1 transition")
        if num > len(self):
            warnings.warn(
                f"{key}: found {num}, but only {len(self)} labelled transitions exist; all are used",
                stacklevel=2,
            )
        order = [self._rows_of[name] for name in self._shuffled(seed)]
        return self.select(np.concatenate([*order, np.empty(0, np.int64)])[:num])

    def budget_episodes(self, num: int, seed: int, key: str = "labels budget") -> "Labels":
        """The rows of `num` whole episodes, in the same seeded order as `budget`.

        Args:
            num: episodes.
            seed: of their order.
            key: what the user calls `num`, for messages.

        Raises:
            UserError: `num` is below 1 or more than there are.
        """
        if not 1 <= num <= len(self._rows_of):
            there = f"the {len(self._rows_of)} labelled episodes that there are"
            raise UserError(f"{key}: found {num}, expected at least 1 and at most {there}")
        return self.select(np.concatenate([self._rows_of[name] for name in self._shuffled(seed)[:num]]))

    def _shuffled(self, seed: int) -> list[str]:
        names = sorted(self._rows_of)
        return [names[place] for place in np.random.default_rng(seed).permutation(len(names))]


def join(
    sources: np.ndarray, frame_index: np.ndarray, wanted_sources: np.ndarray, wanted_index: np.ndarray
) -> np.ndarray:
    """Where each wanted (source, frame index) stands among unique known ones, -1 where it is unknown.

    Labels, latents and frames meet through this join and never through the order of their rows.
    """
    names, name_of = np.unique(np.concatenate([sources, wanted_sources]), return_inverse=True)
    index = np.concatenate([frame_index, wanted_index]).astype(np.int64)
    pair = name_of * (index.max(initial=0) + 1) + index
    known, wanted = pair[: len(sources)], pair[len(sources) :]
    assert index.min(initial=0) >= 0, "frame indices count from 0"
    if not len(names) or not len(known):
        return np.full(len(wanted), -1, dtype=np.int64)
    order = np.argsort(known, kind="stable")
    place = np.searchsorted(known, wanted, sorter=order).clip(max=len(known) - 1)
    return np.where(known[order[place]] == wanted, order[place], -1)


def write_labels(
    path: Path,
    sources: Sequence[str] | np.ndarray,
    frame_index: Sequence[int] | np.ndarray,
    action: Sequence[int] | np.ndarray,
    *,
    kind: Kind,
    names: Sequence[str],
    reward: Sequence[float] | np.ndarray | None = None,
    ended: Sequence[bool] | np.ndarray | None = None,
) -> None:
    """Write a label file atomically; see `Labels` for the meaning of each column.

    Raises:
        UserError: the columns do not fit together (the same checks as in `read_labels`).
    """
    number = np.int64 if kind == "discrete" else np.float32
    table = _checked(
        np.asarray(sources, dtype=str),
        np.asarray(frame_index, dtype=np.int64),
        np.asarray(action, dtype=number),
        kind,
        tuple(names),
        str(path),
        None if reward is None else np.asarray(reward, dtype=np.float32),
        None if ended is None else np.asarray(ended, dtype=bool),
    )
    offsets = pa.array(np.arange(len(table) + 1, dtype=np.int32) * table.num_actions)
    flat = pa.array(table.action.ravel())
    cells = flat if kind == "discrete" else pa.ListArray.from_arrays(offsets, flat)
    first = (pa.array(table.sources, pa.string()), pa.array(table.frame_index), cells)
    outcomes = {"reward": table.reward, "ended": table.ended}
    columns = dict(zip(COLUMNS, first, strict=True)) | {
        name: pa.array(column) for name, column in outcomes.items() if column is not None
    }
    about = {"kind": kind, "names": list(table.names), "num_actions": table.num_actions}
    schema = pa.schema(
        [pa.field(name, column.type) for name, column in columns.items()],
        metadata={METADATA_KEY: json.dumps(about).encode()},
    )
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([*columns.values()], schema=schema), buffer)
    write_bytes(path, buffer.getvalue())


def read_labels(path: Path) -> Labels:
    """Read and check a label file.

    Raises:
        UserError: missing, not Parquet, not a label file, duplicate rows, actions out of range.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such label file; expected Parquet with columns {', '.join(COLUMNS)}")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a readable Parquet file: {' '.join(str(error).split())}") from error
    about = _about(table)
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing or about.get("kind") not in ("discrete", "continuous") or not _are_names(about.get("names")):
        raise UserError(
            f"{path}: not a label file: columns are {table.column_names}, expected {list(COLUMNS)} and the "
            "file metadata 'genie_lite'; write it with genie_lite.data.labels.write_labels"
        )
    for name in COLUMNS:
        if table[name].null_count:
            raise UserError(f"{path}: {table[name].null_count} rows have no {name}; leave such rows out")
    try:
        frame_index = table["frame_index"].cast(pa.int64()).to_numpy()
        action = _actions(table["action"], about["kind"], len(about["names"]), str(path))
    except (pa.ArrowException, AttributeError) as error:
        raise UserError(
            f"{path}: frame_index is {table['frame_index'].type}, action is {table['action'].type}; expected "
            f"int64 and {'int64' if about['kind'] == 'discrete' else 'list<float32>'}"
        ) from error
    sources = np.asarray(table["source"].to_pylist(), dtype=str)
    reward, ended = (_outcome(table, name, kind, str(path)) for name, kind in OUTCOMES.items())
    return _checked(
        sources, frame_index, action, about["kind"], tuple(about["names"]), str(path), reward, ended
    )


def join_labels(parts: Sequence[Labels]) -> Labels:
    """The labels of several places as one; rewards and ends stay where every place has them.

    Raises:
        UserError: they name different actions, or label one frame twice.
    """
    first = parts[0]
    for other in parts[1:]:
        if (other.kind, other.names) != (first.kind, first.names):
            raise UserError(
                f"labels: one file names the actions {list(first.names)}, another {list(other.names)}"
            )
    return _checked(
        np.concatenate([part.sources for part in parts]),
        np.concatenate([part.frame_index for part in parts]),
        np.concatenate([part.action for part in parts]),
        first.kind,
        first.names,
        f"labels of {len(parts)} places" if len(parts) > 1 else "labels",
        _joined([part.reward for part in parts]),
        _joined([part.ended for part in parts]),
    )


def fingerprint(labels: Labels) -> str:
    """SHA-256 of the actions of some labels: rewards and ends change nothing of what is learnt from actions."""
    digest = hashlib.sha256(repr((labels.kind, labels.names, labels.action.shape)).encode())
    for column in (labels.frame_index, np.ascontiguousarray(labels.action)):
        digest.update(column.tobytes())
    digest.update("\n".join(labels.sources.tolist()).encode())
    return digest.hexdigest()


def outcome_fingerprint(labels: Labels) -> str:
    """SHA-256 of the rewards and ends of some labels."""
    digest = hashlib.sha256()
    for column in (labels.frame_index, labels.reward, labels.ended):
        digest.update(b"none" if column is None else np.ascontiguousarray(column).tobytes())
    digest.update("\n".join(labels.sources.tolist()).encode())
    return digest.hexdigest()


def _joined(columns: Sequence[np.ndarray | None]) -> np.ndarray | None:
    there = [column for column in columns if column is not None]
    return np.concatenate(there) if len(there) == len(columns) else None


def _outcome(table: pa.Table, name: str, kind: type, where: str) -> np.ndarray | None:
    """A column that may be missing; what is there is whole numbers, fractions, or for ends yes and no."""
    if name not in table.column_names:
        return None
    column = table[name]
    is_right = pa.types.is_boolean(column.type) or (
        name == "reward" and (pa.types.is_floating(column.type) or pa.types.is_integer(column.type))
    )
    if column.null_count or not is_right:
        expected = "float32" if name == "reward" else "bool"
        raise UserError(
            f"{where}: {name} is {column.type} with {column.null_count} rows empty; expected {expected} in every "
            "row, or no such column"
        )
    return column.to_numpy().astype(kind)


def _about(table: pa.Table) -> dict[str, Any]:
    """What the file says of its actions, nothing where that cannot be read."""
    try:
        about = json.loads((table.schema.metadata or {}).get(METADATA_KEY, b"{}"))
    except ValueError:
        return {}
    return about if isinstance(about, dict) else {}


def _actions(column: pa.ChunkedArray, kind: Kind, width: int, where: str) -> np.ndarray:
    if kind == "discrete":
        return column.cast(pa.int64()).to_numpy()
    flat = column.combine_chunks().flatten().cast(pa.float32()).to_numpy()
    if len(flat) != len(column) * width:
        raise UserError(f"{where}: actions of different lengths; expected {width} numbers in every row")
    return flat.reshape(len(column), width)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _checked(
    sources: np.ndarray,
    frame_index: np.ndarray,
    action: np.ndarray,
    kind: Kind,
    names: tuple[str, ...],
    where: str,
    reward: np.ndarray | None = None,
    ended: np.ndarray | None = None,
) -> Labels:
    if not len(sources) == len(frame_index) == len(action):
        raise UserError(f"{where}: {len(sources)} sources, {len(frame_index)} frames, {len(action)} actions")
    if found := [len(each) for each in (reward, ended) if each is not None and len(each) != len(action)]:
        raise UserError(
            f"{where}: {len(action)} actions, but {found[0]} rewards or ends; expected one per row"
        )
    if reward is not None and not np.isfinite(reward).all():
        row = int(np.argmin(np.isfinite(reward)))
        raise UserError(f"{where}: the reward of row {row} is infinite or missing")
    if len(frame_index) and frame_index.min() < 0:
        raise UserError(f"{where}: frame {frame_index.min()} of a video; frames count from 0")
    if kind == "continuous" and (action.ndim != 2 or action.shape[1] != len(names)):
        raise UserError(
            f"{where}: actions of shape {action.shape}, expected (rows, {len(names)}) for its names"
        )
    if kind == "continuous" and not np.isfinite(action).all():
        row = int(np.argmin(np.isfinite(action).all(1)))
        raise UserError(f"{where}: the action of row {row} holds an infinite or missing value")
    if kind == "discrete" and len(action) and not (action.min() >= 0 and action.max() < len(names)):
        raise UserError(
            f"{where}: actions from {action.min()} to {action.max()}, expected 0 to {len(names) - 1}"
        )
    order = np.lexsort((frame_index, sources))
    sources, frame_index, action = sources[order], frame_index[order], action[order]
    twice = (sources[1:] == sources[:-1]) & (frame_index[1:] == frame_index[:-1])
    if twice.any():
        row = int(np.argmax(twice))
        raise UserError(
            f"{where}: frame {frame_index[row]} of {sources[row]} is labelled twice; keep one row"
        )
    reward, ended = (None if each is None else each[order] for each in (reward, ended))
    return Labels(sources, frame_index, action, kind, names, reward, ended)
