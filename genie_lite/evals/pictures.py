"""Frames to picture files: a still strip, a film as one wide sheet, a film as an animated WebP.

A *sheet* holds a film's frames side by side. A page moves it with a few lines of CSS, so that many films run
in step, can be paused, and keep still for readers who ask for less motion; animated images can do none of it.
"""

import base64
import io

import numpy as np
from einops import rearrange
from PIL import Image

GAP_PX = 2  # between neighbouring frames
MIME = {".png": "image/png", ".webp": "image/webp"}


def strip_png(frames: np.ndarray) -> bytes:
    """Frames uint8 `t h w c` side by side as a PNG, with transparent gaps."""
    opaque = np.concatenate([frames, np.full_like(frames[..., :1], 255)], axis=3)
    spaced = np.pad(opaque, ((0, 0), (0, 0), (0, GAP_PX), (0, 0)))
    return _encode(Image.fromarray(rearrange(spaced, "t h w c -> h (t w) c")), "PNG", optimize=True)


def sheet_webp(frames: np.ndarray, quality: int | None = None) -> bytes:
    """Frames uint8 `t h w c` side by side as a WebP; at most 16,383 pixels wide in all.

    Args:
        frames: of three channels, or of four, the last one of which is opacity.
        quality: 0 to 100 of a lossy file, None for a lossless one.
    """
    image = Image.fromarray(rearrange(frames, "t h w c -> h (t w) c"))
    return (
        _encode(image, "WEBP", lossless=True) if quality is None else _encode(image, "WEBP", quality=quality)
    )


def animation_webp(frames: np.ndarray, rate_hz: float, zoom: int = 1) -> bytes:
    """Frames uint8 `t h w c` as an endless animated WebP, slightly lossy; pixels enlarged `zoom` times."""
    large = frames.repeat(zoom, axis=1).repeat(zoom, axis=2)
    first, *rest = [Image.fromarray(frame) for frame in large]
    file = io.BytesIO()
    first.save(
        file, "WEBP", save_all=True, append_images=rest, duration=round(1000 / rate_hz), loop=0, quality=85
    )
    return file.getvalue()


def tile(films: np.ndarray, columns: int) -> np.ndarray:
    """Films uint8 `n t h w c` on a grid, as one film; empty places and gaps are mid-grey."""
    num, t, h, w, c = films.shape
    rows = -(-num // columns)
    canvas = np.full((t, rows * (h + GAP_PX) - GAP_PX, columns * (w + GAP_PX) - GAP_PX, c), 128, np.uint8)
    for place, film in enumerate(films):
        top, left = (place // columns) * (h + GAP_PX), (place % columns) * (w + GAP_PX)
        canvas[:, top : top + h, left : left + w] = film
    return canvas


def data_uri(data: bytes, suffix: str) -> str:
    """A picture file as text that stands in a page; `suffix` is .png or .webp."""
    return f"data:{MIME[suffix]};base64,{base64.b64encode(data).decode()}"


def _encode(image: Image.Image, kind: str, **options: bool | int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
