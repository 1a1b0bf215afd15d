"""The verdict on a run's latent action model, as a page for people and a file for machines.

    run + held-out shards [+ labels] ──▶ OUT/inspect.json · OUT/inspect.html      OUT is RUN/inspect if not given

What is measured is the business of `genie_lite/inspect`; here is where it all comes from and goes to.
"""

import json
import shlex
from pathlib import Path
from typing import Any

from genie_lite import evaluation
from genie_lite.artifact import is_finished, read_artifact
from genie_lite.data.labels import Labels, fingerprint
from genie_lite.data.loading.loader import validation_clips
from genie_lite.data.shards.shards import ShardSet
from genie_lite.device import usual_device
from genie_lite.errors import UserError
from genie_lite.files import write_json
from genie_lite.folder import has_labels, labels_at, labels_beside, labels_of, recipe_of, shards_of
from genie_lite.inspect.config import InspectConfig
from genie_lite.inspect.inspect import frames_apart, inspect_lam
from genie_lite.inspect.page import write_page
from genie_lite.inspect.pictures import Pictures, paint
from genie_lite.models.hub import VERDICT_FILE, VERDICT_FOLDER
from genie_lite.models.lam import LatentActionModel, load_lam
from genie_lite.progress import bar, bars, say
from genie_lite.recipe import Recipe

PAGE_FILE, PICTURES_FOLDER = "inspect.html", "pictures"
PICTURE_FRAMES = (
    16,
    8,
    4,
)  # of a clip that pictures are made of: the first that the held-out shots are long enough for
PICTURE_CLIPS, PICTURE_BATCH = 32, 8


def inspect_run(
    run: Path, place: str | None, labels: Path | None, out: Path | None, options: InspectConfig
) -> dict[str, Any]:
    """Inspect the latent action model of a run; what was found of the same before is not measured again.

    Args:
        run: with a finished latent action model; with a dynamics model, codes are tried in the world, too.
        place: shards with held-out shots, a folder or a URL; None for the run's own.
        labels: true actions of these videos; None for those that lie beside the shards, or that the run has.
        out: a folder; None for the run's own, `run / "inspect"`.
        options: how much is looked at; its inverse model is the run's.

    Returns:
        The answer, its sentence, the outcome of every check, and where page and figures are.

    Raises:
        UserError: no such run, model or shards; held-out shots that are too short; labels of other videos.
    """
    recipe, out = recipe_of(run), out or run / VERDICT_FOLDER
    options = options.model_copy(update={"inverse": recipe.adapt.idm})  # as the run trains its own
    artifact = read_artifact(run / "lam", "lam")
    shards = shards_of(recipe) if place is None else ShardSet.open(place, allow_commands=True)
    known = _labels(recipe, shards, labels, is_own=place is None)
    origin = {
        "lam_sha256": artifact.sha256,
        "dynamics_sha256": read_artifact(run / "dynamics", "dynamics").sha256 if _has_world(run) else None,
        "shards": shards.fingerprint,
        "labels": None if known is None else fingerprint(known),
        "options": json.loads(options.model_dump_json()),
    }
    relations = recipe.lam.weights.relations
    if relations:  # they decide, which they did not always
        origin["relations"] = list(relations)
    if (tree := _finished(out, origin)) is not None:
        say("inspect: finished before")
        return _told(tree, out)
    device = usual_device()
    lam = load_lam(run / "lam").to(device)
    world = evaluation.load_world_to_measure(recipe, device) if _has_world(run) else None
    if world is not None and world.actions:
        world = None  # it takes true actions, and codes are what is inspected
    with bars() as show:
        found = inspect_lam(lam, shards, known, options, world=world, relations=relations, progress=show)
    with bar("pictures") as show:
        show(0, 1)
        pictures = _pictures(lam, shards, options)
        show(1, 1)
    # The end of a path says what it is; the rest, where somebody keeps things.
    command = ["genie-lite", "inspect", run.name, *([] if place is None else [Path(place).name])]
    about = {"title": run.resolve().name, "command": shlex.join(command), **found.tree["about"], **origin}
    tree = found.tree | {"about": about, "pictures": pictures.listing}
    pictures.write(out / PICTURES_FOLDER)
    write_page(tree, pictures, out / PAGE_FILE)
    write_json(out / VERDICT_FILE, tree)
    return _told(tree, out)


def _has_world(run: Path) -> bool:
    return is_finished(run / "tokenizer") and is_finished(run / "dynamics")


def _labels(recipe: Recipe, shards: ShardSet, given: Path | None, *, is_own: bool) -> Labels | None:
    if given is not None:
        return labels_at(given)
    if is_own and has_labels(recipe):
        return labels_of(recipe)
    return labels_beside(shards)


def _finished(out: Path, origin: dict[str, Any]) -> dict[str, Any] | None:
    """What was found of just this before, where the page is there, too; anything else is made again."""
    try:
        tree = json.loads((out / VERDICT_FILE).read_bytes())
        same = {name: tree["about"][name] for name in origin} == origin
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return tree if same and (out / PAGE_FILE).is_file() else None


def _pictures(lam: LatentActionModel, shards: ShardSet, options: InspectConfig) -> Pictures:
    stride = frames_apart(lam, shards)
    fits = [num for num in PICTURE_FRAMES if shards.num_windows("test", num, stride)]
    if not fits:
        raise UserError(
            f"{shards.place}: no held-out shot of {PICTURE_FRAMES[-1]} frames; inspect longer videos"
        )
    clips = validation_clips(shards, "test", fits[0], PICTURE_CLIPS, stride=stride, batch=PICTURE_BATCH)
    clips = [clip.to(lam.place.device) for clip in clips]
    return paint(lam, clips, rate_hz=shards.rate_hz / stride, seed=options.seed)


def _told(tree: dict[str, Any], out: Path) -> dict[str, Any]:
    return {
        "answer": tree["verdict"]["answer"],
        "sentence": tree["verdict"]["sentence"],
        "checks": {check["name"]: check["outcome"] for check in tree["checks"]},
        "page": str(out / PAGE_FILE),
        "json": str(out / VERDICT_FILE),
    }
