"""Finished latents without a model: what an extraction leaves, with numbers that say which frame they are of."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genie_lite.data.shards.shards import ShardSet
from genie_lite.files import sha256_of, write_json
from genie_lite.latents.table import FORMAT, Latents, concatenate, write_part

WIDTH, TOKENS, CODES = 3, 2, 16
HORIZON = 2


def latents_of_video(
    source: str,
    num_frames: int,
    *,
    key: str | None = None,
    split: str = "train",
    horizon: int = HORIZON,
    stride: int = 1,
    rate_hz: float = 10.0,
    width: int = WIDTH,
    action: np.ndarray | None = None,
) -> Latents:
    """Rows of one shot. Embedding of frame k is [k, a number of the source, -k]; the last `horizon` are not valid.

    stride: native frames from one row to the next. horizon: rows from a frame to the one it leads to.
    """
    k = np.arange(num_frames)
    valid = k < num_frames - horizon
    own = sum(map(ord, source)) % 97
    embedding = np.zeros((num_frames, width), dtype=np.float32)
    embedding[:, 0], embedding[:, 1], embedding[:, -1] = k, own, -k
    embedding[~valid] = np.nan
    code = np.where(valid, (k + own) % CODES, -1).astype(np.int32)
    measured = np.where(valid, 30.0, np.nan).astype(np.float32)
    return Latents(
        source=np.full(num_frames, source),
        key=np.full(num_frames, key or source.replace(".", "_").replace("/", "-")),
        split=np.full(num_frames, split),
        frame_index=k * stride,
        timestamp_s=k * stride / rate_hz,
        horizon_frames=np.where(valid, horizon * stride, 0).astype(np.int32),
        dt_s=np.where(valid, horizon * stride / rate_hz, np.nan).astype(np.float32),
        code=code,
        tokens=np.stack([np.where(valid, code // 4, -1), np.where(valid, code % 4, -1)], axis=1).astype(
            np.int32
        ),
        embedding=embedding,
        recon_psnr_db=measured,
        copy_psnr_db=measured - 5,
        valid=valid,
        action=action,
    )


def latents_of_videos(folder: Path, lengths: Mapping[str, int], **how: Any) -> Path:
    """Latents of whole videos, in one part."""
    rows = [latents_of_video(name, length, **how) for name, length in lengths.items()]
    return write_latents(folder, {"train-000000": concatenate(rows)})


def latents_of_shards(folder: Path, shards: ShardSet, **how: Any) -> Path:
    """Latents of every sample, a part per shard."""
    parts = {}
    for shard in shards.shards:
        rows = [
            latents_of_video(
                sample.meta["source"],
                sample.meta["num_frames"],
                key=sample.key,
                split=sample.meta["split"],
                stride=3,
                rate_hz=30.0,
                **how,
            )
            for sample in shards.read(shard)
        ]
        parts[Path(shard.file).stem] = concatenate(rows)
    return write_latents(folder, parts, [shard.sha256 for shard in shards.shards])


def write_latents(folder: Path, parts: Mapping[str, Latents], shas: Sequence[str] | None = None) -> Path:
    """Parts by name, and the manifest."""
    for name, rows in parts.items():
        write_part(folder / f"{name}.parquet", rows, {})
    everything = concatenate(list(parts.values()))
    entries = [
        {
            "file": f"{name}.parquet",
            "split": str(rows.split[0]),
            "shard_sha256": sha,
            "sha256": sha256_of(folder / f"{name}.parquet"),
            "rows": len(rows),
            "transitions": int(rows.valid.sum()),
        }
        for (name, rows), sha in zip(parts.items(), shas or [""] * len(parts), strict=True)
    ]
    width = everything.embedding.shape[1]
    write_json(
        folder / "manifest.json",
        {
            "format": FORMAT,
            "lam": {"sha256": "ab" * 32, "config": {}},
            "shards": {"fingerprint": "", "config": {}},
            "rate_hz": 10.0,
            "every": "frame",
            "window": {"frames": HORIZON, "native_frames": HORIZON, "s": HORIZON / 10},
            "num_codes": CODES,
            "num_tokens": everything.tokens.shape[1],
            "codes_per_token": 4,
            "embedding_width": width,
            "code_centres": np.zeros((CODES, width)).tolist(),
            "counts": {"rows": len(everything), "transitions": int(everything.valid.sum())},
            "quality": {"perplexity": 4.0},
            "parts": entries,
        },
    )
    return folder
