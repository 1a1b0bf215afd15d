"""Bottlenecks: indices and vectors agree, gradients pass, unused codes come back."""

import math

import pytest
import torch

from genie_lite.metrics import code_usage, perplexity
from genie_lite.nn.quantize import FSQConfig, Quantizer, VQConfig

KINDS = [VQConfig(num_codes=8, dim=4), VQConfig(num_codes=8, dim=4, cosine=False), FSQConfig(levels=(4, 3))]


@pytest.mark.parametrize("config", KINDS)
def test_vector_of_an_index_is_what_forward_returned(config: VQConfig | FSQConfig) -> None:
    torch.manual_seed(0)
    quantizer = Quantizer(config, width=6).eval()
    out = quantizer(torch.randn(2, 5, 3, 6))
    assert out.index.shape == (2, 5, 3)
    torch.testing.assert_close(quantizer.vector_of(out.index), out.vector)
    torch.testing.assert_close(quantizer.all_vectors()[out.index], out.vector)


@pytest.mark.parametrize("config", KINDS[:2])  # the library bounds FSQ by a tanh, which moves even levels
def test_quantizing_a_code_again_gives_the_same_code(config: VQConfig) -> None:
    torch.manual_seed(0)
    quantizer = Quantizer(config, width=6).eval()
    every = torch.arange(quantizer.num_codes)
    vectors = quantizer.vector_of(every)
    layer = quantizer.layer
    again = layer(vectors[None])[1]
    assert torch.equal(again.flatten().long(), every)


@pytest.mark.parametrize("config", KINDS)
def test_gradient_reaches_the_encoder(config: VQConfig | FSQConfig) -> None:
    torch.manual_seed(0)
    quantizer = Quantizer(config, width=6)
    rows = torch.randn(4, 6, requires_grad=True)
    (quantizer(rows).vector * torch.randn(4, quantizer.dim)).sum().backward()
    assert rows.grad is not None
    assert rows.grad.abs().sum() > 0


def test_codes_out_of_use_restart() -> None:
    """D3: training must spread codes, never drive them together.

    Rows have eight directions, but every code starts at the same place: restarts must spread them.
    """

    def usage_after_training(restart_below: float) -> float:
        torch.manual_seed(0)
        quantizer = Quantizer(VQConfig(num_codes=8, dim=8, restart_below=restart_below, decay=0.8), width=8)
        torch.nn.init.eye_(quantizer.project.weight)
        with torch.no_grad():
            for name, buffer in quantizer.layer.named_buffers():
                if name.endswith(("embed", "embed_avg")):
                    buffer.copy_(torch.eye(8)[:1].expand_as(buffer) + 1e-3 * torch.randn_like(buffer))
        for _ in range(60):
            quantizer(torch.eye(8)[torch.randint(8, (64,))])
        return code_usage(quantizer.eval()(torch.eye(8)).index, 8)

    assert usage_after_training(restart_below=1.0) > usage_after_training(restart_below=0.0)
    assert usage_after_training(restart_below=1.0) >= 0.75


def usage_bits(quantizer: Quantizer, rows: torch.Tensor) -> float:
    """Entropy of the codes of some rows, measured as training would quantize them."""
    with torch.no_grad():
        embedding = quantizer.project(rows)
        flat = (embedding - embedding.mean(dim=0)) / embedding.std(dim=0)
        quantizer.layer.eval()
        index = quantizer.layer(flat[None])[1]
        quantizer.layer.train()
    return math.log2(perplexity(index, quantizer.num_codes))


def bits_before_and_after(seed: int, sign: float) -> tuple[float, float]:
    """Steps down (or, with the sign turned round, up) a model's objective, from a bottleneck that says next to nothing.

    Rows have eight kinds, which a decoder has to tell from their codes. At the start all channels of the
    embedding are nearly the same, and so are all codes.
    """
    torch.manual_seed(seed)
    quantizer = Quantizer(VQConfig(num_codes=8, dim=4, restart_below=1.0, decay=0.8), width=8)
    decoder = torch.nn.Linear(4, 8)
    with torch.no_grad():
        weight = quantizer.project.weight
        weight.copy_(weight[:1] + 1e-3 * torch.randn_like(weight))
        for name, buffer in quantizer.layer.named_buffers():
            if name.endswith(("embed", "embed_avg")):
                buffer.copy_(torch.eye(4)[:1].expand_as(buffer) + 1e-3 * torch.randn_like(buffer))

    def batch(num: int) -> torch.Tensor:
        return torch.eye(8)[torch.randint(8, (num,))] + 0.05 * torch.randn(num, 8)

    held_out = batch(512)
    before = usage_bits(quantizer, held_out)
    optimizer = torch.optim.AdamW([*quantizer.parameters(), *decoder.parameters()], lr=0.02)
    for _ in range(60):
        rows = batch(64)
        out = quantizer(rows)
        loss = (decoder(out.vector) - rows).square().mean() + 0.25 * out.commitment
        optimizer.zero_grad()
        (sign * loss).backward()
        optimizer.step()
    return before, usage_bits(quantizer, held_out)


def test_training_raises_the_entropy_of_a_nearly_collapsed_bottleneck() -> None:
    """D3: with its sign turned round, training does the opposite, for all that restarts do."""
    down, up = ([bits_before_and_after(seed, sign) for seed in range(5)] for sign in (1.0, -1.0))
    for before, after in down:
        assert before < 1.6
        assert after > 2.6, "of 3 bits"
    assert sum(after for _, after in down) > sum(after for _, after in up) + 5 * 0.3


def test_commitment_pulls_rows_towards_their_codes() -> None:
    torch.manual_seed(0)
    quantizer = Quantizer(VQConfig(num_codes=4, dim=4), width=4)
    rows = torch.randn(32, 4)
    optimizer = torch.optim.SGD(quantizer.project.parameters(), lr=0.5)
    first = quantizer(rows).commitment.item()
    for _ in range(30):
        optimizer.zero_grad()
        quantizer(rows).commitment.backward()
        optimizer.step()
    assert quantizer(rows).commitment.item() < 0.5 * first
