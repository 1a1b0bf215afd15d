"""Every kind of every choice builds, takes a gradient step and plays: no default may hide a variant that crashes."""

import pytest
import torch

from genie_lite.models import dynamics, lam, tokenizer
from genie_lite.models.dynamics import DynamicsConfig, DynamicsModel, DynamicsSizes, DynamicsSpec
from genie_lite.models.lam import LAMConfig, LatentActionModel
from genie_lite.models.sampling import SamplingConfig
from genie_lite.models.tokenizer import TokenizerConfig, VideoTokenizer
from genie_lite.models.world import World
from genie_lite.nn.inject import InjectKind
from genie_lite.nn.quantize import FSQConfig, VQConfig
from genie_lite.types import Loss
from tests import models

CODES = [
    VQConfig(num_codes=6, dim=4, restart_below=1.0),
    VQConfig(num_codes=6, dim=4, cosine=False),
    FSQConfig(levels=(3, 3)),
]
INJECTS: list[InjectKind] = ["token", "add", "film"]


def moves(model: torch.nn.Module, loss: Loss) -> bool:
    """Whether a step of gradient descent changes the model."""
    before = [parameter.clone() for parameter in model.parameters()]
    loss.total.backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    return any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("code", CODES, ids=["vq", "euclidean", "fsq"])
@pytest.mark.parametrize("inject", INJECTS)
@pytest.mark.parametrize("window", [1, 3])
def test_every_variant_trains_and_plays(code: VQConfig | FSQConfig, inject: InjectKind, window: int) -> None:
    """D9: a variant that nobody builds is one that crashes."""
    torch.manual_seed(0)
    shape = {"frame_hw": models.FRAME_HW, "patch": 8, "width": 16, "depth": 1, "heads": 2}
    tokens = VideoTokenizer(TokenizerConfig(**shape, window=window, code=code))
    actions = LatentActionModel(LAMConfig(**shape, window=2, past_window=window, inject=inject, code=code))
    sizes = DynamicsSizes(
        vocabulary=tokens.num_codes, num_tokens=tokens.num_tokens, code_dim=actions.code_dim
    )
    config = DynamicsConfig(width=16, depth=1, heads=2, window=window + 1, inject=inject)
    world = DynamicsModel(DynamicsSpec(model=config, sizes=sizes))
    frames = models.frames(num=4)
    index, vector = tokens.encode(frames).index, actions.encode(frames).vector.detach()
    assert moves(tokens, tokenizer.objective(tokens(frames), frames, tokenizer.TokenizerWeights()))
    assert moves(actions, lam.objective(actions(frames), frames, lam.LAMWeights(motion=0.5)))
    out = world(index, vector, torch.Generator().manual_seed(0))
    assert moves(world, dynamics.objective(out, index, dynamics.DynamicsWeights()))
    played = World(tokens, actions, world, SamplingConfig(refinements=2)).rollout(
        frames, torch.zeros(2, 3, dtype=torch.long), 0
    )
    assert played.shape == (2, 3, 3, *models.FRAME_HW)
    assert played.isfinite().all()


def test_the_defaults_of_every_model_train() -> None:
    """D9: a peer's class defaults crashed, since all its recipes set them."""
    torch.manual_seed(0)
    tokens, actions = VideoTokenizer(TokenizerConfig()), LatentActionModel(LAMConfig())
    sizes = DynamicsSizes(
        vocabulary=tokens.num_codes, num_tokens=tokens.num_tokens, code_dim=actions.code_dim
    )
    world = DynamicsModel(DynamicsSpec(model=DynamicsConfig(), sizes=sizes))
    frames = torch.rand(1, 2, 3, *LAMConfig().frame_hw)
    index, vector = tokens.encode(frames).index, actions.encode(frames).vector.detach()
    assert moves(tokens, tokenizer.objective(tokens(frames), frames, tokenizer.TokenizerWeights()))
    assert moves(actions, lam.objective(actions(frames), frames, lam.LAMWeights()))
    out = world(index, vector, torch.Generator().manual_seed(0))
    assert moves(world, dynamics.objective(out, index, dynamics.DynamicsWeights()))
