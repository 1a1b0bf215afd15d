"""A latent action model that is fed its own predictions."""

import pytest
import torch

from genie_lite.evals.drive import drive
from tests import models


@pytest.mark.parametrize("given", [1, 2])
def test_every_frame_is_foretold_from_the_ones_before(given: int) -> None:
    lam = models.lam(window=2).eval()
    prompt = models.frames(batch=2, num=given)
    vectors = lam.code_vectors()[torch.tensor([[0, 1, 2], [3, 3, 0]])]
    with torch.inference_mode():
        foretold = drive(lam, prompt, vectors)
        led = [lam.encode(prompt).vector] if given > 1 else []
        steps, frames = torch.cat([*led, vectors], dim=1), prompt
        for place in range(3):
            new = lam.decode(frames, steps[:, : given + place])[:, -1:]
            frames = torch.cat([frames, new.clamp(0, 1)], dim=1)
    assert foretold.shape == (2, 3, 3, *models.FRAME_HW)
    torch.testing.assert_close(foretold, frames[:, given:])
    assert foretold.min() >= 0
    assert foretold.max() <= 1
