"""What a run's folder holds: its recipe, its shards, its labels, and what each stage took.

runs/<name>/
  recipe.yaml              the whole recipe, as checked
  videos/{train,test}/     record    (where the recipe asks for a recording)
  shards/                  ingest
  tokenizer/ lam/          train
  tokens/ dynamics/        train
  latents/                 extract   the run's own transitions
  adapt/                   adapt     (where there are labels)
  evaluate.json panels/    evaluate
  report.html report.json  report
  seconds.json             what each stage took
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from genie_lite.config import parse
from genie_lite.data import lerobot
from genie_lite.data.labels import Labels, join_labels, read_labels
from genie_lite.data.segment import IngestConfig
from genie_lite.data.shards import INDEX_FILE, ShardSet
from genie_lite.data.sources import find_sources
from genie_lite.errors import UserError
from genie_lite.files import write_json
from genie_lite.progress import say
from genie_lite.recipe import Recipe, load_recipe

LABELS_FILE = "labels.parquet"


def recipe_of(run: Path) -> Recipe:
    """The recipe that a run was made from.

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
    return load_recipe(
        run / "recipe.yaml", [f"name={json.dumps(place.name)}", f"out={json.dumps(str(place.parent))}"]
    )


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
    """The shards of a run: its own, or the finished ones that its recipe names as its source."""
    own = recipe.folder / "shards"
    if (own / INDEX_FILE).is_file():
        return ShardSet.open(own, verify=False)
    given = given_shards(recipe)
    return ShardSet.open(own if given is None else given, verify=False)


def given_shards(recipe: Recipe) -> Path | None:
    """The folder of finished shards that a recipe names as its source, if it does."""
    sources, _ = sources_of(recipe)
    return sources[0] if len(sources) == 1 and (sources[0] / INDEX_FILE).is_file() else None


def ingest_config_of(shards: ShardSet) -> IngestConfig:
    """The settings that shards were made with."""
    return parse(shards.config, IngestConfig, str(shards.folder / INDEX_FILE))


def has_labels(recipe: Recipe) -> bool:
    """Whether a run has true actions from anywhere."""
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


@contextmanager
def stage(run: Path, name: str, *, is_done: bool = False) -> Iterator[None]:
    """Announce a stage and add what it takes to seconds.json; one that is done is only looked over."""
    say(f"{name}: finished before" if is_done else f"{name}: running")
    start = time.monotonic()
    try:
        yield
    finally:
        if not is_done and run.is_dir():
            before = seconds_of(run)
            took = before.get(name, 0.0) + time.monotonic() - start
            write_json(run / "seconds.json", before | {name: round(took, 1)})


def seconds_of(run: Path) -> dict[str, float]:
    """What each stage without an artifact took so far."""
    path = run / "seconds.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def _label_paths(recipe: Recipe) -> list[Path]:
    if recipe.labels is not None:
        return [*_paths(recipe.labels.source), *_paths(recipe.labels.test_source)]
    if recipe.record is not None:
        return [recipe.folder / "videos" / split for split in ("train", "test")]
    sources = [*_paths(recipe.data.source), *_paths(recipe.data.test_source)]
    return [path for path in sources if lerobot.is_lerobot(path)]


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
