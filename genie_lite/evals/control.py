"""ΔtPSNR: does the world do what the code says?

    ΔtPSNR = PSNR(true frame, rollout with inferred codes) - PSNR(true frame, rollout with random codes)

0 when codes are ignored; the more positive, the more of what happens is steered. Random codes are drawn from
the marginal of the inferred ones, so a world gains nothing from a rare code looking strange. Sampling noise
alone is measured the same way, with the *inferred* codes and another seed: it should be about 0.

Source: Genie, arXiv:2402.15391, section 3.1, at t = 4.
Differs: PSNR of the mean error over clips (see fidelity.py), and the mean error of several random draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from genie_lite.evals import fidelity
from genie_lite.evals.fidelity import compare
from genie_lite.evals.rollout import Continuation
from genie_lite.evals.tree import to_tree
from genie_lite.models.world import World
from genie_lite.types import Interval

OTHER_NOISE = 1_000_003  # far from the seeds of neighbouring batches


@dataclass(frozen=True)
class ControlScore:
    """delta_psnr_db: at t. by_t: at every t up to it. noise_delta_psnr_db: same codes, another seed."""

    t: int
    num_draws: int
    delta_psnr_db: Interval
    noise_delta_psnr_db: Interval
    by_t: dict[int, Interval]

    def tree(self) -> dict[str, Any]:
        """The section `control` of the report."""
        return to_tree(self)


def score_control(
    world: World, continuations: Sequence[Continuation], *, t: int = 4, num_draws: int = 4, seed: int = 0
) -> ControlScore:
    """Repeat the rollouts with codes drawn from the marginal, under the same noise, and compare."""
    share = marginal(continuations, world.num_codes)
    generator = torch.Generator().manual_seed(seed)
    inferred, drawn, renoised = [], [], []
    for each in continuations:
        target = each.target[:, :t]
        inferred.append(compare(each.sampled[:, :t], target).error)
        errors = []
        for _ in range(num_draws):
            codes = torch.multinomial(share, target.shape[0] * t, replacement=True, generator=generator)
            codes = codes.reshape(target.shape[0], t).to(each.codes.device)
            errors.append(compare(world.rollout(each.prompt, codes, each.seed), target).error)
        drawn.append(np.mean(errors, axis=0))
        again = world.rollout(each.prompt, each.codes[:, :t], each.seed + OTHER_NOISE)
        renoised.append(compare(again, target).error)
    ours, random, noise = (np.concatenate(errors) for errors in (inferred, drawn, renoised))
    episodes = np.asarray([name for each in continuations for name in each.episodes])
    by_t = {at: fidelity.gain_db(ours[:, at - 1], random[:, at - 1], episodes) for at in range(1, t + 1)}
    return ControlScore(
        t=t,
        num_draws=num_draws,
        delta_psnr_db=by_t[t],
        noise_delta_psnr_db=fidelity.gain_db(ours[:, t - 1], noise[:, t - 1], episodes),
        by_t=by_t,
    )


def marginal(continuations: Sequence[Continuation], num_codes: int) -> Float[Tensor, " num_codes"]:
    """How frequent each code is in the inferred ones; sums to 1."""
    codes = torch.cat([each.codes.flatten() for each in continuations]).cpu()
    return torch.bincount(codes, minlength=num_codes).float() / len(codes)
