"""The clips of benchmarks/loader.py in every form that is read: shards of H.264, JPEG and tokens, and files."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genie_lite.data.shards.index import Shard, index_of
from genie_lite.data.shards.shards import Sample, ShardSet, ShardWriter
from genie_lite.data.shards.token_shards import KIND, NO_CODE, Origin, TokenShards, npy
from genie_lite.data.video.codec import Codec, encode_mp4
from genie_lite.files import write_json

CLIP_FRAMES, RATE_HZ, SHARD_SAMPLES = 160, 10.0, 16
NUM_CODES = 4  # no more than any recipe's models have
MOVES = 3  # sprites of a drawn clip


@dataclass(frozen=True)
class Material:
    """The same clips, several times.

    files: each H.264 clip as a file, and its frames. rows: the tokens of each shard as one npy file.
    """

    video: ShardSet
    jpeg: ShardSet
    files: list[tuple[Path, int]]
    tokens: TokenShards
    rows: list[Path]


def make(folder: Path, num_clips: int, size_px: int, num_tokens: int) -> Material:
    """Draw clips: a textured ground that the view wanders over, and sprites on it."""
    clips = [(f"clip-{number:04d}", draw(number, size_px)) for number in range(num_clips)]
    return named(folder, _write_video(folder / "mp4", clips, size_px, "h264"), num_tokens)


def named(folder: Path, video: ShardSet, num_tokens: int) -> Material:
    """The training split of finished shards, and what is made of it in `folder`."""
    files: list[tuple[Path, int]] = []
    decoded: list[tuple[str, np.ndarray]] = []
    (folder / "files").mkdir(parents=True)
    for sample in video.samples("train"):
        path = folder / "files" / f"{len(files):06d}.mp4"
        path.write_bytes(sample.mp4)
        files.append((path, sample.meta["num_frames"]))
        decoded.append((sample.key, sample.frames()))
    jpeg = _write_video(folder / "jpeg", decoded, video.frame_hw[0], "mjpeg")
    tokens, rows = _write_tokens(folder, video, num_tokens)
    return Material(video, jpeg, files, tokens, rows)


def draw(seed: int, size_px: int, num_frames: int = CLIP_FRAMES) -> np.ndarray:
    """Frames `t h w c` of uint8 that cost about what a game's cost to decode."""
    pick = np.random.default_rng(seed)
    coarse = pick.integers(40, 216, (size_px // 4, size_px // 4, 3))
    ground = np.kron(coarse, np.ones((8, 8, 1))) + pick.normal(0, 4, (2 * size_px, 2 * size_px, 3))
    ground = ground.clip(0, 255).astype(np.uint8)
    view = np.cumsum(pick.integers(-1, 2, (num_frames, 2)), axis=0)
    sprites = pick.integers(0, size_px - 8, (MOVES, 2)), pick.integers(0, 256, (MOVES, 3))
    frames = np.empty((num_frames, size_px, size_px, 3), np.uint8)
    for frame, shift in zip(frames, view, strict=True):
        frame[:] = np.roll(ground, shift, (0, 1))[:size_px, :size_px]
        for (top, left), colour in zip(*sprites, strict=True):
            frame[top : top + 8, left : left + 8] = colour
        sprites[0][:] = (sprites[0] + pick.integers(-2, 3, (MOVES, 2))).clip(0, size_px - 8)
    return frames


def _write_video(folder: Path, clips: list[tuple[str, np.ndarray]], size_px: int, codec: Codec) -> ShardSet:
    folder.mkdir(parents=True)
    shards: list[Shard] = []
    for number, group in _groups(clips):
        with ShardWriter(folder, "train", number) as writer:
            for key, frames in group:
                meta = {"source": key, "num_frames": len(frames), "source_frames": list(range(len(frames)))}
                writer.add(Sample(key, encode_mp4(frames, RATE_HZ, codec=codec), meta))
            shards += [made for made in [writer.close()] if made is not None]
    write_json(folder / "shards.json", index_of(shards, {"size_px": size_px, "rate_hz": RATE_HZ}))
    return ShardSet.open(folder)


def _write_tokens(folder: Path, video: ShardSet, num_tokens: int) -> tuple[TokenShards, list[Path]]:
    """Token shards and bare rows with the same random numbers, as many as the video has frames."""
    pick = np.random.default_rng(0)
    out, bare = folder / "tokens", folder / "rows"
    out.mkdir()
    bare.mkdir()
    shards: list[Shard] = []
    rows: list[Path] = []
    for number, shard in enumerate(video.of("train")):
        arrays = [pick.integers(0, NUM_CODES, (n, num_tokens)).astype(np.uint16) for n in shard.lengths]
        with ShardWriter(out, "train", number) as writer:
            for index, tokens in enumerate(arrays):
                codes = pick.integers(0, NUM_CODES, len(tokens)).astype(np.uint16)
                codes[-1] = NO_CODE
                meta = json.dumps({"num_frames": len(tokens)}).encode()
                members = {"tokens.npy": npy(tokens), "codes.npy": npy(codes), "json": meta}
                writer.add_members(f"{number:04d}-{index:04d}", members, len(tokens))
            shards += [made for made in [writer.close()] if made is not None]
        rows.append(bare / f"{number:06d}.npy")
        np.save(rows[-1], np.concatenate(arrays))
    sources = {made.file: shard.sha256 for made, shard in zip(shards, video.of("train"), strict=True)}
    origin = Origin({"tokenizer": "", "lam": ""}, num_tokens, str(video.folder), sources)
    config = {"size_px": video.frame_hw[0], "rate_hz": video.rate_hz, KIND: origin.to_json()}
    write_json(out / "shards.json", index_of(shards, config, KIND, origin.members))
    return TokenShards.open(out), rows


def _groups(clips: list[tuple[str, np.ndarray]]) -> Iterator[tuple[int, list[tuple[str, np.ndarray]]]]:
    for number, first in enumerate(range(0, len(clips), SHARD_SAMPLES)):
        yield number, clips[first : first + SHARD_SAMPLES]
