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

import fnmatch
import json
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from genie_lite.adapt.adapt import read_adapted
from genie_lite.artifact import read_artifact
from genie_lite.config import Config, change, dump, load, parse
from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.data.distract.shards import CONFIG_KEY
from genie_lite.data.labels import Labels, fingerprint, join_labels, read_labels
from genie_lite.data.loading.mixture import Corpora, Corpus
from genie_lite.data.loading.weight import MaskWeight
from genie_lite.data.shards.index import INDEX_FILE
from genie_lite.data.shards.shards import ShardSet
from genie_lite.data.shards.token_shards import TokenShards
from genie_lite.data.shards.transport import path_of
from genie_lite.data.sources import lerobot
from genie_lite.data.sources.find import find_sources
from genie_lite.data.sources.named import absolute, expand
from genie_lite.data.sources.robot_labels import LABELS_FILE, robot_labels
from genie_lite.errors import UserError
from genie_lite.files import read_json, write_bytes, write_json
from genie_lite.progress import say
from genie_lite.recipe import Recipe
from genie_lite.train.config import StageName

COMMANDS_VARIABLE = "GENIE_LITE_ALLOW_COMMANDS"
_trusted: set[Path] = set()  # runs whose recipe the user has given to this process
ConfigT = TypeVar("ConfigT", bound=Config)


def keep_recipe(recipe: Recipe) -> None:
    """Write the recipe that a run is made from, which its user has given, into its folder; `recipe_of` reads it."""
    _trusted.add(recipe.folder.resolve())
    run = Path(os.path.abspath(recipe.folder))

    def name(source: str) -> str:
        path = absolute(source)
        return Path(path).relative_to(run).as_posix() if Path(path).is_relative_to(run) else path

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
    kept = _with_sources(
        load(run / "recipe.yaml", Recipe),
        lambda source: source if source.startswith("@") else str(place / source),
    )
    _expect_no_commands(kept, run)
    return kept.model_copy(update={"name": place.name, "out": str(place.parent)})


def _expect_no_commands(recipe: Recipe, run: Path) -> None:
    """A folder may come from anybody; what a `pipe:` names would be run."""
    data = recipe.data
    places = [
        *_named_sources(recipe),
        data.tokens,
        *(place for each in data.mix for place in (each.source, each.tokens)),
    ]
    commands = [place for place in places if place is not None and place.startswith("pipe:")]
    is_trusted = run.resolve() in _trusted or os.environ.get(COMMANDS_VARIABLE) == "1"
    if commands and not is_trusted:
        raise UserError(
            f"{run / 'recipe.yaml'}: names a command as its data ({commands[0]}), which is not run unasked; if you "
            f"trust this folder, set {COMMANDS_VARIABLE}=1"
        )


def sources_of(recipe: Recipe) -> tuple[Sequence[str | Path], Sequence[str | Path]]:
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
    return _listed(recipe.data.source), _listed(recipe.data.test_source)


def shards_of(recipe: Recipe, *, verify: bool = False) -> ShardSet:
    """The shards of a run: its own, or the finished ones that its recipe names as its source.

    Args:
        recipe: of the run.
        verify: compare every shard with its hash, not with its size alone.

    Raises:
        UserError: there are none.
    """
    own = recipe.folder / "shards"
    if (own / INDEX_FILE).is_file():
        return ShardSet.open(own, verify=verify, strict=recipe.data.strict)
    given = given_shards(recipe)
    if given is None and recipe.record is None:
        _expect_sources(recipe)
    return ShardSet.open(
        own if given is None else given, verify=verify, strict=recipe.data.strict, allow_commands=True
    )


def corpora_of(
    recipe: Recipe, stage: StageName
) -> Corpora[ShardSet] | Corpora[TokenShards] | Corpora[ShardSet | TokenShards]:
    """What a stage of a run is trained on, whole and verified: the run's own shards and those that are mixed in.

    A latent action model that learns from pairs so many seconds apart (`lam.model.pair_s`) takes shards of any rate;
    then the others, whose windows count in frames, leave those of other rates than the run's out, with a warning.

    Args:
        recipe: of the run.
        stage: which; dynamics takes token shards where the recipe names them.

    Raises:
        UserError: one of them is not there, damaged beyond use, or has other frames.
    """

    def opened(place: Callable[[], ShardSet], token_place: str | None) -> ShardSet | TokenShards:
        video = place()
        if stage != "dynamics" or token_place is None:
            return video
        found = TokenShards.open(
            token_place, run=recipe.folder, strict=recipe.data.strict, allow_commands=True
        )
        found.expect_of(video, recipe.folder)
        return found

    data = recipe.data
    own = Corpus(opened(partial(shards_of, recipe, verify=True), data.tokens), data.weight)
    others = [
        Corpus(
            opened(partial(ShardSet.open, each.source, strict=data.strict, allow_commands=True), each.tokens),
            each.weight,
        )
        for each in data.mix
    ]
    if stage == "lam" or recipe.lam.model.pair_s is None:
        return Corpora((own, *others))
    alike = [each for each in others if each.shards.rate_hz == own.shards.rate_hz]
    if left_out := [each.shards.place for each in others if each not in alike]:
        warnings.warn(
            f"{stage}: trained without {', '.join(left_out)}, which have other than {own.shards.rate_hz:g} frames per "
            "second; the latent action model learns from them",
            stacklevel=2,
        )
    return Corpora((own, *alike))


def given_shards(recipe: Recipe) -> Path | str | None:
    """The folder, or the URL, of finished shards that a recipe names as its source, if it does."""
    source = recipe.data.source
    if isinstance(source, str) and path_of(source) is None:
        return source
    sources, _ = sources_of(recipe)
    only = Path(sources[0]) if len(sources) == 1 else None
    return only if only is not None and (only / INDEX_FILE).is_file() else None


def ingest_config_of(shards: ShardSet) -> IngestConfig:
    """The settings that shards were made with."""
    own = {name: value for name, value in shards.config.items() if name != CONFIG_KEY}
    return parse(own, IngestConfig, str(shards.folder / INDEX_FILE))


def frames_of(recipe: Recipe) -> IngestConfig:
    """How videos become what the models of a run read: as in its shards, or by its recipe where there are none."""
    has_shards = (recipe.folder / "shards" / INDEX_FILE).is_file() or (
        recipe.data.source is not None and given_shards(recipe) is not None
    )
    return ingest_config_of(shards_of(recipe)) if has_shards else recipe.data.ingest


def count_sources(shards: ShardSet) -> dict[str, int]:
    """How many videos were ingested, filtered and quarantined; nothing where shards came without their manifest.

    Raises:
        UserError: a manifest that is damaged.
    """
    path = shards.manifest()
    if path is None:
        return {}
    try:
        found = Counter(json.loads(line)["status"] for line in path.read_bytes().splitlines())
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: damaged, expected one JSON object per line, with 'status' ({error!r}); copy it again"
        ) from error
    return {status: found[status] for status in ("ingested", "filtered", "quarantined")}


def has_labels(recipe: Recipe) -> bool:
    """Whether a run has true actions from anywhere that a policy can be made of: those of one robot, or of a game.

    Raises:
        UserError: the run has used labels of a source that is missing.
    """
    paths = _label_paths(recipe)
    if recipe.labels is None and recipe.record is None and (why := _several_robots(recipe, paths)):
        warnings.warn(
            f"{why}, so no policy is made; name the one to make it for: labels.source=DATASET", stacklevel=2
        )
        return False
    return bool(paths)


def _several_robots(recipe: Recipe, paths: Sequence[Path]) -> str | None:
    """Why datasets with actions are not one robot's; None where they are.

    Every dataset is taken for another robot's, as in training (`robots_of`), even where its actions have the same
    names: two arms of one make may be mounted or driven differently. What is held out is the same robot's.
    """
    held_out = _listed(recipe.data.test_source)
    robots = [path for path in paths if str(path) not in held_out]
    if len(robots) > 1:
        return f"{len(robots)} robots are among the sources ({', '.join(_names(robots))})"
    found = _robot_labels(recipe, list(paths)) if len(paths) > 1 else []
    if len({(each.kind, each.names) for each in found}) > 1:
        return f"{len(paths)} robots with different actions are among the sources and what is held out"
    return None


def labels_in_training(recipe: Recipe) -> dict[str, Labels]:
    """Labels that training may be shown (`lam.labels`, `dynamics.labels`), of every robot of the sources, by its name.

    A robot is called as its dataset's folder is, a game as itself. Only labels of demonstrations are given, as in
    `adapt`, so that the same budget buys the same labels.

    Raises:
        UserError: a place holds none.
    """
    return {
        name: demonstrated(each, recipe.adapt.demonstrations) for name, each in _all_labels(recipe).items()
    }


def demonstrated(labels: Labels, pattern: str) -> Labels:
    """The labels of sources whose name matches `adapt.demonstrations`."""
    return labels.of(fnmatch.filter(labels.episodes, pattern))


def _all_labels(recipe: Recipe) -> dict[str, Labels]:
    if recipe.record is not None:
        return {recipe.record.game: labels_of(recipe)}
    robots = [Path(source) for source in _named_sources(recipe) if lerobot.has_actions(Path(source))]
    found = dict(zip(_names(robots), _robot_labels(recipe, robots) if robots else [], strict=True))
    given = [] if recipe.labels is None else [path for path in _label_paths(recipe) if path not in robots]
    return found | ({"labels": join_labels([labels_at(path) for path in given])} if given else {})


def _names(folders: Sequence[Path]) -> list[str]:
    """What folders are called; with their place in the list, where two are called the same."""
    names = [folder.resolve().name for folder in folders]
    return [name if names.count(name) == 1 else f"{name}-{place}" for place, name in enumerate(names)]


def labels_of(recipe: Recipe) -> Labels:
    """All labels of a run: those that the recipe names, that were recorded, or that a robot's dataset holds.

    Raises:
        UserError: a place holds none, or the places do not fit together.
    """
    paths = _label_paths(recipe)
    named = _named_sources(recipe)
    robots = [
        path for path in paths if lerobot.is_lerobot(path) and str(path) in named
    ]  # ingest has named those
    others = [labels_at(path) for path in paths if path not in robots]
    return join_labels([*(_robot_labels(recipe, robots) if robots else []), *others])


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


def labels_beside(shards: ShardSet) -> Labels | None:
    """Labels that lie in a folder of shards, as ingest puts a robot's; None where there are none, or behind a URL."""
    path = shards.folder / LABELS_FILE
    return read_labels(path) if shards.remote is None and path.is_file() else None


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
        return [Path(each) for each in (*_listed(recipe.labels.source), *_listed(recipe.labels.test_source))]
    if recipe.record is not None:
        return [recipe.folder / "videos" / split for split in ("train", "test")]
    # Videos may be deleted once they are shards. A run that has used a robot's labels, though, must find them again.
    if (recipe.folder / "adapt" / "adapt.json").is_file():
        _expect_sources(recipe)
    return [Path(source) for source in _named_sources(recipe) if lerobot.has_actions(Path(source))]


def _named_sources(recipe: Recipe) -> list[str]:
    return [*_listed(recipe.data.source), *_listed(recipe.data.test_source)]


def _expect_sources(recipe: Recipe) -> None:
    """All that the recipe names as its data must be there."""
    for source in _named_sources(recipe):
        try:
            expand(source)
        except UserError as error:
            raise UserError(
                f"{error}; it is data of {recipe.folder}: put it back, or run the recipe again with "
                "data.source=PLACE (finished stages are kept)"
            ) from error


def _robot_labels(recipe: Recipe, roots: list[Path]) -> list[Labels]:
    """Actions of robots' datasets, under the names that ingest gave the videos."""
    camera = recipe.data.camera
    return robot_labels(roots, find_sources(*sources_of(recipe), 0.0, camera=camera), camera)


def _listed(source: str | list[str] | None) -> list[str]:
    return [source] if isinstance(source, str) else source or []


def _with_sources(recipe: Recipe, rename: Callable[[str], str]) -> Recipe:
    """The same recipe, its places renamed; a URL is the same from everywhere."""

    def renamed(place: Any) -> Any:
        if isinstance(place, list):
            return [renamed(each) for each in place]
        return rename(place) if isinstance(place, str) and path_of(place) is not None else place

    def section(config: ConfigT, *names: str) -> ConfigT:
        return config.model_copy(update={name: renamed(getattr(config, name)) for name in names})

    data = section(recipe.data, "source", "test_source", "tokens")
    mix = [section(each, "source", "tokens") for each in data.mix]
    changes: dict[str, Any] = {
        "data": data.model_copy(update={"mix": mix}),
        "labels": recipe.labels and section(recipe.labels, "source", "test_source"),
    }
    if isinstance(weight := recipe.lam.pixel_weight, MaskWeight):
        changes["lam"] = recipe.lam.model_copy(update={"pixel_weight": section(weight, "masks")})
    return recipe.model_copy(update=changes)


def _identity(path: Path) -> tuple[int, int] | None:
    """Of one writing of a file: every atomic write makes a new one. None where there is no file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
