"""Small synthetic videos, some of them broken in the ways that real folders are."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import PatchWelcomeError

from genie_lite.data.video.codec import encode_mp4

TEXTURES = {"blue": (40, 60, 200), "green": (60, 190, 70), "grey": (120, 120, 120), "dark": (34, 34, 38)}


def moving_square(num: int, size: int = 32, ground: str = "blue", shift: int = 0) -> np.ndarray:
    """`t h w c`: a bright square that moves a pixel per frame over a plain ground."""
    frames = np.empty((num, size, size, 3), np.uint8)
    frames[:] = TEXTURES[ground]
    for k, frame in enumerate(frames):
        left = (k + shift) % (size - 8)
        frame[8:16, left : left + 8] = (230, 210, 60) if ground != "dark" else (60, 60, 60)
    return frames


def wandering_square(seed: str, num: int, size: int) -> np.ndarray:
    """`t h w c`: a small bright square that goes up to three pixels anywhere per frame."""
    random = np.random.default_rng(list(seed.encode()))
    frames = np.full((num, size, size, 3), 40, np.uint8)
    place = random.integers(0, size - 4, 2)
    for frame in frames:
        top, left = place
        frame[top : top + 4, left : left + 4] = (250, 200, 30)
        place = np.clip(place + random.integers(-3, 4, 2), 0, size - 4)
    return frames


def black(num: int, size: int = 32) -> np.ndarray:
    return np.zeros((num, size, size, 3), np.uint8)


def write(path: Path, frames: np.ndarray, rate_hz: float = 10.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_mp4(frames, rate_hz))
    return path


def drifting(num: int, height: int, width: int) -> np.ndarray:
    """`t h w c`: soft waves of all colours that wander to the right, and a bright disc that wanders down."""
    t, y, x = np.ogrid[:num, :height, :width]
    waves = [128 + 90 * np.sin((x - 2 * t) / 9 + y / 13 + phase) for phase in (0, 2, 4)]
    frames = np.stack([np.broadcast_to(wave, (num, height, width)) for wave in waves], axis=-1)
    disc = (y - height / 4 - 2 * t) ** 2 + (x - width / 2) ** 2 < (height / 8) ** 2
    return np.where(np.broadcast_to(disc, frames.shape[:3])[..., None], 230, frames).astype(np.uint8)


def write_foreign(path: Path, frames: np.ndarray, **how: Any) -> Path:
    """See `_write_foreign`. x265 on a busy machine has made a header that no container takes: it is asked again."""
    try:
        return _write_foreign(path, frames, **how)
    except PatchWelcomeError:
        return _write_foreign(path, frames, **how)


def _write_foreign(
    path: Path,
    frames: np.ndarray,
    *,
    codec: str = "libx264",
    rate: int = 30,
    times_s: Sequence[float] | None = None,
    options: dict[str, str] | None = None,
    pixel_format: str = "yuv420p",
    coder: dict[str, str] | None = None,
    rotation: int | None = None,
    num_sounds: int = 0,
) -> Path:
    """As other programs write it: 4:2:0, long groups of pictures, possibly a variable rate.

    frames: RGB or RGBA. options, coder: of the container and of the encoder. rotation: degrees counterclockwise that
    bring the stored picture upright, stated in the header. num_sounds: tracks of silence beside it.
    """
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=coder or {})
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = Fraction(1, rate) if times_s is None else Fraction(1, 1000)
        stream.codec_context.thread_count = 1
        if rotation is not None:
            stream.set_display_rotation(rotation)
        sounds = [container.add_stream("aac", rate=48000) for _ in range(num_sounds)]
        unit = stream.codec_context.time_base
        times_s = [k / rate for k in range(len(frames))] if times_s is None else times_s
        for pixels, time_s in zip(frames, times_s, strict=True):
            image = av.VideoFrame.from_ndarray(pixels, format="rgba" if pixels.shape[-1] == 4 else "rgb24")
            image = image.reformat(format=pixel_format)
            image.pts, image.time_base = round(time_s / unit), unit
            container.mux(stream.encode(image))
        for sound in sounds:
            _write_silence(container, sound)
        container.mux(stream.encode())
    return path


def _write_silence(container: Any, sound: Any) -> None:
    for k in range(20):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48000, 1024 * k
        container.mux(sound.encode(frame))
    container.mux(sound.encode())


def truncate(path: Path, share: float = 0.5) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    return path


def rotate_header(path: Path) -> Path:
    """Set the display matrix of an mp4 to a quarter turn clockwise, as a phone held upright does."""
    return set_matrix(path, 0, 1, -1, 0)


def set_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Set the display matrix of an mp4: (x, y) goes to (a x + c y, b x + d y)."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    values = [value * (1 << 16) & 0xFFFFFFFF for value in (a, b, 0, c, d, 0, 0, 0)] + [1 << 30]
    data[place : place + 36] = b"".join(value.to_bytes(4, "big") for value in values)
    path.write_bytes(data)
    return path


def huge_gif(path: Path, side_px: int = 16000) -> Path:
    """A hundred bytes that ask for square frames, by default a gigabyte each, once decoded."""
    screen = b"GIF89a" + 2 * side_px.to_bytes(2, "little") + b"\x80\0\0" + bytes(6)
    picture = b"," + bytes(4) + 2 * (1).to_bytes(2, "little") + b"\0" + b"\x02\x02\x44\x01\0"
    path.write_bytes(screen + 3 * (b"!\xf9\x04\0\x0a\0\0\0" + picture) + b";")
    return path
