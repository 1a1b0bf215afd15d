"""Masks that somebody else has made, joined to the frames of samples by the name of the source and the native frame.

    a/b.mp4          the source
    a/b/000123.png   the mask of its frame 123
    a/b.png          or one of all its frames
    a/b.mp4          or a video of masks, frame by frame

The first of these that is there counts, below the folder of masks. A source whose name does not end like a video, as
`a/b.mp4#episode_000012` or a member of a tar without a suffix, keeps its whole name: `a/b.mp4#episode_000012.png`.

The mask of a frame is upright and shows what the frame of the source does, at any size, black bars included. It is
brought to the samples as the frames were: bars off, scaled, and cropped, padded or stretched. Foreground is what is
brighter than half in any channel; of a picture that holds nothing but 0 and 1, it is what is 1.

Names of sources come with the shards, from anybody: nothing outside the folder is ever looked at.
"""

import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any

import av
import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from genie_lite.data.shards.shards import ShardSet
from genie_lite.data.video.codec import SUFFIXES, decode
from genie_lite.data.video.container import BadVideo
from genie_lite.data.video.picture import BadPicture, Bars, Picture, Resize, SquareFitter
from genie_lite.data.video.place import Place
from genie_lite.errors import UserError

CACHE_BYTES = 256 << 20  # of masks, one bit per pixel, per loading process
Margins = tuple[float, float, float, float]  # top, bottom, left, right, as shares of the upright picture
NO_MARGINS = (0.0, 0.0, 0.0, 0.0)


def fingerprint_of(folder: Path) -> str:
    """A name for the files of a folder of masks, by their own names and sizes, wherever it lies.

    Raises:
        UserError: no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of masks; give one, parallel to the sources")
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(
            f"{path.relative_to(folder).as_posix()}\n{path.stat().st_size}\n".encode(
                "utf-8", "surrogateescape"
            )
        )
    return digest.hexdigest()


class NoMask(Exception):
    """Frames without a mask; the message says why."""


class Masks:
    """The masks of the sources of a set of shards.

    Files are kept in memory once they are read, as far as there is room; a video is read from its first frame to its
    last, so those of long sources are better given as pictures.
    """

    def __init__(self, folder: Path, shards: ShardSet) -> None:
        """Prepare to read; nothing is read yet but the manifest of the shards, for the bars that ingest has cut off.

        Raises:
            UserError: no such folder.
        """
        if not folder.is_dir():
            raise UserError(
                f"{folder}: no such folder; expected masks, named like the sources of {shards.place}"
            )
        self._folder = folder
        self._size_px: int = shards.frame_hw[0]
        self._resize: Resize = shards.config.get("resize", "crop")
        self._margins = _margins_of(shards)
        self._read: OrderedDict[Path, UInt8[np.ndarray, "n bits"]] = OrderedDict()
        self._broken: dict[Path, str] = {}

    def of(self, source: str, frames: Sequence[int]) -> Float32[np.ndarray, "k h w"]:
        """1 in the foreground and 0 elsewhere, at the size of the samples, for these frames of a source.

        Raises:
            NoMask: for one of them there is none, or none that can be read.
        """
        stem = self._below(source)
        if os.path.isdir(stem):
            return np.stack([self._packed(stem / f"{frame:06d}.png", source, 0) for frame in frames])
        if os.path.isfile(still := _with(stem, ".png")):
            return np.stack([self._packed(still, source, 0)] * len(frames))
        videos = (self._folder / source, _with(stem, ".mp4"))
        video = next((path for path in videos if os.path.isfile(path)), None)
        if video is None:
            raise NoMask(f"no mask of {source!r}: neither {stem}{os.sep}, {still.name} nor {still.stem}.mp4")
        return np.stack([self._packed(video, source, frame) for frame in frames])

    def _below(self, source: str) -> Path:
        """The path of a source in the folder of masks, without the suffix of a video.

        A pure question of the name: links that the folder holds are its owner's.
        """
        name = PurePosixPath(source)
        is_inside = source and "\0" not in source and ".." not in name.parts and not os.path.isabs(source)
        path = self._folder / name
        if not is_inside or not path.is_relative_to(self._folder) or path == self._folder:
            raise NoMask(f"no mask of {source!r}: its name leads out of {self._folder}")
        return path.with_suffix("") if path.suffix.lower() in SUFFIXES else path

    def _packed(self, path: Path, source: str, frame: int) -> Float32[np.ndarray, "h w"]:
        if path in self._broken:
            raise NoMask(self._broken[path])
        if path not in self._read:
            try:
                self._keep(path, self._masks_in(path, self._margins.get(source, NO_MARGINS)))
            except (OSError, ValueError, cv2.error, BadVideo, BadPicture) as error:
                self._broken[path] = f"{path}: cannot be read as a mask ({' '.join(str(error).split())})"
                raise NoMask(self._broken[path]) from error
        self._read.move_to_end(path)
        masks = self._read[path]
        if frame >= len(masks):
            raise NoMask(f"{path}: has {len(masks)} frames, but frame {frame} of {source!r} was wanted")
        side = self._size_px
        return np.unpackbits(masks[frame], count=side * side).reshape(side, side).astype(np.float32)

    def _keep(self, path: Path, masks: UInt8[np.ndarray, "n bits"]) -> None:
        self._read[path] = masks
        while len(self._read) > 1 and sum(each.nbytes for each in self._read.values()) > CACHE_BYTES:
            self._read.popitem(last=False)

    def _masks_in(self, path: Path, margins: Margins) -> UInt8[np.ndarray, "n bits"]:
        """All masks of a file, one bit per pixel."""
        pictures = [_picture_in(path)] if path.suffix.lower() == ".png" else decode(Place(path))
        fitters: dict[tuple[int, int], SquareFitter] = {}
        rows: list[np.ndarray] = []
        for picture in pictures:
            hw = picture.image.height, picture.image.width
            if hw not in fitters:
                fitters[hw] = SquareFitter(self._size_px, self._resize, _bars(margins, *hw), hw)
            rows.append(np.packbits(_foreground(fitters[hw](picture))))
        return np.stack(rows)


def _with(stem: Path, suffix: str) -> Path:
    return stem.with_name(stem.name + suffix)


def _picture_in(path: Path) -> Picture:
    """A picture file as if it were a frame of a video."""
    found = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    if found is None:
        raise ValueError("not a picture")
    pixels = np.asarray(found, np.uint8)
    image = av.VideoFrame.from_ndarray(
        pixels * np.uint8(255) if pixels.max() == 1 else pixels, format="bgr24"
    )
    image.pts, image.time_base = 0, Fraction(1, 25)  # cutting bars off wants a clock
    return Picture(image, 0, 0.0, 1.0)


def _foreground(pixels: UInt8[np.ndarray, "h w c"]) -> Bool[np.ndarray, "h w"]:
    return pixels.max(axis=-1) > 127


def _bars(margins: Margins, height: int, width: int) -> Bars:
    top, bottom, left, right = margins
    return Bars(round(top * height), round(bottom * height), round(left * width), round(right * width))


def _margins_of(shards: ShardSet) -> dict[str, Margins]:
    """Of each source that had bars, what ingest has cut off."""
    path = shards.manifest()
    if path is None:
        return {}
    try:
        rows = [json.loads(line) for line in path.read_bytes().splitlines()]
        return {row["source"]: _margins(row) for row in rows if row.get("letterbox")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise UserError(
            f"{path}: damaged, expected one JSON object per line, with the bars that were cut off ({error!r}); "
            "copy it again"
        ) from error


def _margins(row: dict[str, Any]) -> Margins:
    height, width = row["height"], row["width"]
    if row.get("rotation", 0) % 180:
        height, width = width, height
    top, bottom, left, right = row["letterbox"]
    return top / height, bottom / height, left / width, right / width
