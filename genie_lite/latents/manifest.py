"""The manifest of latents: what they were made from, how many there are, and whether there is anything in them.

    format, genie_lite      of this file; the version of the program that wrote it
    lam, shards             what they were made from; skipped: [{file, reason}] of shards that cannot be read
    rate_hz, every, window  how far apart rows are, and how far each reaches: frames, native_frames, s
    num_codes, num_tokens, codes_per_token, embedding_width, code_centres
    counts                  rows, transitions, invalid, uneven, labelled, shots, sources, by_code
    quality                 see `Survey.quality`
    actions                 kind, names and sha256 of the labels; null without
    parts                   [{file, split, shard_sha256, sha256, rows, transitions}]

Everything is summed up part by part, in the order of the shards, so it does not matter who made them, and when.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from genie_lite import __version__
from genie_lite.data.labels import Labels
from genie_lite.data.shards.index import Shard, fingerprint_of
from genie_lite.data.shards.shards import ShardSet
from genie_lite.errors import UserError
from genie_lite.files import sha256_of
from genie_lite.latents.part import Task, part_name
from genie_lite.latents.table import FORMAT, MANIFEST_FILE, Latents, read_manifest, read_part
from genie_lite.latents.window import Every, Horizon
from genie_lite.models.lam import LatentActionModel
from genie_lite.nn.quantize import MOST_CODES

STILL_DB = 50  # above it, copying is right: less than a grey level of change, there is nothing to name
ACTIVE_VARIANCE = 0.01  # of an embedding's unit over all transitions; below it, it says nothing
MOST_NUMBERS = 1 << 20  # in the table of code centres; of a larger alphabet it would be hundreds of megabytes


@dataclass
class Survey:
    """Sums over all rows, kept while parts go by: none is held in memory."""

    num_codes: int
    is_continuous: bool = False
    rows: int = 0
    transitions: int = 0
    shots: int = 0
    labelled: int = 0
    sources: set[str] = field(default_factory=set)
    by_code: Counter[int] = field(default_factory=Counter)
    by_token: list[np.ndarray] = field(default_factory=list)
    native: Counter[int] = field(default_factory=Counter)
    sums: dict[str, float] = field(default_factory=dict)
    moments: np.ndarray | None = None

    def add(self, part: Latents) -> None:
        """Count the rows of one part."""
        used = part.select(part.valid)
        self.rows += len(part)
        self.transitions += len(used)
        self.shots += len(np.unique(part.key))
        self.labelled += int(part.has_action.sum())
        self.sources.update(np.unique(part.source).tolist())
        for code, num in zip(*np.unique(used.code, return_counts=True), strict=True):
            self.by_code[int(code)] += int(num)
        for frames, num in zip(*np.unique(used.horizon_frames, return_counts=True), strict=True):
            self.native[int(frames)] += int(num)
        counts = [np.bincount(column) for column in used.tokens.T]
        self.by_token = [
            _add(a, b)
            for a, b in zip(self.by_token or [np.zeros(0, np.int64)] * len(counts), counts, strict=True)
        ]
        embedding = used.embedding.astype(np.float64)
        moments = np.stack([embedding.sum(axis=0), np.square(embedding).sum(axis=0)])
        self.moments = moments if self.moments is None else self.moments + moments
        for name, column in _measured(used).items():
            self.sums[name] = self.sums.get(name, 0.0) + float(column.astype(np.float64).sum())

    @property
    def native_frames(self) -> int:
        """How many frames of their video most transitions span; 0 if there are none."""
        most = max(self.native.values(), default=0)
        return min((frames for frames, num in self.native.items() if num == most), default=0)

    def counts(self) -> dict[str, Any]:
        """How many there are.

        uneven: transitions over more or fewer frames of their video than most. by_code: of every code, None of an
        alphabet that is too large to be listed.
        """
        return {
            "rows": self.rows,
            "transitions": self.transitions,
            "invalid": self.rows - self.transitions,
            "uneven": self.transitions - max(self.native.values(), default=0),
            "labelled": self.labelled,
            "shots": self.shots,
            "sources": len(self.sources),
            "by_code": [self.by_code[code] for code in range(self.num_codes)]
            if self.num_codes <= MOST_CODES
            else None,
        }

    def quality(self) -> dict[str, Any]:
        """Is there anything in the codes? Without labels: prediction against copying, and how codes are used.

        recon_psnr_db, copy_psnr_db: means. closer_than_copy: share of transitions whose prediction is nearer than the
        frame before. still: share in which nothing changes. codes_used, perplexity: of `code`. tokens: the same at
        each position of a choice of several tokens. active_units: components of a continuous embedding that vary.
        None where there is nothing to measure.
        """
        means = {
            name: total / self.transitions if self.transitions else None for name, total in self.sums.items()
        }
        return {
            **means,
            **_usage(np.asarray([num for _, num in sorted(self.by_code.items())], np.int64)),
            "tokens": [_usage(counts) for counts in self.by_token],
            "active_units": self._active_units() if self.is_continuous else None,
        }

    def _active_units(self) -> int | None:
        if self.moments is None or not self.transitions:
            return None
        mean, square = self.moments / self.transitions
        return int((square - np.square(mean) > ACTIVE_VARIANCE).sum())


@dataclass(frozen=True)
class About:
    """What the latents are, beside their rows. skipped: (file, reason) of the shards that cannot be read."""

    task: Task
    every: Every
    window: Horizon
    skipped: Sequence[tuple[str, str]]

    @property
    def made_from(self) -> dict[str, Any]:
        """Finished latents with the same entries need not be made again."""
        return {
            "lam": self.task.lam_sha,
            "shards": self.task.shards.fingerprint,
            "every": self.every,
            "frames": self.window.frames,
            "labels": self.task.labels_sha,
        }


def build_manifest(lam: LatentActionModel, about: About, out: Path) -> dict[str, Any]:
    """The manifest of the parts that lie in a folder; see the top of this file."""
    survey, parts = Survey(lam.num_codes, lam.quantizer.is_continuous), []
    width = num_tokens = 0
    missing = {file for file, _ in about.skipped}
    for shard in about.task.shards.shards:
        if shard.file in missing:
            continue
        rows = read_part(out / part_name(shard))
        survey.add(rows)
        parts.append(_entry(shard, rows, out / part_name(shard)))
        num_tokens, width = rows.tokens.shape[1], rows.embedding.shape[1]
    window = {"frames": about.window.frames, "native_frames": survey.native_frames, "s": about.window.seconds}
    return {
        "format": FORMAT,
        "genie_lite": __version__,
        "lam": {"sha256": about.task.lam_sha, "config": json.loads(lam.config.model_dump_json())},
        "shards": {"fingerprint": about.task.shards.fingerprint, "config": about.task.shards.config},
        "rate_hz": about.window.rate_hz,
        "every": about.every,
        "window": window,
        "num_codes": lam.num_codes,
        "num_tokens": num_tokens,
        "codes_per_token": lam.quantizer.codes_per_token,
        "embedding_width": width,
        "code_centres": _centres(lam),
        "counts": survey.counts() | {"skipped_shards": len(about.skipped)},
        "quality": survey.quality(),
        "actions": _actions(about.task.labels, about.task.labels_sha),
        "skipped": [{"file": file, "reason": reason} for file, reason in about.skipped],
        "parts": parts,
    }


def described(shards: ShardSet, manifest: dict[str, Any]) -> ShardSet:
    """The shards without those that an extraction had to leave out: whoever reads both finds rows for all of them."""
    gone = {entry["file"]: str(entry.get("reason")) for entry in manifest.get("skipped", [])}
    kept = tuple(shard for shard in shards.shards if shard.file not in gone)
    left_out = tuple((shard.file, gone[shard.file]) for shard in shards.shards if shard.file in gone)
    return replace(
        shards, shards=kept, fingerprint=fingerprint_of(kept), skipped=(*shards.skipped, *left_out)
    )


def standing_manifest(out: Path) -> dict[str, Any] | None:
    """The manifest of finished latents that a folder holds, to be compared with what is wanted.

    None where they have to be made again: there is no manifest, it is of an older format, or it is damaged.

    Raises:
        UserError: the file of this name is not ours to replace, or that of a newer version.
    """
    path = out / MANIFEST_FILE
    if not path.exists():
        return None
    tree = _tree(path)
    version = tree.get("format")
    kinds = {"lam": dict, "shards": dict, "parts": list}  # since the first format
    is_ours = all(isinstance(tree.get(key), kind) for key, kind in kinds.items())
    if type(version) is not int or version < 1 or not is_ours:
        raise UserError(
            f"{path}: holds something else than a manifest of latents; choose another folder, or move it away and run "
            "extract again"
        )
    if version > FORMAT:
        raise UserError(
            f"{path}: format {version}, this version writes {FORMAT}; choose another folder, or install a newer version"
        )
    try:
        return read_manifest(out)
    except UserError:
        return None


def _tree(path: Path) -> dict[str, Any]:
    """The object that a file holds, an empty one where it holds none."""
    try:
        tree = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return tree if isinstance(tree, dict) else {}


def made_from(manifest: dict[str, Any]) -> dict[str, Any]:
    """What a manifest says that its latents were made from, as `About.made_from`."""
    actions = manifest.get("actions")
    return {
        "lam": manifest["lam"].get("sha256"),
        "shards": manifest["shards"].get("fingerprint"),
        "every": manifest.get("every"),
        "frames": manifest["window"].get("frames"),
        "labels": actions.get("sha256") if isinstance(actions, dict) else None,
    }


def _measured(used: Latents) -> dict[str, np.ndarray]:
    return {
        "recon_psnr_db": used.recon_psnr_db,
        "copy_psnr_db": used.copy_psnr_db,
        "closer_than_copy": used.recon_psnr_db > used.copy_psnr_db,
        "still": used.copy_psnr_db >= STILL_DB,
    }


def _usage(counts: np.ndarray) -> dict[str, Any]:
    return {"codes_used": int((counts > 0).sum()), "perplexity": _perplexity(counts)}


def _perplexity(counts: np.ndarray) -> float | None:
    share = counts[counts > 0] / max(1, counts.sum())
    return float(np.exp(-(share * np.log(share)).sum())) if len(share) else None


def _add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sum of two tables of counts, the shorter one filled up."""
    total = np.zeros(max(len(a), len(b)), np.int64)
    total[: len(a)] += a
    total[: len(b)] += b
    return total


def _centres(lam: LatentActionModel) -> list[list[float]] | None:
    """The vector of every code, None of an alphabet that is too large to be written down."""
    if not lam.quantizer.is_listable or lam.num_codes * lam.code_dim > MOST_NUMBERS:
        return None
    return lam.code_vectors().detach().cpu().tolist()


def _actions(labels: Labels | None, sha256: str | None) -> dict[str, Any] | None:
    if labels is None:
        return None
    return {"kind": labels.kind, "names": list(labels.names), "sha256": sha256}


def _entry(shard: Shard, rows: Latents, path: Path) -> dict[str, Any]:
    return {
        "file": path.name,
        "split": shard.split,
        "shard_sha256": shard.sha256,
        "sha256": sha256_of(path),
        "rows": len(rows),
        "transitions": int(rows.valid.sum()),
    }
