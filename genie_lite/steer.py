"""Rollouts for people and scripts: a start frame and codes in, an mp4 of what the world shows out."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import torch
from einops import rearrange
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image, UnidentifiedImageError

from genie_lite.data.loader import to_frames
from genie_lite.data.segment import IngestConfig, Tally, segments
from genie_lite.data.sources import find_sources
from genie_lite.data.video import Picture, SquareFitter, write_mp4
from genie_lite.errors import UserError
from genie_lite.evaluation import load_world
from genie_lite.files import sha256_of
from genie_lite.folder import ingest_config_of, recipe_of, shards_of

# Pictures that people have. The library reads many more, some with parsers that few have looked at.
PICTURES = ("PNG", "JPEG", "WEBP", "GIF", "BMP")


def rollout(
    run: Path, start: Path, codes: Sequence[int], num_frames: int, seed: int, out: Path, device: str = "cpu"
) -> dict[str, Any]:
    """Steer the world of a run and write exactly `num_frames` sampled frames.

    Args:
        run: a finished run.
        start: an image (PNG, JPEG, WebP, GIF, BMP), a video, or a folder of videos whose first one is taken.
        codes: applied in turn, and again from the beginning until there are enough.
        num_frames: frames to generate.
        seed: of all sampling.
        out: the mp4.
        device: where to compute.

    Returns:
        sha256 of the mp4 (the same for the same arguments on the same machine), frames_per_s of generation.
    """
    recipe = recipe_of(run)
    config = ingest_config_of(shards_of(recipe))
    world = load_world(recipe, device)
    frames = to_frames(first_frames(start, config, recipe.evaluate.prompt_frames))[None].to(device)
    taken = torch.tensor([[codes[place % len(codes)] for place in range(num_frames)]], device=device)
    begin = time.perf_counter()
    sampled = world.rollout(frames, taken, seed)[0].cpu()
    seconds = time.perf_counter() - begin
    pixels = rearrange(sampled.mul(255).round().byte(), "k c h w -> k h w c").numpy()
    write_mp4(out, pixels, config.rate_hz)
    return {
        "sha256": sha256_of(out),
        "frames_per_s": round(num_frames / seconds, 2),
        "frames": num_frames,
        "out": str(out),
    }


def first_frames(source: Path, config: IngestConfig, num: int) -> UInt8[ndarray, "t h w c"]:
    """The first `num` frames of a video at a run's size and rate; an image gives one.

    Raises:
        UserError: not there, not readable, or too short.
    """
    image = _image(source) if source.is_file() else None
    if image is not None:
        picture = Picture(image=av.VideoFrame.from_image(image), index=0, time_s=0.0, pixel_aspect=1.0)
        return SquareFitter(config.size_px, config.resize)(picture)[None]
    path = find_sources([source], [], 0.0)[0].path
    shortest = max(2, num)
    whole = config.model_copy(update={"min_frames": shortest, "segment_frames": shortest, "cuts": False})
    first = next(segments(path, whole, Tally()), None)
    if first is None:
        raise UserError(f"{path}: too short; expected at least {shortest} frames at {config.rate_hz:g} Hz")
    return first.frames[:num]


def _image(path: Path) -> Image.Image | None:
    try:
        with Image.open(path, formats=PICTURES) as image:
            return image.convert("RGB")
    except UnidentifiedImageError:
        return None
    # PIL raises SyntaxError for a broken PNG.
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: an image that cannot be read ({error}); give another start") from error
