"""Rollouts, control and reconstruction, on worlds whose truth is known."""

from types import SimpleNamespace

import pytest
import torch
from einops import repeat
from torch import Tensor

from genie_lite.data.loading.loader import Clip
from genie_lite.errors import UserError
from genie_lite.evals.control import marginal, score_control
from genie_lite.evals.reconstruction import score_lam, score_tokenizer
from genie_lite.evals.rollout import continue_clips, score_rollout
from genie_lite.models.sampling import SamplingConfig
from genie_lite.models.world import World
from genie_lite.types import Quantized
from tests import models

STEP = torch.tensor([-0.04, 0.0, 0.04])  # what each of three codes adds to the brightness of a frame
NAMES = [f"episode-{number}.mp4" for number in range(6)]


def picture(brightness: Tensor) -> Tensor:
    """Brightness `b t` to frames `b t 3 16 16`: a bright corner on a dark ground."""
    frames = repeat(brightness, "b t -> b t c h w", c=3, h=16, w=16).clone()
    frames[..., 8:, :] *= 0.5
    return frames


def clip(num_frames: int = 8, seed: int = 0) -> Clip:
    codes = torch.randint(3, (len(NAMES), num_frames - 1), generator=torch.Generator().manual_seed(seed))
    walk = torch.cat([torch.zeros(len(NAMES), 1), STEP[codes].cumsum(dim=1)], dim=1)
    return Clip(picture(0.5 + walk), NAMES, [0] * len(NAMES))


class Brightness(World):
    """A world that knows the rule, seen through a tokenizer that is a little too bright."""

    def __init__(self) -> None:
        self.lam = SimpleNamespace(encode=self._encode)
        self.tokenizer = lambda frames: SimpleNamespace(reconstruction=frames + 0.01)

    @property
    def num_codes(self) -> int:
        return len(STEP)

    def rollout(self, frames: Tensor, codes: Tensor, seed: int) -> Tensor:
        return picture(frames[:, -1:, 0, 0, 0] + STEP[codes].cumsum(dim=1))

    @staticmethod
    def _encode(frames: Tensor) -> Quantized:
        change = (frames[:, 1:] - frames[:, :-1])[..., 0, 0, 0]
        index = (change[..., None] - STEP).abs().argmin(dim=-1)
        rows, none = change[..., None], torch.zeros(())
        return Quantized(index, index[..., None], rows, rows, None, none, none)


class Deaf(Brightness):
    """Nothing ever happens, whatever the code."""

    def rollout(self, frames: Tensor, codes: Tensor, seed: int) -> Tensor:
        return repeat(frames[:, -1], "b c h w -> b k c h w", k=codes.shape[1])


def test_a_world_that_knows_the_rule_is_perfect_at_every_horizon() -> None:
    world = Brightness()
    score = score_rollout(world, continue_clips(world, [clip()], prompt_frames=2, horizon=6), (1, 4, 6))
    assert [each.mean for each in score.psnr_db.values()] == pytest.approx([100] * 3)
    assert [each.mean for each in score.ssim.values()] == pytest.approx([1] * 3, abs=1e-4)
    assert all(each.low > 0 for each in score.gain_db.values())
    assert score.ceiling_psnr_db[1].mean == pytest.approx(40, abs=0.1)  # an error of 0.01 everywhere
    assert score.psnr_db[1].num == len(NAMES)


def test_a_world_in_which_nothing_happens_equals_copying_the_last_given_frame() -> None:
    world = Deaf()
    score = score_rollout(world, continue_clips(world, [clip()], horizon=6), (1, 6))
    assert {t: (each.mean, each.low, each.high) for t, each in score.gain_db.items()} == {
        1: (0, 0, 0),
        6: (0, 0, 0),
    }
    assert score.copy_last_psnr_db[6].mean < score.copy_last_psnr_db[1].mean
    assert score.psnr_db == score.copy_last_psnr_db


def test_only_sampled_frames_are_scored_and_each_beside_its_own_truth() -> None:
    """D8: frames that were given are no prediction, and score perfectly."""
    moved = clip()
    continued = continue_clips(Brightness(), [moved], prompt_frames=3, horizon=4)[0]
    assert torch.equal(continued.target, moved.frames[:, 3:7])
    assert continued.sampled.shape == continued.target.shape
    assert torch.equal(continued.codes, Brightness._encode(moved.frames).index[:, 2:6])


def test_a_few_still_frames_do_not_decide_for_copying() -> None:
    """Averaging decibels over frames would give the still clip's 100 dB to copy-last and hide all else."""
    still = Clip(picture(torch.full((1, 8), 0.5)), ["still.mp4"], [0])
    world = Brightness()
    score = score_rollout(world, continue_clips(world, [clip(), still], horizon=6), (6,))
    assert score.copy_last_psnr_db[6].mean < 40


def test_control_is_positive_where_codes_matter_and_zero_where_they_do_not() -> None:
    for world, steers in ((Brightness(), True), (Deaf(), False)):
        continued = continue_clips(world, [clip()], horizon=4)
        score = score_control(world, continued, t=4, num_draws=3)
        assert score.noise_delta_psnr_db.mean == 0
        assert (score.delta_psnr_db.low > 10) is steers
        assert (score.delta_psnr_db.mean == 0) is not steers
        assert list(score.by_t) == [1, 2, 3, 4]
        assert score.by_t[4] == score.delta_psnr_db


def test_random_codes_come_from_the_marginal() -> None:
    """A world whose clips contain one code only cannot be shown another: random codes equal inferred ones."""
    rising = Clip(picture(0.2 + 0.04 * torch.arange(8.0).repeat(3, 1)), NAMES[:3], [0] * 3)
    world = Brightness()
    continued = continue_clips(world, [rising], horizon=4)
    assert marginal(continued, 3).tolist() == [0, 0, 1]
    assert score_control(world, continued).delta_psnr_db.mean == 0


def test_clips_that_are_too_short_are_refused_in_one_line() -> None:
    with pytest.raises(
        UserError, match=r"clips of 8 frames; expected at least 16 \(1 given, 15 to foretell\)"
    ):
        continue_clips(Brightness(), [clip()])


def test_the_trees_hold_plain_means_by_t_and_the_intervals_apart() -> None:
    world = Brightness()
    continued = continue_clips(world, [clip()], horizon=4)
    tree = score_rollout(world, continued, (1, 4)).tree()
    assert tree["psnr_db"] == {"1": pytest.approx(100), "4": pytest.approx(100)}
    assert set(tree["copy_last_psnr_db"]) == {"1", "4"}
    assert set(tree["interval"]["psnr_db"]["4"]) == {"mean", "low", "high", "num"}
    assert set(score_control(world, continued).tree()["delta_psnr_db"]) == {"mean", "low", "high", "num"}


def test_a_real_world_is_scored_reproducibly() -> None:
    world = World(models.tokenizer(), models.lam(), models.dynamics(), SamplingConfig(refinements=2))
    clips = [Clip(models.frames(batch=2, num=5, seed=seed), ["a", "b"], [0, 0]) for seed in range(2)]
    first, again = (continue_clips(world, clips, prompt_frames=2, horizon=3, seed=1) for _ in range(2))
    assert score_rollout(world, first, (1, 3)) == score_rollout(world, again, (1, 3))
    assert score_control(world, first, t=2, num_draws=2) == score_control(world, again, t=2, num_draws=2)
    assert not torch.equal(
        first[0].sampled, continue_clips(world, clips, prompt_frames=2, horizon=3)[0].sampled
    )


def test_a_perfect_tokenizer_scores_100_db(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = models.tokenizer().eval()
    index = torch.randint(16, (2, 4, 4), generator=torch.Generator().manual_seed(0))
    frames = tokenizer.decode_tokens(index)
    out = SimpleNamespace(reconstruction=frames, code=SimpleNamespace(index=index))
    monkeypatch.setattr(tokenizer, "forward", lambda given: out)
    tree = score_tokenizer(tokenizer, [Clip(frames, ["a", "b"], [0, 0])]).tree()
    assert tree["psnr_db"] == pytest.approx(100)
    assert tree["ssim"] == pytest.approx(1, abs=1e-4)
    assert tree["codes_used"] == len(index.unique())


def test_the_lam_stands_beside_copying_and_beside_wrong_codes() -> None:
    lam = models.lam().eval()
    clips = [Clip(models.frames(batch=2, num=6, seed=seed), ["a", "b"], [0, 0]) for seed in range(2)]
    score = score_lam(lam, clips)
    error = (clips[0].frames[:, 1:] - clips[0].frames[:, :-1]).square().mean()
    other = (clips[1].frames[:, 1:] - clips[1].frames[:, :-1]).square().mean()
    assert score.copy_last_psnr_db.mean == pytest.approx(
        float(-10 * torch.log10((error + other) / 2)), abs=1e-4
    )
    assert score.gain_db.mean == pytest.approx(score.psnr_db.mean - score.copy_last_psnr_db.mean)
    assert score.usage.num_codes == 4
    assert {"psnr_db", "codes_used", "perplexity", "shuffled_psnr_db"} <= score.tree().keys()


def test_a_lam_that_ignores_its_codes_loses_nothing_by_wrong_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    lam = models.lam().eval()
    decode = lam.decode
    monkeypatch.setattr(lam, "decode", lambda past, vector: decode(past, torch.zeros_like(vector)))
    clips = [Clip(models.frames(batch=3, num=6), ["a", "b", "c"], [0] * 3)]
    assert score_lam(lam, clips).code_gain_db.mean == 0
