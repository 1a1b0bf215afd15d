"""The training data of the dynamics stage: every frame's tokens and every transition's code, made once.

    tokens/train-000000.tokens.npy   uint16 [frames, n]   row j: the tokens of frame j of the shard
    tokens/train-000000.codes.npy    uint16 [frames]      row j: the code of frame j -> frame j + 1
    tokens/train-000000.json         what they were made from, by which weights; written last

The last frame of a shot has no transition: its row holds NO_CODE and no window ever reads it. A record
whose shard, tokenizer or latent action model has changed is made again.
"""

import functools
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from genie_lite.data.loader import to_frames
from genie_lite.data.shards import Shard, ShardSet
from genie_lite.errors import UserError
from genie_lite.files import read_json, write_bytes, write_json
from genie_lite.models.lam import LatentActionModel
from genie_lite.models.tokenizer import VideoTokenizer

FORMAT = 1
NO_CODE = 2**16 - 1
OPEN_FILES = 128  # memory-mapped shards kept open, far below the usual limit of 1024 per process


@dataclass(frozen=True)
class TokenClip:
    """A batch of token windows. Row k of `codes` is the code of frame k -> k + 1."""

    tokens: Int[Tensor, "b t n"]
    codes: Int[Tensor, "b k"]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "TokenClip":
        """The same batch on another device."""
        return TokenClip(
            self.tokens.to(device, non_blocking=non_blocking),
            self.codes.to(device, non_blocking=non_blocking),
        )


def write_tokens(
    folder: Path,
    shards: ShardSet,
    tokenizer: VideoTokenizer,
    lam: LatentActionModel,
    parents: Mapping[str, str],
    progress: Callable[[int], None] | None = None,
) -> int:
    """Tokenise every shard that has no valid record yet; safe to stop and call again.

    Args:
        folder: where the records go.
        shards: what to tokenise, all splits.
        tokenizer: in evaluation mode, on the device to compute on.
        lam: likewise.
        parents: sha256 of the weights of `tokenizer` and `lam`, kept in every record.
        progress: called with the number of shards that are done.

    Returns:
        How many shards were tokenised by this call.
    """
    if max(tokenizer.num_codes, lam.num_codes) > NO_CODE:
        raise UserError(
            f"{folder}: a token is stored in 16 bits; choose a codebook of at most {NO_CODE} codes"
        )
    num_made = 0
    for number, shard in enumerate(shards.shards):
        if not _is_valid(folder, shard, parents):
            _write_shard(folder, shards, shard, tokenizer, lam, parents)
            num_made += 1
        if progress is not None:
            progress(number + 1)
    return num_made


def _write_shard(
    folder: Path,
    shards: ShardSet,
    shard: Shard,
    tokenizer: VideoTokenizer,
    lam: LatentActionModel,
    parents: Mapping[str, str],
) -> None:
    tokens, codes = [], []
    for sample in shards.read(shard):
        frames = to_frames(sample.frames()).to(next(tokenizer.parameters()).device)
        shot_tokens, shot_codes = encode_shot(frames, tokenizer, lam)
        tokens.append(shot_tokens)
        codes.append(shot_codes)
    record = _record_path(folder, shard)
    record.unlink(missing_ok=True)  # a stale record must not vouch for new arrays
    write_bytes(_tokens_path(folder, shard), _npy(np.concatenate(tokens)))
    write_bytes(_codes_path(folder, shard), _npy(np.concatenate(codes)))
    write_json(record, _origin(shard, parents))


@torch.inference_mode()
def encode_shot(
    frames: Tensor, tokenizer: VideoTokenizer, lam: LatentActionModel
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens `t n` and codes `t` of one shot `t c h w` in [0, 1]; the last code is NO_CODE."""
    tokens = tokenizer.encode(frames[None]).index[0].cpu().numpy().astype(np.uint16)
    codes = np.full(len(frames), NO_CODE, dtype=np.uint16)
    if len(frames) > 1:
        codes[:-1] = lam.encode(frames[None]).index[0].cpu().numpy()
    return tokens, codes


class TokenWindows:
    """All windows of `clip_frames` consecutive frames that lie within one shot, numbered from 0."""

    def __init__(
        self, folder: Path, shards: ShardSet, parents: Mapping[str, str], split: str, clip_frames: int
    ) -> None:
        """Open what `write_tokens` wrote for one split, with the same parents.

        Raises:
            UserError: a shard has no valid tokens, or no shot is long enough.
        """
        self.clip_frames = clip_frames
        self._files: list[tuple[Path, Path]] = []
        self._file_of: list[int] = []  # of each shot
        self._row_of: list[int] = []  # of each shot's first frame, in its file
        counts: list[int] = []  # windows of each shot
        for shard in shards.of(split):
            if not _is_valid(folder, shard, parents):
                raise UserError(f"{folder}: no valid tokens for {shard.file}; run the dynamics stage again")
            row = 0
            for length in shard.lengths:
                if length >= clip_frames:
                    self._file_of.append(len(self._files))
                    self._row_of.append(row)
                    counts.append(length - clip_frames + 1)
                row += length
            self._files.append((_tokens_path(folder, shard), _codes_path(folder, shard)))
        if not counts:
            raise UserError(
                f"{folder}: no shot of split '{split}' has {clip_frames} frames; "
                "lower dynamics.train.clip_frames or ingest longer shots"
            )
        self._ends = np.cumsum(counts)
        self._map = functools.lru_cache(maxsize=OPEN_FILES)(functools.partial(np.load, mmap_mode="r"))

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, windows: Sequence[int]) -> TokenClip:
        """The given windows as one batch."""
        pairs = [self._read_one(window) for window in windows]
        tokens, codes = (
            torch.from_numpy(np.stack(rows).astype(np.int64)) for rows in zip(*pairs, strict=True)
        )
        return TokenClip(tokens=tokens, codes=codes)

    def _read_one(self, window: int) -> tuple[np.ndarray, np.ndarray]:
        shot = int(np.searchsorted(self._ends, window, side="right"))
        first = self._row_of[shot] + window - (int(self._ends[shot - 1]) if shot else 0)
        tokens, codes = self._files[self._file_of[shot]]
        last = first + self.clip_frames
        return self._map(tokens)[first:last], self._map(codes)[first : last - 1]


class TokenLoader:
    """An endless stream of batches whose order is a function of the seed alone.

    Every epoch is a new permutation of all windows. Global batch i is the same set of windows for any
    number of processes: process `rank` takes every `world_size`-th of it. The state is one number.
    """

    def __init__(
        self, windows: TokenWindows, batch: int, seed: int, *, rank: int = 0, world_size: int = 1
    ) -> None:
        """Prepare a stream of `batch` windows per process and step."""
        self._windows, self._batch, self._seed = windows, batch, seed
        self._rank, self._world_size = rank, world_size
        self._num_read = 0
        self._order = functools.lru_cache(maxsize=2)(self._permutation)

    def __iter__(self) -> Iterator[TokenClip]:
        while True:
            first = self._num_read * self._batch * self._world_size + self._rank
            positions = range(first, first + self._batch * self._world_size, self._world_size)
            self._num_read += 1
            yield self._windows.read([self._window_at(position) for position in positions])

    def state_dict(self) -> dict[str, int]:
        """How many batches have been read."""
        return {"num_read": self._num_read}

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Continue after that many batches."""
        self._num_read = state_dict["num_read"]

    def _window_at(self, position: int) -> int:
        epoch, place = divmod(position, len(self._windows))
        return int(self._order(epoch)[place])

    def _permutation(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self._seed, epoch]).permutation(len(self._windows))


def spread(num: int, limit: int) -> list[int]:
    """At most `limit` of the numbers 0 … num - 1, evenly spread, the same every time."""
    return np.linspace(0, num - 1, min(num, limit)).round().astype(int).tolist()


def _origin(shard: Shard, parents: Mapping[str, str]) -> dict[str, Any]:
    return {"format": FORMAT, "shard": shard.sha256, **{name: parents[name] for name in ("tokenizer", "lam")}}


def _is_valid(folder: Path, shard: Shard, parents: Mapping[str, str]) -> bool:
    """Whether the shard's arrays were made from this shard by these parents."""
    path = _record_path(folder, shard)
    return path.is_file() and read_json(path, "a record of tokens", "delete it") == _origin(shard, parents)


def _record_path(folder: Path, shard: Shard) -> Path:
    return folder / f"{Path(shard.file).stem}.json"


def _tokens_path(folder: Path, shard: Shard) -> Path:
    return folder / f"{Path(shard.file).stem}.tokens.npy"


def _codes_path(folder: Path, shard: Shard) -> Path:
    return folder / f"{Path(shard.file).stem}.codes.npy"


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
