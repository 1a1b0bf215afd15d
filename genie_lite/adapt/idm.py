"""Supervised inverse model: which action led from frame k to frame k + 1, learnt from labels alone.

    frames (k - context + 2 … k + 1) ──patch──▶ the encoder of the latent action model ──▶ action of k → k + 1

It is the rival of latent actions: the same network, the same few labels, no unlabelled video. Its labels
for the rest of the video are what VPT (arXiv:2206.11795) and LAPO+ (arXiv:2602.02762) clone from.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from genie_lite.adapt.footage import Footage
from genie_lite.adapt.supervised import ActionReader, ActionSpace, FitConfig, Progress, fit, predict
from genie_lite.models.lam import LAMConfig
from genie_lite.nn.inject import prepend
from genie_lite.nn.patch import grid_of, patchify
from genie_lite.nn.transformer import STTransformer


class IDMConfig(FitConfig):
    """How to train an inverse model; its shape is the latent action model's. `context` counts frame k + 1."""

    steps: int = 600
    batch: int = 64
    lr: float = 5e-4


class InverseModel(ActionReader):
    """The latent action model's encoder with a head for true actions in place of the bottleneck."""

    def __init__(self, lam: LAMConfig, actions: ActionSpace) -> None:
        super().__init__(actions)
        self.patch = lam.patch
        num_patches = int(np.prod(grid_of(lam.frame_hw, lam.patch)))
        self.embed = nn.Linear(3 * lam.patch**2, lam.width)
        self.place = nn.Parameter(0.02 * torch.randn(num_patches, lam.width))
        self.action_token = nn.Parameter(0.02 * torch.randn(lam.width))
        self.encoder = STTransformer(lam.width, lam.depth, lam.heads, lam.window)
        self.head = nn.Linear(lam.width, len(actions.names))

    def forward(self, frames: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b a"]:
        """Logits or normalised action of the clip's last transition."""
        rows = self.embed(patchify(frames, self.patch)) + self.place
        rows = self.encoder(prepend(self.action_token, rows))
        return self.head(rows[:, -1, 0]).float()


def fit_idm(
    lam: LAMConfig,
    footage: Footage,
    rows: np.ndarray,
    target: Float[Tensor, "rows a"],
    actions: ActionSpace,
    config: IDMConfig,
    *,
    seed: int,
    device: str = "cpu",
    progress: Progress | None = None,
    episodes: np.ndarray | None = None,
) -> InverseModel:
    """Train on labelled transitions; `rows` are their frames k. See `supervised.fit`."""
    assert footage.has_next[rows].all()
    return fit(
        lambda: InverseModel(lam, actions),
        lambda some: footage.ending_at(some + 1, config.context),
        rows,
        target,
        config,
        seed=seed,
        device=device,
        progress=progress,
        episodes=episodes,
    )


def infer(model: InverseModel, footage: Footage, rows: np.ndarray, context: int) -> Float[Tensor, "rows a"]:
    """Probabilities of the actions, or actions in their own units, of given transitions."""
    assert footage.has_next[rows].all()
    return predict(model, lambda some: footage.ending_at(some + 1, context), rows)
