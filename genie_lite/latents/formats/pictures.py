"""The frames of an episode as pictures on disk, for formats that know no video."""

import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from genie_lite.data.video.codec import decode, read_frames
from genie_lite.data.video.container import BadVideo
from genie_lite.latents.formats.episodes import Clip
from genie_lite.latents.formats.target import unfinished_name

QUALITY = 90  # libjpeg's


def write_pictures(folder: Path, clip: Clip, frames: Collection[int], pattern: str, longest_px: int) -> None:
    """Write frames of a clip as JPEGs; the folder appears when it is whole, in place of one that is there.

    Args:
        folder: to write.
        clip: a video.
        frames: positions in it, ascending; they are numbered 0, 1, 2, ... in the names.
        pattern: a name with `{}` for the number.
        longest_px: longer sides are made smaller.

    Raises:
        BadVideo: it cannot be decoded, or has no such frame.
    """
    unfinished = unfinished_name(folder)
    unfinished.mkdir(parents=True)
    try:
        number = {frame: k for k, frame in enumerate(frames)}
        num = 0
        for frame, pixels in enumerate(_pictures(clip)):
            if frame in number:
                picture = Image.fromarray(pixels)
                picture.thumbnail((longest_px, longest_px), Image.Resampling.BICUBIC)
                picture.save(unfinished / pattern.format(number[frame]), quality=QUALITY)
                num += 1
        if num < len(number):
            name = folder if isinstance(clip, bytes) else clip.path
            raise BadVideo(name, f"{num} of {len(number)} frames that have latents are in the video")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _pictures(clip: Clip) -> Iterator[np.ndarray]:
    if isinstance(clip, bytes):
        yield from read_frames(clip)
    else:
        yield from (picture.image.to_ndarray(format="rgb24") for picture in decode(clip))
