"""AdamW, its schedule, and the seed of every step: functions of the configuration and the step alone."""

import hashlib
import math
from functools import partial
from typing import Any

import torch
from torch import nn

from genie_lite.train.config import TrainConfig

WSD_DECAY_SHARE = 0.2  # of all steps; MiniCPM, arXiv:2404.06395, uses 0.1 on far longer runs


def step_seed(seed: int, step: int, what: str = "0") -> int:
    """A well mixed 63-bit seed, the same on every process: neighbouring steps and seeds share no numbers.

    What is drawn beside the models' own random numbers says `what` it is, and shares none with them.
    """
    # The last part has always been 0 with one process; without it, no earlier run could be repeated.
    digest = hashlib.blake2b(f"{seed}/{step}/{what}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def learning_rate(step: int, train: TrainConfig) -> float:
    """The learning rate of optimizer step `step`, counted from 0: warm-up, then one of two descents.

    The first step is already above 0, `warmup_steps` reaches `lr`, and one step after the last would be at
    `lr_end`. Cosine: arXiv:1608.03983 without restarts. WSD (warm-up, stable, decay): arXiv:2404.06395.
    """
    if step < train.warmup_steps:
        return train.lr * (step + 1) / (train.warmup_steps + 1)
    start = train.warmup_steps
    if train.schedule == "wsd":
        start = max(start, train.steps - math.ceil(WSD_DECAY_SHARE * train.steps))
    progress = min(max((step - start) / max(train.steps - start, 1), 0.0), 1.0)
    height = 1 - progress if train.schedule == "wsd" else 0.5 * (1 + math.cos(math.pi * progress))
    return train.lr_end + (train.lr - train.lr_end) * height


def build_optimizer(
    model: nn.Module, train: TrainConfig
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.LambdaLR]:
    """AdamW over the trainable parameters and the schedule, to be stepped once per optimizer step."""
    optimizer = torch.optim.AdamW(
        parameter_groups(model, train.weight_decay), lr=train.lr, betas=train.betas, fused=True
    )
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, partial(_share_of_peak, train=train))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: matrices, which decay, and everything else, which does not.

    A matrix is a `weight` of two or more dimensions that maps vectors to vectors. Tables of vectors
    (embeddings, positions), gains and biases are pulled towards zero for no good reason, so they are not.
    """
    matrices, others = [], []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            is_matrix = name == "weight" and parameter.ndim >= 2 and not isinstance(module, nn.Embedding)
            if parameter.requires_grad:
                (matrices if is_matrix else others).append(parameter)
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _share_of_peak(step: int, train: TrainConfig) -> float:
    return learning_rate(step, train) / train.lr
