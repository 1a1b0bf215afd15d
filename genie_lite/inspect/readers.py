"""A small network that reads actions from vectors, for what a linear reader cannot see.

Two layers of 128, as in the probes of the field. It stops where held-out episodes of its own say so: with few labels
it would learn them by heart, and its score would say how few there were.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genie_lite.adapt.stopping import held_out

WIDTH = 128
EPOCHS, PATIENCE, BATCH = 60, 8, 256
LR, DECAY = 2e-3, 1e-3


def read_network(
    vector: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray,
    num_actions: int,
    episodes: np.ndarray,
    unseen: np.ndarray,
    seed: int,
) -> np.ndarray:
    """Fit MLP(128, 128) and read vectors that it has not seen.

    Args:
        vector: (rows, d) to learn from.
        target: (rows,) integers, or (rows, num_actions) of any unit.
        weight: (rows,) how much each row counts.
        num_actions: choices, or components.
        episodes: of each row; a fifth of them decides when to stop.
        unseen: (others, d).
        seed: of weights and batches.

    Returns:
        The likeliest choice, or the action in its own unit, of each of `unseen`.
    """
    centre, scale = vector.mean(axis=0), np.maximum(vector.std(axis=0), 1e-6)
    rows, others = (torch.from_numpy((each - centre) / scale).float() for each in (vector, unseen))
    is_discrete = target.ndim == 1
    middle, spread = (
        (0.0, 1.0) if is_discrete else (target.mean(axis=0), np.maximum(target.std(axis=0), 1e-6))
    )
    truth = torch.from_numpy(target if is_discrete else ((target - middle) / spread).astype(np.float32))
    hidden = torch.from_numpy(held_out(episodes, seed))
    network = _train(rows, truth, torch.from_numpy(weight).float(), num_actions, hidden, seed)
    with torch.inference_mode():
        answer = network(others)
    return answer.argmax(dim=1).numpy() if is_discrete else answer.numpy() * spread + middle


def _train(
    rows: Tensor, truth: Tensor, weight: Tensor, num_actions: int, hidden: Tensor, seed: int
) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Linear(rows.shape[1], WIDTH),
            nn.ReLU(),
            nn.Linear(WIDTH, WIDTH),
            nn.ReLU(),
            nn.Linear(WIDTH, num_actions),
        )
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR, weight_decay=DECAY)
    seen = torch.nonzero(~hidden)[:, 0]
    best, kept, since = math.inf, network.state_dict(), 0
    for _ in range(EPOCHS):
        for drawn in seen[torch.randperm(len(seen), generator=generator)].split(BATCH):
            optimizer.zero_grad()
            _loss(network(rows[drawn]), truth[drawn], weight[drawn]).backward()
            optimizer.step()
        with torch.no_grad():
            loss = float(_loss(network(rows[hidden]), truth[hidden], weight[hidden]))
        since += 1
        if loss < best:
            best, since = loss, 0
            kept = {name: each.clone() for name, each in network.state_dict().items()}
        if since == PATIENCE:
            break
    network.load_state_dict(kept)
    return network.eval()


def _loss(answer: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    if truth.is_floating_point():
        return (weight * F.mse_loss(answer, truth, reduction="none").mean(dim=1)).mean()
    return (weight * F.cross_entropy(answer, truth, reduction="none")).mean()
