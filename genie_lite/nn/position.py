"""Positions: a learnt one for places in a frame, a rotary one for time.

Time is rotary so that attention depends on the distance between two frames only: a window may slide
along a stream for ever and a frame keeps its keys.

Source: RoFormer, arXiv:2104.09864, section 3.2.2 (the half-split layout of GPT-NeoX).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def rotary(time: Int[Tensor, " s"], width: int, base: float = 100.0) -> Float[Tensor, "2 s half"]:
    """Cosines and sines that turn a head of `width` channels at each frame index.

    The base is far below the 10,000 of text models because a clip has tens of frames, not thousands.
    """
    frequency = base ** -(torch.arange(0, width, 2, device=time.device, dtype=torch.float32) / width)
    angle = time.float()[:, None] * frequency
    return torch.stack([angle.cos(), angle.sin()])


def rotate(heads: Float[Tensor, "... s e"], turn: Float[Tensor, "2 s half"]) -> Float[Tensor, "... s e"]:
    """Turn the two halves of every head into one another by the angles of `rotary`."""
    cos, sin = turn[0].to(heads.dtype), turn[1].to(heads.dtype)
    first, second = heads.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
