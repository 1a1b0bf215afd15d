"""What a transition is worth, and whether it ends the episode: nothing and never, a goal, or what was learnt."""

from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray
from torch import Tensor

Verdict = tuple[Float[ndarray, " b"], Bool[ndarray, " b"]]


@runtime_checkable
class Scorer(Protocol):
    """A function of a transition alone, so that a state that is restored is rewarded as it was."""

    def __call__(self, before: UInt8[ndarray, "b h w c"], after: UInt8[ndarray, "b h w c"]) -> Verdict:
        """Rewards, and whether the episodes are over."""
        ...


class NoReward:
    """0, and never over."""

    def __call__(self, before: UInt8[ndarray, "b h w c"], after: UInt8[ndarray, "b h w c"]) -> Verdict:
        return np.zeros(len(after)), np.zeros(len(after), dtype=bool)


def in_groups(
    function: Callable[[Tensor], Tensor], rows: Float[Tensor, "b ..."], size: int
) -> Float[Tensor, "b ..."]:
    """A network's answers to rows, always so many at a time, the last row several times if need be.

    What is computed for a row then does not depend on how many there are beside it, to the last bit.
    """
    with torch.inference_mode():
        answers = [function(group) for group in _groups(rows, size)]
    return torch.cat(answers)[: len(rows)].cpu()


def _groups(rows: Tensor, size: int) -> Iterator[Tensor]:
    for first in range(0, len(rows), size):
        group = rows[first : first + size]
        missing = size - len(group)
        yield torch.cat([group, group[-1:].expand(missing, *group.shape[1:])]) if missing else group
