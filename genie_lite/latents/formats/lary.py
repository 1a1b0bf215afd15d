"""LARY's layout: a small npz per transition and a CSV per split, which its regression probe reads.

    train_la_<dataset>_<n>_genie_lite.csv                                for n frames; val_la_... of the test split
    train_unlabelled_<dataset>_<n>_genie_lite.csv                        transitions of which no action is known
    <dataset>/stride_<n>/<split>/genie_lite/latent_action_00000000.npz   tokens (1, d) float32, indices (m,) int64
    <dataset>/stride_<n>/<split>/actions/action_00000000.npy             (n, a) float32, from frame k on
    manifest.json                                                        last

Columns are LARY's: dataset, type, perspective, src_img, src_state, tgt_img, tgt_state, action, la_path. Only valid
transitions are written, those of each length to a table of its own, for the probe wants one length. Of a robot the
action is its own command at each of the n frames; of shards, that of the continuous labels which extract was given.
A transition without one is in a table that the probe does not read, for it would open the empty cell as a file.

It is run with `LARY_LA_DIR=OUT DATA_DIR=OUT` and the `<dataset>` of the names of the tables. That must be a name which
LARY does not list: for those that it does (calvin and others) it looks for the actions in a folder of its own below
`DATA_DIR`. Of a name that it does not list it expects 7 components of an action: of another number, add the name to
its `get_action_dim`.

Left out: `src_img` and `tgt_img` name a video and a frame of it instead of files, for the probe only draws them; no
states. LARY's public scores are of its own footage: those need its images ingested and extracted, not this alone.

Source: github.com/meituan-longcat/LARYBench, lary/path_resolver.py, regression/main.py,
get_latent_action/get_latent_action_img.py.
"""

import csv
import io
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genie_lite.data.shards.token_shards import npy
from genie_lite.latents.formats.columns import numbers
from genie_lite.latents.formats.episodes import Episode, Episodes
from genie_lite.latents.formats.join import Aligned, Join
from genie_lite.latents.formats.labelled import Progress, Source, open_episodes
from genie_lite.latents.formats.rows import Rows
from genie_lite.latents.formats.runner import head_of, write_episodes
from genie_lite.latents.formats.target import Target, fingerprint, job_of

MODEL = "genie_lite"
COLUMNS = (
    "dataset",
    "type",
    "perspective",
    "src_img",
    "src_state",
    "tgt_img",
    "tgt_state",
    "action",
    "la_path",
)
SPLITS = {"train": "train", "test": "val"}


@dataclass(frozen=True)
class _Transition:
    """frame: of the episode, that it begins with. stride: frames to its end. action: (stride, a), if it is known."""

    episode: Episode
    aligned: Aligned
    frame: int
    stride: int
    action: np.ndarray | None


def write(
    folder: Path, source: Source, out: Path, title: str | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Write arrays and tables; returns the manifest. Warns where no transition has an action.

    Args:
        folder: finished latents.
        source: shards, or the folder of a LeRobot dataset.
        out: an empty folder, or one in which this was begun before.
        title: see `registry.write`; it becomes `<dataset>`.
        progress: called with (episodes done, episodes).

    Raises:
        UserError: they do not belong together, the folder holds something else, nothing can be used.
    """
    episodes, rows = open_episodes(source, title), Rows(folder)
    join = Join(rows, episodes)
    job = job_of("lary", folder, fingerprint(episodes.fingerprint, _safe(episodes.name)))
    with Target(out, job) as target:
        manifest = target.done or _write(target, episodes, join, rows, progress)
    if not any(table["with_action"] for table in manifest["tables"]):
        warnings.warn(
            f"{out}: no transition has a known action, so there is nothing that LARY's probe can be trained on; give "
            "continuous labels to extract",
            stacklevel=3,
        )
    return manifest


def _write(
    target: Target, episodes: Episodes, join: Join, rows: Rows, progress: Progress | None
) -> dict[str, Any]:
    tables = _Tables(target, _safe(episodes.name))

    def write_one(episode: Episode, aligned: Aligned) -> None:
        for transition in _transitions(episode, aligned):
            tables.add(transition)

    left_out = write_episodes(episodes, join, write_one, progress)
    return target.describe(head_of(episodes, rows, left_out, {"tables": tables.write()}))


class _Tables:
    """Lines of every table, whose arrays are on disk as soon as a line is there."""

    def __init__(self, target: Target, dataset: str) -> None:
        self._out, self._journal, self._dataset = target.out, target.journal, dataset
        self.lines: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)

    def add(self, transition: _Transition) -> None:
        """Write the arrays of a transition, and keep its line.

        A plain write: a run begun again writes all of them again, and nobody reads before the manifest is there.
        """
        episode, aligned, k = transition.episode, transition.aligned, transition.frame
        split = SPLITS.get(aligned.split, aligned.split)
        lines = self.lines[split, transition.stride]
        home = Path(self._dataset, f"stride_{transition.stride}", split)
        latent = home / MODEL / f"latent_action_{len(lines):08d}.npz"
        buffer = io.BytesIO()
        np.savez(buffer, tokens=aligned.embedding[k][None], indices=aligned.tokens[k])
        self._put(latent, buffer.getvalue())
        action = home / "actions" / f"action_{len(lines):08d}.npy"
        if transition.action is not None:
            self._put(action, npy(transition.action))
        video = aligned.source
        line = {
            "dataset": self._dataset,
            "type": "robot" if episode.key is None else "video",
            "src_img": f"{video}#frame={episode.frames[k]}",
            "tgt_img": f"{video}#frame={episode.frames[k + transition.stride]}",
            "action": "" if transition.action is None else action.as_posix(),
            "la_path": latent.as_posix(),
        }
        lines.append(dict.fromkeys(COLUMNS, "") | line)

    def write(self) -> list[dict[str, Any]]:
        """Write the tables; what each holds."""
        told = []
        for (split, stride), lines in sorted(self.lines.items()):
            labelled = [line for line in lines if line["action"]]
            unknown = [line for line in lines if not line["action"]]
            for kind, chosen in (("la", labelled), ("unlabelled", unknown)):
                if chosen:
                    name = f"{split}_{kind}_{self._dataset}_{stride}_{MODEL}.csv"
                    self._put(Path(name), _csv(chosen))
                    known = len(chosen) if kind == "la" else 0
                    told.append({"file": name, "stride": stride, "rows": len(chosen), "with_action": known})
        return told

    def _put(self, name: Path, data: bytes) -> None:
        path = self._out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._journal.making(path, ""):
            path.write_bytes(data)


def _csv(lines: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows([line[column] for column in COLUMNS] for line in lines)
    return text.getvalue().encode()


def _transitions(episode: Episode, aligned: Aligned) -> Iterator[_Transition]:
    action = numbers(episode.table["action"]) if "action" in episode.table.column_names else aligned.action
    if action is not None:
        action = action.reshape(len(episode), -1).astype(np.float32)
    for frame in np.flatnonzero(aligned.valid).tolist():
        stride = int(aligned.horizon[frame])
        chunk = None if action is None else action[frame : frame + stride]
        known = chunk is not None and bool(np.isfinite(chunk).all())
        yield _Transition(episode, aligned, frame, stride, chunk if known else None)


def _safe(name: str) -> str:
    """For a path, and for LARY's names of files, whose parts have an underscore between them."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower() or "videos"
