"""A run's models alone, to hand on: what plays, extracts and goes into other programs, without its data.

    out/recipe.yaml                  without the places where videos and labels lay
        tokenizer/ lam/ dynamics/    weights, large ones in half precision, and their manifests
        starts/0.png ...             held-out frames to start from
        CARD.md                      what it was made from, what was measured, how to use it

The weights are rounded, so they are other models than the run's, with hashes of their own.
"""

import io
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from genie_lite.artifact import Artifact, read_artifact, write_copy
from genie_lite.config import dump
from genie_lite.data.shards.shards import ShardSet
from genie_lite.errors import UserError
from genie_lite.files import read_json, write_bytes
from genie_lite.folder import ingest_config_of, recipe_of, shards_of
from genie_lite.models.heads import copy_heads
from genie_lite.recipe import Recipe
from genie_lite.train.config import STAGES

STARTS_FOLDER = "starts"
MARK_FILE = ".export"
NUM_STARTS = 8
# Counts and means of a codebook exceed what a half can hold, and are small: they stay as they are.
FEWEST_HALVED = 4096


def export(run: Path, out: Path) -> dict[str, Any]:
    """Write a finished run's models into a folder that can be used like the run's own.

    Args:
        run: with its report.
        out: a folder that does not exist yet, or holds an earlier export.

    Returns:
        Where it is and how large.

    Raises:
        UserError: the run is not finished, or `out` holds something else.
    """
    _expect_free(out, run)
    recipe, path = recipe_of(run), run / "report.json"
    artifacts = {stage: read_artifact(run / stage, stage) for stage in STAGES}
    if not path.is_file():
        raise UserError(f"{path}: missing; run genie-lite evaluate and genie-lite report first")
    report = read_json(path, "a report", "run genie-lite report again")
    shards = shards_of(recipe)
    write_bytes(out / MARK_FILE, b"What is beside this file was written by genie-lite export.\n")
    (out / "CARD.md").unlink(missing_ok=True)  # written last: without it the folder is unfinished
    hashes: dict[str, str] = {}
    text = dump(_alone(recipe, shards))
    for stage, artifact in artifacts.items():
        parents = {name: hashes[name] for name in artifact.parents}
        hashes[stage] = write_copy(out / stage, artifact, _rounded(artifact), text, parents).sha256
    copy_heads(run / "lam", out / "lam")
    write_bytes(out / "recipe.yaml", text.encode())
    for number, frame in enumerate(_starts(shards)):
        write_bytes(out / STARTS_FOLDER / f"{number}.png", frame)
    write_bytes(out / "CARD.md", _card(recipe, report, artifacts).encode())
    parameters = sum(artifact.meta["parameters"] for artifact in artifacts.values())
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    return {"out": str(out), "bytes": size, "parameters": parameters}


def _expect_free(out: Path, run: Path) -> None:
    if out.resolve() == run.resolve():
        raise UserError(f"--out: {out} is the run itself; give another folder")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out: {out} is a file; expected a folder to write")
    if out.is_dir() and any(out.iterdir()) and not (out / MARK_FILE).is_file():
        raise UserError(f"--out: {out} holds something else than an export; give an empty folder")


def _rounded(artifact: Artifact) -> dict[str, Tensor]:
    return {
        name: _halved(tensor) for name, tensor in load_file(artifact.folder / "model.safetensors").items()
    }


def _halved(tensor: Tensor) -> Tensor:
    fits = tensor.is_floating_point() and tensor.numel() >= FEWEST_HALVED
    half = tensor.half()
    return half if fits and bool(torch.isfinite(half).all()) else tensor


def _alone(recipe: Recipe, shards: ShardSet) -> Recipe:
    """The recipe as it is for somebody who has none of its data."""
    tree = json.loads(recipe.model_dump_json())
    tree["data"] = {"ingest": json.loads(ingest_config_of(shards).model_dump_json())}
    if recipe.lam.pixel_weight.kind == "mask":
        tree["lam"]["pixel_weight"] = {"kind": "none"}
    return Recipe.model_validate_json(json.dumps(tree | {"labels": None, "out": "runs"}))


def _starts(shards: ShardSet) -> Iterator[bytes]:
    """First frames of held-out shots, as PNG."""
    for sample in islice(shards.samples("test"), NUM_STARTS):
        buffer = io.BytesIO()
        Image.fromarray(sample.frames([0])[0]).save(buffer, "PNG")
        yield buffer.getvalue()


def _card(recipe: Recipe, report: dict[str, Any], artifacts: dict[str, Artifact]) -> str:
    folder = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=folder, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("card.md.jinja").render(
        name=recipe.name, report=report, artifacts=artifacts, num_codes=report["lam"]["num_codes"]
    )
