"""The three stages as Lightning sees them: wiring only, every tensor is the models' business.

All have the same face: `training_step` for Lightning, `configure_model` for weights that are to be shared
out, `measure` for the validation callback, and `spec`, the configuration from which a finished artifact's
model is built again.
"""

from collections.abc import Sequence
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
from genie_lite.train.optim import build_optimizer, step_seed
from genie_lite.train.validation import Measured, measure_dynamics, measure_lam, measure_tokenizer
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
    """Trains `models/lam.py`."""

    def __init__(self, config: LAMStage) -> None:
        super().__init__()
        self.spec, self.weights, self.train_config = config.model, config.weights, config.train
        self.model = LatentActionModel(config.model)
        features = config.model.features
        self.target = (
            FeatureTarget(features, config.model.width, self.model.grid_hw)
            if isinstance(features, TimmFeatures)
            else None
        )

    def configure_model(self) -> None:
        share_out(self.model, self.device_mesh, also=["decode"])  # `measure` decodes with wrong codes
        if self.target is not None:
            share_out(self.target.to_features, self.device_mesh)

    def training_step(self, clip: Clip, batch_idx: int) -> dict[str, Any]:
        out = self.model(clip.frames)
        features = None if self.target is None else self.target(out.rows, clip.frames[:, 1:])
        return _step_output(lam.objective(out, clip.frames, self.weights, features))

    def measure(self, clips: Sequence[Clip]) -> Measured:
        return measure_lam(self.model, clips)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return _optimizer(self, self.train_config)  # the layer that foretells features is trained too


class DynamicsModule(L.LightningModule):
    """Trains `models/dynamics.py` on what its two parents made of the video."""

    code_vectors: Tensor

    def __init__(
        self, config: DynamicsStage, parents: tuple[VideoTokenizer, LatentActionModel], seed: int
    ) -> None:
        super().__init__()
        self.seed, self.weights, self.train_config = seed, config.weights, config.train
        tokens, codes = parents
        sizes = DynamicsSizes(
            vocabulary=tokens.num_codes, num_tokens=tokens.num_tokens, code_dim=codes.code_dim
        )
        self.spec = DynamicsSpec(model=config.model, sizes=sizes)
        self.model = DynamicsModel(self.spec)
        self.register_buffer("code_vectors", codes.code_vectors().detach().clone(), persistent=False)

    def configure_model(self) -> None:
        share_out(self.model, self.device_mesh)

    def training_step(self, clip: TokenClip, batch_idx: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(step_seed(self.seed, batch_idx))
        share = self.global_rank, self.trainer.world_size  # as `token_loader` shares a batch out
        out = self.model(clip.tokens, self.code_vectors[clip.codes], generator, share)
        return _step_output(dynamics.objective(out, clip.tokens, self.weights))

    def measure(self, clips: Sequence[TokenClip]) -> Measured:
        return measure_dynamics(self.model, self.code_vectors, clips)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return _optimizer(self.model, self.train_config)


StageModule = TokenizerModule | LAMModule | DynamicsModule


def build_module(config: StageConfig, run: Path, seed: int) -> StageModule:
    """A stage's module with freshly drawn weights, the same for the same seed on every process.

    Raises:
        UserError: a parent is missing, or the sizes do not make a model.
    """
    torch.manual_seed(seed)
    module = _build(config, run, seed)
    if config.train.compile and not torch.cuda.is_available():
        check_compiler(torch.device("cpu"))
    for part in module.modules():
        if isinstance(part, STTransformer):
            part.recompute = config.train.recompute
        if isinstance(part, Block) and config.train.compile:
            part.compile()
    return module


def _build(config: StageConfig, run: Path, seed: int) -> StageModule:
    try:
        if isinstance(config, TokenizerStage):
            return TokenizerModule(config)
        if isinstance(config, LAMStage):
            return LAMModule(config)
        return DynamicsModule(config, (load_tokenizer(run / "tokenizer"), load_lam(run / "lam")), seed)
    except UserError:
        raise  # says where already
    except ValueError as error:
        raise UserError(f"model: {' '.join(str(error).split())}") from error


def _step_output(loss: Loss) -> dict[str, Any]:
    return {"loss": loss.total, "terms": {name: term.detach() for name, term in loss.terms.items()}}


def _optimizer(model: nn.Module, train: TrainConfig) -> OptimizerLRScheduler:
    optimizer, schedule = build_optimizer(model, train)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
