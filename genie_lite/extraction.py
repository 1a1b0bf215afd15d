"""From whatever a user names to a file of latent actions, in the layout of whoever trains on it.

    source ──ingest──▶ shards ──encode──▶ Parquet, a part per shard ──format──▶ OUT
            at the model's size; at its rate, or at the videos' own

Finished shards are taken as they are. Of a LeRobot dataset every frame gets a row, at the dataset's own rate, so that
row k of an episode stands beside its `action[k]`; of other videos, every frame at the rate that the model learnt from.
What can be refused is refused before anything is read.
What is made on the way lies in OUT, or where OUT is a dataset of somebody else's layout, beside it, in OUT.work.
"""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from genie_lite.artifact import Artifact, read_artifact
from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.data.ingest.ingest import ingest_found
from genie_lite.data.ingest.manifest import read_rows
from genie_lite.data.ingest.workers import POOL, Workers
from genie_lite.data.labels import Labels, join_labels
from genie_lite.data.shards.index import INDEX_FILE, MANIFEST_FILE
from genie_lite.data.shards.shards import ShardSet
from genie_lite.data.shards.transport import path_of
from genie_lite.data.sources import lerobot
from genie_lite.data.sources.find import find_sources, robots_among
from genie_lite.data.sources.robot_labels import robot_labels
from genie_lite.data.sources.source import Source
from genie_lite.device import usual_device
from genie_lite.errors import UserError
from genie_lite.folder import frames_of, labels_at, labels_beside, recipe_of
from genie_lite.latents.extract import extract
from genie_lite.latents.formats.registry import check as check_format
from genie_lite.latents.formats.registry import write as write_format
from genie_lite.latents.window import Every
from genie_lite.models.lam import LatentActionModel, load_lam
from genie_lite.progress import bar
from genie_lite.recipe import Recipe

PARQUET, SIDECAR = "parquet", "webdataset"
# Every frame of a video that codes are asked for is of interest, and a row at the end of a clip has no future: clips
# are as long as half a gigabyte of frames.
WHOLE: dict[str, Any] = {
    "min_motion": 0.0,
    "near_duplicates": False,
    "quality": None,
    "test_share": 0.0,
    "min_frames": 2,
}
CLIP_BYTES = 2**29
NUM_NAMED = 3  # of the videos that cannot be used, in the warning
FRAMES_EACH = 10_000  # encoded in ten seconds or so


@dataclass(frozen=True)
class Wanted:
    """What is to be extracted, and how it is to be written.

    source: a video, a folder of videos, a LeRobot dataset, a folder of shards or its address. out: where to.
    layout: parquet, or one of `latents.formats`. rate_hz: rows per second; None for a robot's own rate and for the
    model's of other videos. window_s: from frame k to the one that row k leads to; None for the model's own. labels:
    true actions; None for those that a LeRobot dataset or shards bring along. camera: of a dataset that has several.
    cuts: whether cuts end a shot; None to look for them in videos, and not in a robot's episodes. workers: who reads
    videos and encodes, and how many at a time.
    """

    source: str
    out: Path
    layout: str = PARQUET
    rate_hz: float | None = None
    window_s: float | None = None
    labels: Path | None = None
    camera: str | None = None
    cuts: bool | None = None
    workers: Workers = POOL

    @property
    def work(self) -> Path:
        """Where what is made on the way lies."""
        out = self.out.resolve()
        return out if self.layout == PARQUET else out.with_name(f"{out.name}.work")

    @property
    def robot(self) -> Path | None:
        """The LeRobot dataset that is the source, if it is one."""
        path = path_of(self.source)
        return path if path is not None and lerobot.is_lerobot(path) else None

    @property
    def is_shards(self) -> bool:
        """Whether the source are finished shards."""
        path = path_of(self.source)
        return path is None or (path / INDEX_FILE).is_file()


def extract_latents(run: Path, wanted: Wanted) -> dict[str, Any]:
    """Write the latent actions of some videos, with the latent action model of a run.

    Returns:
        Counts, quality and window of the manifest, where they are, and what the format tells.

    Raises:
        UserError: no run, no videos, labels of something else, a rate that does not fit, or `out` holds something else.
    """
    recipe, folder = recipe_of(run), run / "lam"
    artifact = read_artifact(folder, "lam")
    found = _check(recipe, wanted)
    given = None if wanted.labels is None else labels_at(wanted.labels)
    with wanted.workers.together():
        shards, left_out = _shards(recipe, wanted, found)
        labels = _labels_along(wanted, shards, found) if given is None else given
        lam = load_lam(folder).to(usual_device())
        manifest = _extract(recipe, artifact, lam, shards, labels, wanted)
    told = {**manifest["counts"], "videos_left_out": left_out, **manifest["quality"]}
    told |= {"window": manifest["window"], "out": str(wanted.out)}
    if wanted.layout == PARQUET:
        return told
    # A robot's own columns and videos go along; a sidecar lies beside shards.
    source = shards if wanted.robot is None or wanted.layout == SIDECAR else wanted.robot
    with bar(wanted.layout) as show:
        written = write_format(
            wanted.layout, wanted.work, source, wanted.out, title=_title(wanted), progress=show
        )
    kept_out = written.get("left_out", [])
    return told | {"left_out": len(kept_out), "work": str(wanted.work)}


def _extract(
    recipe: Recipe,
    artifact: Artifact,
    lam: LatentActionModel,
    shards: ShardSet,
    labels: Labels | None,
    wanted: Wanted,
) -> dict[str, Any]:
    every: Every = "frame" if wanted.robot is not None and wanted.rate_hz is None else "step"
    with bar("extract") as show:
        return extract(
            lam,
            shards,
            wanted.work,
            lam_sha=artifact.sha256,
            every=every,
            window_s=_window_s(recipe, lam, wanted),
            labels=labels,
            workers=wanted.workers.num or processes_for(shards),
            cluster=wanted.workers if wanted.workers.engine == "ray" else None,
            progress=show,
        )


def _title(wanted: Wanted) -> str | None:
    """What videos are called in what is written: their shards lie in a folder of which nobody knows."""
    path = Path(wanted.source)
    return None if wanted.is_shards or wanted.robot is not None else path.name if path.is_dir() else path.stem


def _check(recipe: Recipe, wanted: Wanted) -> list[Source]:
    """The videos, and everything that is known to be wrong before hours of work."""
    found: list[Source] = []
    if wanted.is_shards:
        if wanted.rate_hz is not None or wanted.cuts is not None:
            option = "--rate" if wanted.rate_hz is not None else "--cuts"
            raise UserError(
                f"{option}: {wanted.source} are shards, which are made already; name the videos instead"
            )
        if wanted.camera is not None:
            warnings.warn(
                f"{wanted.source} are shards: no video is read, so --camera does nothing", stacklevel=3
            )
    else:
        found = _check_videos(recipe, wanted)
    if wanted.layout != PARQUET:
        place = wanted.robot if wanted.robot is not None and wanted.layout != SIDECAR else None
        check_format(wanted.layout, place, wanted.out)
    return found


def _check_videos(recipe: Recipe, wanted: Wanted) -> list[Source]:
    source = Path(wanted.source)
    if source.is_dir() and wanted.out.resolve().is_relative_to(source.resolve()):
        raise UserError(
            f"--out: {wanted.out} lies in {source}, whose videos are read; give a folder beside it"
        )
    found = find_sources([wanted.source], [], WHOLE["test_share"], camera=wanted.camera)
    robots = robots_among(found) if wanted.robot is None else []
    if robots:
        raise UserError(
            f"{source}: holds {len(robots)} LeRobot datasets, such as {robots[0]}; extract each by itself, so that "
            "every frame gets a row beside its action"
        )
    if wanted.robot is None and wanted.cuts is None and not frames_of(recipe).cuts:
        warnings.warn(
            "the run was trained on videos of one shot each; here cuts are looked for, and end a shot. If one file is "
            "one shot, as of a game, add --no-cuts",
            stacklevel=4,
        )
    return found


def processes_for(shards: ShardSet) -> int:
    """How many processes are worth starting to encode so much, each of which takes seconds to begin; one on a GPU."""
    frames = sum(shard.frames for shard in shards.shards)
    return 1 if torch.cuda.is_available() else max(1, min(os.cpu_count() or 1, frames // FRAMES_EACH))


def _shards(recipe: Recipe, wanted: Wanted, found: list[Source]) -> tuple[ShardSet, int]:
    """The shards to encode, and how many videos could not be used for them."""
    if wanted.is_shards:
        return ShardSet.open(wanted.source, allow_commands=True), 0
    folder = wanted.work / "shards"
    with bar("ingest") as show:
        summary = ingest_found(
            found,
            folder,
            _ingest_config(frames_of(recipe), wanted),
            progress=show,
            workers=wanted.workers,
        )
    left_out = summary.quarantined + summary.filtered
    if left_out:
        rows = [row for row in read_rows(folder) if row["status"] != "ingested"]
        told = "; ".join(f"{row['source']}: {row['reason']}" for row in rows[:NUM_NAMED])
        warnings.warn(
            f"{left_out} of {summary.sources} videos cannot be used ({told}); {folder / MANIFEST_FILE} has all reasons",
            stacklevel=3,
        )
    return ShardSet.open(folder), left_out


def _ingest_config(own: IngestConfig, wanted: Wanted) -> IngestConfig:
    """How the run's videos were made frames, but whole."""
    changes: dict[str, Any] = dict(WHOLE)
    changes["segment_frames"] = max(own.segment_frames, CLIP_BYTES // (3 * own.size_px**2))
    # A robot's episode is one shot, and its rows are all of its frames.
    changes["cuts"] = wanted.robot is None if wanted.cuts is None else wanted.cuts
    if wanted.rate_hz is not None:
        changes["rate_hz"] = wanted.rate_hz
    elif wanted.robot is not None:
        changes["rate_hz"] = _rate_of(wanted.robot)
    return own.model_copy(update=changes)


def _rate_of(root: Path) -> float:
    return lerobot.read_info(root).rate_hz


def _window_s(recipe: Recipe, lam: LatentActionModel, wanted: Wanted) -> float | None:
    """A model that learnt from pairs of several distances says so itself; others learnt from adjacent frames."""
    if wanted.window_s is not None or lam.config.pair_s is not None:
        return wanted.window_s
    return 1 / frames_of(recipe).rate_hz


def _labels_along(wanted: Wanted, shards: ShardSet, found: list[Source]) -> Labels | None:
    """True actions that come along with a robot's dataset, or with shards."""
    if wanted.robot is not None:
        if not lerobot.has_actions(wanted.robot):
            return None
        return join_labels(robot_labels([wanted.robot], found, wanted.camera))
    return labels_beside(shards)
