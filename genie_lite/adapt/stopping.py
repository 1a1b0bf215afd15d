"""How long to train a network that sees a few labels only: as long as it gets better on labels held out.

Hundreds of passes over 200 labels end in learning them by heart, and a rival that does is no rival. One fifth
of the labelled episodes is held out once, and looked at eight times: a network takes too long to be trained for
every fold. The mapping of latent actions takes seconds, so its choice is a better informed one: by five folds of
the same labels, see `mapping.fit_mapping`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

SHARE = 0.2  # of the labelled episodes, held out while the number of steps is chosen
NUM_LOOKS = 8


@dataclass(frozen=True)
class Stop:
    """How long a network was trained, and why.

    steps: chosen. most: steps that were tried. held_out_loss: on the labels held out, after each number of
    steps looked at (nats, or squared error of normalised actions).
    """

    steps: int
    most: int
    held_out_loss: dict[int, float]

    def summary(self) -> dict[str, Any]:
        """Plain data for a card."""
        return asdict(self)


def best_stop(held_out_loss: dict[int, float], most: int) -> Stop:
    """The number of steps with the lowest loss; the fewest of equals."""
    steps = min(held_out_loss, key=lambda step: (held_out_loss[step], step))
    return Stop(steps, most, held_out_loss)


def looks(steps: int) -> set[int]:
    """When to look at the held-out labels: evenly spaced, after the last step too."""
    return {max(1, round(steps * look / NUM_LOOKS)) for look in range(1, NUM_LOOKS + 1)}


def held_out(episodes: Sequence[str] | np.ndarray, seed: int) -> np.ndarray:
    """Mask of the rows to hold out: a fifth of the episodes, at least one; of a single one its last fifth.

    Args:
        episodes: (rows,) episode of each row, rows in time within each. At least two rows.
        seed: of which episodes.
    """
    names = np.unique(np.asarray(episodes, dtype=str))
    if len(names) < 2:
        return np.arange(len(episodes)) >= min(round((1 - SHARE) * len(episodes)), len(episodes) - 1)
    num = max(1, round(SHARE * len(names)))
    return np.isin(episodes, np.random.default_rng(seed).permutation(names)[:num])
