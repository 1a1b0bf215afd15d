"""Rows of finished latents by the video or the shot that they belong to, a few parts in memory at a time."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genie_lite.errors import UserError
from genie_lite.latents.table import Latents, concatenate, read_manifest, read_part

PARTS_IN_MEMORY = 4  # episodes of both splits come by turns, and each split's in the order of its parts


class Rows:
    """Finished latents to look up.

    Args:
        folder: as `extract` writes it.

    Raises:
        UserError: not finished, or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.manifest = folder, read_manifest(folder)
        self._files = [folder / part["file"] for part in self.manifest["parts"]]
        self._parts_of = {name: _places(self._files, name) for name in ("source", "key")}
        self._load = lru_cache(maxsize=PARTS_IN_MEMORY)(_Part.read)

    @property
    def sources(self) -> Collection[str]:
        """The videos that have a row."""
        return self._parts_of["source"].keys()

    @property
    def width(self) -> int:
        """Components of an embedding."""
        return self.manifest["embedding_width"]

    @property
    def num_tokens(self) -> int:
        """Choices that a code is made of."""
        return self.manifest["num_tokens"]

    @property
    def codes_per_token(self) -> int:
        """Values that each of them can have, 0 to this less one."""
        return self.manifest["codes_per_token"]

    def of_source(self, source: str) -> Latents | None:
        """The rows of a video by frame, None where there is none."""
        return self._of("source", source)

    def of_key(self, key: str) -> Latents | None:
        """The rows of a shot by frame, None where there is none."""
        return self._of("key", key)

    def mean_embedding(self, sources: Collection[str] | None = None) -> np.ndarray:
        """(d,) float32, over the valid rows of the given videos, or of all.

        Raises:
            UserError: none is valid.
        """
        total, count = np.zeros(self.width), 0
        for rows in self._parts():
            chosen = rows.valid if sources is None else rows.valid & np.isin(rows.source, list(sources))
            total += rows.embedding[chosen].sum(axis=0, dtype=np.float64)
            count += int(chosen.sum())
        if not count:
            raise UserError(f"{self.folder}: no valid latent action for these videos; nothing to export")
        return (total / count).astype(np.float32)

    def _parts(self) -> Iterator[Latents]:
        for file in self._files:
            yield self._load(file).rows

    def _of(self, column: str, name: str) -> Latents | None:
        found = [
            self._load(self._files[part]).of(column, name) for part in self._parts_of[column].get(name, ())
        ]
        if not found:
            return None
        rows = concatenate(found)
        return rows.select(np.argsort(rows.frame_index, kind="stable"))


class _Part:
    """One part in memory, with the rows of each name once somebody asks for them."""

    def __init__(self, rows: Latents) -> None:
        self.rows = rows
        self._of: dict[str, dict[str, np.ndarray]] = {}

    @classmethod
    def read(cls, file: Path) -> "_Part":
        return cls(read_part(file))

    def of(self, column: str, name: str) -> Latents:
        if column not in self._of:
            names = getattr(self.rows, column)
            order = np.argsort(names, kind="stable")
            found, starts = np.unique(names[order], return_index=True)
            self._of[column] = dict(zip(found.tolist(), np.split(order, starts[1:]), strict=True))
        return self.rows.select(self._of[column][name])


def _places(files: Sequence[Path], column: str) -> dict[str, list[int]]:
    """Which parts hold each name of a column."""
    places: dict[str, list[int]] = defaultdict(list)
    for number, file in enumerate(files):
        try:
            names = pq.read_table(file, columns=[column])[column].unique()
        except (OSError, KeyError, pa.ArrowException) as error:
            told = " ".join(str(error).split())
            raise UserError(f"{file}: not a part of extracted latents: {told}; run extract again") from error
        for name in names.to_pylist():
            places[name].append(number)
    return dict(places)
