"""What a training stage needs to know, beside the model: one class per stage, all with the same parts."""

import warnings
from typing import Annotated, Literal

from pydantic import Field, model_validator

from genie_lite.config import Config
from genie_lite.data.loading.weight import EvenWeight, WeightConfig
from genie_lite.models.condition import ActionsCondition
from genie_lite.models.dynamics import DynamicsConfig, DynamicsWeights
from genie_lite.models.lam import LAMConfig, LAMWeights
from genie_lite.models.tokenizer import TokenizerConfig, TokenizerWeights
from genie_lite.nn.augment import AugmentPair

StageName = Literal["tokenizer", "lam", "dynamics"]
Decay = Annotated[float, Field(ge=0, lt=1)]  # of a moving average


class TrainConfig(Config):
    """How to train. Every count of steps means optimizer steps."""

    steps: int = Field(ge=1)
    batch: int = Field(default=32, ge=1)  # clips per optimizer step, over all processes and accumulated parts
    accumulate: int = Field(default=1, ge=1)  # parts that a process works through one after another per step
    clip_frames: int = Field(default=16, ge=2)
    lr: float = Field(default=3e-4, gt=0)  # the highest learning rate
    lr_end: float = Field(default=0.0, ge=0)  # the learning rate after the last step
    warmup_steps: int = Field(default=200, ge=0)
    schedule: Literal["cosine", "wsd"] = "cosine"  # wsd: constant, then a linear end (see optim.py)
    weight_decay: float = Field(default=0.01, ge=0)  # on matrices only
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    clip_norm: float = Field(default=1.0, gt=0)  # largest norm of the whole gradient
    precision: Literal["32-true", "bf16-mixed"] = "bf16-mixed"
    ema_decay: Decay | None = None  # of averaged weights; None: no average
    val_every: int = Field(default=500, ge=1)
    val_clips: int = Field(default=32, ge=1)  # clips of the held-out sources
    checkpoint_every: int = Field(default=500, ge=1)
    log_every: int = Field(default=10, ge=1)
    num_workers: int = Field(default=0, ge=0)  # processes that decode video, per training process
    cache_gb: float = Field(default=2.0, ge=0)  # decoded frames kept in memory, per process
    # Of lightning.Trainer, such as ddp; or fsdp2, by which weights are shared out, too (fsdp.py).
    strategy: str = "auto"
    # Work out each block a second time on the way back instead of keeping what it made: a third more time for
    # memory that hardly grows with depth. Changes no number.
    recompute: bool = False
    # Let torch.compile make one program of each block: a tenth faster on a CPU, after a minute or two of compiling.
    # Rounds otherwise.
    compile: bool = False

    @model_validator(mode="after")
    def _check(self) -> "TrainConfig":
        if self.batch % self.accumulate:
            raise ValueError(f"batch {self.batch} is not divisible by accumulate {self.accumulate}")
        return self


class TokenizerStage(Config):
    """Frames to tokens and back."""

    model: TokenizerConfig = TokenizerConfig()
    weights: TokenizerWeights = TokenizerWeights()
    train: TrainConfig

    @property
    def uses_labels(self) -> bool:
        """Frames alone are looked at."""
        return False


class LabelsConfig(Config):
    """True actions that a stage is shown in training, of each robot that labels were given of.

    Budget and episodes count for every robot by itself: two robots with a budget of 200 are 400 labels. With the seed
    of `adapt` and its budget, these are the same few labels. Episodes count, where they are given.

    A run calls a robot as its dataset's folder is called, a game by its name, and labels of a file `labels`. A dynamics
    model learns the actions of one of them. In a latent action model each has a
    head of that name, all of which `heads.json` beside the model lists (`models/heads.py`: `read_heads(...).names`).
    """

    budget: int = Field(
        default=200, ge=1
    )  # labelled transitions of a robot: whole episodes, the last one cut
    episodes: int | None = Field(default=None, ge=1)  # whole labelled episodes of a robot instead
    batch: int = Field(default=16, ge=1)  # labelled clips per optimizer step, beside the others


class LAMStage(Config):
    """Pairs of frames to latent actions."""

    model: LAMConfig = LAMConfig()
    weights: LAMWeights = LAMWeights()
    augment: AugmentPair = AugmentPair()  # what the encoder is shown, and what the decoder foretells
    pixel_weight: WeightConfig = EvenWeight()  # which pixels count in the prediction error
    labels: LabelsConfig | None = None  # None: none are looked at
    train: TrainConfig

    @model_validator(mode="after")
    def _fits(self) -> "LAMStage":
        if self.weights.additivity > 0 and self.train.clip_frames < 3:
            raise ValueError(
                f"weights.additivity is about three frames, train.clip_frames is {self.train.clip_frames}; "
                "make it 3 or more"
            )
        if self.labels is not None and self.labels.batch % self.train.accumulate:
            raise ValueError(
                f"labels.batch {self.labels.batch} is not divisible by train.accumulate {self.train.accumulate}"
            )
        if self.labels is not None and not self.uses_labels:
            warnings.warn(
                "lam.labels: is set, but lam.weights.label is 0, so no label is looked at; raise lam.weights.label, or "
                "leave lam.labels out",
                stacklevel=1,  # here, so that Python tells it once
            )
        return self

    @property
    def uses_labels(self) -> bool:
        """Whether training looks at labels."""
        return self.labels is not None and self.weights.label > 0


class DynamicsStage(Config):
    """Tokens and latent actions to the next frame's tokens. Sizes come from the two parents."""

    model: DynamicsConfig = DynamicsConfig()
    weights: DynamicsWeights = DynamicsWeights()
    labels: LabelsConfig | None = None  # of true actions, where model.condition.kind is actions
    train: TrainConfig

    @model_validator(mode="after")
    def _labels_fit(self) -> "DynamicsStage":
        wants = isinstance(self.model.condition, ActionsCondition)
        if wants and self.labels is None:
            raise ValueError(
                "model.condition.kind is actions, but labels are not set; say how many are shown, such as "
                "labels: {budget: 200}"
            )
        if self.labels is not None and not wants:
            raise ValueError(
                "labels are set, but model.condition.kind is codes, which looks at none; make it actions, or leave "
                "labels out"
            )
        if self.labels is not None and self.labels.batch % self.train.accumulate:
            raise ValueError(
                f"labels.batch {self.labels.batch} is not divisible by train.accumulate {self.train.accumulate}"
            )
        return self

    @property
    def uses_labels(self) -> bool:
        """Whether training looks at labels."""
        return self.labels is not None


StageConfig = TokenizerStage | LAMStage | DynamicsStage
STAGES: dict[str, type[TokenizerStage] | type[LAMStage] | type[DynamicsStage]] = {
    "tokenizer": TokenizerStage,
    "lam": LAMStage,
    "dynamics": DynamicsStage,
}
