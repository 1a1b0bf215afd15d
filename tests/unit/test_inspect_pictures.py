"""Pictures of what codes do: they begin where they say, tell codes apart, and carry one clip's actions to another."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from genie_lite.data.loading.clip import Clip, to_pixels
from genie_lite.data.loading.loader import validation_clips
from genie_lite.errors import UserError
from genie_lite.evals.drive import drive
from genie_lite.inspect.pictures import MOST_CODES, MOST_PX, Pictures, paint
from genie_lite.models.lam import LAMConfig, LatentActionModel
from genie_lite.nn.quantize import FSQConfig
from tests import models
from tests.latent_oracles import STEPS, Blind, Oracle, places, toy_shards


def clips(num: int = 6, frames: int = 6) -> list[Clip]:
    """One window of each of some episodes, later ones with more motion."""
    windows = []
    for seed in range(num):
        noise = models.frames(batch=1, num=frames, seed=seed) - 0.5
        share = (seed + 1) / num
        pixels = 0.5 + noise[:, :1] * (1 - share) + noise * share
        windows.append(Clip(pixels, [f"{seed}.mp4"], [0], [f"{seed}"], [list(range(10, 10 + frames))]))
    return windows


def decode(pictures: Pictures, name: str, num: int) -> np.ndarray:
    """A sheet's frames, `t h w c`."""
    image = np.asarray(Image.open(io.BytesIO(pictures.files[name])))
    return rearrange(image, "h (t w) c -> t h w c", t=num)


@pytest.fixture(scope="module")
def lam() -> LatentActionModel:
    return models.lam(window=2).eval()


@pytest.fixture(scope="module")
def painted(lam: LatentActionModel) -> Pictures:
    """Lossless, so that every frame can be compared with what the model says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("genie_lite.inspect.pictures.QUALITY", None)
        return paint(lam, clips(), rate_hz=10.0)


def test_every_cell_of_the_grid_is_there(painted: Pictures, lam: LatentActionModel) -> None:
    listing = painted.listing
    assert listing["codes"] == list(range(lam.num_codes))
    assert sum(listing["share"]) == pytest.approx(1.0)
    assert len(listing["starts"]) == 4
    for start in listing["starts"]:
        assert len(start["cells"]) == lam.num_codes
        for cell in start["cells"]:
            assert decode(painted, cell["film"], listing["frames"]).shape == (6, 16, 16, 3)
            assert decode(painted, cell["change"], listing["frames"]).shape == (6, 16, 16, 4)


def test_a_film_begins_at_its_start_and_ends_where_the_decoder_leads(
    painted: Pictures, lam: LatentActionModel
) -> None:
    listing = painted.listing
    start = listing["starts"][0]
    window = next(clip for clip in clips() if clip.source[0] == start["source"])
    given = listing["given"]
    assert start["frame_index"] == 10 + given - 1
    film = decode(painted, start["cells"][2]["film"], listing["frames"])
    held = lam.code_vectors()[2].expand(1, 5, -1)
    with torch.inference_mode():
        foretold = drive(lam, window.frames[:, :given], held)
    assert np.array_equal(film[0], to_pixels(window.frames[0, given - 1]))
    assert np.array_equal(film[1:], to_pixels(foretold[0]))


def test_what_all_codes_do_alike_is_no_difference(lam: LatentActionModel) -> None:
    deaf = models.lam(window=2).eval()
    deaf.decode = lambda past, vector: past * 0.5  # type: ignore[method-assign]
    pictures = paint(deaf, clips(), rate_hz=10.0)
    assert pictures.listing["is_same"]
    assert pictures.listing["strongest_change"] == 0
    for start in pictures.listing["starts"]:
        for cell in start["cells"]:
            assert not decode(pictures, cell["change"], 6).any()


def test_a_difference_has_the_colour_of_its_sign() -> None:
    lam = models.lam(window=2).eval()
    bright = lam.code_vectors()[3]

    def decode_by_code(past: Tensor, vector: Tensor) -> Tensor:
        is_bright = (vector - bright).abs().sum(dim=-1) < 1e-5
        return 0.25 + 0.5 * is_bright[..., None, None, None].float() + 0 * past

    lam.decode = decode_by_code  # type: ignore[method-assign]
    pictures = paint(lam, clips(), rate_hz=10.0)
    cells = pictures.listing["starts"][0]["cells"]
    assert not pictures.listing["is_same"]
    lighter, darker = (decode(pictures, cells[code]["change"], 6)[-1, 0, 0] for code in (3, 0))
    assert lighter[0] > lighter[2]  # orange
    assert darker[2] > darker[0]  # blue
    assert lighter[3] > darker[3] > 0  # the mean lies nearer to the three that are dark


def test_a_large_alphabet_shows_its_most_frequent_codes() -> None:
    torch.manual_seed(0)
    code = FSQConfig(levels=(8, 5, 5))
    model = LatentActionModel(
        LAMConfig(frame_hw=models.FRAME_HW, patch=8, width=16, depth=1, heads=2, code=code)
    ).eval()
    windows = clips(num=16)
    pictures = paint(model, windows, rate_hz=10.0, num_starts=1, num_transfers=0)
    with torch.inference_mode():
        index = torch.cat([model.encode(clip.frames).index.flatten() for clip in windows])
    count = torch.bincount(index, minlength=model.num_codes)
    shown = pictures.listing["codes"]
    assert len(shown) == min(MOST_CODES, int((count > 0).sum()))
    assert min(count[shown]) >= max(np.delete(count.numpy(), shown))
    assert pictures.listing["transfers"] == []


def test_a_transfer_plays_the_codes_of_one_clip_from_the_start_of_another(
    painted: Pictures, lam: LatentActionModel
) -> None:
    by_source = {clip.source[0]: clip for clip in clips()}
    for transfer in painted.listing["transfers"]:
        a, b = by_source[transfer["a"]], by_source[transfer["b"]]
        assert transfer["a"] != transfer["b"]
        num, given = transfer["frames"], painted.listing["given"]
        with torch.inference_mode():
            code = lam.encode(a.frames)
            steps = slice(given - 1, given - 2 + num)
            driven = drive(lam, b.frames[:, :given], code.vector[:, steps])
            foretold = drive(lam, a.frames[:, :given], code.vector[:, steps])
        for key, frames in (
            ("a", a.frames[:, given:]),
            ("a_foretold", foretold),
            ("b_driven", driven),
            ("b", b.frames[:, given:]),
        ):
            film = decode(painted, transfer["films"][key], num)
            assert np.array_equal(film[1:], to_pixels(frames[0, : num - 1])), key
        assert transfer["codes"] == code.index[0, steps].tolist()


def test_one_episode_can_be_shown_but_nothing_carried_over(lam: LatentActionModel) -> None:
    pictures = paint(lam, clips(num=1), rate_hz=10.0)
    assert len(pictures.listing["starts"]) == 1
    assert pictures.listing["transfers"] == []


def test_starts_are_of_different_episodes_and_of_the_livelier_half(lam: LatentActionModel) -> None:
    pictures = paint(lam, clips(num=12), rate_hz=10.0, num_starts=3, num_transfers=1)
    sources = [start["source"] for start in pictures.listing["starts"]]
    assert len(set(sources)) == 3
    assert {int(source.removesuffix(".mp4")) for source in sources} <= set(range(6, 12))
    again = paint(lam, clips(num=12), rate_hz=10.0, num_starts=3, num_transfers=1)
    assert again == pictures
    other = paint(lam, clips(num=12), rate_hz=10.0, num_starts=3, num_transfers=1, seed=1)
    assert [start["source"] for start in other.listing["starts"]] != sources


def test_large_frames_are_shrunk_and_keep_their_shape() -> None:
    torch.manual_seed(0)
    model = LatentActionModel(LAMConfig(frame_hw=(96, 192), patch=48, width=8, depth=1, heads=2)).eval()
    wide = [
        replace(clip, frames=torch.nn.functional.interpolate(clip.frames[0], (96, 192))[None])
        for clip in clips(num=2)
    ]
    pictures = paint(model, wide, rate_hz=10.0, num_starts=1, num_transfers=1)
    assert pictures.listing["frame_hw"] == [MOST_PX // 2, MOST_PX]
    film = pictures.listing["starts"][0]["cells"][0]["film"]
    assert decode(pictures, film, pictures.listing["frames"]).shape[1:3] == (MOST_PX // 2, MOST_PX)


def test_clips_without_a_future_are_refused(lam: LatentActionModel) -> None:
    short = clips(frames=lam.config.past_window)
    with pytest.raises(UserError, match="no held-out clip of more than 2 frames"):
        paint(lam, short, rate_hz=10.0)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    """Held-out play of the toy world."""
    shards, _ = toy_shards(tmp_path_factory.mktemp("toy") / "shards", num_train=1, num_test=8)
    return validation_clips(shards, "test", 8, 8)


def steered(lam: Oracle) -> Oracle:
    """The oracle's own moves wherever a code becomes a vector."""
    lam.quantizer.vector_of = lambda index: STEPS[index]  # type: ignore[method-assign]
    return lam


def walked(pictures: Pictures, name: str, num: int) -> np.ndarray:
    """By how many rows and columns the player moved in each frame of a film, (frames - 1, 2)."""
    frames = torch.from_numpy(decode(pictures, name, num)[..., :3].astype(np.float32) / 255)
    return np.diff(places(rearrange(frames, "t h w c -> t c h w")).numpy(), axis=0)


def test_each_code_of_a_model_that_obeys_them_moves_the_player_its_way(toy: list[Clip]) -> None:
    pictures = paint(steered(Oracle()), toy, rate_hz=10.0)
    assert not pictures.listing["is_same"]
    moved = set()
    for start in pictures.listing["starts"]:
        for code, cell in enumerate(start["cells"]):
            for walk in walked(pictures, cell["film"], pictures.listing["frames"]):
                assert np.array_equal(walk, STEPS[code].numpy()) or not walk.any()  # or into a wall
                moved |= {code} if walk.any() else set()
    assert len(moved) == 4  # all but standing still


def test_the_player_of_one_clip_walks_as_that_of_another_did(toy: list[Clip]) -> None:
    pictures = paint(steered(Oracle()), toy, rate_hz=10.0)
    num_moves = 0
    for transfer in pictures.listing["transfers"]:
        num = transfer["frames"]
        ours, driven = (walked(pictures, transfer["films"][key], num) for key in ("a", "b_driven"))
        assert np.array_equal(ours, walked(pictures, transfer["films"]["a_foretold"], num))
        for ask, walk in zip(ours, driven, strict=True):
            assert np.array_equal(ask, walk) or not walk.any()  # or into a wall
            num_moves += bool(walk.any())
    assert num_moves > 5


def test_a_blind_models_codes_do_not_differ(toy: list[Clip]) -> None:
    assert paint(steered(Blind()), toy, rate_hz=10.0).listing["is_same"]


def test_films_are_small_and_differences_exact(painted: Pictures, lam: LatentActionModel) -> None:
    pictures = paint(lam, clips(), rate_hz=10.0)
    assert pictures.listing == painted.listing
    for name, data in pictures.files.items():
        if name.startswith("cell"):
            assert len(data) < len(painted.files[name])
        if name.startswith("change"):
            assert data == painted.files[name]


def test_every_file_that_is_listed_is_written(painted: Pictures, tmp_path: Path) -> None:
    painted.write(tmp_path)
    listed = {painted.listing["together"]}
    for start in painted.listing["starts"]:
        listed |= {start["still"]} | {name for cell in start["cells"] for name in cell.values()}
    for transfer in painted.listing["transfers"]:
        listed |= set(transfer["films"].values())
    assert {path.name for path in tmp_path.iterdir()} == listed == painted.files.keys()
