"""The formats by name: what `genie-lite extract --format` writes beside the Parquet that it always writes."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from genie_lite.errors import UserError
from genie_lite.latents.formats import lapa, lary, lerobot_v2, lerobot_v3, webdataset
from genie_lite.latents.formats.labelled import Progress, Source

Writer = Callable[..., dict[str, Any]]
FORMATS: dict[str, Writer] = {
    "webdataset": webdataset.write,
    "lerobot-v3": partial(lerobot_v3.write, way="beside"),
    "lerobot-v3-action": partial(lerobot_v3.write, way="action"),
    "lerobot-v2.1": lerobot_v2.write,
    "lapa": lapa.write,
    "lary": lary.write,
}


def write(
    name: str, folder: Path, source: Source, out: Path, *, progress: Progress | None = None
) -> dict[str, Any]:
    """Write finished latents in a format; returns its manifest, that of before if it is all there.

    Begun again after whatever stopped it, it goes on in its folder and ends with the same files.

    Args:
        name: one of `FORMATS`.
        folder: finished latents, as `extract` writes them.
        source: what they were extracted from: shards, or the folder of a LeRobot dataset of v2.0, v2.1 or v3.0.
        out: an empty folder, or one in which this was begun before.
        progress: called with (done, total), in samples or episodes.

    Raises:
        UserError: an unknown format; latents and source that do not belong together; a folder that holds something
            else; nothing that can be used.
    """
    if name not in FORMATS:
        raise UserError(f"format: found '{name}', expected one of {', '.join(FORMATS)}")
    expect_apart(out, folder, source)
    return FORMATS[name](folder, source, out, progress=progress)


def expect_apart(out: Path, folder: Path, source: Source) -> None:
    """Refuse to write into what is read: some of these files have the same names.

    Raises:
        UserError: the folder is, or lies in, that of the latents or of the source.
    """
    place = source if isinstance(source, Path) else source.folder
    for used in (folder, place):
        if out.resolve().is_relative_to(used.resolve()):
            raise UserError(f"{out}: lies in {used}, which is read; choose a folder of its own")
