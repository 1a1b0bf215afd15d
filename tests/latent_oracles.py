"""Latent action models of the toy world that are right by construction, or wrong in one way; and footage for them.

They know where the player stands. None is trained, so what `inspect` says of them is known beforehand.
"""

from pathlib import Path

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from genie_lite.data.labels import Labels
from genie_lite.data.shards.index import index_of
from genie_lite.data.shards.shards import Sample, ShardSet, ShardWriter
from genie_lite.data.video.codec import encode_mp4
from genie_lite.envs.toy import CELL_PX, MOVES, PLAYER, SIDE, WALL, ToyEnv
from genie_lite.files import write_json
from genie_lite.models.lam import LAMConfig, LatentActionModel
from genie_lite.models.world import World
from genie_lite.nn.quantize import NoneConfig, VQConfig
from genie_lite.types import Quantized

RATE_HZ = 10.0
STEPS = torch.tensor(list(MOVES.values()), dtype=torch.float32)  # rows down, columns to the right
GROUND = torch.tensor([48, 56, 82]) / 255


def toy_shards(
    folder: Path, num_train: int = 16, num_test: int = 12, length: int = 16
) -> tuple[ShardSet, Labels]:
    """Random play of the toy world, one shot per level, and every action."""
    folder.mkdir(parents=True)
    sources, index, actions, shards = [], [], [], []
    for split, num, first in (("train", num_train, 0), ("test", num_test, 1000)):
        frames, played = _play(range(first, first + num), length)
        with ShardWriter(folder, split, 0) as writer:
            for level in range(num):
                writer.add(_sample(f"{split}-{level}", split, frames[level]))
            shards.append(writer.close())
        sources += [f"{split}-{level}.mp4" for level in range(num) for _ in range(length - 1)]
        index += list(range(length - 1)) * num
        actions.append(played.ravel())
    write_json(folder / "shards.json", index_of(shards, {"size_px": SIDE * CELL_PX, "rate_hz": RATE_HZ}))
    labels = Labels(np.array(sources), np.array(index), np.concatenate(actions), "discrete", tuple(MOVES))
    return ShardSet.open(folder), labels


def _play(levels: range, length: int) -> tuple[np.ndarray, np.ndarray]:
    env, random = ToyEnv(len(levels)), np.random.default_rng(levels[0])
    frames, played = [env.reset(list(levels))], []
    for _ in range(length - 1):
        played.append(random.integers(0, env.num_actions, len(levels)))
        frames.append(env.step(played[-1]).frames)
    return np.stack(frames, axis=1), np.stack(played, axis=1)


def _sample(key: str, split: str, frames: np.ndarray) -> Sample:
    num = len(frames)
    meta = {
        "source": f"{key}.mp4",
        "split": split,
        "source_rate_hz": RATE_HZ,
        "source_frames": list(range(num)),
        "num_frames": num,
    }
    return Sample(key, encode_mp4(frames, RATE_HZ, crf=4), meta)


def cells(frames: Float[Tensor, "*b c h w"]) -> Float[Tensor, "*b rows columns c"]:
    """Mean colour of every cell."""
    return rearrange(frames, "... c (y p) (x q) -> ... y x c (p q)", p=CELL_PX, q=CELL_PX).mean(dim=-1)


def places(frames: Float[Tensor, "*b c h w"]) -> Float[Tensor, "*b 2"]:
    """Row and column of the player."""
    far = (cells(frames) - torch.tensor(PLAYER) / 255).square().sum(dim=-1)
    flat = far.flatten(-2).argmin(dim=-1)
    return torch.stack([flat // SIDE, flat % SIDE], dim=-1).float()


class Oracle(LatentActionModel):
    """Says by how many cells the player moved, and moves it."""

    def __init__(self, config: LAMConfig | None = None) -> None:
        torch.manual_seed(0)
        side, code = SIDE * CELL_PX, VQConfig(num_codes=len(STEPS), dim=2)
        moves = LAMConfig(frame_hw=(side, side), patch=CELL_PX, width=32, depth=1, heads=2, code=code)
        super().__init__(config or moves)
        self.quantizer.vector_of = lambda index: self.code_vectors()[index]
        self.eval()

    def encode(self, frames: Float[Tensor, "b t c h w"]) -> Quantized:
        """The nearest of the five moves; none of them for a leap."""
        moved = places(frames[:, 1:]) - places(frames[:, :-1])
        return self.say(moved)

    def say(self, moved: Float[Tensor, "b k 2"]) -> Quantized:
        """A displacement as a code."""
        distance, index = (moved[:, :, None] - STEPS).square().sum(dim=-1).min(dim=-1)
        index = torch.where(distance > 0, 0, index)
        vector = self.code_vectors()[index]
        return quantized(index, vector, moved)

    def code_vectors(self) -> Float[Tensor, "num_codes d"]:
        """The moves themselves."""
        return STEPS

    def decode(
        self, past: Float[Tensor, "b k c h w"], vector: Float[Tensor, "b k e"]
    ) -> Float[Tensor, "b k c h w"]:
        """Move the player, unless a wall or the edge stops it."""
        from_place, step = places(past), vector[..., :2].round()
        to_place = from_place + step
        inside = ((to_place >= 0) & (to_place < SIDE)).all(dim=-1)
        wall = (cells(past) - torch.tensor(WALL) / 255).square().sum(dim=-1) < 0.01
        row, column = to_place.clamp(0, SIDE - 1).long().unbind(dim=-1)
        batch, time = torch.meshgrid(*map(torch.arange, past.shape[:2]), indexing="ij")
        free = inside & ~wall[batch, time, row, column] & (step != 0).any(dim=-1)
        out = paint(past, from_place, GROUND, free)
        return paint(out, to_place.clamp(0, SIDE - 1), torch.tensor(PLAYER) / 255, free)


def paint(
    frames: Float[Tensor, "b k c h w"], place: Float[Tensor, "b k 2"], colour: Tensor, where: Tensor
) -> Float[Tensor, "b k c h w"]:
    """Fill one cell of some frames."""
    grid = torch.stack(
        torch.meshgrid(torch.arange(SIDE * CELL_PX), torch.arange(SIDE * CELL_PX), indexing="ij"), dim=-1
    )
    here = (grid // CELL_PX == place[:, :, None, None]).all(dim=-1) & where[:, :, None, None]
    return torch.where(here[:, :, None], colour[:, None, None], frames)


def quantized(index: Tensor, vector: Tensor, embedding: Tensor) -> Quantized:
    """Without losses."""
    return Quantized(index, index[..., None], vector, embedding, None, torch.zeros(()), torch.zeros(()))


class Collapsed(Oracle):
    """One code for everything."""

    def say(self, moved: Float[Tensor, "b k 2"]) -> Quantized:
        return super().say(torch.zeros_like(moved))


class Blind(Oracle):
    """Names every move, and foretells the mean over all of them."""

    def decode(
        self, past: Float[Tensor, "b k c h w"], vector: Float[Tensor, "b k e"]
    ) -> Float[Tensor, "b k c h w"]:
        steps = [repeat(step, "e -> b k e", b=vector.shape[0], k=vector.shape[1]) for step in STEPS]
        return torch.stack([super(Blind, self).decode(past, step) for step in steps]).mean(dim=0)


class Late(Oracle):
    """Off by one: row k describes k + 1 -> k + 2."""

    def encode(self, frames: Float[Tensor, "b t c h w"]) -> Quantized:
        moved = places(frames[:, 1:]) - places(frames[:, :-1])
        return self.say(torch.cat([moved[:, 1:], torch.zeros_like(moved[:, :1])], dim=1))


class Leaking(Oracle):
    """A bottleneck as wide as a small picture, with the next frame in it."""

    SMALL = SIDE * CELL_PX // 2

    def __init__(self) -> None:
        side, code = SIDE * CELL_PX, NoneConfig(dim=3 * self.SMALL**2, menu=4)
        super().__init__(LAMConfig(frame_hw=(side, side), patch=16, width=8, depth=1, heads=2, code=code))

    def encode(self, frames: Float[Tensor, "b t c h w"]) -> Quantized:
        small = torch.nn.functional.avg_pool2d(frames[:, 1:].flatten(0, 1), 2)
        vector = small.reshape(*frames[:, 1:].shape[:2], -1)
        return quantized(places(frames[:, 1:])[..., 0].long() % 4, vector, vector)

    def decode(
        self, past: Float[Tensor, "b k c h w"], vector: Float[Tensor, "b k e"]
    ) -> Float[Tensor, "b k c h w"]:
        small = rearrange(vector, "b k (c h w) -> b k c h w", c=3, h=self.SMALL)
        return small.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)

    def code_vectors(self) -> Float[Tensor, "num_codes d"]:
        return torch.rand(4, 3 * self.SMALL**2, generator=torch.Generator().manual_seed(0))


class OracleWorld(World):
    """A world whose dynamics are the oracle's."""

    def __init__(self, lam: LatentActionModel) -> None:
        self.lam = lam

    @property
    def num_codes(self) -> int:
        return self.lam.num_codes

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def rollout(
        self, frames: Float[Tensor, "b t c h w"], codes: Tensor, seed: int
    ) -> Float[Tensor, "b k c h w"]:
        """Each frame from the one before it."""
        made, last = [], frames[:, -1:]
        for code in self.lam.code_vectors()[codes].unbind(dim=1):
            last = self.lam.decode(last, code[:, None])
            made.append(last)
        return torch.cat(made, dim=1)
