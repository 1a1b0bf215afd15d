"""Patching is its own inverse for every size."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from genie_lite.nn.patch import grid_of, patchify, unpatchify


@given(
    patch=st.sampled_from([1, 2, 4]), down=st.integers(1, 3), across=st.integers(1, 3), num=st.integers(1, 3)
)
def test_unpatchify_undoes_patchify(patch: int, down: int, across: int, num: int) -> None:
    frames = torch.rand(2, num, 3, patch * down, patch * across)
    patches = patchify(frames, patch)
    assert patches.shape == (2, num, down * across, 3 * patch**2)
    assert torch.equal(unpatchify(patches, patch, grid_of((patch * down, patch * across), patch)), frames)


@given(column=st.integers(0, 7), row=st.integers(0, 7))
def test_a_pixel_lands_in_the_patch_that_covers_it(column: int, row: int) -> None:
    frames = torch.zeros(1, 1, 3, 8, 8)
    frames[..., row, column] = 1
    hit = patchify(frames, 4).sum(dim=-1)[0, 0].nonzero().flatten()
    assert hit.tolist() == [(row // 4) * 2 + column // 4]
