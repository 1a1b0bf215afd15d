"""Networks that read an action off frames, and the one loop that trains them all.

The policy and the inverse model differ in what they may look at, not in how they learn: same loss, same
schedule, same normaliser. Whoever learns from the few labels alone stops where held-out ones of them say so
(`stopping.py`); whoever clones a whole video takes all steps. So no arm of the comparison loses because it
learnt its labels by heart. The care is not the same, though: the mapping of latent actions, which is cheap, is
chosen on five folds of the labels, with up to forty looks; a network here by one held-out fifth, with eight.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from genie_lite.adapt.setting import Setting
from genie_lite.adapt.stopping import Stop, best_stop, held_out, looks
from genie_lite.config import Config

Kind = Literal["discrete", "continuous"]
FramesAt = Callable[[np.ndarray], Tensor]  # rows of the footage -> frames `b t c h w`
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

    def normalised(self, target: Float[Tensor, "b a"]) -> Float[Tensor, "b a"]:
        """What `forward` should say for `answer` to say `target`: probabilities stay as they are."""
        if self.actions.kind == "discrete":
            return target
        return (target - self.action_mean) / self.action_std


ReaderT = TypeVar("ReaderT", bound=ActionReader)


@dataclass(frozen=True)
class Examples:
    """What to learn from.

    rows: of the footage. target: probabilities of the actions, or the action in its own units, one each.
    episodes: of each row. Where given, some of them are held out first, to learn how long to train.
    """

    rows: np.ndarray
    target: Float[Tensor, "rows a"]
    episodes: np.ndarray | None = None

    def of(self, kept: np.ndarray) -> "Examples":
        """Those of a mask, to be learnt as they are."""
        return Examples(self.rows[kept], self.target[torch.from_numpy(kept)])


def fit(
    build: Callable[[], ReaderT],
    frames_at: FramesAt,
    examples: Examples,
    config: FitConfig,
    setting: Setting,
) -> ReaderT:
    """Train a network to say what the examples say, for all steps or for as many as held-out episodes like.

    Where the examples name their episodes, one network is trained without some of them, for at most
    `config.passes` over the labels, to learn after how many steps it does best there. The one that is returned
    is trained on all examples for that many steps of the same schedule, and says so in `stop`.

    Args:
        build: makes the network, with weights drawn from torch's global generator.
        frames_at: what the network sees at each row.
        examples: what to learn.
        config: how.
        setting: its seed draws the initial weights and the batches; nothing else is random.
    """
    assert len(examples.rows) == len(examples.target) > 0
    if examples.episodes is None:
        return _Course(build, frames_at, config, setting).train(examples, config.steps)
    most = min(config.steps, max(1, round(config.passes * len(examples.rows) / config.batch)))
    course = _Course(build, frames_at, config.model_copy(update={"steps": most}), setting)
    stop = course.choose_stop(examples, held_out(examples.episodes, setting.seed))
    reader = course.train(examples, stop.steps)
    reader.stop = stop
    return reader


@dataclass(frozen=True)
class _Course(Generic[ReaderT]):
    """A way of training, to be gone through with one set of examples or another; see `fit`."""

    build: Callable[[], ReaderT]
    frames_at: FramesAt
    config: FitConfig
    setting: Setting

    def choose_stop(self, examples: Examples, unseen: np.ndarray) -> Stop:
        """Train without the examples of a mask, and look at them now and then."""
        hidden = examples.of(unseen)
        when = looks(self.config.steps)
        losses: dict[int, float] = {}

        def look(step: int, reader: ActionReader) -> None:
            if step in when:
                losses[step] = loss_at(reader, self.frames_at, hidden.rows, hidden.target)

        self.train(examples.of(~unseen), self.config.steps, look)
        return best_stop(losses, self.config.steps)

    def train(self, examples: Examples, num_steps: int, look: Look | None = None) -> ReaderT:
        """The first `num_steps` steps of the schedule; `look` is called after each."""
        reader = self._new_reader(examples.target)
        target = reader.normalised(examples.target)
        reader.to(self.setting.device).train()
        generator = torch.Generator().manual_seed(self.setting.seed)
        optimizer = torch.optim.AdamW(
            reader.parameters(), lr=self.config.lr, weight_decay=self.config.weight_decay, fused=True
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: _share_of_peak(step, self.config)
        )
        for step in range(1, num_steps + 1):
            drawn = torch.randint(len(examples.rows), (self.config.batch,), generator=generator)
            loss = self._loss(reader, examples.rows[drawn.numpy()], target[drawn])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(reader.parameters(), self.config.clip_norm)
            optimizer.step()
            schedule.step()
            self.setting.tell(step, num_steps)
            if look is not None:
                look(step, reader)
        return reader.eval()

    def _new_reader(self, target: Tensor) -> ReaderT:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.setting.seed)
            reader = self.build()
        if reader.actions.kind == "continuous":
            reader.action_mean.copy_(target.mean(dim=0))
            reader.action_std.copy_(target.std(dim=0, unbiased=False).clamp_min(1e-4))
        return reader

    def _loss(self, reader: ReaderT, rows: np.ndarray, target: Tensor) -> Tensor:
        frames = self.frames_at(rows).to(self.setting.device)
        low = self.config.precision == "bf16-mixed"
        with torch.autocast(frames.device.type, torch.bfloat16) if low else nullcontext():
            out = reader(frames)
        target = target.to(frames.device)
        return F.cross_entropy(out, target) if reader.actions.kind == "discrete" else F.mse_loss(out, target)


def loss_at(
    reader: ActionReader, frames_at: FramesAt, rows: np.ndarray, target: Float[Tensor, "rows a"]
) -> float:
    """Cross-entropy in nats, or the mean squared error of normalised actions, at given rows."""
    answer = predict(reader, frames_at, rows)
    if reader.actions.kind == "discrete":
        return float(-(target * answer.clamp_min(1e-9).log()).sum(dim=1).mean())
    return float(((answer - target) / reader.action_std.cpu()).square().mean())


def predict(reader: ActionReader, frames_at: FramesAt, rows: np.ndarray) -> Float[Tensor, "rows a"]:
    """The network's answers at given rows, in small batches; on the CPU."""
    parts = [
        reader.answer(frames_at(rows[start : start + PREDICT_BATCH])).cpu()
        for start in range(0, len(rows), PREDICT_BATCH)
    ]
    return torch.cat(parts) if parts else torch.zeros(0, len(reader.actions.names))


def _share_of_peak(step: int, config: FitConfig) -> float:
    if step < config.warmup_steps:
        return (step + 1) / (config.warmup_steps + 1)
    progress = (step - config.warmup_steps) / max(config.steps - config.warmup_steps, 1)
    return 0.5 * (1 + float(np.cos(np.pi * min(progress, 1.0))))
