"""Positions: a learnt one for places in a frame, a rotary one for time.

Time is rotary so that attention depends on the distance between two frames only: a window may slide
along a stream for ever and a frame keeps its keys.

Source: RoFormer, arXiv:2104.09864, section 3.2.2 (the half-split layout of GPT-NeoX).
Differs: every channel pair turns by a whole number of steps of 2π / CYCLE per frame. Angles come from integers
and are as exact at frame 10⁹ as at frame 1; after CYCLE frames all pairs are where they began, without a jump.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Frames; the slowest pair of a head takes hundreds, so that rounding to whole steps is far below 1 %.
CYCLE = 2**20


def rotary(
    time: Int[Tensor, "*batch s"], width: int, base: float = 100.0
) -> Float[Tensor, "2 *batch s half"]:
    """Cosines and sines that turn a head of `width` channels at each frame index.

    The base is far below the 10,000 of text models because a clip has tens of frames, not thousands.
    """
    frequency = base ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)
    steps = (frequency * CYCLE / (2 * math.pi)).round().long().to(time.device)
    angle = (time[..., None] * steps).remainder(CYCLE).float() * (2 * math.pi / CYCLE)
    return torch.stack([angle.cos(), angle.sin()])


def rotate(heads: Float[Tensor, "... s e"], turn: Float[Tensor, "2 ... s half"]) -> Float[Tensor, "... s e"]:
    """Turn the two halves of every head into one another by the angles of `rotary`."""
    cos, sin = turn[0].to(heads.dtype), turn[1].to(heads.dtype)
    first, second = heads.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
