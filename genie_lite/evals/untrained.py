"""The same network with random weights: what a model's shape and size give for nothing."""

from collections.abc import Iterable

import torch

from genie_lite.data.loading.loader import to_frames
from genie_lite.data.shards.shards import Sample
from genie_lite.models.lam import LatentActionModel

CALIBRATION_SHOTS = 32  # training shots that set the bottleneck's statistics: more change them little


@torch.no_grad()
def with_random_weights(
    lam: LatentActionModel, shots: Iterable[Sample], seed: int, device: torch.device | str = "cpu"
) -> LatentActionModel:
    """The network of a latent action model before training, in evaluation mode.

    The statistics and the menu of its bottleneck are those of the video. Without them all its rows would fall to one
    code, and the baseline would be beaten by anything. A frozen eye is that of the trained model: it was never
    trained, and nothing is downloaded. All that is random comes from the seed, whatever was drawn before.

    Args:
        lam: whose shape is taken.
        shots: of training, some thirty of them.
        seed: of the weights.
        device: where to put it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LatentActionModel(lam.config, has_weights=lam.eye is not None)
        model.take_eye(lam.eye)
        model.to(device).eval()
        model.quantizer.calibrate()
        for shot in shots:
            model.encode(to_frames(shot.frames()[None]).to(device))
    return model.eval()
