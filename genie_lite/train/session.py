"""One sitting of Lightning over one stage: put the parts together, train, write the artifact."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from genie_lite.artifact import Artifact, read_artifact, write_artifact
from genie_lite.data.labels import Labels
from genie_lite.data.loading.loader import worker_death
from genie_lite.data.loading.mixture import Corpora
from genie_lite.data.shards.shards import ShardSet
from genie_lite.errors import UserError
from genie_lite.models.heads import remove_heads, write_heads
from genie_lite.train.callbacks import (
    ClipGradient,
    FiniteLoss,
    Record,
    SaveLast,
    ShowProgress,
    StepSeed,
    Stopwatch,
    Validate,
    WeightAverage,
)
from genie_lite.train.config import DynamicsStage, LAMStage, StageConfig, StageName
from genie_lite.train.framework import (
    Callback,
    L,
    MisconfigurationException,
    interruptible,
    quiet_lightning,
)
from genie_lite.train.fsdp import NAME as FSDP2
from genie_lite.train.fsdp import SharedOut, gather
from genie_lite.train.label_choices import choices_of
from genie_lite.train.labelled import LabelledClips
from genie_lite.train.labelled_tokens import ActionClip, LabelledTokens, ShownChoices
from genie_lite.train.logging import METRICS_FILE, MetricsFile, Row, WandbMode, close_wandb, open_wandb
from genie_lite.train.module import LAMModule, StageModule, build_module
from genie_lite.train.rank import is_main_process
from genie_lite.train.stream import ClipData, TokenData

# Arguments of lightning.Trainer that a stage's configuration decides, and where.
OWNED = {
    "max_steps": "train.steps",
    "max_epochs": "train.steps",
    "max_time": "train.steps",
    "fast_dev_run": "train.steps",
    "overfit_batches": "train.steps",
    "accumulate_grad_batches": "train.accumulate",
    "gradient_clip_val": "train.clip_norm",
    "precision": "train.precision",
    "strategy": "train.strategy",
    "val_check_interval": "train.val_every",
    "log_every_n_steps": "train.log_every",
    "logger": "wandb",
    "enable_checkpointing": "train.checkpoint_every",
    "limit_train_batches": "train.steps",
    "callbacks": "nothing: callbacks are fixed",
}

# What torch.load raises for a file that is not a whole checkpoint.
UNREADABLE = (RuntimeError, OSError, ValueError, KeyError)


class Session:
    """A stage that is not finished yet."""

    def __init__(
        self,
        stage: StageName,
        config: StageConfig,
        shards: ShardSet | Corpora[Any],
        run: Path,
        parents: Mapping[str, Artifact],
        seed: int,
        *,
        strict: bool = False,
        labels: Sequence[Labels] | Mapping[str, Labels] = (),
    ) -> None:
        self._stage, self._config, self._shards, self._run = stage, config, shards, run
        self._labels, self._strict = labels, strict
        self._parents, self._seed = parents, seed
        self._folder = run / stage
        self._checkpoint = self._folder / "last.ckpt"
        self._metrics = MetricsFile(self._folder / METRICS_FILE)
        self._log_remote: Callable[[Row], None] | None = None
        self._data = (
            TokenData(
                shards,
                run,
                {name: parent.sha256 for name, parent in parents.items()},
                config.train,
                seed,
                strict=strict,
            )
            if isinstance(config, DynamicsStage)
            else ClipData(shards, config.train, seed, strict=strict, **_clips_of(config))
        )
        self._average = None if config.train.ema_decay is None else WeightAverage(config.train.ema_decay)
        self._validate = Validate(self._data.validation_clips, self._folder, self._write, self._average)
        self._stopwatch = Stopwatch()

    def train(self, wandb: WandbMode, trainer_arguments: dict[str, Any], recipe_text: str) -> Artifact:
        """Train from the last checkpoint, or from nothing, and write the artifact."""
        with quiet_lightning():
            trainer = self._build_trainer(trainer_arguments)
            module = build_module(self._config, self._run, self._seed, self._labelled(), self._choices())
            step = self._step_of_checkpoint()
            if trainer.is_global_zero:
                self._metrics.truncate(step)
                if wandb != "off":
                    self._log_remote = open_wandb(wandb, self._folder, self._config.model_dump())
            try:
                with interruptible():
                    trainer.fit(
                        module, datamodule=self._data, ckpt_path=self._resume_path(), weights_only=True
                    )
            except RuntimeError as error:
                raise worker_death(error) or error from error
            finally:
                if self._log_remote is not None:
                    close_wandb()
            self._check_complete(trainer.global_step)
            if self._average is not None:
                self._average.swap(module)
            model = self._whole_model(module)
            heads = module.heads if isinstance(module, LAMModule) else None
            weights = None if heads is None else gather(heads.state_dict())
            if trainer.is_global_zero:
                remove_heads(self._folder)
                if heads is not None and weights is not None:
                    write_heads(self._folder, heads.spec, weights)
                self._finish(model, module, recipe_text)
            trainer.strategy.barrier("artifact")
        return read_artifact(self._folder, self._stage)

    def _labelled(self) -> LabelledClips | None:
        """The labelled clips, if the stage looks at them: read anew by every process."""
        if not isinstance(self._config, LAMStage) or not self._config.uses_labels:
            return None
        return LabelledClips.gather(self._shards, self._labels, self._config, self._seed, strict=self._strict)

    def _choices(self) -> ShownChoices | None:
        """True actions that lead a dynamics model, read from the tokens once these are made."""
        config, data = self._config, self._data
        if not isinstance(config, DynamicsStage) or config.labels is None or not isinstance(data, TokenData):
            return None
        shown, train, choices = config.labels, config.train, choices_of(self._labels)

        @cache
        def labelled() -> LabelledTokens:
            batch = shown.batch // train.accumulate
            return LabelledTokens.gather(data.opened(), choices, shown, train.clip_frames, batch, self._seed)

        @cache
        def held_out(num: int) -> Sequence[ActionClip]:
            return LabelledTokens.held_out(data.opened(), choices, train.clip_frames).spread(num)

        return ShownChoices(choices.names, labelled, held_out)

    def _build_trainer(self, arguments: dict[str, Any]) -> L.Trainer:
        _check_arguments(arguments)
        train = self._config.train
        try:
            return L.Trainer(
                max_steps=train.steps,
                accumulate_grad_batches=train.accumulate,
                precision=train.precision,
                strategy=SharedOut() if train.strategy == FSDP2 else train.strategy,
                callbacks=self._callbacks(),
                logger=False,
                **{
                    "enable_checkpointing": False,  # Lightning's own; ours is SaveLast
                    "enable_progress_bar": False,
                    "enable_model_summary": False,
                    "use_distributed_sampler": False,  # the loaders share the data out themselves
                    "default_root_dir": self._folder,
                    **arguments,
                },
            )
        except (MisconfigurationException, TypeError, ValueError) as error:
            raise UserError(f"trainer: {' '.join(str(error).split())}") from error

    def _callbacks(self) -> list[Callback]:
        train = self._config.train
        clip = ClipGradient(train.clip_norm)
        return [
            StepSeed(self._seed),
            self._stopwatch,
            *([] if self._average is None else [self._average]),
            clip,
            FiniteLoss((train.log_every, train.val_every, train.checkpoint_every)),
            Record(train.log_every, self._write, clip),
            self._validate,
            SaveLast(self._checkpoint, train.checkpoint_every),
            ShowProgress(self._stage, self._validate),
        ]

    def _write(self, row: Row) -> None:
        self._metrics.append(row)
        if self._log_remote is not None:
            self._log_remote(row)

    def _resume_path(self) -> Path | None:
        return self._checkpoint if self._checkpoint.is_file() else None

    def _step_of_checkpoint(self) -> int:
        if not self._checkpoint.is_file():
            return 0
        try:
            checkpoint = torch.load(self._checkpoint, map_location="cpu", weights_only=True, mmap=True)
            return checkpoint["global_step"]
        except PermissionError:  # nothing to delete
            raise
        except UNREADABLE as error:
            raise UserError(
                f"{self._checkpoint}: damaged or cut off; delete it to start the stage again"
            ) from error

    def _check_complete(self, step: int) -> None:
        steps = self._config.train.steps
        if step != steps:
            raise UserError(f"{self._folder}: stopped at step {step} of {steps}; run it again to go on")

    def _whole_model(self, module: StageModule) -> nn.Module:
        """What was trained, with whole weights in the main process; every process must ask."""
        if module.device_mesh is None:
            return module.model
        weights = gather(module.model.state_dict())
        if not is_main_process():
            return module.model
        model = build_module(self._config, self._run, self._seed, choices=self._choices()).model
        model.load_state_dict(weights)
        return model

    def _finish(self, model: nn.Module, module: StageModule, recipe_text: str) -> None:
        write_artifact(
            self._folder,
            self._stage,
            model,
            module.spec,
            recipe_text,
            dict(self._parents),
            {"fingerprint": self._shards.fingerprint, "frames": self._shards.num_frames("train")},
            self._validate.metrics,
            self._stopwatch.seconds,
        )


def _clips_of(config: StageConfig) -> dict[str, Any]:
    """How clips are drawn, where a stage decides on that."""
    if not isinstance(config, LAMStage):
        return {}
    return {"pair_s": config.model.pair_s, "weight": config.pixel_weight}


def _check_arguments(arguments: Mapping[str, Any]) -> None:
    known = inspect.signature(L.Trainer.__init__).parameters
    for name in arguments:
        if name in OWNED:
            raise UserError(f"trainer.{name}: is set by {OWNED[name]}; remove it from trainer")
        if name not in known:
            raise UserError(f"trainer.{name}: lightning.Trainer has no such argument; see its documentation")
