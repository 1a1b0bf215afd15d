"""Networks that read an action off frames, and the one loop that trains them all.

The policy and the inverse model differ in what they may look at, not in how they learn: same loss, same
schedule, same normaliser. Whoever learns from the few labels alone stops where held-out ones of them say so
(`stopping.py`), as ours does; whoever clones a whole video takes all steps. So no arm of the comparison wins
by a better trainer, or because another learnt its labels by heart.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from genie_lite.adapt.stopping import Stop, best_stop, held_out, looks
from genie_lite.config import Config

Kind = Literal["discrete", "continuous"]
FramesAt = Callable[[np.ndarray], Tensor]  # rows of the footage -> frames `b t c h w`
Progress = Callable[[int, int], None]  # (done, total)
Look = Callable[[int, "ActionReader"], None]  # (steps done, the network so far)
PREDICT_BATCH = 256


@dataclass(frozen=True)
class ActionSpace:
    """What comes out. names: of the choices, or of the components of a vector."""

    kind: Kind
    names: tuple[str, ...]


class FitConfig(Config):
    """How to train on labelled frames."""

    context: int = Field(default=2, ge=1)  # frames that the network sees
    steps: int = Field(default=1500, ge=1)
    passes: int = Field(default=200, ge=1)  # at most, over few labels of which some decide when to stop
    batch: int = Field(default=128, ge=1)
    lr: float = Field(default=1e-3, gt=0)  # the highest; a cosine takes it to 0
    warmup_steps: int = Field(default=50, ge=0)
    weight_decay: float = Field(default=0.05, ge=0)
    clip_norm: float = Field(default=1.0, gt=0)
    precision: Literal["32-true", "bf16-mixed"] = "bf16-mixed"


class ActionReader(nn.Module, ABC):
    """Frames in; logits of the actions or one normalised action out. Carries the actions' normaliser."""

    action_mean: Float[Tensor, " a"]
    action_std: Float[Tensor, " a"]

    def __init__(self, actions: ActionSpace) -> None:
        super().__init__()
        self.actions = actions
        self.stop: Stop | None = None  # how long it was trained, where held-out labels decided
        self.register_buffer("action_mean", torch.zeros(len(actions.names)))
        self.register_buffer("action_std", torch.ones(len(actions.names)))

    @abstractmethod
    def forward(self, frames: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b a"]:
        """Logits, or the normalised action, for the newest frame or transition of each clip."""

    @torch.no_grad()
    def answer(self, frames: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b a"]:
        """Probabilities of the actions, or the action in its own units."""
        out = self(frames.to(self.action_mean.device))
        if self.actions.kind == "discrete":
            return out.softmax(dim=1)
        return out * self.action_std + self.action_mean


ReaderT = TypeVar("ReaderT", bound=ActionReader)


def fit(
    build: Callable[[], ReaderT],
    frames_at: FramesAt,
    rows: np.ndarray,
    target: Float[Tensor, "rows a"],
    config: FitConfig,
    *,
    seed: int,
    device: str = "cpu",
    progress: Progress | None = None,
    episodes: np.ndarray | None = None,
) -> ReaderT:
    """Train a network to say `target` at `rows`, for all steps or for as many as held-out episodes like.

    Args:
        build: makes the network, with weights drawn from torch's global generator.
        frames_at: what the network sees at each row.
        rows: where to learn.
        target: probabilities of the actions, or the action in its own units.
        config: how.
        seed: of the initial weights and of the batches; nothing else is random.
        device: where to train.
        progress: called with (steps done, steps) after every step.
        episodes: of each row. Where given, one network is trained without some of them, for at most
            `config.passes` over the labels, to learn after how many steps it does best there. The one that
            is returned is trained on all rows for that many steps of the same schedule, and says so in `stop`.
    """
    assert len(rows) == len(target) > 0
    if episodes is None:
        return _train(build, frames_at, rows, target, config, config.steps, seed, device, progress)
    most = min(config.steps, max(1, round(config.passes * len(rows) / config.batch)))
    config = config.model_copy(update={"steps": most})
    stop = _choose_stop(build, frames_at, rows, target, config, seed, device, progress, episodes)
    reader = _train(build, frames_at, rows, target, config, stop.steps, seed, device, progress)
    reader.stop = stop
    return reader


def loss_at(
    reader: ActionReader, frames_at: FramesAt, rows: np.ndarray, target: Float[Tensor, "rows a"]
) -> float:
    """Cross-entropy in nats, or the mean squared error of normalised actions, at given rows."""
    answer = predict(reader, frames_at, rows)
    if reader.actions.kind == "discrete":
        return float(-(target * answer.clamp_min(1e-9).log()).sum(dim=1).mean())
    return float(((answer - target) / reader.action_std.cpu()).square().mean())


def _choose_stop(
    build: Callable[[], ReaderT],
    frames_at: FramesAt,
    rows: np.ndarray,
    target: Tensor,
    config: FitConfig,
    seed: int,
    device: str,
    progress: Progress | None,
    episodes: np.ndarray,
) -> Stop:
    """Train without the held-out episodes, and look at them now and then."""
    unseen = held_out(episodes, seed)
    losses: dict[int, float] = {}
    when = looks(config.steps)

    def look(step: int, reader: ActionReader) -> None:
        if step in when:
            losses[step] = loss_at(reader, frames_at, rows[unseen], target[torch.from_numpy(unseen)])

    seen = torch.from_numpy(~unseen)
    _train(build, frames_at, rows[~unseen], target[seen], config, config.steps, seed, device, progress, look)
    return best_stop(losses, config.steps)


def _train(
    build: Callable[[], ReaderT],
    frames_at: FramesAt,
    rows: np.ndarray,
    target: Tensor,
    config: FitConfig,
    num_steps: int,
    seed: int,
    device: str,
    progress: Progress | None,
    look: Look | None = None,
) -> ReaderT:
    """The first `num_steps` steps of the schedule; `look` is called after each."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = build()
    if reader.actions.kind == "continuous":
        reader.action_mean.copy_(target.mean(dim=0))
        reader.action_std.copy_(target.std(dim=0, unbiased=False).clamp_min(1e-4))
        target = (target - reader.action_mean) / reader.action_std
    reader.to(device).train()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(
        reader.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share_of_peak(step, config))
    low = config.precision == "bf16-mixed"
    for step in range(num_steps):
        drawn = torch.randint(len(rows), (config.batch,), generator=generator)
        frames = frames_at(rows[drawn.numpy()]).to(device)
        with torch.autocast(frames.device.type, torch.bfloat16) if low else nullcontext():
            out = reader(frames)
        loss = _loss(out, target[drawn].to(device), reader.actions.kind)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(reader.parameters(), config.clip_norm)
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(step + 1, num_steps)
        if look is not None:
            look(step + 1, reader)
    return reader.eval()


def predict(reader: ActionReader, frames_at: FramesAt, rows: np.ndarray) -> Float[Tensor, "rows a"]:
    """The network's answers at given rows, in small batches; on the CPU."""
    parts = [
        reader.answer(frames_at(rows[start : start + PREDICT_BATCH])).cpu()
        for start in range(0, len(rows), PREDICT_BATCH)
    ]
    return torch.cat(parts) if parts else torch.zeros(0, len(reader.actions.names))


def _loss(out: Tensor, target: Tensor, kind: Kind) -> Tensor:
    return F.cross_entropy(out, target) if kind == "discrete" else F.mse_loss(out, target)


def _share_of_peak(step: int, config: FitConfig) -> float:
    if step < config.warmup_steps:
        return (step + 1) / (config.warmup_steps + 1)
    progress = (step - config.warmup_steps) / max(config.steps - config.warmup_steps, 1)
    return 0.5 * (1 + float(np.cos(np.pi * min(progress, 1.0))))
