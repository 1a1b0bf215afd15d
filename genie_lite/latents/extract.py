"""Extraction: every transition of the shards to its latent action, as columns that any trainer can read.

    shards + LAM ──▶ OUT/<shard>.parquet (one part per shard) + OUT/manifest.json (last: it means finished)

Columns are those of `latents.Latents`. A shot is encoded whole, so every code has seen as much of the past
as the model can use; only shots that are too long for memory are cut, with as much overlap as the model
can see, which changes nothing. Parts that exist and were made from the same shard by the same model are
kept, so an interrupted extraction goes on where it stopped.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from genie_lite.data.loading.loader import to_frames
from genie_lite.data.shards.index import Shard
from genie_lite.data.shards.shards import Sample, ShardSet
from genie_lite.errors import UserError
from genie_lite.files import sha256_of, write_json
from genie_lite.latents.table import (
    FORMAT,
    Latents,
    concatenate,
    read_manifest,
    read_part,
    read_stamp,
    write_part,
)
from genie_lite.metrics import perplexity, psnr_db
from genie_lite.models.lam import LatentActionModel

MAX_FRAMES = 512  # of a shot in memory at once: with 64 x 64 pixels, about a gigabyte of activations


def extract(
    lam: LatentActionModel,
    shards: ShardSet,
    out: Path,
    *,
    lam_sha: str,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write the latent action of every transition; returns the manifest.

    Args:
        lam: in evaluation mode, on the device to use.
        shards: where the frames come from.
        out: folder to write.
        lam_sha: hash of the model's weights; parts made by another model are written again.
        progress: called with (samples done, samples).

    Raises:
        UserError: a shard that was altered, or frames of another size than the model's.
    """
    if shards.frame_hw != lam.config.frame_hw:
        found, wanted = ("x".join(map(str, hw)) for hw in (shards.frame_hw, lam.config.frame_hw))
        raise UserError(
            f"{shards.folder}: frames of {found} pixels, the latent action model reads {wanted}; "
            f"ingest again with size_px={lam.config.frame_hw[0]}"
        )
    if _is_done(out, shards, lam_sha):
        return read_manifest(out)
    (out / "manifest.json").unlink(missing_ok=True)
    total, done = sum(shard.samples for shard in shards.shards), 0
    for shard in shards.shards:
        path = out / part_name(shard)
        stamp = {"format": str(FORMAT), "lam": lam_sha, "shard": shard.sha256}
        if read_stamp(path) != stamp:
            write_part(path, concatenate([_describe(lam, sample) for sample in shards.read(shard)]), stamp)
        done += shard.samples
        if progress is not None:
            progress(done, total)
    # Left over from other shards: who reads all parts would take them for these.
    for stale in set(out.glob("*.parquet")) - {out / part_name(shard) for shard in shards.shards}:
        stale.unlink()
    write_json(out / "manifest.json", _manifest(lam, shards, out, lam_sha))
    return read_manifest(out)


def part_name(shard: Shard) -> str:
    """File name of the part that describes a shard."""
    return f"{Path(shard.file).stem}.parquet"


@torch.inference_mode()
def encode_shot(
    lam: LatentActionModel, frames: Float[Tensor, "t c h w"], max_frames: int = MAX_FRAMES
) -> dict[str, np.ndarray]:
    """Code, embedding and the two PSNRs of every transition of one shot, on the CPU, t - 1 rows each."""
    device = lam.place.device
    parts: dict[str, list[Tensor]] = {"code": [], "embedding": [], "recon_psnr_db": [], "copy_psnr_db": []}
    for start, stop, skip in pieces(len(frames), max_frames, reach(lam)):
        clip = frames[None, start:stop].to(device)
        result = lam(clip)
        parts["code"].append(result.code.index[0, skip:])
        parts["embedding"].append(result.code.embedding[0, skip:].float())
        parts["recon_psnr_db"].append(psnr_db(result.prediction[0, skip:], clip[0, skip + 1 :]))
        parts["copy_psnr_db"].append(psnr_db(clip[0, skip:-1], clip[0, skip + 1 :]))
    return {name: torch.cat(tensors).cpu().numpy() for name, tensors in parts.items()}


def reach(lam: LatentActionModel) -> int:
    """How many earlier frames can influence a prediction: each block of both halves looks a window back."""
    return lam.config.depth * (lam.config.window - 1 + lam.config.past_window - 1)


def pieces(num_frames: int, max_frames: int, overlap: int) -> Iterator[tuple[int, int, int]]:
    """Cut a shot into (start, stop, transitions to skip) so that every transition comes out once.

    Each piece begins `overlap` frames before its first new transition; one piece if the shot is short.
    """
    stop = done = 0  # transitions 0 … done - 1 have been given
    while stop < num_frames:
        start = max(0, done - overlap)
        stop = min(num_frames, start + max(max_frames, overlap + 2))
        yield start, stop, done - start
        done = stop - 1


def _describe(lam: LatentActionModel, sample: Sample) -> Latents:
    meta = sample.meta
    native = np.asarray(meta["source_frames"], dtype=np.int64)
    times_s = np.asarray(meta.get("times_s", native / meta["source_rate_hz"]), dtype=np.float64)
    num = len(native)
    measured = encode_shot(lam, to_frames(sample.frames()[None])[0])
    valid = np.arange(num) < num - 1
    return Latents(
        source=np.full(num, meta["source"]),
        key=np.full(num, sample.key),
        split=np.full(num, meta["split"]),
        frame_index=native,
        timestamp_s=times_s,
        horizon_frames=np.append(np.diff(native), 0).astype(np.int32),
        dt_s=_end_with_nan(np.diff(times_s)),
        code=np.append(measured["code"], -1).astype(np.int32),
        embedding=_end_with_nan(measured["embedding"]),
        recon_psnr_db=_end_with_nan(measured["recon_psnr_db"]),
        copy_psnr_db=_end_with_nan(measured["copy_psnr_db"]),
        valid=valid,
    )


def _end_with_nan(rows: np.ndarray) -> np.ndarray:
    """Row of the last frame: nothing follows it, and a NaN cannot be mistaken for a measurement."""
    return np.concatenate([rows, np.full((1, *rows.shape[1:]), np.nan)]).astype(np.float32)


def _is_done(out: Path, shards: ShardSet, lam_sha: str) -> bool:
    if not (out / "manifest.json").is_file():
        return False
    manifest = read_manifest(out)
    parts = {part["file"]: part["sha256"] for part in manifest["parts"]}
    return (
        manifest["lam"]["sha256"] == lam_sha
        and manifest["shards"]["fingerprint"] == shards.fingerprint
        and parts.keys() == {part_name(shard) for shard in shards.shards}
        and all((out / name).is_file() and sha256_of(out / name) == sha for name, sha in parts.items())
    )


def _manifest(lam: LatentActionModel, shards: ShardSet, out: Path, lam_sha: str) -> dict[str, Any]:
    rows = {shard.file: read_part(out / part_name(shard)) for shard in shards.shards}
    everything = concatenate(list(rows.values()))
    used = everything.select(everything.valid)
    return {
        "format": FORMAT,
        "lam": {"sha256": lam_sha, "config": lam.config.model_dump()},
        "shards": {"fingerprint": shards.fingerprint, "config": shards.config},
        "rate_hz": shards.rate_hz,
        "horizon": 1,  # frame k -> k + 1 at rate_hz; the column horizon_frames counts native frames
        "num_codes": lam.num_codes,
        "embedding_width": int(everything.embedding.shape[1]),
        "code_centres": lam.code_vectors().detach().cpu().tolist(),
        "counts": {
            "rows": len(everything),
            "transitions": len(used),
            "shots": int((~everything.valid).sum()),
            "sources": len(np.unique(everything.source)),
            "by_code": np.bincount(used.code, minlength=lam.num_codes).tolist(),
        },
        "quality": _quality(used, lam.num_codes),
        "parts": [
            {
                "file": part_name(shard),
                "split": shard.split,
                "shard_sha256": shard.sha256,
                "sha256": sha256_of(out / part_name(shard)),
                "rows": len(rows[shard.file]),
                "transitions": int(rows[shard.file].valid.sum()),
            }
            for shard in shards.shards
        ],
    }


def _quality(used: Latents, num_codes: int) -> dict[str, float]:
    """Is there anything in the codes? Without labels: prediction against copying, and how codes are used."""
    code = torch.from_numpy(used.code)
    still = used.copy_psnr_db >= 50  # decibels: less than a grey level of change, there is nothing to name
    return {
        "recon_psnr_db": float(used.recon_psnr_db.mean()),
        "copy_psnr_db": float(used.copy_psnr_db.mean()),
        "closer_than_copy": float((used.recon_psnr_db > used.copy_psnr_db).mean()),
        "still": float(still.mean()),
        "codes_used": int((np.bincount(used.code, minlength=num_codes) > 0).sum()),
        "perplexity": perplexity(code, num_codes),
    }
