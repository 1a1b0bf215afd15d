"""Random numbers that are a function of where they are used, and of nothing else.

A generator that is asked twice gives two answers, so that what is drawn depends on the order of calls and on
the batch. Here every number is computed from its own coordinates: no state, any order, any device.

Source: Philox4x32-10, Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3.
Differs: of the four words of a counter only the first is used.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

WORD = 2**32 - 1
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10


def uniform(
    seed: Int[Tensor, " b"],
    stream: Int[Tensor, " b"],
    frame: Int[Tensor, " b"],
    num_steps: int,
    num_places: int,
) -> Float[Tensor, "b num_steps num_places"]:
    """Numbers in [0, 1), multiples of 2⁻²⁴, for every refinement step and place of one frame of each stream.

    Args:
        seed: of each stream, from 0 to 2⁶³ - 1.
        stream: which of those that share a seed, from 0 to 2³² - 1.
        frame: index of the frame, from 0 to 2³² - 1.
        num_steps: refinement steps.
        num_places: numbers per step.
    """
    step = torch.arange(num_steps, device=seed.device)[None, :, None]
    place = torch.arange(num_places, device=seed.device)[None, None, :]
    counter = torch.broadcast_tensors(place, step, *(each[:, None, None] for each in (frame, stream)))
    key = seed[:, None, None] & WORD, (seed[:, None, None] >> 32) & WORD
    return (philox(counter, key)[0] >> 8).float() * 2.0**-24


def philox(counter: tuple[Tensor, ...], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Four random words for every four words of counter and two of key; 32 bits each, held in int64."""
    first, second, third, fourth = counter
    low, high = key
    for _ in range(ROUNDS):
        # A product wraps around as int64, and its 64 bits are right all the same.
        left, right = MULTIPLIERS[0] * first, MULTIPLIERS[1] * third
        first, second, third, fourth = (
            ((right >> 32) & WORD) ^ second ^ low,
            right & WORD,
            ((left >> 32) & WORD) ^ fourth ^ high,
            left & WORD,
        )
        low, high = (low + WEYL[0]) & WORD, (high + WEYL[1]) & WORD
    return first, second, third, fourth
