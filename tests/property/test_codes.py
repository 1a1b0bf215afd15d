"""Tokens and the one number that they make up."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from genie_lite.nn.bottleneck.choice import compose, digits

SIZES = st.one_of(
    st.lists(st.integers(2, 40), min_size=1, max_size=4),
    st.sampled_from(
        [[64] * 8, [128] * 8, [128] * 9, [2] * 63]
    ),  # LAPO's, Moto's, and as many as there may be
)


@given(st.data(), SIZES)
def test_tokens_make_up_a_number_that_falls_apart_into_them(data: st.DataObject, sizes: list[int]) -> None:
    row = st.tuples(*[st.integers(0, size - 1) for size in sizes])
    last = tuple(size - 1 for size in sizes)
    tokens = torch.tensor([*data.draw(st.lists(row, min_size=1, max_size=20)), last])
    index = compose(tokens, sizes)
    assert index.min() >= 0
    assert int(index[-1]) == math.prod(sizes) - 1 == int(index.max())
    assert torch.equal(digits(index, sizes), tokens)


@given(st.lists(st.integers(2, 7), min_size=1, max_size=4))
def test_every_number_has_its_own_tokens_in_order(sizes: list[int]) -> None:
    every = torch.arange(math.prod(sizes))
    tokens = digits(every, sizes)
    assert torch.equal(compose(tokens, sizes), every)
    assert tokens.unique(dim=0).shape == tokens.shape
    assert torch.equal(tokens.unique(dim=0), tokens), "the first token counts most"
