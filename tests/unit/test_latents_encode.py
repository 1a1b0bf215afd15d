"""Encoding a shot: rows are aligned with frames, whatever the window and however the shot is cut."""

import numpy as np
import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st

from genie_lite.errors import UserError
from genie_lite.latents.encode import Measured, encode_frames, encode_shot, pieces, reach
from genie_lite.latents.window import horizon_of
from genie_lite.metrics import psnr_db
from genie_lite.models.lam import LatentActionModel
from tests import models

LAM = models.lam().eval()
SHOT = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)


def encoded(num: int, horizon: int, max_frames: int | None = None) -> Measured:
    return encode_shot(LAM, num, lambda start, stop: SHOT[start:stop], horizon, max_frames)


def frames_at(indices: list[int]) -> torch.Tensor:
    return rearrange(torch.from_numpy(SHOT[indices]), "t h w c -> 1 t c h w").float() / 255


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 24), st.integers(1, 7), st.data())
def test_row_k_is_what_frames_up_to_k_and_k_plus_n_give(num: int, horizon: int, data: st.DataObject) -> None:
    rows = encoded(num, horizon)
    assert len(rows.code) == len(rows.embedding) == len(rows.recon_psnr_db) == max(0, num - horizon)
    if num <= horizon:
        return
    row = data.draw(st.integers(0, num - horizon - 1))
    clip = frames_at([*range(row % horizon, row + 1, horizon), row + horizon])
    with torch.no_grad():
        result = LAM(clip)
    assert rows.code[row] == result.code.index[0, -1]
    assert rows.tokens[row].tolist() == result.code.tokens[0, -1].tolist()
    np.testing.assert_allclose(rows.embedding[row], result.code.embedding[0, -1], atol=1e-4)
    copied, made = psnr_db(clip[0, -2], clip[0, -1]), psnr_db(result.prediction[0, -1], clip[0, -1])
    assert rows.copy_psnr_db[row] == pytest.approx(float(copied), abs=1e-3)
    assert rows.recon_psnr_db[row] == pytest.approx(float(made), abs=1e-3)


@pytest.mark.parametrize("horizon", [1, 2, 5])
def test_a_long_shot_in_pieces_gives_the_same_rows(horizon: int) -> None:
    reads: list[tuple[int, int]] = []

    def read(start: int, stop: int) -> np.ndarray:
        reads.append((start, stop))
        return SHOT[start:stop]

    lam = LatentActionModel(LAM.config.model_copy(update={"depth": 1, "past_window": 1})).eval()
    whole = encode_shot(lam, 40, lambda start, stop: SHOT[start:stop], horizon)
    pieced = encode_shot(lam, 40, read, horizon, max_frames=4)
    assert len(reads) > 1 or horizon == 5
    assert pieced.code.tolist() == whole.code.tolist()
    for name in ("embedding", "recon_psnr_db", "copy_psnr_db"):
        np.testing.assert_allclose(getattr(pieced, name), getattr(whole, name), atol=1e-4)


def test_combs_are_encoded_a_few_at_a_time() -> None:
    together = encode_frames(LAM, SHOT[:23], horizon=6, max_frames=100)
    for max_frames in (1, 9):
        apart = encode_frames(LAM, SHOT[:23], horizon=6, max_frames=max_frames)
        assert apart.code.tolist() == together.code.tolist()
        np.testing.assert_allclose(apart.embedding, together.embedding, atol=1e-4)


def test_no_more_is_encoded_at_once_than_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    forward = LatentActionModel.forward

    def spy(self: LatentActionModel, frames: torch.Tensor) -> object:
        sizes.append(frames.shape[0] * frames.shape[1])
        return forward(self, frames)

    monkeypatch.setattr(LatentActionModel, "forward", spy)
    encode_frames(LAM, SHOT, horizon=10, max_frames=12)
    assert sizes == [12, 12, 12, 4], "combs of 4 frames, 3 at a time"


def test_a_shot_without_a_transition_has_no_row_but_all_columns() -> None:
    none = encoded(3, horizon=3)
    assert none.tokens.shape == (0, 1)
    assert none.embedding.shape == (0, 4)


def test_the_overlap_is_as_long_as_it_must_be() -> None:
    """With one block's reach less, the pieces would see too little of the past."""
    assert reach(LAM) == 2 * (2 + 2)


@settings(max_examples=100)
@given(st.integers(1, 60), st.integers(2, 20), st.integers(0, 8), st.integers(1, 9))
def test_pieces_give_every_transition_once(
    num_frames: int, max_frames: int, overlap: int, horizon: int
) -> None:
    given_out: list[int] = []
    for start, stop, skip in pieces(num_frames, max_frames, overlap, horizon):
        assert 0 <= start < stop <= num_frames
        assert stop - start <= max(max_frames, overlap + horizon + 1)
        transitions = list(range(start, stop - horizon))
        assert transitions[0] == 0 or skip >= overlap
        given_out += transitions[skip:]
    assert given_out == list(range(num_frames - horizon))


# --- window ----------------------------------------------------------------------------------------------------


def test_a_window_is_the_nearest_whole_number_of_frames() -> None:
    assert horizon_of(LAM, 30.0, 0.1).frames == 3
    assert horizon_of(LAM, 30.0, 0.1, "frame").seconds == pytest.approx(0.1)
    assert horizon_of(LAM, 10.0).frames == 1, "one frame, where the model says nothing else"
    assert horizon_of(LAM, 10.0, 0.65).frames == 7, "half a frame is rounded up, always"


def test_a_window_far_from_what_was_asked_is_told() -> None:
    with pytest.warns(
        UserWarning, match=r"window of 0\.1 s: the nearest at 24 frames per second is 2 frames, 0\.0833 s"
    ):
        assert horizon_of(LAM, 24.0, 0.1).frames == 2


def test_a_models_own_window_is_the_middle_of_its_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    lam = models.lam()
    monkeypatch.setattr(lam, "config", lam.config.model_copy(update={"pair_s": (0.1, 0.5)}))
    assert horizon_of(lam, 10.0).frames == 3
    assert horizon_of(lam, 10.0, every="frame").frames == 3
    assert horizon_of(lam, 10.0, window_s=0.1).frames == 1


@pytest.mark.parametrize(
    ("window_s", "said"),
    [
        (0.0, "found 0, expected seconds above 0"),
        (float("nan"), "found nan, expected"),
        (0.02, "0.02 s is less than half a frame at 10 frames per second; expected at least 0.05"),
    ],
)
def test_a_window_that_is_none_is_refused(window_s: float, said: str) -> None:
    with pytest.raises(UserError, match=f"window_s: {said}"):
        horizon_of(LAM, 10.0, window_s)


def test_at_the_videos_own_rate_the_window_must_be_known() -> None:
    with pytest.raises(UserError, match=r"window_s: .*does not say how far apart"):
        horizon_of(LAM, 30.0, every="frame")
