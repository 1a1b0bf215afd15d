"""What a player brings to begin from: an image or a short video, as bytes from anywhere.

Whatever they are, they cost no more than a bounded amount of memory and time. A picture is refused by its header
where it would unfold to too many pixels; a video is decoded in a child process that may crash, hang or eat memory.
"""

import io
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from genie_lite.data.cutting.sandbox import Sandbox
from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.data.video.codec import read_frames
from genie_lite.data.video.container import MAX_ELONGATION
from genie_lite.data.video.place import Place
from genie_lite.errors import UserError
from genie_lite.steer import PICTURES, first_frames

MOST_BYTES = 32 << 20
MOST_PIXELS = 64_000_000  # of a picture: the largest of today's phones, with some room
MOST_S = 20.0  # for decoding a video
MEMORY_BYTES = 1 << 30  # likewise: enough for 4K
AHEAD_S = 1.0  # decoded of a long video beside the frames that are wanted
WHAT = "expected an image (PNG, JPEG, WebP, GIF, BMP) or a short video"


class OwnStarts:
    """Makes starts of what players bring. Safe from several threads."""

    def __init__(self, config: IngestConfig, num_frames: int, most_s: float = MOST_S) -> None:
        """Remember how frames are made.

        Args:
            config: as in the run's shards.
            num_frames: to begin from, of a video; an image gives one.
            most_s: seconds for decoding a video.
        """
        self._config, self._num_frames, self._most_s = config, num_frames, most_s
        self._lock = threading.Lock()

    def __call__(self, data: bytes) -> UInt8[np.ndarray, "t h w c"]:
        """The frames to begin from, at the run's size.

        Raises:
            UserError: neither an image nor a video, one that is broken or too short, or one that is too large in
                bytes, pixels, or time to decode.
        """
        if not data:
            raise UserError(f"an empty file; {WHAT}")
        if len(data) > MOST_BYTES:
            raise UserError(
                f"a file of {len(data) / 2**20:.0f} MB, expected at most {MOST_BYTES >> 20} MB; give a smaller one"
            )
        is_image = _is_modest_image(data)
        with tempfile.TemporaryDirectory(prefix="genie-lite-") as folder:
            path = Path(folder) / "start"
            path.write_bytes(data)
            try:
                return self._of_image(path) if is_image else self._of_video(path)
            except UserError as error:
                # The file's own name is a secret of this machine.
                raise UserError(str(error).removeprefix(f"{path}: ")) from error

    def _of_image(self, path: Path) -> UInt8[np.ndarray, "t h w c"]:
        with self._lock:  # two large ones at once would take twice the memory
            return first_frames(path, self._config, 1)

    def _of_video(self, path: Path) -> UInt8[np.ndarray, "t h w c"]:
        length = max(2, self._num_frames)
        # As `first_frames` does; and as little is decoded and lost in between as can be.
        config = self._config.model_copy(
            update={
                "min_frames": length,
                "segment_frames": length,
                "cuts": False,
                "min_motion": 0.0,
                "near_duplicates": False,
                "quality": None,
                "codec": "h264",
                "crf": 0,
                "pixel_format": "yuv444p",
            }
        )
        end_s = time.monotonic() + self._most_s
        with Sandbox(config) as sandbox:
            sandbox.memory_bytes = MEMORY_BYTES
            header = _until(end_s, sandbox).read_header(Place(path))
            if header.fault is not None:
                raise UserError(f"not an image, and as a video: {header.fault}; {WHAT}")
            wanted_s, seconds = length / config.rate_hz + AHEAD_S, header.figures.get("seconds")
            if seconds is not None and seconds > 2 * wanted_s:
                # Containers that count time from elsewhere have nothing there; then all of it is read.
                with suppress(UserError):
                    return self._first(_until(end_s, sandbox), Place(path, span_s=(0.0, wanted_s)))
            return self._first(_until(end_s, sandbox), Place(path))

    def _first(self, sandbox: Sandbox, place: Place) -> UInt8[np.ndarray, "t h w c"]:
        result = sandbox.read(place)
        try:
            if result.segments:
                return read_frames(result.segments[0].mp4, list(range(self._num_frames)))
        finally:
            result.close()
        raise UserError(f"a video that cannot be used: {result.fault or result.complaint}; {WHAT}")


def _until(end_s: float, sandbox: Sandbox) -> Sandbox:
    """The same, which gives up at that time."""
    sandbox.patience_s = sandbox.silence_s = round(max(0.01, end_s - time.monotonic()), 2)
    return sandbox


def _is_modest_image(data: bytes) -> bool:
    """Whether it is an image, by its header; nothing is decoded.

    Raises:
        UserError: an image that is broken, or would be too large.
    """
    try:
        with Image.open(io.BytesIO(data), formats=PICTURES) as image:
            width, height = image.size
    except UnidentifiedImageError:
        return False
    except Exception as error:  # a parser of files from anywhere fails in many ways
        raise UserError(f"an image that cannot be read ({error}); {WHAT}") from error
    if width * height > MOST_PIXELS:
        raise UserError(
            f"an image of {width} x {height} pixels, expected at most {MOST_PIXELS // 10**6} million of them; give a "
            "smaller one"
        )
    if max(height, width) > MAX_ELONGATION * min(height, width):
        raise UserError(
            f"an image of {width} x {height} pixels, expected sides of at most {MAX_ELONGATION} to 1; cut it"
        )
    return True
