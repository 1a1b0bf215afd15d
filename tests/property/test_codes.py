"""Tokens and the one number that they make up."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from genie_lite.nn.bottleneck.choice import compose, digits


@given(st.data(), st.integers(2, 40), st.integers(1, 4))
def test_tokens_make_up_a_number_that_falls_apart_into_them(data: st.DataObject, base: int, num: int) -> None:
    token = st.integers(0, base - 1)
    tokens = torch.tensor(data.draw(st.lists(st.tuples(*[token] * num), min_size=1, max_size=20)))
    index = compose(tokens, base)
    assert index.min() >= 0
    assert index.max() < base**num
    assert torch.equal(digits(index, base, num), tokens)


@given(st.integers(2, 12), st.integers(1, 3))
def test_every_number_has_its_own_tokens_in_order(base: int, num: int) -> None:
    every = torch.arange(base**num)
    tokens = digits(every, base, num)
    assert torch.equal(compose(tokens, base), every)
    assert tokens.unique(dim=0).shape == tokens.shape
    assert torch.equal(tokens.unique(dim=0), tokens), "the first token counts most"
