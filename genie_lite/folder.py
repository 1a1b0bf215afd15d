"""What a run's folder holds: its recipe, its shards, its labels, and what each stage took.

runs/<name>/
  recipe.yaml              the whole recipe, as checked; written before anything is trained
  videos/{train,test}/     record    (where the recipe asks for a recording)
  shards/                  ingest
  tokenizer/ lam/          train
  tokens/ dynamics/        train
  latents/                 extract   the run's own transitions
  adapt/                   adapt     (where there are labels)
  evaluate.json panels/    evaluate
  report.html report.json  report
  seconds.json             what each stage took

The recipe that a run keeps names its sources so that they are found from any directory: by absolute paths, or
relative to the run where they lie inside of it, so that it can be moved with them.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from genie_lite.adapt.adapt import read_adapted
from genie_lite.adapt.material import fingerprint
from genie_lite.artifact import read_artifact
from genie_lite.config import Config, change, dump, parse
from genie_lite.data import lerobot
from genie_lite.data.labels import Labels, join_labels, read_labels
from genie_lite.data.segment import IngestConfig
from genie_lite.data.shards import INDEX_FILE, MANIFEST_FILE, ShardSet
from genie_lite.data.sources import find_sources
from genie_lite.errors import UserError
from genie_lite.files import read_json, write_bytes, write_json
from genie_lite.progress import say
from genie_lite.recipe import Recipe, load_recipe

LABELS_FILE = "labels.parquet"


def keep_recipe(recipe: Recipe) -> None:
    """Write the recipe that a run is made from into its folder; `recipe_of` reads it."""
    run = Path(os.path.abspath(recipe.folder))

    def name(source: str) -> str:
        path = Path(os.path.abspath(source))
        return path.relative_to(run).as_posix() if path.is_relative_to(run) else str(path)

    write_bytes(recipe.folder / "recipe.yaml", dump(_with_sources(recipe, name)).encode())


def recipe_of(run: Path) -> Recipe:
    """The recipe that a run was made from, with absolute paths.

    Raises:
        UserError: no run here.
    """
    if (run / "artifact.json").is_file():
        raise UserError(f"{run}: is the folder of one stage; pass the run's folder, {run.resolve().parent}")
    if not (run / "recipe.yaml").is_file():
        raise UserError(
            f"{run}: not a run's folder (no recipe.yaml); expected runs/<name>, as genie-lite run makes it"
        )
    # A run may have been moved or renamed since: where it lies counts, not what its recipe says.
    place = run.resolve()
    kept = _with_sources(load_recipe(run / "recipe.yaml"), lambda source: str(place / source))
    return kept.model_copy(update={"name": place.name, "out": str(place.parent)})


def sources_of(recipe: Recipe) -> tuple[list[Path], list[Path]]:
    """Videos to train on, and videos that are held out (none if a share of the former is).

    Raises:
        UserError: the recipe names none.
    """
    if recipe.record is not None:
        videos = recipe.folder / "videos"
        return [videos / "train"], [videos / "test"]
    if recipe.data.source is None:
        raise UserError(
            "data.source: missing; name a video, a folder or a LeRobot dataset: data.source=FOLDER"
        )
    return _paths(recipe.data.source), _paths(recipe.data.test_source)


def shards_of(recipe: Recipe) -> ShardSet:
    """The shards of a run: its own, or the finished ones that its recipe names as its source.

    Raises:
        UserError: there are none.
    """
    own = recipe.folder / "shards"
    if (own / INDEX_FILE).is_file():
        return ShardSet.open(own, verify=False)
    given = given_shards(recipe)
    if given is None and recipe.record is None:
        _expect_sources(recipe)
    return ShardSet.open(own if given is None else given, verify=False)


def given_shards(recipe: Recipe) -> Path | None:
    """The folder of finished shards that a recipe names as its source, if it does."""
    sources, _ = sources_of(recipe)
    return sources[0] if len(sources) == 1 and (sources[0] / INDEX_FILE).is_file() else None


def ingest_config_of(shards: ShardSet) -> IngestConfig:
    """The settings that shards were made with."""
    return parse(shards.config, IngestConfig, str(shards.folder / INDEX_FILE))


def count_sources(shards: ShardSet) -> dict[str, int]:
    """How many videos were ingested, filtered and quarantined; nothing where shards came without their manifest.

    Raises:
        UserError: a manifest that is damaged.
    """
    path = shards.folder / MANIFEST_FILE
    if not path.is_file():
        return {}
    try:
        found = Counter(json.loads(line)["status"] for line in path.read_bytes().splitlines())
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: damaged, expected one JSON object per line, with 'status' ({error!r}); copy it again"
        ) from error
    return {status: found[status] for status in ("ingested", "filtered", "quarantined")}


def has_labels(recipe: Recipe) -> bool:
    """Whether a run has true actions from anywhere.

    Raises:
        UserError: the run has used labels of a source that is missing.
    """
    return bool(_label_paths(recipe))


def labels_of(recipe: Recipe) -> Labels:
    """All labels of a run: those that the recipe names, that were recorded, or that a robot's dataset holds.

    Raises:
        UserError: a place holds none, or the places do not fit together.
    """
    paths = _label_paths(recipe)
    if recipe.labels is None and recipe.record is None:
        return join_labels(_robot_labels(recipe, paths))
    return join_labels([labels_at(path) for path in paths])


def labels_at(path: Path) -> Labels:
    """Labels of one place: a label file, its folder, or a LeRobot dataset.

    Raises:
        UserError: none of these.
    """
    if lerobot.is_lerobot(path):
        return lerobot.read_labels(path)
    if path.is_dir() and not (path / LABELS_FILE).is_file():
        raise UserError(
            f"{path}: no {LABELS_FILE} and no LeRobot dataset in this folder; expected one of them"
        )
    return read_labels(path / LABELS_FILE if path.is_dir() else path)


def change_since_adapt(recipe: Recipe, labels: Labels) -> str | None:
    """What has changed since the policies of a run were made; None if nothing has, or there are none."""
    folder = recipe.folder / "adapt"
    if not (folder / "adapt.json").is_file():
        return None
    found = read_adapted(folder).summary
    parents = {
        "lam": read_artifact(recipe.folder / "lam", "lam").sha256,
        "shards": shards_of(recipe).fingerprint,
        "labels": fingerprint(labels),
    }
    now = {"parents": parents, "config": json.loads(recipe.adapt.model_dump_json()), "seed": recipe.seed}
    return change({name: found.get(name) for name in now}, now)


@contextmanager
def stage(run: Path, name: str, *written_last: Path) -> Iterator[None]:
    """Announce a stage, and keep what it takes in seconds.json.

    Only the stage itself knows whether what it finds is still good. If it worked, the files that it writes last
    are new. Going on adds to what it took before; making it again begins from nothing.
    """
    before = [_identity(path) for path in written_last]
    was_finished, worked = None not in before, True
    if not was_finished:
        say(f"{name}: running")
    start = time.monotonic()
    try:
        yield
    finally:
        worked = not was_finished or [_identity(path) for path in written_last] != before
        if worked and run.is_dir():
            seconds = seconds_of(run)
            took = time.monotonic() - start + (0.0 if was_finished else seconds.get(name, 0.0))
            write_json(run / "seconds.json", seconds | {name: round(took, 1)})
    if was_finished:
        say(f"{name}: made again, from what has changed" if worked else f"{name}: finished before")


def seconds_of(run: Path) -> dict[str, float]:
    """What each stage without an artifact took so far."""
    path = run / "seconds.json"
    return read_json(path, "what each stage took", "delete it") if path.is_file() else {}


def _label_paths(recipe: Recipe) -> list[Path]:
    if recipe.labels is not None:
        return [*_paths(recipe.labels.source), *_paths(recipe.labels.test_source)]
    if recipe.record is not None:
        return [recipe.folder / "videos" / split for split in ("train", "test")]
    # Videos may be deleted once they are shards. A run that has used a robot's labels, though, must find them again.
    if (recipe.folder / "adapt" / "adapt.json").is_file():
        _expect_sources(recipe)
    return [path for path in _named_sources(recipe) if lerobot.is_lerobot(path)]


def _named_sources(recipe: Recipe) -> list[Path]:
    return [*_paths(recipe.data.source), *_paths(recipe.data.test_source)]


def _expect_sources(recipe: Recipe) -> None:
    """All that the recipe names as its data must be there."""
    for path in _named_sources(recipe):
        if not path.exists():
            raise UserError(
                f"{path}: no such file or folder, but it is data of {recipe.folder}; put it back, or run the recipe "
                "again with data.source=PLACE (finished stages are kept)"
            )


def _robot_labels(recipe: Recipe, roots: list[Path]) -> list[Labels]:
    """Actions of robots' datasets, under the names that ingest gave the videos.

    Every dataset calls its first video the same, so ingest tells two of them apart by their folders.
    """
    names = {source.path.resolve(): source.name for source in find_sources(*sources_of(recipe), 0.0)}
    return [
        labels.renamed({source: names[(root / source).resolve()] for source in labels.episodes})
        for root in roots
        for labels in [lerobot.read_labels(root)]
    ]


def _paths(source: str | list[str] | None) -> list[Path]:
    return [Path(each) for each in ([source] if isinstance(source, str) else source or [])]


def _with_sources(recipe: Recipe, rename: Callable[[str], str]) -> Recipe:
    """The same recipe, its places renamed."""

    def renamed(section: Config) -> Config:
        places = {name: getattr(section, name) for name in ("source", "test_source")}
        new = {
            name: [rename(each) for each in place] if isinstance(place, list) else place and rename(place)
            for name, place in places.items()
        }
        return section.model_copy(update=new)

    labels = recipe.labels and renamed(recipe.labels)
    return recipe.model_copy(update={"data": renamed(recipe.data), "labels": labels})


def _identity(path: Path) -> tuple[int, int] | None:
    """Of one writing of a file: every atomic write makes a new one. None where there is no file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
