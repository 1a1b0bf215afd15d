"""Each measurement on a made-up model whose answer is known in closed form."""

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from genie_lite.inspect.align import measure_alignment
from genie_lite.inspect.clips import tell
from genie_lite.inspect.config import Thresholds
from genie_lite.inspect.control import measure_decoder
from genie_lite.inspect.held_out import FRAMES, HeldOut
from genie_lite.inspect.judge import judge
from genie_lite.inspect.leak import measure_leak
from genie_lite.inspect.measure import mean_of
from genie_lite.inspect.motion import main_motion, share_moving
from genie_lite.inspect.projection import principal_components, project, scatter
from genie_lite.inspect.readers import read_network
from genie_lite.inspect.scores import Scores
from genie_lite.inspect.spoken import Spoken, follower, listen, shots
from genie_lite.inspect.structure import measure_effect, measure_sums
from genie_lite.inspect.use import Alphabet, measure_footage, measure_use
from genie_lite.models.lam import LatentActionModel
from genie_lite.types import Quantized
from tests import models
from tests.footage import footage
from tests.latent_oracles import quantized

BRIGHTER = torch.tensor([[-0.1], [0.0], [0.1], [0.2]])


class Brightness(LatentActionModel):
    """Frames are flat; a code says how much brighter the next one is. `gain`: how much of that the decoder obeys."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__(models.lam().config)
        self.gain = gain
        self.quantizer.vector_of = lambda index: BRIGHTER[index]
        self.eval()

    def encode(self, frames: Float[Tensor, "b t c h w"]) -> Quantized:
        level = frames.mean(dim=(2, 3, 4))
        change = (level[:, 1:] - level[:, :-1])[..., None]
        return quantized((change - BRIGHTER[:, 0]).abs().argmin(dim=-1), change, change)

    def decode(
        self, past: Float[Tensor, "b k c h w"], vector: Float[Tensor, "b k e"]
    ) -> Float[Tensor, "b k c h w"]:
        return past + self.gain * vector[..., None, None]


class Copying(Brightness):
    """The code is the next frame."""

    def encode(self, frames: Float[Tensor, "b t c h w"]) -> Quantized:
        level = frames[:, 1:].mean(dim=(2, 3, 4))[..., None]
        return quantized(torch.zeros(level.shape[:2], dtype=torch.long), level, level)

    def decode(
        self, past: Float[Tensor, "b k c h w"], vector: Float[Tensor, "b k e"]
    ) -> Float[Tensor, "b k c h w"]:
        return torch.zeros_like(past) + vector[..., None, None]


def flat(levels: np.ndarray, num_sources: int = 8) -> HeldOut:
    """Clips of flat frames with given brightness, (clips, frames)."""
    frames = torch.from_numpy(levels).float()[:, :, None, None, None].expand(-1, -1, 3, *models.FRAME_HW)
    return HeldOut(frames.contiguous(), np.array([f"{k % num_sources}.mp4" for k in range(len(levels))]))


@pytest.fixture
def held_out() -> HeldOut:
    """Brightness that goes up or down by a tenth, at random."""
    random = np.random.default_rng(0)
    steps = 0.1 * random.choice([-1, 1, 2], (64, FRAMES - 1))
    return flat(0.5 + np.cumsum(np.concatenate([np.zeros((64, 1)), steps], axis=1), axis=1).clip(-0.4, 0.4))


def test_the_partner_of_a_splice_is_of_another_source(held_out: HeldOut) -> None:
    partner = held_out.elsewhere()
    assert (held_out.source[partner] != held_out.source).all()
    assert sorted(partner.tolist()) == list(range(64))


def test_gaps_are_decibels_of_the_error_that_is_left(held_out: HeldOut) -> None:
    """A decoder that obeys nine tenths leaves a tenth of the change: 20 dB under a copy."""
    nearly, deaf = (tell(Brightness(gain), held_out, 16) for gain in (0.9, 0.0))
    found = dict(measure_decoder(nearly.lam, nearly, deaf, draws=2, seed=0))
    assert mean_of(found["copy_gap"].value) == pytest.approx(20, abs=0.1)
    assert mean_of(found["copy_gap"].baselines["random_lam"]) == pytest.approx(0, abs=1e-6)
    assert mean_of(found["code_gap"].value) > 15
    assert mean_of(found["one_step"].value) > 15
    without = dict(measure_decoder(deaf.lam, deaf, deaf, draws=2, seed=0))
    assert mean_of(without["code_gap"].value) == mean_of(without["one_step"].value) == 0


def test_rows_and_frames_have_to_be_the_same(held_out: HeldOut) -> None:
    found = dict(measure_alignment(tell(Brightness(), held_out, 16)))
    assert mean_of(found["row"].value) > 20
    assert mean_of(found["frame"].value) > 20
    assert not found["row"].fact


def test_a_model_that_foretells_one_frame_too_far_is_named(held_out: HeldOut) -> None:
    class Far(Brightness):
        def encode(self, frames: Float[Tensor, "b t c h w"]) -> Quantized:
            level = frames.mean(dim=(2, 3, 4))
            change = torch.cat([level[:, 2:] - level[:, :-2], torch.zeros(len(level), 1)], dim=1)[..., None]
            return quantized(torch.zeros(change.shape[:2], dtype=torch.long), change, change)

    found = dict(measure_alignment(tell(Far(), held_out, 16)))
    assert mean_of(found["frame"].value) < -20
    assert "frame k + 2" in found["frame"].fact


def test_a_picture_in_the_code_shows_at_cuts_and_in_opposite_motions(held_out: HeldOut) -> None:
    other = Brightness(0.0)
    honest, leaking = (dict(measure_leak(lam, other, held_out, 16)) for lam in (Brightness(0.9), Copying()))
    # Brightness is all there is in a flat frame, so a change of any size is described: leaks, by construction.
    assert mean_of(leaking["scene_cut"].value) == pytest.approx(1, abs=0.05)
    assert mean_of(leaking["future_similarity"].value) == pytest.approx(1, abs=1e-6)
    assert mean_of(honest["future_similarity"].value) < 0.2
    copies = mean_of(honest["scene_cut"].baselines["copy_last"])
    assert mean_of(honest["scene_cut"].value) == pytest.approx(copies, rel=1e-3)


def test_a_displacement_survives_a_visit_and_a_picture_does_not(held_out: HeldOut) -> None:
    honest = dict(measure_leak(Brightness(), Brightness(), held_out, 16))
    assert mean_of(honest["cycle"].value) == pytest.approx(1, abs=0.02)


def test_displacements_add_up_and_turn_round_and_places_do_not(held_out: HeldOut) -> None:
    moves, places = (
        dict(measure_sums(lam, Copying(), held_out, 16, Thresholds())) for lam in (Brightness(), Copying())
    )
    for name in ("additivity", "reversal"):
        assert mean_of(moves[name].value) == pytest.approx(0, abs=1e-4)
        assert mean_of(moves[name].baselines["shuffled"]) > 0.3
        assert mean_of(moves[name].baselines["random_lam"]) == mean_of(places[name].value)
    # |c - b - c| / |c| and |a + b| / |b| for levels around a half.
    assert mean_of(places["additivity"].value) == pytest.approx(1, abs=0.15)
    assert mean_of(places["reversal"].value) == pytest.approx(2, abs=0.15)
    # So a model that was trained for them can pass, and can fail.
    for measures, outcome in ((moves, "holds"), (places, "fails")):
        found = judge(measures, Thresholds(), asked=("additivity", "reversal"))
        assert [check.outcome for check in found] == [outcome] * 2


class Shift(Brightness):
    """A code moves a square; `same` says whether it moves it alike in every frame."""

    def __init__(self, *, same: bool) -> None:
        super().__init__()
        self.same = same

    def decode(
        self, past: Float[Tensor, "b k c h w"], vector: Float[Tensor, "b k e"]
    ) -> Float[Tensor, "b k c h w"]:
        out = []
        for frame, step in zip(past[:, 0], vector[:, 0, 0] * 10, strict=True):
            turn = 1 if self.same or frame.sum() > past.sum() / len(past) else -1
            out.append(frame.roll(turn * round(float(step)), dims=-1))
        return torch.stack(out)[:, None]


def squares(num: int = 32, size_px: int = 16) -> HeldOut:
    """A soft spot on a dark ground, darker in every second clip."""
    y, x = torch.meshgrid(torch.arange(float(size_px)), torch.arange(float(size_px)), indexing="ij")
    spot = torch.exp(-((x - 8) ** 2 + (y - 8) ** 2) / 8)
    bright = torch.tensor([0.9, 0.5]).repeat(num // 2)
    frames = (bright[:, None, None] * spot)[:, None, None].expand(-1, FRAMES, 3, -1, -1)
    return HeldOut(frames.contiguous(), np.array([f"{k}.mp4" for k in range(num)]))


def test_a_code_that_moves_alike_everywhere_decides_the_motion() -> None:
    steady, fickle = (
        dict(measure_effect(Shift(same=same), squares(), [0, 1, 2, 3], 64, 0))["effect"]
        for same in (True, False)
    )
    assert mean_of(steady.value) > 0.95
    assert mean_of(steady.baselines["shuffled"]) < 0.15
    assert mean_of(fickle.value) < 0.2
    still = dict(measure_effect(Brightness(0.0), squares(), [0, 1, 2, 3], 64, 0))["effect"]
    assert mean_of(still.value) == 0


def test_motion_has_a_direction() -> None:
    first = squares(2).frames[:, 0]
    right, down = first.roll(1, dims=-1), first.roll(1, dims=-2)
    assert main_motion(first, right)[0] == pytest.approx([1, 0], abs=0.3)
    assert main_motion(first, down)[0] == pytest.approx([0, 1], abs=0.3)
    assert share_moving(first, first).tolist() == [0, 0]


def test_still_pairs_are_counted() -> None:
    levels = np.full((8, FRAMES), 0.5)
    levels[:2, 1:] = 0.6
    found = dict(measure_footage(flat(levels)))
    assert mean_of(found["still"].value) == 0.75


def spoken(tokens: np.ndarray, embedding: np.ndarray, spread: np.ndarray | None = None) -> Spoken:
    num = len(tokens)
    code = tokens @ (4 ** np.arange(tokens.shape[1])[::-1])
    source = np.array([f"{k % 5}.mp4" for k in range(num)])
    return Spoken(np.arange(num), code, tokens, embedding, spread, source)


def test_usage_counts_codes_that_carry_something() -> None:
    tokens = np.array([0, 1] * 200)[:, None]
    found = dict(
        measure_use(spoken(tokens, np.zeros((400, 2))), Alphabet((8,) * tokens.shape[1], False), Thresholds())
    )
    assert found["codes_used"].value == 2
    assert found["codes_used"].wanted == 5
    assert mean_of(found["perplexity"].value) == pytest.approx(2)
    assert mean_of(found["top_code"].value) == pytest.approx(0.5)
    assert "active_units" not in found


def test_of_several_tokens_each_has_to_be_used_and_together_they_are_even() -> None:
    random = np.random.default_rng(0)
    tokens = np.stack([random.integers(0, 4, 400), np.zeros(400, dtype=int)], axis=1)
    found = dict(
        measure_use(spoken(tokens, np.zeros((400, 2))), Alphabet((4,) * tokens.shape[1], False), Thresholds())
    )
    assert mean_of(found["perplexity"].value) == pytest.approx(4, abs=0.05)
    assert "1.0 at position 2 of 2, the worst" in found["perplexity"].fact
    assert found["codes_used"].value == 1
    assert found["perplexity"].baselines["alphabet"] == 16


def test_silent_dimensions_are_not_active() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(500, 6)) * np.array([1, 1, 1, 0.01, 0.01, 0.0])
    tokens = random.integers(0, 4, (500, 1))
    with_noise = dict(
        measure_use(spoken(tokens, rows, np.ones((500, 6))), Alphabet((4,), True), Thresholds())
    )
    assert with_noise["active_units"].value == 3
    assert with_noise["menu_used"].value == 4
    assert "codes_used" not in with_noise
    without = dict(measure_use(spoken(tokens, rows), Alphabet((4,), True), Thresholds()))
    assert mean_of(without["active_units"].value) == pytest.approx(3, abs=0.1)
    wide = np.concatenate([rows, np.zeros((500, 600))], axis=1)
    found = dict(measure_use(spoken(tokens, wide), Alphabet((4,), True), Thresholds()))
    assert mean_of(found["active_units"].value) == pytest.approx(3, abs=0.1)


def test_every_frame_begins_a_pair_whatever_lies_between() -> None:
    film = footage(lengths=(7, 4), size_px=16)
    assert shots(film) == [(0, 7), (7, 11)]
    near, far = (listen(models.lam(window=2).eval(), film, stride) for stride in (1, 2))
    assert near.row.tolist() == [0, 1, 2, 3, 4, 5, 7, 8, 9]
    assert far.row.tolist() == [0, 1, 2, 3, 4, 7, 8]
    lam = Brightness()
    assert listen(lam, film, 2).embedding[:, 0] == pytest.approx(2 / 255, abs=1e-6)
    assert follower(film, np.array([0, 5, 6, 7]), 1).tolist() == [1, 6, -1, 8]
    assert follower(film, np.array([0, 7, 8]), -1).tolist() == [-1, -1, 7]


def test_scores_lie_between_floor_and_ceiling() -> None:
    truth = np.arange(100) % 2
    episode = np.array([f"{k // 10}" for k in range(100)])

    def right(share: float) -> np.ndarray:
        wrong = np.arange(100) % 10 >= round(10 * share)
        return np.where(wrong, 1 - truth, truth)

    guesses = {"majority": np.zeros(100, int), "ours": right(0.8), "best": right(0.9)}
    scores = Scores(guesses, truth, np.ones(1), episode)
    assert scores.score("ours").mean == pytest.approx(0.8)
    assert scores.gain("ours", "majority").mean == pytest.approx(0.3)
    assert scores.way("ours", "majority", "best").mean == pytest.approx(0.75)
    assert scores.beyond("ours", "majority", "best", 0.75).mean == pytest.approx(0, abs=1e-9)
    assert scores.balanced("majority", 2).mean == pytest.approx(0.5)
    assert np.isnan(scores.way("ours", "best", "majority").mean)


def test_r_squared_is_a_share_of_what_the_mean_leaves() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(size=(400, 2)) * np.array([1, 50])
    noise = random.normal(size=(400, 2)) * np.array([1, 50])
    guesses = {"majority": np.zeros((400, 2)), "ours": truth + 0.5 * noise, "best": truth}
    scores = Scores(guesses, truth, truth.std(axis=0), np.array([f"{k // 20}" for k in range(400)]))
    assert scores.score("best").mean == 1
    assert scores.score("ours").mean == pytest.approx(0.75, abs=0.05)
    assert scores.way("ours", "majority", "best").mean == pytest.approx(0.75, abs=0.05)


def test_the_network_reads_what_is_not_linear() -> None:
    random = np.random.default_rng(0)
    rows = random.uniform(-1, 1, size=(1200, 2)).astype(np.float32)
    truth = (rows[:, 0] * rows[:, 1] > 0).astype(np.int64)
    episode = np.array([f"{k // 60}" for k in range(1200)])
    even = np.ones(800)
    guess = read_network(rows[:800], truth[:800], even, 2, episode[:800], rows[800:], seed=0)
    assert (guess == truth[800:]).mean() > 0.9
    sums = (rows[:, :1] ** 2).astype(np.float64)
    guess = read_network(rows[:800], sums[:800], even, 1, episode[:800], rows[800:], seed=0)
    assert ((guess - sums[800:]) ** 2).mean() < 0.05 * sums.var()


def test_the_plane_shows_the_two_widest_directions() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(100, 5)) * np.array([9, 4, 0.1, 0.1, 0.1])
    points = principal_components(rows)
    assert np.abs(np.corrcoef(points[:, 0], rows[:, 0])[0, 1]) > 0.99
    assert np.abs(np.corrcoef(points[:, 1], rows[:, 1])[0, 1]) > 0.98
    assert principal_components(rows[:, :1])[:, 1].tolist() == [0] * 100
    drawn = scatter(rows, np.arange(100) % 3, ["a", "b", "c"], 0)
    assert (drawn["how"], drawn["names"]) == ("pca", ["a", "b", "c"])
    assert np.abs(np.array(drawn["points"])[:, :2]).max() == 1


def test_umap_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    class UMAP:
        def __init__(self, **settings: object) -> None:
            assert settings == {"n_neighbors": 15, "min_dist": 0.5, "random_state": 3}

        def fit_transform(self, rows: np.ndarray) -> np.ndarray:
            return rows[:, :2]

    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setattr("importlib.import_module", lambda name: type("umap", (), {"UMAP": UMAP}))
    points, how = project(np.ones((40, 4)), 3)
    assert (how, points.shape) == ("umap", (40, 2))
