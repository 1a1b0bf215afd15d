"""Views of a clip: moved, turned, recoloured, noisy, each by chance, and all frames of a clip alike.

    clip ──view A──▶ encoder ──code──▶ decoder ◀── view B of the past
                                              └──▶ view B of what comes next

What the two views do not share, such as where the camera stands and what colour the light has, a code cannot tell,
so it is not spent on it. What happens between two frames of a clip is in both.

A view is a pure function of frames and of what was drawn. It is drawn for a whole batch, so that the view of a clip
does not depend on how many processes share the batch out. It is computed in float32 whatever a network around it is
computed in: in bfloat16 the points of a grid are as coarse as pixels are wide. And it is written out in products and
sums of numbers: a matrix product rounds otherwise for another batch, and is computed in bfloat16 where others are.

Sources: shift, rotation and perspective of inverse and forward model: LAOM, arXiv:2502.00379, section 4.3; the
colour matrix (contrast, saturation, hue about the grey axis): StyleGAN2-ADA, arXiv:2006.06676, appendix B.
Differs: one resampling for everything that moves pixels, with the nearest pixel of the rim beyond it.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from genie_lite.config import Config

GREY = (0.299, 0.587, 0.114)  # of red, green and blue in brightness, ITU-R BT.601
Share = tuple[int, int]  # (rank, number of processes): of a joint batch, the `rank`-th run of clips


class AugmentConfig(Config):
    """How far a view may differ. Each number is the largest, drawn evenly for every clip; 0 leaves that alone."""

    shift_px: float = Field(default=0.0, ge=0)  # across and down
    rotate_deg: float = Field(default=0.0, ge=0, le=180)  # to either side
    scale: float = Field(default=0.0, ge=0, lt=1)  # 0.1: from 10 % smaller to 10 % larger
    perspective: float = Field(default=0.0, ge=0, le=0.4)  # 0.1: sides are up to 10 % nearer than the middle
    brightness: float = Field(default=0.0, ge=0, le=1)  # added, of [0, 1]
    contrast: float = Field(default=0.0, ge=0, lt=1)  # 0.2: distances from middle grey times 0.8 to 1.2
    saturation: float = Field(default=0.0, ge=0, le=1)  # 0.5: distances from grey times 0.5 to 1.5
    hue_deg: float = Field(default=0.0, ge=0, le=180)  # colours turned about grey, to either side
    noise: float = Field(default=0.0, ge=0)  # deviation of a pattern that lies over all frames of a clip

    @property
    def moves_pixels(self) -> bool:
        """Whether a view shows things elsewhere."""
        return max(self.shift_px, self.rotate_deg, self.scale, self.perspective) > 0

    @property
    def changes_colours(self) -> bool:
        """Whether a view shows things in other colours."""
        return max(self.brightness, self.contrast, self.saturation, self.hue_deg) > 0


class AugmentPair(Config):
    """Views in training: what the encoder is shown, and what the decoder starts from and foretells."""

    inverse: AugmentConfig = AugmentConfig()
    forward: AugmentConfig = AugmentConfig()


@dataclass(frozen=True)
class View:
    """What was drawn for the clips of a batch.

    places: takes a point of the view, in [-1, 1] across and down, to the point of the clip that is shown there.
    colours: takes red, green, blue and 1 to red, green and blue. seed: of the noise. noise: its deviation.
    """

    places: Float[Tensor, "b 3 3"] | None
    colours: Float[Tensor, "b 3 4"] | None
    seed: Int[Tensor, " b"]
    noise: float

    def of(self, frames: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """The frames of each clip in its view, in [0, 1]; as they are, bit for bit, where nothing was asked for."""
        seen = self.warp(frames)
        if self.colours is not None:
            red, green, blue, one = rearrange(self.colours.to(frames.device), "b i j -> j b 1 i 1 1")
            seen = red * seen[:, :, :1] + green * seen[:, :, 1:2] + blue * seen[:, :, 2:] + one
        if self.noise > 0:
            seen = seen + self.noise * self._pattern(frames.shape[2:]).to(frames.device)[:, None]
        return seen if seen is frames else seen.clamp(0, 1)

    def warp(self, images: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """The same points of anything that lies over the frames, such as weights of their pixels."""
        if self.places is None:
            return images
        num, height, width = images.shape[1], *images.shape[-2:]
        grid = _shown_points(self.places, (height, width)).to(images.device)
        with torch.autocast(images.device.type, enabled=False):
            flat = F.grid_sample(
                rearrange(images, "b t c h w -> b (t c) h w"),
                grid,
                padding_mode="border",
                align_corners=False,
            )
        return rearrange(flat, "b (t c) h w -> b t c h w", t=num)

    def part(self, share: Share) -> "View":
        """That of one process's clips, of a view that was drawn for those of all."""
        rank, world_size = share
        size = len(self.seed) // world_size
        mine = slice(rank * size, (rank + 1) * size)
        return View(
            places=None if self.places is None else self.places[mine],
            colours=None if self.colours is None else self.colours[mine],
            seed=self.seed[mine],
            noise=self.noise,
        )

    def _pattern(self, shape: torch.Size) -> Float[Tensor, "b c h w"]:
        """Noise of unit deviation; of each clip from a seed of its own, so that no process draws that of others."""
        generator = torch.Generator()
        return torch.stack(
            [torch.randn(shape, generator=generator.manual_seed(each)) for each in self.seed.tolist()]
        )


def draw_view(config: AugmentConfig, num: int, frame_hw: tuple[int, int], generator: torch.Generator) -> View:
    """Draw a view for each of `num` clips; which numbers are drawn does not depend on the configuration."""
    chance = 2 * torch.rand(num, 10, generator=generator) - 1
    seed = torch.randint(2**62, (num,), generator=generator)
    with torch.autocast(chance.device.type, enabled=False):
        return View(
            places=_places(config, chance[:, :6], frame_hw) if config.moves_pixels else None,
            colours=_colours(config, chance[:, 6:]) if config.changes_colours else None,
            seed=seed,
            noise=config.noise,
        )


def augment(
    frames: Float[Tensor, "b t c h w"], config: AugmentConfig, generator: torch.Generator
) -> Float[Tensor, "b t c h w"]:
    """One view of each clip."""
    return draw_view(config, len(frames), (frames.shape[-2], frames.shape[-1]), generator).of(frames)


def _places(config: AugmentConfig, chance: Float[Tensor, "b 6"], frame_hw: tuple[int, int]) -> Tensor:
    """Shift, then rotate and scale, then tilt. Both axes run from -1 to 1, so a turn is one of equal pixels."""
    height, width = frame_hw
    across, down, turn, size, tilt_across, tilt_down = chance.unbind(dim=1)
    angle, zoom = math.radians(config.rotate_deg) * turn, 1 / (1 + config.scale * size)
    cos, sin, one = zoom * angle.cos(), zoom * angle.sin(), torch.ones_like(turn)
    rows = [
        [cos, -sin * height / width, 2 * config.shift_px / width * across],
        [sin * width / height, cos, 2 * config.shift_px / height * down],
        [config.perspective * tilt_across, config.perspective * tilt_down, one],
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _colours(config: AugmentConfig, chance: Float[Tensor, "b 4"]) -> Tensor:
    """Turn hues and stretch saturation about grey, then contrast about middle grey, then brightness."""
    light, range_, vivid, hue = chance.unbind(dim=1)
    grey = repeat(torch.tensor(GREY), "c -> r c", r=3)  # to a grey as bright
    axis = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    angle = math.radians(config.hue_deg) * hue
    # Rodrigues' formula about the axis (1, 1, 1) / √3, which is that of grey.
    turned = (
        torch.eye(3) * angle.cos()[:, None, None]
        + axis * angle.sin()[:, None, None]
        + torch.full((3, 3), 1 / 3) * (1 - angle.cos())[:, None, None]
    )
    stretched = grey + (1 + config.saturation * vivid)[:, None, None] * (torch.eye(3) - grey)
    contrast = 1 + config.contrast * range_
    matrix = contrast[:, None, None] * (stretched @ turned)
    offset = 0.5 * (1 - contrast) + config.brightness * light
    return torch.cat([matrix, repeat(offset, "b -> b 3 1")], dim=2)


def _shown_points(places: Float[Tensor, "b 3 3"], frame_hw: tuple[int, int]) -> Float[Tensor, "b h w 2"]:
    """For every pixel of a view, the point of the clip that it shows, in [-1, 1] across and down."""
    down, across = (2 * (torch.arange(num) + 0.5) / num - 1 for num in frame_hw)
    y, x = torch.meshgrid(down, across, indexing="ij")
    by_x, by_y, one = rearrange(places, "b i j -> j b 1 1 i")
    shown = by_x * x[..., None] + by_y * y[..., None] + one
    return shown[..., :2] / shown[..., 2:]
