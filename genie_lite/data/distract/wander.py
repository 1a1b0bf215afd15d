"""Smooth random paths in time: what moves a camera, a light, or anything else that nobody steers."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

NUM_WAVES = 3
# Slow enough to be foretold from two frames, quick enough that every transition shows some of it.
SLOWEST_HZ, QUICKEST_HZ = 0.15, 0.9


@dataclass(frozen=True)
class Wander:
    """Independent paths, each the mean of some sines of random frequency and phase; within -1 and 1 for ever.

    A path is a function of time, not of the frames before, so any frame of an endless video has its place on it.
    """

    hz: Float[np.ndarray, "paths waves"]
    phase: Float[np.ndarray, "paths waves"]

    @classmethod
    def draw(cls, num_paths: int, seed: int) -> "Wander":
        """The same paths for the same seed."""
        random = np.random.default_rng(seed)
        shape = num_paths, NUM_WAVES
        return cls(random.uniform(SLOWEST_HZ, QUICKEST_HZ, shape), random.uniform(0, 2 * np.pi, shape))

    def at(self, time_s: Float[np.ndarray, " t"]) -> Float[np.ndarray, "t paths"]:
        """Where every path is at each time, in seconds."""
        return np.sin(2 * np.pi * self.hz * time_s[:, None, None] + self.phase).mean(axis=-1)
