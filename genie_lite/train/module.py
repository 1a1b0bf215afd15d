"""The three stages as Lightning sees them: wiring only, every tensor is the models' business.

All have the same face: `training_step` for Lightning, `configure_model` for weights that are to be shared
out, `measure` for the validation callback, and `spec`, the configuration from which a finished artifact's
model is built again.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genie_lite.data.loading.clip import Clip, TokenClip
from genie_lite.errors import UserError
from genie_lite.models import dynamics, lam, tokenizer
from genie_lite.models.dynamics import DynamicsModel, DynamicsSizes, DynamicsSpec
from genie_lite.models.lam import LatentActionModel, load_lam
from genie_lite.models.tokenizer import VideoTokenizer, load_tokenizer
from genie_lite.nn.compiler import check_compiler
from genie_lite.nn.features import FeatureTarget, TimmFeatures
from genie_lite.nn.transformer import Block, STTransformer
from genie_lite.train.config import DynamicsStage, LAMStage, StageConfig, TokenizerStage, TrainConfig
from genie_lite.train.framework import L, OptimizerLRScheduler
from genie_lite.train.fsdp import share_out
from genie_lite.train.labelled import LabelledBatch, LabelledClips
from genie_lite.train.labelled_tokens import ShownChoices
from genie_lite.train.optim import build_optimizer, step_seed
from genie_lite.train.validation import (
    Measured,
    measure_dynamics,
    measure_lam,
    measure_led,
    measure_tokenizer,
)
from genie_lite.train.views import Views, view_of, views_of
from genie_lite.types import Loss


class TokenizerModule(L.LightningModule):
    """Trains `models/tokenizer.py`."""

    def __init__(self, config: TokenizerStage) -> None:
        super().__init__()
        self.spec, self.weights, self.train_config = config.model, config.weights, config.train
        self.model = VideoTokenizer(config.model)

    def configure_model(self) -> None:
        share_out(self.model, self.device_mesh)

    def training_step(self, clip: Clip, batch_idx: int) -> dict[str, Any]:
        return _step_output(tokenizer.objective(self.model(clip.frames), clip.frames, self.weights))

    def measure(self, clips: Sequence[Clip]) -> Measured:
        return measure_tokenizer(self.model, clips)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return _optimizer(self.model, self.train_config)


class LAMModule(L.LightningModule):
    """Trains `models/lam.py`, and with it what foretells features and what reads actions off embeddings."""

    def __init__(self, config: LAMStage, seed: int = 0, labelled: LabelledClips | None = None) -> None:
        """Build it.

        Args:
            config: of the stage.
            seed: of what is drawn at each step: views, and labelled clips.
            labelled: clips with known actions, if the stage looks at them.
        """
        super().__init__()
        self.spec, self.weights, self.train_config = config.model, config.weights, config.train
        self.seed, self.augment, self.labelled = seed, config.augment, labelled
        self.model = LatentActionModel(config.model)
        features = config.model.features
        self.target = (
            FeatureTarget(features, config.model.width, self.model.grid_hw)
            if isinstance(features, TimmFeatures)
            else None
        )
        self.heads = None if labelled is None else labelled.new_heads(self.model.code_dim)

    def configure_model(self) -> None:
        share_out(self.model, self.device_mesh, also=["decode"])  # `measure` decodes with wrong codes
        if self.target is not None:
            share_out(self.target.to_features, self.device_mesh)
        if self.heads is not None:
            share_out(self.heads, self.device_mesh)

    def training_step(self, clip: Clip, batch_idx: int) -> dict[str, Any]:
        views = views_of(clip, self.augment, step_seed(self.seed, batch_idx, "views"), self._share)
        labelled = self._draw_labelled(batch_idx)
        out = self.model(
            views.frames,
            views.seen,
            self.weights.relations,
            others=None if labelled is None else labelled.frames,
        )
        loss = lam.objective(
            out,
            views.frames,
            self.weights,
            self._feature_error(out, views),
            label=self._label_error(out, labelled),
            pixel_weight=views.pixel_weight,
        )
        return _step_output(loss)

    def _draw_labelled(self, batch_idx: int) -> LabelledBatch | None:
        """Labelled clips of this step, as the encoder is shown clips."""
        if self.labelled is None:
            return None
        generator = torch.Generator().manual_seed(step_seed(self.seed, batch_idx, "labels"))
        batch = self.labelled.draw(generator, self._share).to(self.device)
        return replace(batch, frames=view_of(batch.frames, self.augment.inverse, generator, self._share))

    def _feature_error(self, out: lam.LAMOutput, views: Views) -> Tensor | None:
        if self.target is None:
            return None
        return self.target(out.rows, views.frames[:, 1:], views.pixel_weight)

    def _label_error(self, out: lam.LAMOutput, labelled: LabelledBatch | None) -> Tensor | None:
        if self.heads is None or labelled is None or out.others is None:
            return None
        return self.heads(out.others, labelled.actions)

    @property
    def _share(self) -> tuple[int, int]:
        return self.global_rank, self.trainer.world_size

    def measure(self, clips: Sequence[Clip]) -> Measured:
        return measure_lam(self.model, clips)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return _optimizer(self, self.train_config)  # the layer that foretells features is trained too


class DynamicsModule(L.LightningModule):
    """Trains `models/dynamics.py` on what its two parents made of the video."""

    code_vectors: Tensor

    def __init__(
        self,
        config: DynamicsStage,
        parents: tuple[VideoTokenizer, LatentActionModel],
        seed: int,
        choices: ShownChoices | None = None,
    ) -> None:
        """Build it.

        Args:
            config: of the stage.
            parents: tokenizer and latent action model.
            seed: of every step's randomness.
            choices: true actions, where they lead the model.
        """
        super().__init__()
        self.seed, self.weights, self.train_config = seed, config.weights, config.train
        tokens, codes = parents
        sizes = DynamicsSizes(
            vocabulary=tokens.num_codes,
            num_tokens=tokens.num_tokens,
            code_dim=codes.code_dim,
            actions=() if choices is None else choices.names,
        )
        self.spec, self._choices = DynamicsSpec(model=config.model, sizes=sizes), choices
        self.model = DynamicsModel(self.spec)
        self.register_buffer("code_vectors", codes.code_vectors().detach().clone(), persistent=False)

    def configure_model(self) -> None:
        led = self.model.condition is not None
        share_out(self.model, self.device_mesh, also=["code_table"] if led else [])

    def training_step(self, clip: TokenClip, batch_idx: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(step_seed(self.seed, batch_idx))
        share = self.global_rank, self.trainer.world_size  # as `token_loader` shares a batch out
        if self._choices is not None:
            clip = self._with_labelled(clip, self._choices, batch_idx, share)
        vectors = self.model.code_table(self.code_vectors)
        out = self.model(clip.tokens, vectors[clip.codes], generator, share)
        return _step_output(dynamics.objective(out, clip.tokens, self.weights))

    def _with_labelled(
        self, clip: TokenClip, choices: ShownChoices, batch_idx: int, share: tuple[int, int]
    ) -> TokenClip:
        """The windows of a step and the labelled ones beside them, each with its rows of the model's table."""
        assert self.model.condition is not None
        generator = torch.Generator().manual_seed(step_seed(self.seed, batch_idx, "labels"))
        drawn = choices.train().draw(generator, share).to(self.device)
        shown = self.model.condition.hide(drawn.actions, generator, share)
        rows = self.model.rows_of(clip.codes), self.model.rows_of(drawn.codes, shown)
        return TokenClip(torch.cat([clip.tokens, drawn.tokens]), torch.cat(rows))

    def measure(self, clips: Sequence[TokenClip]) -> Measured:
        vectors = self.model.code_table(self.code_vectors)
        if self._choices is None:
            return measure_dynamics(self.model, vectors, clips)
        without = [TokenClip(each.tokens, self.model.rows_of(each.codes)) for each in clips]
        held_out = [each.to(self.device) for each in self._choices.held_out(len(clips))]
        labelled = [TokenClip(each.tokens, self.model.rows_of(each.codes, each.actions)) for each in held_out]
        return measure_led(self.model, vectors, without, labelled)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return _optimizer(self.model, self.train_config)


StageModule = TokenizerModule | LAMModule | DynamicsModule


def build_module(
    config: StageConfig,
    run: Path,
    seed: int,
    labelled: LabelledClips | None = None,
    choices: ShownChoices | None = None,
) -> StageModule:
    """A stage's module with freshly drawn weights, the same for the same seed on every process.

    Args:
        config: of the stage.
        run: folder of the whole run, where its parents are.
        seed: of the weights, and of every step's randomness.
        labelled: clips with known actions, for a latent action model that looks at them.
        choices: true actions, for a dynamics model that is led by them.

    Raises:
        UserError: a parent is missing, or the sizes do not make a model.
    """
    torch.manual_seed(seed)
    module = _build(config, run, seed, labelled, choices)
    if config.train.compile and not torch.cuda.is_available():
        check_compiler(torch.device("cpu"))
    for part in module.modules():
        if isinstance(part, STTransformer):
            part.recompute = config.train.recompute
        if isinstance(part, Block) and config.train.compile:
            part.compile()
    return module


def _build(
    config: StageConfig, run: Path, seed: int, labelled: LabelledClips | None, choices: ShownChoices | None
) -> StageModule:
    try:
        if isinstance(config, TokenizerStage):
            return TokenizerModule(config)
        if isinstance(config, LAMStage):
            return LAMModule(config, seed, labelled)
        parents = load_tokenizer(run / "tokenizer"), load_lam(run / "lam")
        return DynamicsModule(config, parents, seed, choices)
    except UserError:
        raise  # says where already
    except ValueError as error:
        raise UserError(f"model: {' '.join(str(error).split())}") from error


def _step_output(loss: Loss) -> dict[str, Any]:
    return {"loss": loss.total, "terms": {name: term.detach() for name, term in loss.terms.items()}}


def _optimizer(model: nn.Module, train: TrainConfig) -> OptimizerLRScheduler:
    optimizer, schedule = build_optimizer(model, train)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
