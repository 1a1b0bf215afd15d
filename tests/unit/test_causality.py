"""Nothing may see the future: teacher-forced losses look fine with a leak, and play rots."""

from itertools import product

import pytest
import torch
from torch import Tensor

from genie_lite.nn.attention import Attention, _attend, _fused
from genie_lite.nn.transformer import PIECE_FRAMES, Read, STTransformer, reads
from tests import models

INJECTS = ["token", "add", "film"]


def dependency(output: Tensor, source: Tensor) -> Tensor:
    """Matrix `t_out t_in`: does frame t_out of `output` depend on frame t_in of `source`?"""
    rows = []
    for frame in range(output.shape[1]):
        (grad,) = torch.autograd.grad(output[:, frame].float().square().sum(), source, retain_graph=True)
        rows.append(grad.flatten(2).abs().sum(dim=(0, 2)) > 0)
    return torch.stack(rows)


def band(num_out: int, num_in: int, first: int, last: int) -> Tensor:
    """Frame i depends on frames i + first … i + last and on no other."""
    distance = torch.arange(num_in)[None] - torch.arange(num_out)[:, None]
    return (distance >= first) & (distance <= last)


def test_transformer_is_causal_and_sees_its_window_through_every_layer() -> None:
    """D4: without a causal mask in time, losses are fine and rollouts break."""
    torch.manual_seed(0)
    transformer = STTransformer(width=8, depth=2, heads=2, window=2)
    rows = torch.randn(1, 6, 3, 8, requires_grad=True)
    assert torch.equal(dependency(transformer(rows), rows), band(6, 6, -2, 0))


def test_a_long_clip_is_mixed_as_a_whole_would_be() -> None:
    torch.manual_seed(0)
    transformer = STTransformer(width=8, depth=2, heads=2, window=3).eval()
    rows = torch.randn(1, 2 * PIECE_FRAMES + 5, 2, 8)
    time = torch.arange(rows.shape[1])
    whole, _ = transformer.run(rows, time, reads(time, time, window=3))
    torch.testing.assert_close(transformer(rows), whole)


@pytest.mark.parametrize("window", [1, 2, 3])
def test_rows_and_frames_that_nobody_reads_change_nothing_by_being_left_out(window: int) -> None:
    torch.manual_seed(0)
    transformer = STTransformer(width=8, depth=2, heads=2, window=window).eval()
    rows = torch.randn(2, PIECE_FRAMES + 3, 4, 8)
    torch.testing.assert_close(transformer(rows, read=slice(2)), transformer(rows)[:, :, :2])
    time = torch.arange(rows.shape[1])
    some, _ = transformer.run(rows, time, reads(time, time, window), read=Read(frames=slice(3, 7)))
    torch.testing.assert_close(some, transformer(rows)[:, 3:7])


@pytest.mark.parametrize("window", [1, 2, 3])
def test_frame_by_frame_gives_what_the_clip_gives_at_any_age(window: int) -> None:
    torch.manual_seed(0)
    transformer = STTransformer(width=8, depth=2, heads=2, window=window).eval()
    rows = torch.randn(2, 9, 4, 8)
    ring, mixed = transformer.begin(torch.tensor([0, 10**6])), []
    for frame in rows.unbind(dim=1):
        page = transformer.open(ring)
        transformer.next(torch.randn_like(frame), page)  # written over
        mixed.append(transformer.next(frame, page))
        ring = page.close()
    torch.testing.assert_close(torch.stack(mixed, dim=1), transformer(rows))
    assert ring.age.tolist() == [9, 10**6 + 9]


def test_an_opened_page_leaves_the_ring_as_it_was() -> None:
    torch.manual_seed(0)
    transformer = STTransformer(width=8, depth=1, heads=2, window=2).eval()
    page = transformer.open(transformer.begin(torch.tensor([0])))
    transformer.next(torch.randn(1, 4, 8), page)
    ring = page.close()
    before = [each.clone() for layer in ring.layers for each in layer]
    transformer.next(torch.randn(1, 4, 8), transformer.open(ring))
    assert all(map(torch.equal, before, [each for layer in ring.layers for each in layer]))


def test_a_window_of_one_frame_keeps_frames_apart_and_has_nothing_to_remember() -> None:
    torch.manual_seed(0)
    transformer = STTransformer(width=8, depth=2, heads=2, window=1)
    rows = torch.randn(1, 4, 3, 8, requires_grad=True)
    mixed = transformer(rows)
    assert torch.equal(dependency(mixed, rows), torch.eye(4, dtype=torch.bool))
    mixed.sum().backward()
    assert all(weight.grad is not None for weight in transformer.parameters()), "DDP waits for every weight"
    page = transformer.open(transformer.begin(torch.tensor([0])))
    transformer.next(rows[:, 0].detach(), page)
    assert not page.close().layers


def test_attention_equals_a_naive_loop() -> None:
    """D6: a wrong reshape after attention scrambles time, space and heads, and every block sees everything."""
    torch.manual_seed(0)
    attention = Attention(width=8, heads=2)
    rows = torch.randn(2, 3, 5, 8)  # two axes of batch, as a clip's patches have
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    query, key, value = (
        part.unflatten(-1, (2, 4)).movedim(-2, -3) for part in attention.to_qkv(rows).chunk(3, dim=-1)
    )
    query, key = attention.norm_q(query), attention.norm_k(key)
    expected = torch.zeros(2, 3, 5, 8)
    for clip, frame, head, row in product(range(2), range(3), range(2), range(5)):
        place = (clip, frame, head)
        scores = torch.stack([query[place][row] @ key[place][col] / 2 for col in range(row + 1)])
        mixed = (scores.softmax(0)[:, None] * value[place][: row + 1]).sum(0)
        expected[clip, frame, row, 4 * head : 4 * head + 4] = mixed
    torch.testing.assert_close(attention(rows, mask)[0], attention.to_out(expected))


@pytest.mark.parametrize("lead", [(2,), (2, 3)])
def test_the_fused_kernel_gives_the_same(lead: tuple[int, ...]) -> None:
    """On a GPU; it takes one axis of batch, and a page's mask belongs to streams."""
    query, key, value = (torch.randn(*lead, 4, num, 8) for num in (1, 5, 5))
    mask = torch.tensor([[True, False, True, True, False], [False, True, True, False, True]])
    masks = [None, mask[:1]] if len(lead) == 1 else [None, mask[:, None, None, None, :]]
    for each in masks:
        torch.testing.assert_close(_fused(query, key, value, each), _attend(query, key, value, each))


def test_lam_code_sees_no_frame_after_the_one_it_leads_to() -> None:
    model, frames = models.lam().eval(), models.frames().requires_grad_()
    assert torch.equal(dependency(model.encode(frames).embedding, frames), band(4, 5, -3, 1))


@pytest.mark.parametrize("inject", INJECTS)
def test_lam_prediction_sees_the_target_frame_only_through_the_code(inject: str) -> None:
    """D2, D5: what the decoder is given of a transition is the code that leads to its end."""
    model, frames = models.lam(inject=inject), models.frames().requires_grad_()  # pyright: ignore[reportArgumentType]
    vector = model.encode(frames).vector.detach().requires_grad_()
    prediction = model.decode(frames[:, :-1], vector)
    assert torch.equal(dependency(prediction, frames), band(4, 5, -4, 0))
    assert torch.equal(dependency(prediction, vector), band(4, 4, -4, 0))


def test_tokens_of_a_frame_do_not_change_with_later_frames() -> None:
    model, frames = models.tokenizer().eval(), models.frames()
    whole = model.encode(frames).index
    for num in (1, 2, 4):
        assert torch.equal(model.encode(frames[:, :num]).index, whole[:, :num])


def test_decoded_frames_do_not_depend_on_later_tokens() -> None:
    model = models.tokenizer().eval()
    vector = torch.randn(1, 5, 4, 4, requires_grad=True)
    assert torch.equal(dependency(model.decode(vector), vector), band(5, 5, -4, 0))


@pytest.mark.parametrize("inject", INJECTS)
def test_logits_depend_on_the_code_that_leads_to_the_frame_and_on_no_later_one(inject: str) -> None:
    """D5: row t of the logits is frame t + 1, reached by code t; a later code has seen what is predicted."""
    model = models.dynamics(inject=inject)  # pyright: ignore[reportArgumentType]
    tokens = torch.randint(16, (2, 6, 4))
    codes = torch.randn(2, 5, 4, requires_grad=True)
    hidden = torch.full_like(tokens[:, 1:], model.mask_token)
    reach = dependency(model.logits(tokens[:, :-1], hidden, codes), codes)
    assert reach.diagonal().all()
    assert not reach.triu(1).any()


def test_logits_never_read_the_frame_they_predict() -> None:
    model = models.dynamics()
    tokens, codes = torch.randint(16, (2, 6, 4)), torch.randn(2, 5, 4)
    hidden = torch.full_like(tokens[:, 1:], model.mask_token)
    before = model.logits(tokens[:, :-1], hidden, codes)
    for frame in range(1, 5):
        changed = tokens.clone()
        changed[:, frame] = (changed[:, frame] + 1) % 16
        after = model.logits(changed[:, :-1], hidden, codes)
        assert torch.equal(after[:, :frame], before[:, :frame])
        assert not torch.equal(after[:, frame:], before[:, frame:])
