"""The report of a run: report.html for people, report.json for machines, from what the run's folder holds.

    runs/<name>/evaluate.json            the measurements (below)
    runs/<name>/panels/                  the pictures, see gallery.py
    runs/<name>/<stage>/artifact.json    hashes, seconds, sizes
    runs/<name>/<stage>/metrics.jsonl    curves

evaluate.json is one object, made of the `tree()` of each score:

    about      {"title": "CoinRun, 64 px, 15 Hz", "lines": {"what": "value", ...}}      optional
    tokenizer, lam, rollout, control, probe…, code_action, policy…                     each optional
    hashes     {name: sha256} of everything the figures rest on; those of the stages are checked
    seconds    {stage: seconds} of stages without an artifact, such as ingest and adapt
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genie_lite.artifact import Artifact, is_finished, read_artifact
from genie_lite.errors import UserError
from genie_lite.evals.charts import Point
from genie_lite.evals.gallery import read_gallery
from genie_lite.evals.page import Curves, render
from genie_lite.evals.tree import to_tree
from genie_lite.evals.verdict import judge
from genie_lite.files import read_json, write_bytes, write_json

FORMAT = 1
STAGES = ("tokenizer", "lam", "dynamics")


def write_report(run: Path) -> dict[str, Any]:
    """Write report.json and report.html into a run's folder and return what report.json holds.

    Raises:
        UserError: no such run, nothing finished in it, figures that rest on other weights, or a damaged file.
    """
    tree = collect(run)
    gallery = read_gallery(run / "panels")
    pictures = {} if gallery is None else _read_pictures(run / "panels", _names(gallery))
    page = render(tree, gallery, pictures, read_curves(run))
    write_json(run / "report.json", tree)
    write_bytes(run / "report.html", page.encode())
    return tree


def collect(run: Path) -> dict[str, Any]:
    """Everything that report.json holds: measurements, verdict, seconds, hashes, stages.

    Raises:
        UserError: see `write_report`.
    """
    if not run.is_dir():
        raise UserError(
            f"{run}: no such run folder; expected one that holds a tokenizer, a lam or a dynamics folder"
        )
    artifacts = {stage: read_artifact(run / stage, stage) for stage in STAGES if is_finished(run / stage)}
    if not artifacts:
        raise UserError(
            f"{run}: no finished stage; expected one of {', '.join(STAGES)} with an artifact.json"
        )
    measured = _read_measurements(run / "evaluate.json")
    hashes = {stage: artifact.sha256 for stage, artifact in artifacts.items()}
    fingerprints = [each.data["fingerprint"] for each in artifacts.values() if "fingerprint" in each.data]
    if fingerprints:
        hashes["shards"] = fingerprints[0]
    for stage, sha256 in measured.get("hashes", {}).items():
        if hashes.get(stage, sha256) != sha256:
            raise UserError(
                f"{run / 'evaluate.json'}: rests on another {stage} than there is now; evaluate the run again"
            )
    tree = measured | {
        "format": FORMAT,
        "name": run.resolve().name,
        "stages": {stage: _stage(artifact) for stage, artifact in artifacts.items()},
        "seconds": {stage: artifact.seconds for stage, artifact in artifacts.items()}
        | measured.get("seconds", {}),
        "hashes": hashes | measured.get("hashes", {}),
    }
    return tree | {"verdict": to_tree(judge(tree))}


def read_curves(run: Path) -> Curves:
    """Numbers of every stage's metrics.jsonl, as points (step, value) by stage, split and metric."""
    return {
        stage: _curves(run / stage / "metrics.jsonl")
        for stage in STAGES
        if (run / stage / "metrics.jsonl").is_file()
    }


def _curves(path: Path) -> dict[str, dict[str, list[Point]]]:
    curves: dict[str, dict[str, list[Point]]] = defaultdict(lambda: defaultdict(list))
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            break  # the last one: training was ended while it wrote, or is writing now
        try:
            row = json.loads(line)
            step, split = row.pop("step"), row.pop("split")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path}: line {number} is damaged, expected JSON with 'step' and 'split'; delete the line"
            ) from error
        for name, value in row.items():
            if isinstance(value, int | float):
                curves[split][name].append((step, value))
    return curves


def _read_measurements(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    return read_json(path, "an object of measurements", "evaluate the run again")


def _read_pictures(folder: Path, names: Sequence[str]) -> dict[str, bytes]:
    try:
        return {name: (folder / name).read_bytes() for name in names}
    except FileNotFoundError as error:
        raise UserError(
            f"{error.filename}: missing, but gallery.json lists it; "
            "delete evaluate.json and evaluate the run again, or copy the whole run"
        ) from error


def _stage(artifact: Artifact) -> dict[str, Any]:
    return {
        "sha256": artifact.sha256,
        "parents": artifact.parents,
        "data": artifact.data,
        "metrics": artifact.metrics,
        "config": artifact.config,
        "meta": artifact.meta,
        "seconds": artifact.seconds,
    }


def _names(gallery: Mapping[str, Any]) -> list[str]:
    films = [*gallery["strip"].values(), *gallery["films"].values()]
    films += [film for example in gallery["examples"] for film in example.values()]
    return [film["file"] for film in films] + [gallery["together"]]
