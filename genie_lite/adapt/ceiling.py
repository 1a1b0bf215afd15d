"""What labels alone could teach the same network: the ceiling of a probe, and its floor.

    transition   frames k and k + n ──▶ the network's encoder ──▶ action of k -> k + n    the most that is there
    still        frame k, twice     ──▶ the same               ──▶ the same               what the scene gives away

A latent action that tells no more than the second says nothing about what was done.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from genie_lite.adapt.footage import Footage
from genie_lite.adapt.idm import IDMConfig, InverseModel
from genie_lite.adapt.setting import Setting
from genie_lite.adapt.supervised import ActionSpace, Examples, fit, predict
from genie_lite.data.labels import Labels
from genie_lite.data.loading.loader import to_frames
from genie_lite.models.lam import LAMConfig
from genie_lite.nn.features import FrozenFeatures

Sees = Literal["transition", "still"]


def frames_at(
    footage: Footage, sees: Sees, context: int = 2, stride: int = 1
) -> Callable[[np.ndarray], Float[Tensor, "b t c h w"]]:
    """What a network is shown of a transition, by the row of its frame k.

    Args:
        footage: where the frames come from.
        sees: the transition, or frame k as often as there would be frames.
        context: frames in all, the last of them frame k + `stride`.
        stride: rows from one of them to the next.
    """
    steps = np.zeros(context, np.int64) if sees == "still" else stride * np.arange(2 - context, 2)

    def shown(rows: np.ndarray) -> Float[Tensor, "b t c h w"]:
        places = np.maximum(rows[:, None] + steps, footage.first[rows][:, None])
        return to_frames(footage.frames[places])

    return shown


def read_supervised(
    lam: LAMConfig,
    footage: Footage,
    labels: Labels,
    train: np.ndarray,
    wanted: np.ndarray,
    config: IDMConfig,
    setting: Setting,
    *,
    sees: Sees = "transition",
    stride: int = 1,
    eye: FrozenFeatures | None = None,
) -> Float[Tensor, "wanted a"]:
    """Train the encoder of a latent action model on labels alone, and read other transitions with it.

    Args:
        lam: the network's shape.
        footage: all frames.
        labels: those at the rows `train` must be known.
        train: rows of frame k to learn from.
        wanted: rows of frame k to be read.
        config: how to train.
        setting: seed, device, progress.
        sees: see the head of this file.
        stride: rows from frame k to the frame that follows it in its pair.
        eye: the latent action model's frozen features, so that none are downloaded; see `InverseModel`.

    Returns:
        Probabilities of the actions, or actions in their own units.
    """
    where = labels.locate(footage.source[train], footage.frame_index[train])
    assert (where >= 0).all(), "a row to learn from has no label"
    space = ActionSpace(labels.kind, labels.names)
    shown = frames_at(footage, sees, config.context, stride)
    examples = Examples(train, _targets(labels, where))
    return predict(
        fit(lambda: InverseModel(lam, space, eye), shown, examples, config, setting), shown, wanted
    )


def _targets(labels: Labels, where: np.ndarray) -> Float[Tensor, "rows a"]:
    action = torch.from_numpy(labels.action[where])
    return (F.one_hot(action, labels.num_actions) if labels.kind == "discrete" else action).float()
