"""Blocks that are worked out a second time: the same numbers from less memory."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from genie_lite.nn.transformer import Block, STTransformer
from genie_lite.train.config import StageName
from genie_lite.train.module import build_module
from tests.training import stage_config

DEPTH = 4


def transformer(recompute: bool) -> STTransformer:
    torch.manual_seed(0)
    model = STTransformer(width=16, depth=DEPTH, heads=2, window=3)
    model.recompute = recompute
    return model


def step(model: STTransformer, rows: Tensor) -> tuple[Tensor, list[Tensor], int]:
    """The loss of a clip, all gradients, and the bytes that were kept for them, weights left out."""
    weights = {parameter.data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    def keep_given(block: nn.Module, given: tuple[Tensor, ...]) -> None:
        keep(given[0])  # a block that is worked out again holds on to what it was given

    hooks = [block.register_forward_pre_hook(keep_given) for block in model.blocks]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(rows).square().mean()
    num_bytes = sum(kept.values())
    for hook in hooks:
        hook.remove()
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return loss.detach(), gradients, num_bytes


@pytest.mark.parametrize("num_frames", [5, 20], ids=["whole", "in pieces"])
def test_the_same_numbers_from_less_memory(num_frames: int) -> None:
    rows = torch.randn(2, num_frames, 6, 16)
    loss, gradients, kept = step(transformer(False), rows)
    again_loss, again_gradients, again_kept = step(transformer(True), rows)
    assert torch.equal(again_loss, loss)
    assert len(gradients) == len(again_gradients) == len(list(transformer(True).parameters()))
    assert all(torch.equal(*pair) for pair in zip(gradients, again_gradients, strict=True))
    assert again_kept < kept / 4


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("stage", ["tokenizer", "lam"])
def test_a_recipe_switches_it_on_in_every_transformer(
    tmp_path: Path, stage: StageName, recompute: bool
) -> None:
    module = build_module(stage_config(stage, recompute=recompute), tmp_path, 0)
    found = [part.recompute for part in module.modules() if isinstance(part, STTransformer)]
    assert found == [recompute, recompute]


def test_nothing_is_worked_out_again_where_nothing_is_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    forward = Block.forward
    monkeypatch.setattr(Block, "forward", lambda *given: calls.append(1) or forward(*given))
    model, rows = transformer(True), torch.randn(1, 3, 6, 16)
    with torch.no_grad():
        model(rows)
    assert len(calls) == DEPTH
    model.eval()(rows).sum().backward()
    assert len(calls) == 2 * DEPTH
    model.train()(rows).sum().backward()
    assert len(calls) == 4 * DEPTH
