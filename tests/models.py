"""Tiny models that the tests share: 16x16 frames, 4 tokens a frame, two blocks."""

import torch
from torch import Tensor

from genie_lite.models.dynamics import DynamicsConfig, DynamicsModel, DynamicsSizes, DynamicsSpec
from genie_lite.models.lam import LAMConfig, LatentActionModel
from genie_lite.models.tokenizer import TokenizerConfig, VideoTokenizer
from genie_lite.nn.inject import InjectKind
from genie_lite.nn.quantize import VQConfig

FRAME_HW = (16, 16)


def frames(batch: int = 2, num: int = 5, seed: int = 0) -> Tensor:
    """Random frames, `b t c h w` in [0, 1]."""
    return torch.rand(batch, num, 3, *FRAME_HW, generator=torch.Generator().manual_seed(seed))


def tokenizer(seed: int = 0, window: int = 3) -> VideoTokenizer:
    """A tokenizer with random weights."""
    torch.manual_seed(seed)
    code = VQConfig(num_codes=16, dim=4)
    return VideoTokenizer(
        TokenizerConfig(frame_hw=FRAME_HW, patch=8, width=16, depth=2, heads=2, window=window, code=code)
    )


def lam(seed: int = 0, inject: InjectKind = "token", window: int = 3) -> LatentActionModel:
    """A latent action model with random weights and 4 codes."""
    torch.manual_seed(seed)
    code = VQConfig(num_codes=4, dim=4, restart_below=1.0)
    return LatentActionModel(
        LAMConfig(
            frame_hw=FRAME_HW,
            patch=8,
            width=16,
            depth=2,
            heads=2,
            window=window,
            past_window=window,
            inject=inject,
            code=code,
        )
    )


def dynamics(
    seed: int = 0, inject: InjectKind = "token", window: int = 3, corruption: float = 0.0
) -> DynamicsModel:
    """A dynamics model that fits `tokenizer()` and `lam()`."""
    torch.manual_seed(seed)
    model = DynamicsConfig(width=16, depth=2, heads=2, window=window, inject=inject, corruption=corruption)
    return DynamicsModel(
        DynamicsSpec(model=model, sizes=DynamicsSizes(vocabulary=16, num_tokens=4, code_dim=4))
    )
