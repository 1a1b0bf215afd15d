"""The formats by name: what `genie-lite extract --format` writes beside the Parquet that it always writes."""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from genie_lite.data.shards.shards import ShardSet
from genie_lite.data.sources.lerobot_info import is_lerobot
from genie_lite.errors import UserError
from genie_lite.latents.formats import lapa, lary, lerobot_v2, lerobot_v3, webdataset
from genie_lite.latents.formats.columns import Way, expect_names_free
from genie_lite.latents.formats.labelled import MANIFEST, Progress, Source, open_episodes, whole_fps
from genie_lite.latents.formats.target import expect_free
from genie_lite.latents.manifest import described
from genie_lite.latents.table import MANIFEST_FILE, read_manifest

Writer = Callable[..., dict[str, Any]]
FORMATS: dict[str, Writer] = {
    "webdataset": webdataset.write,
    "lerobot-v3": partial(lerobot_v3.write, way="beside"),
    "lerobot-v3-action": partial(lerobot_v3.write, way="action"),
    "lerobot-v2.1": lerobot_v2.write,
    "lapa": lapa.write,
    "lary": lary.write,
}
WAYS: dict[str, Way] = {"lerobot-v3": "beside", "lerobot-v3-action": "action", "lerobot-v2.1": "action"}
NUM_TOLD = 3  # of the episodes that are left out, in the warning


def write(
    name: str,
    folder: Path,
    source: Source,
    out: Path,
    *,
    title: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write finished latents in a format; returns its manifest, that of before if it is all there.

    Begun again after whatever stopped it, it goes on in its folder and ends with the same files. What was left out is
    tried again, and warned of.

    Args:
        name: one of `FORMATS`.
        folder: finished latents, as `extract` writes them.
        source: what they were extracted from: shards, or the folder of a LeRobot dataset of v2.0, v2.1 or v3.0.
        out: an empty folder, or one in which this was begun before.
        title: what the source is called in what is written; the name of its folder by default.
        progress: called with (done, total), in samples or episodes.

    Raises:
        UserError: an unknown format; latents and source that do not belong together; a folder that holds something
            else; nothing that can be used.
    """
    _check_place(name, source, out, folder)
    if isinstance(source, ShardSet):
        source = described(source, read_manifest(folder))
    manifest = FORMATS[name](folder, source, out, title=title, progress=progress)
    _tell_left_out(manifest.get("left_out", ()), out)
    return manifest


def check(
    name: str,
    source: Source | None,
    out: Path,
    *,
    rate_hz: float | None = None,
) -> None:
    """Raise what `write` would refuse, as far as it is known before anything is extracted; writes nothing.

    Args:
        name: one of `FORMATS`.
        source: shards, the folder of a LeRobot dataset, or videos from which shards are yet to be made; None for
            what is not known yet.
        out: where to write.
        rate_hz: of the shards that are yet to be made.

    Raises:
        UserError: an unknown format; `out` lies in what is read, or holds a stranger's files or another export; a
            dataset that cannot be read, or whose frames per second or features the format cannot tell.
    """
    _check_place(name, source, out)
    known = source if isinstance(source, ShardSet) or (source is not None and is_lerobot(source)) else None
    if known is not None and name != "webdataset":
        episodes = open_episodes(known)
        if name in WAYS:
            whole_fps(episodes.rate_hz, episodes.place, is_shards=isinstance(source, ShardSet))
            expect_names_free(WAYS[name], episodes.features)
        if name == "lerobot-v2.1":
            lerobot_v2.expect_videos(episodes)
    elif known is None and rate_hz is not None and name in WAYS:
        whole_fps(rate_hz, str(source), is_shards=True)


def _check_place(name: str, source: Source | None, out: Path, folder: Path | None = None) -> None:
    if name not in FORMATS:
        raise UserError(f"format: found '{name}', expected one of {', '.join(FORMATS)}")
    expect_apart(out, folder, source)
    expect_free(out, name, out / (MANIFEST if name in WAYS else MANIFEST_FILE))


def expect_apart(out: Path, folder: Path | None, source: Source | None) -> None:
    """Refuse to write into what is read: some of these files have the same names.

    Raises:
        UserError: the folder is, or lies in, that of the latents or of the source.
    """
    place = source.folder if isinstance(source, ShardSet) else source
    for used in (folder, place):
        if used is not None and out.resolve().is_relative_to(used.resolve()):
            raise UserError(f"{out}: lies in {used}, which is read; choose a folder of its own")


def _tell_left_out(left_out: Sequence[dict[str, str]], out: Path) -> None:
    if not left_out:
        return
    told = "; ".join(f"{each['episode']}: {each['reason']}" for each in left_out[:NUM_TOLD])
    more = ", ..." if len(left_out) > NUM_TOLD else ""
    noun = "episode is" if len(left_out) == 1 else "episodes are"
    warnings.warn(f"{out}: {len(left_out)} {noun} left out ({told}{more})", stacklevel=3)
