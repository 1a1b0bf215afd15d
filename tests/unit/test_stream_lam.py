"""Latent actions frame by frame are those of the whole clip."""

import pytest
import torch

from genie_lite.errors import UserError
from genie_lite.models.lam import LAMConfig, LatentActionModel
from genie_lite.models.stream import LatentActionStream
from genie_lite.nn.quantize import VQConfig


@pytest.fixture(params=[2, 3], ids=["window 2", "window 3"])
def lam(request: pytest.FixtureRequest) -> LatentActionModel:
    torch.manual_seed(0)
    code = VQConfig(num_codes=8, dim=4)
    config = LAMConfig(
        frame_hw=(16, 16), patch=8, width=16, depth=2, heads=2, window=request.param, code=code
    )
    return LatentActionModel(config).eval()


@pytest.mark.parametrize("every", [1, 3])
def test_pushed_frames_give_what_the_clip_gives(lam: LatentActionModel, every: int) -> None:
    frames = torch.rand(2, 12, 3, 16, 16)
    stream = LatentActionStream(lam, every=every)
    found = [stream.push(frames[:, k]) for k in range(12)]
    assert found[:every] == [None] * every
    for k in range(every, 12):
        comb = frames[:, k % every : k + 1 : every]
        wanted, got = lam.encode(comb), found[k]
        assert got is not None
        torch.testing.assert_close(got.embedding, wanted.embedding[:, -1], rtol=1e-4, atol=1e-5)
        assert torch.equal(got.index, wanted.index[:, -1])


def test_a_new_episode_knows_nothing_of_the_last(lam: LatentActionModel) -> None:
    frames = torch.rand(1, 6, 3, 16, 16)
    stream = LatentActionStream(lam)
    before = [stream.push(frames[:, k]) for k in range(6)]
    stream.reset()
    assert stream.push(frames[:, 0]) is None
    again = stream.push(frames[:, 1])
    assert again is not None
    assert before[1] is not None
    assert torch.equal(again.embedding, before[1].embedding)


def test_memory_does_not_grow(lam: LatentActionModel) -> None:
    stream = LatentActionStream(lam)
    sizes = set()
    for _ in range(3 * lam.config.window):
        stream.push(torch.rand(1, 3, 16, 16))
        ring = stream._combs[0]
        assert ring is not None
        sizes.add(sum(part.numel() for layer in ring.layers for part in layer))
    assert len(sizes) == 1


def test_a_picture_of_any_size_becomes_a_frame(lam: LatentActionModel) -> None:
    image = torch.zeros(48, 80, 3, dtype=torch.uint8)
    image[:, 16:64] = 255  # the middle square
    frame = LatentActionStream(lam).frame_of(image)
    assert frame.shape == (1, 3, 16, 16)
    assert frame.min() == 1.0
    assert torch.equal(LatentActionStream(lam).frame_of(image.numpy()), frame)  # as cameras give it


def test_what_does_not_fit_is_refused(lam: LatentActionModel) -> None:
    stream = LatentActionStream(lam)
    with pytest.raises(UserError, match="found 8x8 pixels, expected 16x16"):
        stream.push(torch.rand(1, 3, 8, 8))
    stream.push(torch.rand(2, 3, 16, 16))
    with pytest.raises(UserError, match="found 1 cameras, expected 2"):
        stream.push(torch.rand(1, 3, 16, 16))
    with pytest.raises(UserError, match=r"found torch.float32 of shape"):
        stream.frame_of(torch.rand(48, 80, 3))
    with pytest.raises(UserError, match="at least 1 frame"):
        LatentActionStream(lam, every=0)
