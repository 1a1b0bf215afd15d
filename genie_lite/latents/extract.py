"""Extraction: every transition of the shards to its latent action, as columns that any trainer can read.

    shards + LAM ──▶ OUT/<shard>.parquet (one part per shard) + OUT/manifest.json (last: it means finished)

Columns are those of `latents.Latents`; what is encoded together is in `encode`. Parts that hold what was written, and
were made from the same shard, model, window and labels, are kept, so an extraction that was killed goes on where it
stopped and ends with the same bytes. Only this process writes to the folder, each file whole. A manifest of an older
format is replaced, one of somebody else is not.

A shard that cannot be read, or says of its frames what cannot be, is named in a warning and in the manifest, and is
tried again next time; the others are extracted.
"""

import fcntl
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from genie_lite.data.ingest.workers import Workers
from genie_lite.data.labels import Labels
from genie_lite.data.shards.shards import ShardSet
from genie_lite.errors import UserError
from genie_lite.files import sha256_of, write_bytes, write_json
from genie_lite.latents.manifest import About, build_manifest, made_from, standing_manifest
from genie_lite.latents.part import Task, part_name
from genie_lite.latents.pool import make_parts
from genie_lite.latents.table import MANIFEST_FILE, holds, read_manifest, read_stamp
from genie_lite.latents.window import Every, horizon_of
from genie_lite.models.lam import LatentActionModel

UNFINISHED = re.compile(r"\.(manifest\.json|.+\.parquet)\.[0-9a-f]{8}\.tmp")  # see `files.write_bytes`

Progress = Callable[[int, int], None]


def extract(
    lam: LatentActionModel,
    shards: ShardSet,
    out: Path,
    *,
    lam_sha: str,
    every: Every = "step",
    window_s: float | None = None,
    labels: Labels | None = None,
    workers: int = 1,
    cluster: Workers | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the latent action of every frame; returns the manifest.

    Row k of a shot is the change from its frame k to the frame a window later. How dense the rows are is decided
    where the shards are made: at the rate of the model (a row per step of a world), or at the videos' own.

    Args:
        lam: in evaluation mode, on the device to use.
        shards: where the frames come from.
        out: folder to write.
        lam_sha: hash of the model's weights; parts made by another model are written again.
        every: what the shards' frames are: a "step" of the model, or every "frame" of the videos, which is
            checked.
        window_s: seconds from frame k to the one that its row leads to; None for what the model learnt (see
            `horizon_of`).
        labels: true actions of single frames, to be written beside the codes.
        workers: processes that encode, each on one thread; the result does not depend on it.
        cluster: a Ray cluster that encodes in their place.
        progress: called with (samples done, samples).

    Raises:
        UserError: frames of another size than the model's, no shard that can be read, a folder that cannot be
            written to, that holds somebody else's manifest or that another extraction is writing, a child process
            that died, no cluster, or see `horizon_of`.
    """
    _expect_fitting(lam, shards, workers)
    task_window = horizon_of(lam, shards.rate_hz, window_s, every)
    task = Task(shards, lam_sha, task_window.frames, labels)
    with _locked(out):
        if _is_done(out, About(task, every, task_window, shards.skipped)):
            return read_manifest(out)
        (out / MANIFEST_FILE).unlink(missing_ok=True)
        _sweep(out, task)
        damaged = _write_parts(task, lam, out, workers, cluster, progress)
        about = About(task, every, task_window, (*shards.skipped, *damaged))
        write_json(out / MANIFEST_FILE, build_manifest(lam, about, out))
    manifest = read_manifest(out)
    _tell_oddities(manifest, task)
    return manifest


def _expect_fitting(lam: LatentActionModel, shards: ShardSet, workers: int) -> None:
    if shards.frame_hw != lam.config.frame_hw:
        found, wanted = ("x".join(map(str, hw)) for hw in (shards.frame_hw, lam.config.frame_hw))
        raise UserError(
            f"{shards.folder}: frames of {found} pixels, the latent action model reads {wanted}; "
            f"ingest again with size_px={lam.config.frame_hw[0]}"
        )
    if workers < 1:
        raise UserError(f"workers: found {workers}, expected at least 1 process")


def _is_done(out: Path, about: About) -> bool:
    """Whether the folder holds just this, whole. What was damaged is tried again, it may have been mended.

    Raises:
        UserError: it holds somebody else's manifest.
    """
    manifest = standing_manifest(out)
    if manifest is None:
        return False
    parts = {part["file"]: part.get("sha256") for part in manifest["parts"]}
    return (
        made_from(manifest) == about.made_from
        and parts.keys() == {part_name(shard) for shard in about.task.shards.shards}
        and all((out / name).is_file() and sha256_of(out / name) == sha for name, sha in parts.items())
    )


def _sweep(out: Path, task: Task) -> None:
    """Remove what was left half written, and parts of other shards: who reads all parts would take them for these.

    Files that extraction did not write are left alone.
    """
    for path in list(out.iterdir()):
        if UNFINISHED.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)
    ours = {part_name(shard) for shard in task.shards.shards}
    for path in out.glob("*.parquet"):
        if path.name not in ours and read_stamp(path) is not None:
            path.unlink()


def _write_parts(
    task: Task,
    lam: LatentActionModel,
    out: Path,
    workers: int,
    cluster: Workers | None,
    progress: Progress | None,
) -> list[tuple[str, str]]:
    """Make the parts that are missing, stale or altered; returns the shards that cannot be read, and why.

    Raises:
        UserError: none can be read.
    """
    shards = task.shards.shards
    missing = [shard for shard in shards if not holds(out / part_name(shard), task.stamp(shard))]
    for shard in missing:
        (out / part_name(shard)).unlink(missing_ok=True)
    total = sum(shard.samples for shard in shards)
    count = _Count(total, total - sum(shard.samples for shard in missing), progress)
    faults: dict[str, str] = {}
    with closing(make_parts(task, lam, missing, workers, count.add, cluster)) as made:
        for part in made:
            if part.content is None:
                faults[part.shard.file] = part.fault or "damaged"
            else:
                write_bytes(out / part_name(part.shard), part.content)
    damaged = [(shard.file, faults[shard.file]) for shard in shards if shard.file in faults]
    if len(damaged) == len(shards):
        raise UserError(
            f"{task.shards.place}: none of {len(shards)} shards can be read ({damaged[0][1]}); copy them again, or "
            "ingest again"
        )
    if damaged:
        told = "; ".join(f"{file}: {reason}" for file, reason in damaged[:5])
        warnings.warn(
            f"{task.shards.place}: {len(damaged)} of {len(shards)} shards cannot be read and are left out ({told}); "
            "copy them again and run extract again",
            stacklevel=3,
        )
    return damaged


class _Count:
    """Samples done, told one by one."""

    def __init__(self, total: int, done: int, progress: Progress | None) -> None:
        self._total, self._done, self._progress = total, done, progress
        if done:
            self.add(0)

    def add(self, num: int = 1) -> None:
        self._done += num
        if self._progress is not None:
            self._progress(self._done, self._total)


def _tell_oddities(manifest: dict[str, Any], task: Task) -> None:
    """Warn of what was extracted as asked, but is hardly what was meant."""
    counts, window = manifest["counts"], manifest["window"]
    if task.labels is not None and not counts["labelled"]:
        warnings.warn(
            f"labels: none of {counts['rows']} frames has a label. Label source "
            f"{_first(task.labels.episodes)}: it must be the video's path below the ingested folder",
            stacklevel=3,
        )
    if not counts["transitions"]:
        warnings.warn(
            f"{task.shards.place}: no shot is longer than the window of {window['frames']} frames; "
            "no row is valid",
            stacklevel=3,
        )
    if manifest["every"] == "frame" and window["native_frames"] != window["frames"] and counts["transitions"]:
        warnings.warn(
            f"{task.shards.place}: {window['frames']} of its frames are {window['native_frames']} of a video; for a "
            "row of every frame, ingest at the video's own rate",
            stacklevel=3,
        )


def _first(names: tuple[str, ...]) -> str:
    return repr(names[0]) if names else "none"


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Keep others from writing to the folder meanwhile; a process that is killed lets go of it.

    Raises:
        UserError: another extraction has it, or it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        handle = os.open(out, os.O_RDONLY)
    except OSError as error:
        raise UserError(
            f"{out}: cannot be written to ({error.strerror}); allow it or give another folder"
        ) from error
    try:
        try:
            # The folder itself is the lock: nothing of it is left among the parts.
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{out}: another extraction is writing here; wait for it or give another folder"
            ) from error
        except OSError:
            pass  # a file system without locks: two at once write the same parts, each of them whole
        yield
    finally:
        with suppress(OSError):
            os.close(handle)
