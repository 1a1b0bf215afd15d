"""A goal image: the nearer a frame is to it, the better.

    reward = - distance(frame, goal)                 per frame
    distance ≤ within  ▶  terminated, and `bonus` on top

    pixels      mean squared difference of pixels in [0, 1]: 0 the same, 1 black against white
    tokenizer   mean squared difference of the vectors of the tokens: where things are, whatever their grain
    lam         squared length of what a latent action from the frame to the goal has beside one that changes nothing,
                per component: how much there is to do. It was learnt from neighbouring frames, so it tells
                near from nearer and is no measure of what is far away.

Only the first is the same for every run. A threshold is best read off the distances of frames that count as arrived.
"""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from genie_lite.data.loading.loader import to_frames
from genie_lite.errors import UserError
from genie_lite.models.world import World
from genie_lite.rl.scorer import Verdict, in_groups

GoalDistance = Literal["pixels", "tokenizer", "lam"]


class GoalReward:
    """See above."""

    def __init__(
        self,
        goal: UInt8[ndarray, "h w c"],
        world: World,
        by: str = "pixels",
        within: float | None = None,
        bonus: float = 1.0,
    ) -> None:
        """Prepare a goal.

        Args:
            goal: at the run's size.
            world: whose tokenizer or latent action model looks at frames.
            by: a distance, see above.
            within: a distance that counts as arrived; None never ends.
            bonus: added to the reward of the frame that arrives.

        Raises:
            UserError: no such distance, or a threshold below 0.
        """
        if by not in get_args(GoalDistance):
            raise UserError(f"goal_by: found {by!r}, expected one of {', '.join(get_args(GoalDistance))}")
        if within is not None and not within >= 0:
            raise UserError(f"goal_within: found {within:g}, expected a distance of 0 or more")
        self._within, self._bonus = within, bonus
        self._distance = _pixels(goal) if by == "pixels" else _featured(goal, world, by)

    def __call__(self, before: UInt8[ndarray, "b h w c"], after: UInt8[ndarray, "b h w c"]) -> Verdict:
        distance = self.distance(after)
        arrived = np.zeros(len(after), dtype=bool) if self._within is None else distance <= self._within
        return self._bonus * arrived - distance, arrived

    def distance(self, frames: UInt8[ndarray, "b h w c"]) -> Float[ndarray, " b"]:
        """Of each frame to the goal."""
        return self._distance(frames)


def _pixels(goal: UInt8[ndarray, "h w c"]) -> Callable[[ndarray], ndarray]:
    """In whole numbers up to the last division, so that a batch rounds as one frame does."""
    wanted = goal.astype(np.int64)

    def distance(frames: ndarray) -> ndarray:
        return ((frames - wanted) ** 2).sum(axis=(1, 2, 3)) / (255.0**2 * wanted.size)

    return distance


def _featured(goal: UInt8[ndarray, "h w c"], world: World, by: str) -> Callable[[ndarray], ndarray]:
    def features(frames: Float[Tensor, "b c h w"]) -> Float[Tensor, "b e"]:
        if by == "tokenizer":
            return rearrange(world.tokenizer.encode(frames[:, None]).vector, "b 1 n d -> b (n d)").float()
        target = repeat(wanted, "c h w -> b c h w", b=len(frames))
        return world.lam.encode(torch.stack([frames, target], dim=1)).embedding[:, 0].float()

    def of(frames: ndarray) -> Tensor:
        return in_groups(features, to_frames(frames).to(world.device), world.sampling.micro_batch)

    wanted = to_frames(goal[None]).to(world.device)[0]
    arrived = of(goal[None])

    def distance(frames: ndarray) -> ndarray:
        return np.stack([float((row - arrived[0]).square().mean()) for row in of(frames)])

    return distance
