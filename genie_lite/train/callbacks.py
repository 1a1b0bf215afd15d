"""What happens around a training step. Each class does one thing; `session.py` puts them in order.

Order matters at the end of a step: average the weights, check the loss, record the step, validate the
average, and only then write the checkpoint. So a checkpoint of step s vouches for every row of
metrics.jsonl up to s, and was reached through numbers only.
"""

import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genie_lite.errors import UserError
from genie_lite.files import write_bytes
from genie_lite.progress import Bar
from genie_lite.train.alarm import CodeAlarm, kind_of, letters_of
from genie_lite.train.framework import Callback, L
from genie_lite.train.fsdp import alike, gather, whole
from genie_lite.train.logging import METRICS_FILE, MetricsFile, Row
from genie_lite.train.module import StageModule
from genie_lite.train.optim import step_seed
from genie_lite.train.panel import png
from genie_lite.train.validation import Measured


def finished_step(trainer: L.Trainer, batch_idx: int) -> int | None:
    """The optimizer steps taken so far if this batch completed one, else None."""
    return trainer.global_step if (batch_idx + 1) % trainer.accumulate_grad_batches == 0 else None


class StepSeed(Callback):
    """Makes all random numbers of a training step a function of seed and batch, the same on every process.

    So a resumed run draws what the uninterrupted one would have drawn, with no generator's state stored,
    and several processes restart the same codes. What must differ between clips is drawn for the whole batch.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        torch.manual_seed(step_seed(self._seed, batch_idx))


class Stopwatch(Callback):
    """Seconds of training, over all sessions that a stage took."""

    def __init__(self) -> None:
        self._before, self._start = 0.0, time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds so far, with those of earlier sessions up to their last checkpoint."""
        return self._before + time.monotonic() - self._start

    def state_dict(self) -> dict[str, float]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self._before, self._start = state_dict["seconds"], time.monotonic()


class WeightAverage(Callback):
    """Exponential moving average of the parameters; buffers, such as codebooks, are averages already.

    Not Lightning's EMAWeightAveraging: that one averages buffers too, so a code that was restarted would
    drift back, and it stores the average in the place of the weights. The decay grows from 0.18 to its
    final value, (1 + step) / (10 + step) as in TensorFlow's ExponentialMovingAverage, so that short runs
    forget where they began.
    """

    def __init__(self, decay: float) -> None:
        self._decay = decay
        self._average: dict[str, Tensor] = {}

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        parameters = dict(pl_module.named_parameters())
        start = self._average or parameters
        self._average = {name: alike(start[name], parameters[name]) for name in parameters}

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = finished_step(trainer, batch_idx)
        if step is None:
            return
        weight = 1 - min(self._decay, (1 + step) / (10 + step))
        for name, parameter in pl_module.named_parameters():
            self._average[name].lerp_(parameter.detach(), weight)

    @torch.no_grad()
    def swap(self, module: nn.Module) -> None:
        """Exchange the average and the module's parameters; twice changes nothing."""
        for name, parameter in module.named_parameters():
            held = parameter.detach().clone()
            parameter.copy_(self._average[name])
            self._average[name] = held

    def state_dict(self) -> dict[str, Tensor]:
        return gather(self._average)

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        # Where weights are shared out Lightning loads after `on_fit_start`, else before.
        parts = self._average
        self._average = {
            name: alike(tensor, parts[name]) if parts else tensor for name, tensor in state_dict.items()
        }


class ClipGradient(Callback):
    """Scales the whole gradient down to a largest norm, and keeps the norm it had before.

    Not Lightning's gradient_clip_val: that one refuses fused optimizers in mixed precision, for the sake
    of float16's loss scaling, which bfloat16 has no need of.
    """

    def __init__(self, max_norm: float) -> None:
        self._max_norm = max_norm
        self.norm = torch.zeros(())

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        self.norm = whole(nn.utils.clip_grad_norm_(pl_module.parameters(), self._max_norm))


class FiniteLoss(Callback):
    """Ends training if the loss of any step was no number, before anything is written of that step.

    Looking at a loss waits for the accelerator, so it is looked at only when something is about to be
    written; the sum since the last look is finite only if every loss was.

    Raises:
        UserError: the loss is not a number any more.
    """

    def __init__(self, every: Sequence[int]) -> None:
        """Look at every step that is a multiple of one of `every`, at the first and at the last."""
        self._every = every
        self._sum = torch.zeros(())

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs["loss"].detach().float()
        self._sum = self._sum.to(loss.device) + loss
        step = finished_step(trainer, batch_idx)
        if step is None or (step not in (1, trainer.max_steps) and all(step % each for each in self._every)):
            return
        found = float(trainer.strategy.reduce(self._sum, reduce_op="mean"))
        self._sum = torch.zeros_like(loss)
        if not math.isfinite(found):
            raise UserError(f"step {step}: the loss is {found}; lower train.lr or train.clip_norm")


class Record(Callback):
    """Writes loss, terms, learning rate and gradient norm of every `every`-th step, and of the first."""

    def __init__(self, every: int, write: Callable[[Row], None], clip: ClipGradient) -> None:
        self._every, self._write, self._clip = every, write, clip
        self._parts: list[Tensor] = []
        self._lr = 0.0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._lr = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Lightning has divided the loss by the number of accumulated parts; the terms are as they were.
        named = {"loss": outputs["loss"] * trainer.accumulate_grad_batches, **outputs["terms"]}
        self._parts.append(torch.stack([value.detach().float() for value in named.values()]))
        step = finished_step(trainer, batch_idx)
        if step is None:
            return
        values, self._parts = torch.stack(self._parts).mean(dim=0), []
        if step % self._every and step != 1:
            return
        numbers = trainer.strategy.reduce(values, reduce_op="mean").tolist()
        if trainer.is_global_zero:
            terms = dict(zip(named, numbers, strict=True))
            rest = {"lr": self._lr, "gradient_norm": float(self._clip.norm)}
            self._write({"step": step, "split": "train", **terms, **rest})


class Validate(Callback):
    """Measures the model, averaged if weights are averaged, on a fixed list of held-out clips.

    The main process does, and where weights are shared out all the others along with it: none has them whole.

    Not Lightning's validation loop: after a resume that one skips a validation due at the checkpoint's
    step, and it cannot run before the checkpoint is written.
    """

    def __init__(
        self,
        clips: Callable[[], Sequence[Any]],
        folder: Path,
        write: Callable[[Row], None],
        average: WeightAverage | None,
    ) -> None:
        """Prepare to measure on what `clips` returns once training begins."""
        self._load, self._folder, self._write, self._average = clips, folder, write, average
        self._clips: Sequence[Any] = []
        self._alarm = CodeAlarm(str(folder))
        self.metrics: dict[str, float] = {}

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if _takes_part(trainer, pl_module):
            self._clips = self._load()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = finished_step(trainer, batch_idx)
        if step is None or not _takes_part(trainer, pl_module):
            return
        assert isinstance(pl_module, StageModule)
        train = pl_module.train_config
        if step % train.val_every and step != train.steps:
            return
        measured = self._measure(pl_module)
        self.metrics = measured.metrics
        if not trainer.is_global_zero:
            return
        if measured.picture is not None:
            write_bytes(self._folder / "panels" / f"step-{step:07d}.png", png(measured.picture))
        self._write({"step": step, "split": "val", **self.metrics})
        if step > train.warmup_steps:
            spec = pl_module.spec
            self._alarm.look(kind_of(spec), self.metrics, step, train.steps, letters_of(spec))

    def _measure(self, stage: StageModule) -> Measured:
        if self._average is not None:
            self._average.swap(stage)
        stage.eval()
        measured = stage.measure([clip.to(stage.device) for clip in self._clips])
        stage.train()
        if self._average is not None:
            self._average.swap(stage)
        return measured

    def state_dict(self) -> dict[str, Any]:
        return {"metrics": self.metrics, "alarm": self._alarm.state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.metrics = state_dict["metrics"]
        self._alarm.recall(state_dict.get("alarm", []))  # checkpoints of earlier versions have none


def _takes_part(trainer: L.Trainer, pl_module: L.LightningModule) -> bool:
    return trainer.is_global_zero or pl_module.device_mesh is not None


class SaveLast(Callback):
    """Writes last.ckpt every `every` steps and after the last, whole or not at all.

    The rows of metrics.jsonl beside it, for which it vouches, are on the disk before it is.
    """

    def __init__(self, path: Path, every: int) -> None:
        self._path, self._every = path, every
        self._metrics = MetricsFile(path.with_name(METRICS_FILE))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = finished_step(trainer, batch_idx)
        if step is None or (step % self._every and step != trainer.max_steps):
            return
        part = self._path.with_suffix(".ckpt.part")
        trainer.save_checkpoint(part, weights_only=False)
        if trainer.is_global_zero:
            self._metrics.sync()
            with part.open("r+b") as file:
                os.fsync(file.fileno())  # else a power cut could leave the new name on an empty file
            os.replace(part, self._path)


class ShowProgress(Callback):
    """Keeps a bar at the current step, with the first figure of the last validation."""

    def __init__(self, title: str, validate: Validate) -> None:
        self._title, self._validate = title, validate
        self._bar: Bar | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            self._bar = Bar(self._title, trainer.max_steps)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._bar is not None:
            notes = [f"{name} {value:.2f}" for name, value in self._validate.metrics.items()]
            self._bar.show(trainer.global_step, notes[0] if notes else "")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._close()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
