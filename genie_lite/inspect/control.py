"""Do codes decide what is foretold? One frame ahead in the model's own decoder, and four frames in the world.

    copy gap     prediction against a copy of the last frame     is anything foretold at all?
    code gap     right codes against those of other transitions  is the code read?
    one step     right codes against random draws of the marginal, as ΔtPSNR at t = 1 of the decoder alone
    ΔtPSNR       the same at t = 4 in the world, each frame from the sampled ones before it (evals/control.py)

PSNR here is that of the mean error over clips (see evals/fidelity.py).
"""

from collections.abc import Iterator

import numpy as np
import torch
from einops import rearrange

from genie_lite.data.loading.loader import Clip
from genie_lite.evals.control import score_control
from genie_lite.evals.fidelity import gain_db
from genie_lite.evals.rollout import continue_clips
from genie_lite.inspect.clips import Told
from genie_lite.inspect.measure import Measure
from genie_lite.models.lam import LatentActionModel
from genie_lite.models.world import World

AHEAD = 4


def measure_decoder(
    lam: LatentActionModel, told: Told, untrained: Told, draws: int, seed: int
) -> Iterator[tuple[str, Measure]]:
    """The gaps one frame ahead, each on all pairs of all clips."""
    names, own, copy = told.names, told.error(told.vector), told.copy_error()
    yield (
        "copy_gap",
        Measure(
            gain_db(own, copy, names),
            {"random_lam": gain_db(untrained.error(untrained.vector), copy, names)},
        ),
    )
    wrong = told.error(told.vector[torch.from_numpy(told.elsewhere)])
    yield "code_gap", Measure(gain_db(own, wrong, names), {"shuffled": gain_db(wrong, wrong, names)})
    yield "one_step", Measure(gain_db(own, _random_error(lam, told, draws, seed), names))


def measure_world(world: World, clips: list[Clip], draws: int, seed: int) -> Iterator[tuple[str, Measure]]:
    """ΔtPSNR at t = 4 with the control of the sampling noise."""
    section = [each.to(world.device) for each in clips]
    continuations = continue_clips(world, section, prompt_frames=1, horizon=AHEAD, seed=seed)
    score = score_control(world, continuations, t=AHEAD, num_draws=draws, seed=seed)
    yield (
        "control",
        Measure(score.delta_psnr_db, {"sampling_noise": score.noise_delta_psnr_db}),
    )


def _random_error(lam: LatentActionModel, told: Told, draws: int, seed: int) -> np.ndarray:
    """Mean error of several draws of codes, with the frequencies that the codes have."""
    index = told.index
    generator = torch.Generator().manual_seed(seed)
    # Of the codes that occur: of a large alphabet not all can be listed.
    codes, place = index.unique(return_inverse=True)
    vectors = lam.quantizer.vector_of(codes.to(lam.place.device)).detach().float().cpu()
    errors = []
    for _ in range(draws):
        drawn = torch.randint(index.numel(), (index.numel(),), generator=generator)
        chosen = rearrange(place.flatten()[drawn], "(b k) -> b k", b=len(index))
        errors.append(told.error(vectors[chosen]))
    return np.mean(errors, axis=0)
