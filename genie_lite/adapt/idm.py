"""Supervised inverse model: which action led from frame k to frame k + 1, learnt from labels alone.

    frames (k - context + 2 … k + 1) ──patch──▶ the encoder of the latent action model ──▶ action of k → k + 1

It is the rival of latent actions: the same network, the same few labels, no unlabelled video. Its labels
for the rest of the video are what VPT (arXiv:2206.11795) and LAPO+ (arXiv:2602.02762) clone from.
"""

import numpy as np
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from genie_lite.adapt.footage import Footage
from genie_lite.adapt.setting import Setting
from genie_lite.adapt.supervised import ActionReader, ActionSpace, Examples, FitConfig, fit, predict
from genie_lite.models.lam import LAMConfig, TransitionEncoder
from genie_lite.nn.features import FrozenFeatures


class IDMConfig(FitConfig):
    """How to train an inverse model; its shape is the latent action model's. `context` counts frame k + 1."""

    context: int = Field(default=2, ge=2)  # a transition has two frames
    steps: int = Field(default=600, ge=1)
    batch: int = Field(default=64, ge=1)
    lr: float = Field(default=5e-4, gt=0)


class InverseModel(ActionReader):
    """The latent action model's encoder with a head for true actions in place of the bottleneck."""

    def __init__(self, lam: LAMConfig, actions: ActionSpace, eye: FrozenFeatures | None = None) -> None:
        """Build it, with random weights but for frozen features.

        Args:
            lam: shape of the encoder.
            actions: what comes out.
            eye: the latent action model's frozen features, to be copied; None: those of the shape, from timm.

        Raises:
            UserError: frozen features are wanted, none are given, and timm or their weights cannot be had.
        """
        super().__init__(actions)
        self.encoder = TransitionEncoder(lam, has_weights=eye is not None)
        self.encoder.take_eye(eye)
        self.head = nn.Linear(lam.width, len(actions.names))

    def forward(self, frames: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b a"]:
        """Logits or normalised action of the clip's last transition."""
        return self.head(self.encoder.transitions(frames)[:, -1]).float()


def train_idm(
    lam: LAMConfig,
    footage: Footage,
    examples: Examples,
    actions: ActionSpace,
    config: IDMConfig,
    setting: Setting,
    eye: FrozenFeatures | None = None,
) -> InverseModel:
    """Train on labelled transitions; the examples' rows are their frames k. See `supervised.fit`, `InverseModel`."""
    assert footage.has_next[examples.rows].all()
    return fit(
        lambda: InverseModel(lam, actions, eye),
        lambda some: footage.ending_at(some + 1, config.context),
        examples,
        config,
        setting,
    )


def infer(model: InverseModel, footage: Footage, rows: np.ndarray, context: int) -> Float[Tensor, "rows a"]:
    """Probabilities of the actions, or actions in their own units, of given transitions."""
    assert footage.has_next[rows].all()
    return predict(model, lambda some: footage.ending_at(some + 1, context), rows)
