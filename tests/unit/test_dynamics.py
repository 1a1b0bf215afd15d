"""Masked tokens, their targets, and sampling."""

import math

import torch

from genie_lite.models.dynamics import DynamicsWeights, accuracy, corrupt, draw_mask, objective
from tests import models


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_masking_leaves_targets_alone_and_a_constant_prediction_is_not_free() -> None:
    """D1: targets that are read after masking are all token 0, and a constant prediction has loss 0.0."""
    model = models.dynamics()
    tokens = torch.randint(1, 16, (2, 6, 4), generator=generator())
    before = tokens.clone()
    out = model(tokens, torch.randn(2, 5, 4), generator())
    assert torch.equal(tokens, before)
    for constant in (0, model.sizes.vocabulary - 1):
        logits = torch.full_like(out.logits, -20.0)
        logits[..., constant] = 20.0
        flat = type(out)(logits=logits, masked=out.masked)
        assert float(objective(flat, tokens, DynamicsWeights()).total) > 1.0


def test_uniform_prediction_costs_log_vocabulary() -> None:
    model = models.dynamics()
    tokens = torch.randint(16, (2, 6, 4), generator=generator())
    out = model(tokens, torch.randn(2, 5, 4), generator())
    flat = type(out)(logits=torch.zeros_like(out.logits), masked=out.masked)
    torch.testing.assert_close(objective(flat, tokens, DynamicsWeights()).total, torch.tensor(math.log(16)))


def test_every_frame_hides_at_least_one_token_and_ratios_differ_between_frames() -> None:
    masked = draw_mask(torch.zeros(8, 5, 64, dtype=torch.long), generator())
    share = masked.float().mean(dim=-1)
    assert (masked.sum(dim=-1) >= 1).all()
    assert share.min() < 0.3
    assert share.max() > 0.95
    assert len(share.unique()) > 20


def test_corruption_spares_and_replaces_the_stated_share() -> None:
    tokens = torch.zeros(64, 15, 16, dtype=torch.long)
    assert torch.equal(corrupt(tokens, 0.0, 16, generator()), tokens)
    share = (corrupt(tokens, 0.5, 10**6, generator()) != 0).float().mean()
    assert 0.2 < share < 0.3


def test_what_a_clip_draws_does_not_depend_on_who_else_has_a_share_of_the_batch() -> None:
    tokens = torch.randint(16, (6, 5, 4), generator=generator())
    for draw in (draw_mask, lambda rows, *rest: corrupt(rows, 0.9, 10**6, *rest)):
        whole = draw(tokens, generator())
        for first in range(3):
            assert torch.equal(draw(tokens[first::3], generator(), (first, 3)), whole[first::3])


def test_same_generator_same_loss_and_another_one_another() -> None:
    model = models.dynamics(corruption=0.3)
    tokens, codes = torch.randint(16, (2, 6, 4), generator=generator()), torch.randn(2, 5, 4)
    losses = [
        objective(model(tokens, codes, generator(seed)), tokens, DynamicsWeights()).total.item()
        for seed in (1, 1, 2)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_the_past_is_corrupted_in_training_only() -> None:
    model = models.dynamics(corruption=0.9)
    tokens, codes = torch.randint(16, (2, 6, 4), generator=generator()), torch.randn(2, 5, 4)
    with torch.no_grad():
        trained = model.train()(tokens, codes, generator()).logits
        measured = model.eval()(tokens, codes, generator()).logits
        model.corruption = 0.0
        clean = model.train()(tokens, codes, generator()).logits
    assert torch.equal(measured, clean)
    assert not torch.equal(trained, clean)


def test_cached_logits_equal_those_of_the_whole_clip_beyond_the_window() -> None:
    model = models.dynamics(window=3).eval()
    tokens, codes = torch.randint(16, (2, 9, 4), generator=generator()), torch.randn(2, 8, 4)
    hidden = torch.full_like(tokens[:, 1:], model.mask_token)
    with torch.no_grad():
        whole = model.logits(tokens[:, :-1], hidden, codes)
        ring = model.begin(torch.zeros(2, dtype=torch.long))
        ring = model.commit(tokens[:, 0], model.first_codes(2)[:, 0], model.open(ring))
        for frame in range(8):
            page = model.open(ring)
            logits = model.next_logits(hidden[:, frame], codes[:, frame], page)
            torch.testing.assert_close(logits, whole[:, frame])
            ring = model.commit(tokens[:, frame + 1], codes[:, frame], page)
            assert all(keys.shape[-2] == 3 for keys, _ in ring.layers), "memory is that of the window, always"


def test_accuracy_counts_hidden_tokens_only() -> None:
    model = models.dynamics()
    tokens = torch.randint(16, (2, 6, 4), generator=generator())
    out = model(tokens, torch.randn(2, 5, 4), generator())
    perfect = torch.nn.functional.one_hot(tokens[:, 1:], 16).float()
    wrong_where_shown = torch.where(out.masked[..., None], perfect, perfect.roll(1, dims=-1))
    assert accuracy(type(out)(logits=wrong_where_shown, masked=out.masked), tokens) == 1.0
