"""From labels of a person to a classifier: `genie-lite data quality SHARDS --labels labels.csv --out FOLDER`.

    labels + shards -> descriptions of the labelled clips -> linear head -> folder that `quality.Judge` loads

What is reported is measured on sources that were held out while the head was fitted; the head that is kept has
seen all of them.
"""

import platform
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from genie_lite import __version__
from genie_lite.data.quality.figures import FIGURES
from genie_lite.data.quality.fit import (
    Examples,
    about,
    choose_strength,
    fit,
    held_out_scores,
    num_folds,
    only,
)
from genie_lite.data.quality.judge import (
    FORMAT,
    HEAD,
    INDEX_FILE,
    VISION,
    WEIGHTS_FILE,
    Head,
    Judge,
    describe,
    expect_unused,
)
from genie_lite.data.quality.marks import QualityLabels, read_quality_labels
from genie_lite.data.quality.score import Scored, estimate_auc, estimate_threshold
from genie_lite.data.quality.vision import SUGGESTED, Vision
from genie_lite.data.shards.index import Shard
from genie_lite.data.shards.shards import Sample, ShardSet
from genie_lite.errors import UserError
from genie_lite.files import sha256_of, write_bytes, write_json

FEWEST_CLIPS, FEWEST_SOURCES = 10, 4  # of either label
THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)
MOST_DOUBTFUL = 10

Progress = Callable[[int, int], None]


def train_quality(
    shards: ShardSet,
    labels_csv: Path,
    out: Path,
    *,
    features: str = SUGGESTED,
    pretrained: bool = True,
    weights: Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a classifier and write its folder; an unfinished one is written over.

    Args:
        shards: with the labelled clips, of any split.
        labels_csv: see `quality_labels`.
        out: folder to write.
        features: name of the timm model.
        pretrained: whether it has weights that were learned from images; if not, it is a random projection.
        weights: those weights as a .safetensors file, where they cannot be downloaded.
        seed: of the random projection, of the folds and of the intervals.
        progress: called with (labelled clips described, labelled clips in all).

    Returns:
        What `quality.json` says.

    Raises:
        UserError: wrong labels, too few of them, a model that cannot be had, or a folder that is in use.
    """
    expect_unused(out)
    labels = read_quality_labels(labels_csv)
    found = _find(shards, labels)
    _expect_known(shards, labels_csv, labels, found)
    _expect_enough(labels_csv, found)
    vision = Vision.create(features, pretrained=pretrained, weights=weights, seed=seed)
    keys, examples = _examples(shards, labels, found, vision, progress)
    strength = choose_strength(examples, seed)
    tree = {
        "format": FORMAT,
        "figures": list(FIGURES),
        "vision": vision.config.model_dump(mode="json"),
        "head": {"strength": strength, "seed": seed},
        "labels": _about_labels(labels_csv, labels, found) | about(examples),
        "data": {"fingerprint": shards.fingerprint, "unreadable": len(found) - len(keys)},
        "cross_validation": _validation(keys, examples, seed),
        "meta": {"genie_lite": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }
    _write(out, vision, fit(examples, strength), tree)
    return Judge.load(out).about


@dataclass(frozen=True)
class _Found:
    """A labelled clip of the shards. name: what the label calls it."""

    shard: Shard
    name: str
    source: str
    is_good: bool


def _labelled(
    shards: ShardSet, some: Iterable[Shard], labels: QualityLabels
) -> Iterator[tuple[Sample, _Found]]:
    for shard in some:
        for sample in shards.read(shard):
            source = str(sample.meta["source"])
            name = sample.key if labels.column == "key" else source
            if name in labels.is_good:
                yield sample, _Found(shard, name, source, labels.is_good[name])


def _find(shards: ShardSet, labels: QualityLabels) -> dict[str, _Found]:
    """The labelled clips, by key; nothing is decoded yet, for there may be too few."""
    return {sample.key: found for sample, found in _labelled(shards, shards.shards, labels)}


def _expect_known(shards: ShardSet, path: Path, labels: QualityLabels, found: dict[str, _Found]) -> None:
    """Warn of names that the shards do not know, and refuse a file of nothing else."""
    unknown = sorted(labels.is_good.keys() - {each.name for each in found.values()})
    if not unknown:
        return
    if not found:
        there = _first_name(shards, labels)
        raise UserError(
            f"{path}: none of its {len(unknown)} {labels.column}s is in {shards.folder}: found {unknown[0]!r}, "
            f"expected names such as {there!r}"
        )
    warnings.warn(
        f"{path}: {len(unknown)} of {len(labels.is_good)} {labels.column}s are not in {shards.folder} and count for "
        f"nothing, such as {unknown[0]!r}",
        stacklevel=3,
    )


def _first_name(shards: ShardSet, labels: QualityLabels) -> str:
    first = shards.read(shards.shards[0])[0]
    return first.key if labels.column == "key" else str(first.meta["source"])


def _expect_enough(path: Path, found: dict[str, _Found]) -> None:
    for name, is_good in (("good", True), ("bad", False)):
        sources = [each.source for each in found.values() if each.is_good == is_good]
        if len(sources) < FEWEST_CLIPS or len(set(sources)) < FEWEST_SOURCES:
            raise UserError(
                f"{path}: found {len(sources)} {name} clips of {len(set(sources))} sources in the shards; expected at "
                f"least {FEWEST_CLIPS} of at least {FEWEST_SOURCES} sources, good and bad alike: label more"
            )


def _examples(
    shards: ShardSet,
    labels: QualityLabels,
    found: dict[str, _Found],
    vision: Vision,
    progress: Progress | None,
) -> tuple[list[str], Examples]:
    """The keys and descriptions of all labelled clips that can be decoded.

    Raises:
        UserError: too few can.
    """
    described: dict[str, np.ndarray] = {}
    used_shards = dict.fromkeys(each.shard for each in found.values())
    for done, (sample, _) in enumerate(_labelled(shards, used_shards, labels), start=1):
        try:
            described[sample.key] = describe(sample.frames(), vision)
        except UserError as error:
            warnings.warn(f"clip {sample.key}: {error}; left out", stacklevel=3)
        if progress is not None:
            progress(done, len(found))
    used = {key: found[key] for key in described}
    _expect_enough(shards.folder, used)
    shared = Counter(each.name for each in used.values())
    examples = Examples(
        described=np.stack(list(described.values())),
        is_good=np.array([each.is_good for each in used.values()]),
        source=np.array([each.source for each in used.values()]),
        weight=np.array([1 / shared[each.name] for each in used.values()]),
    )
    return list(used), examples


def _about_labels(path: Path, labels: QualityLabels, found: dict[str, _Found]) -> dict[str, Any]:
    return {
        "file": path.name,
        "sha256": sha256_of(path),
        "column": labels.column,
        "kind": labels.kind,
        "undecided": labels.num_undecided,
        "disagreeing": labels.num_disagreeing,
        "unknown": len(labels.is_good.keys() - {each.name for each in found.values()}),
    }


def _validation(keys: list[str], examples: Examples, seed: int) -> dict[str, Any]:
    """What the head is worth on held-out sources, beside a head that reads the figures alone."""
    scored = _scored(examples, seed)
    plain = _scored(only(examples, len(FIGURES)), seed)
    return {
        "folds": num_folds(examples.is_good, examples.source),
        "roc_auc": estimate_auc(scored, seed),
        "roc_auc_of_figures_alone": estimate_auc(plain, seed),
        "thresholds": {f"{at:g}": estimate_threshold(scored, at, seed) for at in THRESHOLDS},
        "doubtful": _doubtful(keys, scored),
    }


def _scored(examples: Examples, seed: int) -> Scored:
    return Scored(held_out_scores(examples, seed), examples.is_good, examples.source, examples.weight)


def _doubtful(keys: list[str], scored: Scored) -> list[dict[str, Any]]:
    """The clips whose score contradicts their label most: worth a second look, at the label first."""
    against = np.where(scored.is_good, 1 - scored.score, scored.score)
    rows = [row for row in np.argsort(-against, kind="stable")[:MOST_DOUBTFUL] if against[row] > 0.5]
    return [
        {
            "key": keys[row],
            "label": "good" if scored.is_good[row] else "bad",
            "score": round(float(scored.score[row]), 4),
        }
        for row in rows
    ]


def _write(out: Path, vision: Vision, head: Head, tree: dict[str, Any]) -> None:
    """The weights, and then the index that declares them finished."""
    parts = {"centre": head.centre, "scale": head.scale, "weight": head.weight, "bias": np.float64(head.bias)}
    tensors = {VISION + name: tensor for name, tensor in vision.tensors().items()}
    tensors |= {HEAD + name: torch.tensor(part, dtype=torch.float64) for name, part in parts.items()}
    write_bytes(out / WEIGHTS_FILE, save(tensors))
    tree["weights"] = {"file": WEIGHTS_FILE, "sha256": sha256_of(out / WEIGHTS_FILE)}
    write_json(out / INDEX_FILE, tree)
