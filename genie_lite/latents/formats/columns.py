"""Latent actions as columns of a LeRobot dataset, under names that no policy mistakes for something else.

Policies take every feature that begins with `action` for an output, and every one that begins with `observation` for
an input; other names are carried along and left alone. So there are two ways:

beside     the dataset's own columns, and `latent_labels.*` beside them.
action     `action` *is* the embedding, so that a policy pre-trains on it unchanged. What began with `action` before
           begins with `robot_action` now. `latent_labels.*` are there too, but for the embedding.

A frame without a latent action keeps its row, for rows must be contiguous: `latent_labels.valid` is 0, code and
tokens are -1, horizon and dt 0. As a label its embedding is 0; as an action it is the mean of the valid ones, which a
policy that normalizes actions sees as 0, for a loss over NaN is NaN even where it is masked.

Source: github.com/huggingface/lerobot, datasets/utils.py dataset_to_policy_features, for the two prefixes.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from genie_lite.errors import UserError
from genie_lite.latents.formats.episodes import COUNTERS, Episode
from genie_lite.latents.formats.join import Aligned

Way = Literal["beside", "action"]
LABELS = "latent_labels"
ACTION = "action"
RENAMED = "robot_action"
VALID = f"{LABELS}.valid"


@dataclass(frozen=True)
class Columns:
    """How the rows of an episode become the columns that are written.

    features: of the source, those of `COUNTERS` left out. width: of an embedding. num_tokens: of a code.
    mean: (width,) the embedding of frames that have none, for the way `action`.
    """

    way: Way
    features: dict[str, dict[str, Any]]
    width: int
    num_tokens: int
    mean: np.ndarray

    def __post_init__(self) -> None:
        """Refuse names that are taken, see `expect_names_free`."""
        expect_names_free(self.way, self.features)

    @property
    def names(self) -> dict[str, str]:
        """Features that are called otherwise now, by their old names."""
        if not self._is_action:
            return {}
        return {name: f"robot_{name}" for name in self.features if name.startswith(ACTION)}

    @property
    def described(self) -> dict[str, dict[str, Any]]:
        """LeRobot's description of every feature of the result, counters last."""
        kept = {self.names.get(name, name): feature for name, feature in self.features.items()}
        action = {ACTION: self._embedding()} if self._is_action else {}
        counters = {name: _feature(dtype, 1) for name, dtype in COUNTERS.items()}
        return action | kept | self._labels() | counters

    def values(self, aligned: Aligned) -> dict[str, np.ndarray]:
        """The new columns of an episode, (n,) or (n, width) each."""
        columns = {
            f"{LABELS}.code": aligned.tokens,
            f"{LABELS}.code_id": aligned.code,
            VALID: aligned.valid.astype(np.int64),
            f"{LABELS}.horizon": aligned.horizon,
            f"{LABELS}.dt": aligned.dt_s,
        }
        if not self._is_action:
            return columns | {f"{LABELS}.embedding": aligned.embedding}
        return {ACTION: np.where(aligned.valid[:, None], aligned.embedding, self.mean)} | columns

    def table(
        self, episode: Episode, new: dict[str, np.ndarray], index: int, first: int, fps: int
    ) -> pa.Table:
        """All columns of an episode that is number `index` and begins at row `first` of the result."""
        table = episode.table.rename_columns(
            [self.names.get(name, name) for name in episode.table.column_names]
        )
        # It would say of the old columns alone what they are, and readers of Hugging Face believe it.
        table = table.replace_schema_metadata(None)
        num = len(episode)
        count = np.arange(num, dtype=np.int64)
        counters = {
            "timestamp": (count / fps).astype(np.float32),
            "frame_index": count,
            "episode_index": np.full(num, index, dtype=np.int64),
            "index": first + count,
            "task_index": episode.task_index,
        }
        columns = {name: table[name] for name in table.column_names}
        columns |= {name: _column(values) for name, values in (new | counters).items()}
        return pa.table({name: columns[name] for name in self.described if name in columns})

    @property
    def _is_action(self) -> bool:
        return self.way == "action"

    def _labels(self) -> dict[str, dict[str, Any]]:
        tokens = [f"token_{number}" for number in range(self.num_tokens)]
        labels = {
            f"{LABELS}.code": _feature("int64", self.num_tokens, tokens),
            f"{LABELS}.code_id": _feature("int64", 1),
            VALID: _feature("int64", 1),
            f"{LABELS}.horizon": _feature("int64", 1),
            f"{LABELS}.dt": _feature("float32", 1),
        }
        return labels if self._is_action else labels | {f"{LABELS}.embedding": self._embedding()}

    def _embedding(self) -> dict[str, Any]:
        return _feature("float32", self.width, [f"latent_{number}" for number in range(self.width)])


def expect_names_free(way: Way, features: Collection[str]) -> None:
    """Refuse names that are taken.

    Raises:
        UserError: the source has a feature of a name that is to be written.
    """
    ours = (LABELS, *([RENAMED] if way == "action" else []))
    taken = [name for name in features if name.split(".")[0] in ours]
    if taken:
        raise UserError(
            f"feature '{taken[0]}' is in the dataset already; expected a dataset without latent actions: export "
            "from the original"
        )


def only_valid(name: str) -> bool:
    """Whether statistics of a feature are of its valid rows alone."""
    return name.startswith(f"{LABELS}.") and name != VALID


def numbers(column: pa.ChunkedArray) -> np.ndarray | None:
    """A column as rows of numbers, None where it holds something else."""
    cells = column.combine_chunks()
    if isinstance(cells, pa.ExtensionArray):
        cells = cells.storage
    if pa.types.is_fixed_size_list(cells.type) and not cells.null_count and _is_number(cells.type.value_type):
        return cells.flatten().to_numpy(zero_copy_only=False).reshape(len(cells), cells.type.list_size)
    if _is_number(cells.type):
        return cells.to_numpy(zero_copy_only=False)
    if not pa.types.is_nested(cells.type) or pa.types.is_struct(cells.type):
        return None
    try:
        return np.asarray(cells.to_pylist(), dtype=np.float64)
    except (ValueError, TypeError):
        return None  # lists of different lengths, or of texts


def fault_of_column(column: pa.ChunkedArray, feature: Mapping[str, Any]) -> str | None:
    """Why a column is not what a dataset says of its feature, None where it is, or where that is no number."""
    if not str(feature["dtype"]).startswith(("float", "int", "uint", "bool")):
        return None
    kind, cells = column.type, column.combine_chunks()
    if isinstance(cells, pa.ExtensionArray):
        cells = cells.storage
    while _is_list(cells.type):
        cells = cells.flatten()
    if not _is_number(cells.type):
        return f"holds {kind}, expected numbers of dtype {feature['dtype']}"
    wanted = len(column) * math.prod(feature["shape"])
    return None if len(cells) == wanted else f"has {len(cells)} numbers, expected {wanted}"


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind)


def _feature(dtype: str, width: int, names: list[str] | None = None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [width], "names": names}


def _column(values: np.ndarray) -> pa.Array:
    """LeRobot stores one component as a scalar."""
    if values.ndim == 2 and values.shape[1] > 1:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    return pa.array(values.ravel())


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
