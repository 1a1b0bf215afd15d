"""The weights of windows as a loader wants them, and account of those that have none."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from genie_lite.data.loading.flow import LITTLE_PX, magnitudes
from genie_lite.data.loading.masks import Masks, NoMask
from genie_lite.data.loading.weight import FlowWeight, MaskWeight, WeightConfig, balanced
from genie_lite.data.loading.windows import Damage
from genie_lite.data.shards.shards import ShardSet


class Weigher:
    """Weighs the pixels of windows of one set of shards."""

    def __init__(self, shards: ShardSet, config: WeightConfig) -> None:
        """Prepare to weigh.

        Raises:
            UserError: a folder of masks that is not there.
        """
        self._config = config
        self._masks = Masks(Path(config.masks), shards) if isinstance(config, MaskWeight) else None
        self._damage: list[Damage] = []

    def __call__(
        self, pixels: UInt8[np.ndarray, "t h w c"], source: str, frame_index: Sequence[int]
    ) -> Float32[np.ndarray, "k h w"] | None:
        """Weights of all frames but the first; None where nothing is to be weighed.

        A window without its masks weighs all pixels alike.
        """
        if isinstance(self._config, FlowWeight):
            moved = magnitudes(pixels, stabilise=self._config.stabilise)
            return balanced(moved, self._config.floor, LITTLE_PX)
        if self._masks is None or not isinstance(self._config, MaskWeight):
            return None
        try:
            foreground = self._masks.of(source, frame_index[1:])
        except NoMask as error:
            self._damage.append(Damage(source, str(error), is_replaced=False))
            return np.ones((len(pixels) - 1, *pixels.shape[1:3]), np.float32)
        return balanced(foreground, self._config.floor)

    def take_damage(self) -> list[Damage]:
        """Windows without masks since it was last asked."""
        found, self._damage = self._damage, []
        return found
