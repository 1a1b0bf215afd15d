"""One part of the latents, from one shard: what a model measured of each shot, beside what is known of its frames."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from genie_lite.data.labels import Labels, fingerprint
from genie_lite.data.shards.index import Shard
from genie_lite.data.shards.shards import Sample, ShardDamage, ShardSet
from genie_lite.errors import UserError
from genie_lite.latents.actions import ActionColumn
from genie_lite.latents.encode import Measured, encode_shot
from genie_lite.latents.shot import Shot
from genie_lite.latents.table import FORMAT, NO_CODE, Latents, concatenate, encode_part
from genie_lite.models.lam import LatentActionModel


@dataclass(frozen=True)
class Task:
    """What all parts are made from. lam_sha: hash of the model's weights. horizon: frames of a transition."""

    shards: ShardSet
    lam_sha: str
    horizon: int
    labels: Labels | None

    @cached_property
    def labels_sha(self) -> str | None:
        """What the actions were read from."""
        return None if self.labels is None else fingerprint(self.labels)

    def stamp(self, shard: Shard) -> dict[str, str]:
        """What the part of a shard was made from: a part with another stamp is written again."""
        return {
            "format": str(FORMAT),
            "lam": self.lam_sha,
            "shard": shard.sha256,
            "horizon": str(self.horizon),
            "labels": self.labels_sha or "",
        }

    @cached_property
    def _actions(self) -> ActionColumn | None:
        return None if self.labels is None else ActionColumn(self.labels)

    def make(self, lam: LatentActionModel, shard: Shard, on_sample: Callable[[], None]) -> bytes:
        """The part of one shard; `on_sample` is called after each of its shots.

        Raises:
            ShardDamage: the shard cannot be read, or a shot of it cannot be decoded or contradicts itself.
            UserError: the shard cannot be fetched.
        """
        samples = self.shards.read(shard)
        parts = []
        for sample in samples:
            try:
                parts.append(self._describe(lam, sample, shard.split))
            except UserError as error:
                raise ShardDamage(str(error), shard.file, str(error)) from error
            on_sample()
        return encode_part(concatenate(parts), self.stamp(shard))

    def _describe(self, lam: LatentActionModel, sample: Sample, split: str) -> Latents:
        shot, ahead = Shot.of(sample, split), self.horizon
        native, times_s, num = shot.native, shot.times_s, len(shot.native)
        measured = encode_shot(lam, num, _reader(sample, num, lam.config.frame_hw), ahead)
        return Latents(
            source=np.full(num, shot.source),
            key=np.full(num, sample.key),
            split=np.full(num, split),
            frame_index=native,
            timestamp_s=times_s,
            horizon_frames=_fill(native[ahead:] - native[:-ahead], num, 0, np.int32),
            dt_s=_fill(times_s[ahead:] - times_s[:-ahead], num, np.nan, np.float32),
            **_columns(measured, num, code_type(lam.num_codes)),
            valid=np.arange(num) < num - ahead,
            action=None if self._actions is None else self._actions.of(shot.source, native),
        )


def part_name(shard: Shard) -> str:
    """File name of the part that describes a shard."""
    return f"{Path(shard.file).stem}.parquet"


def _reader(
    sample: Sample, num: int, frame_hw: tuple[int, int]
) -> Callable[[int, int], UInt8[np.ndarray, "t h w c"]]:
    """Frames from one index up to another; a shot that is read at once is decoded from front to back."""

    def read(start: int, stop: int) -> UInt8[np.ndarray, "t h w c"]:
        frames = sample.frames(None if (start, stop) == (0, num) else list(range(start, stop)))
        if len(frames) != stop - start:
            raise UserError(f"{sample.key}: {len(frames)} frames, its sample says {stop - start}")
        if frames.shape[1:3] != frame_hw:
            found, wanted = ("x".join(map(str, hw)) for hw in (frames.shape[1:3], frame_hw))
            raise UserError(f"{sample.key}: frames of {found} pixels, its shards are of {wanted}")
        return frames

    return read


def code_type(num_codes: int) -> type[np.signedinteger[Any]]:
    """Of the column `code`: 32 bits as long as they are enough."""
    return np.int32 if num_codes <= 2**31 else np.int64


def _columns(measured: Measured, num: int, code: Any) -> dict[str, np.ndarray]:
    return {
        "code": _fill(measured.code, num, NO_CODE, code),
        "tokens": _fill(measured.tokens, num, NO_CODE, np.int32),
        "embedding": _fill(measured.embedding, num, np.nan, np.float32),
        "recon_psnr_db": _fill(measured.recon_psnr_db, num, np.nan, np.float32),
        "copy_psnr_db": _fill(measured.copy_psnr_db, num, np.nan, np.float32),
    }


def _fill(rows: np.ndarray, num: int, filler: int | float, kind: Any) -> np.ndarray:
    """Rows of the frames that lead nowhere, at the end: a NaN cannot be mistaken for a measurement."""
    last = np.full((num - len(rows), *rows.shape[1:]), filler, dtype=kind)
    return np.concatenate([rows.astype(kind), last])
