"""WebDataset sidecars: for every tar of the video shards a tar of the same name with the latents of its samples.

    train-000000.tar    {key}.latent.npz, {key}.latent.json, {key}.latent.npz, ...
    manifest.json       last: format, what made the latents, and per tar its sha256 and counts

Keys and their order are those of the shards, so the two are read in step, or joined by key:

    video, labels = wds.WebDataset("shards/train-000000.tar"), wds.WebDataset("latents/train-000000.tar")
    for sample, label in zip(video, labels):
        assert sample["__key__"] == label["__key__"]
        arrays = np.load(io.BytesIO(label["latent.npz"]))

`latent.npz` has a row per frame of the sample: code (n,), tokens (n, m), embedding (n, d), valid (n,), frame_index,
timestamp_s, horizon_frames, dt_s, recon_psnr_db, copy_psnr_db, and action where labels were given. Where `valid` is
false code and tokens are -1 and measurements NaN. `latent.json` has source, split, num_frames and num_valid.
"""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from genie_lite.data.shards.index import Shard
from genie_lite.data.shards.shards import ShardSet
from genie_lite.data.shards.tar import RecordWriter
from genie_lite.errors import UserError
from genie_lite.files import sha256_of
from genie_lite.latents.formats.labelled import Progress, Source
from genie_lite.latents.formats.names import expect_name
from genie_lite.latents.formats.target import Target, fingerprint, job_of
from genie_lite.latents.table import Latents, read_manifest, read_part

MEMBERS = ("latent.npz", "latent.json")
ARRAYS = ("code", "tokens", "embedding", "valid", "frame_index", "timestamp_s", "horizon_frames", "dt_s")
MEASURES = ("recon_psnr_db", "copy_psnr_db")


def write(
    folder: Path, source: Source, out: Path, title: str | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Write the sidecars; returns the manifest. A tar that is there from before is kept.

    Args:
        folder: finished latents.
        source: the shards that they were extracted from.
        out: an empty folder, or one in which this was begun before; not that of the shards.
        title: not used, for keys say of which video a sample is.
        progress: called with (samples done, samples).

    Raises:
        UserError: no shards, latents of other shards, a folder that holds something else.
    """
    if not isinstance(source, ShardSet):
        raise UserError(
            f"{source}: is no folder of shards, beside which webdataset sidecars are; expected shards"
        )
    manifest = read_manifest(folder)
    parts = {part["shard_sha256"]: part for part in manifest["parts"]}
    missing = [shard.file for shard in source.shards if shard.sha256 not in parts]
    if missing:
        raise UserError(
            f"{folder}: no latents of {source.place}/{missing[0]} as it is now ({len(missing)} such shards); run "
            "extract again"
        )
    with Target(out, job_of("webdataset", folder, source.fingerprint)) as target:
        return target.done or _write(target, folder, source, progress)


def _write(target: Target, folder: Path, source: ShardSet, progress: Progress | None) -> dict[str, Any]:
    manifest = read_manifest(folder)
    parts = {part["shard_sha256"]: part for part in manifest["parts"]}
    total, done, entries = sum(shard.samples for shard in source.shards), 0, []
    for shard in source.shards:
        part = parts[shard.sha256]
        made_from = fingerprint(part["sha256"], shard.sha256)
        entries.append(_write_shard(target, shard, read_part(folder / part["file"]), made_from))
        done += shard.samples
        if progress is not None:
            progress(done, total)
    about = {name: manifest[name] for name in ("lam", "window", "num_codes", "num_tokens", "code_centres")}
    return target.describe(
        {
            "latents": about | {"embedding_width": manifest["embedding_width"]},
            "quality": manifest["quality"],
            "video": {"fingerprint": source.fingerprint},
            "members": list(MEMBERS),
            "shards": entries,
        }
    )


def _write_shard(target: Target, shard: Shard, rows: Latents, made_from: str) -> dict[str, Any]:
    """One tar, and its entry in the manifest."""
    keys, starts, counts = np.unique(rows.key, return_index=True, return_counts=True)
    order = np.argsort(starts)
    if tuple(counts[order].tolist()) != shard.lengths:
        raise UserError(f"{shard.file}: its latents have other frames than its samples; run extract again")
    for key in keys:
        expect_name(str(key), f"{shard.file}: sample")  # whoever unpacks the tar takes it for a path
    path = target.out / shard.file
    if not target.journal.keeps(path, made_from):
        writer = RecordWriter(path)
        try:
            with target.journal.making(path, made_from):
                for key, start, count in zip(keys[order], starts[order], counts[order], strict=True):
                    writer.add(str(key), _members(rows.select(np.arange(start, start + count))))
                writer.close()
        finally:
            writer.drop()
    return {
        "file": shard.file,
        "split": shard.split,
        "sha256": sha256_of(path),
        "video_sha256": shard.sha256,
        "samples": shard.samples,
        "frames": len(rows),
        "valid": int(rows.valid.sum()),
    }


def _members(rows: Latents) -> dict[str, bytes]:
    arrays = {name: getattr(rows, name) for name in (*ARRAYS, *MEASURES)}
    if rows.action is not None:
        arrays["action"] = rows.action
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    about = {
        "source": str(rows.source[0]),
        "split": str(rows.split[0]),
        "num_frames": len(rows),
        "num_valid": int(rows.valid.sum()),
    }
    return dict(zip(MEMBERS, (buffer.getvalue(), json.dumps(about).encode()), strict=True))
