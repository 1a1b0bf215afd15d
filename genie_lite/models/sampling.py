"""MaskGIT sampling: a frame's tokens, drawn in a few passes instead of one by one.

Every token of the new frame starts masked. Each pass predicts all of them and draws those still masked; the
surest are kept, the others masked again, fewer from pass to pass along a cosine. After the last pass none is.

Source: MaskGIT, arXiv:2202.04200, section 3.1, with the cosine schedule of section 3.3.
Differs: confidence decides alone, without the paper's annealed noise; a token is drawn by inverting the
distribution function at one uniform number, which is all the randomness there is.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from genie_lite.config import Config


class SamplingConfig(Config):
    """How the next frame is drawn."""

    # MaskGIT passes per frame; more are finer and slower. The paper takes 25.
    refinements: int = Field(default=4, ge=1, le=25)
    temperature: float = Field(default=1.0, ge=0)  # 0 takes the likeliest tokens
    # Of the dynamics model in play; logits are float32 either way. bf16 pays where the units are.
    precision: Literal["32-true", "bf16-true"] = "32-true"
    # Streams computed together. Results are the same for any batch as long as this stays the same.
    micro_batch: int = Field(default=1, ge=1, le=4096)


def sample(
    predict: Callable[[Int[Tensor, "b n"]], Float[Tensor, "b n v"]],
    uniform: Float[Tensor, "b r n"],
    temperature: float,
    mask_token: int,
) -> Int[Tensor, "b n"]:
    """Draw a frame's tokens in r passes.

    Args:
        predict: logits of a frame of which some tokens are masked, in float32.
        uniform: in [0, 1), one number per pass and token: all the randomness there is.
        temperature: 0 takes the likeliest token; 1 samples the model's distribution.
        mask_token: what stands for a token that is not known yet.
    """
    num_passes, num_tokens = uniform.shape[1:]
    tokens = torch.full(uniform[:, 0].shape, mask_token, device=uniform.device)
    for number in range(num_passes):
        logits = predict(tokens)
        masked = tokens == mask_token
        drawn = torch.where(masked, draw(logits, uniform[:, number], temperature), tokens)
        num_masked = int(num_tokens * math.cos(0.5 * math.pi * (number + 1) / num_passes))
        if num_masked == 0:
            return drawn
        # A token, once kept, stays; among the others the surest of this pass are kept, of equals the later ones.
        chosen = logits.gather(-1, drawn[..., None])[..., 0] - logits.logsumexp(dim=-1)
        sure = chosen.masked_fill(~masked, math.inf)
        doubtful = sure.argsort(dim=-1, stable=True)[:, :num_masked]
        tokens = drawn.scatter(1, doubtful, mask_token)
    raise AssertionError("the last pass masks nothing")


def draw(
    logits: Float[Tensor, "b n v"], uniform: Float[Tensor, "b n"], temperature: float
) -> Int[Tensor, "b n"]:
    """One choice for each number; of equal logits the first, at temperature 0."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    peak = logits.amax(dim=-1, keepdim=True)  # taken off first: a small temperature must not make infinities
    share = ((logits - peak) / temperature).softmax(dim=-1).cumsum(dim=-1)
    chosen = torch.searchsorted(share, (uniform * share[..., -1])[..., None], right=True)[..., 0]
    return chosen.clamp_max(logits.shape[-1] - 1)  # numbers that are none are beyond every share
