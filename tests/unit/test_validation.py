import math
from typing import Any

import pytest
import torch
from torch import nn

from genie_lite.data.loading.clip import Clip, TokenClip
from genie_lite.nn.quantize import FSQConfig, NoneConfig, Quantizer, VAEConfig, VQConfig
from genie_lite.train.panel import panel, png
from genie_lite.train.validation import (
    bottleneck_health,
    code_health,
    measure_dynamics,
    measure_lam,
    measure_tokenizer,
    pooled_psnr_db,
)
from tests import models


def clips(num: int = 3) -> list[Clip]:
    return [Clip(models.frames(batch=1, seed=seed), ["a.mp4"], [0]) for seed in range(num)]


def test_pooled_psnr_is_that_of_the_mean_error_over_all_frames() -> None:
    target = torch.zeros(2, 3, 3, 4, 4)
    half_wrong = target.clone()
    half_wrong[0] = 0.2  # one of two clips is off by 0.2: the mean squared error is 0.02
    found = pooled_psnr_db(half_wrong.split(1), target.split(1))
    assert found == pytest.approx(-10 * math.log10(0.02), abs=1e-3)


def test_code_health_counts() -> None:
    health = code_health(torch.tensor([0, 0, 3, 3]), 8)
    assert health == {"codes_used": 2, "code_usage": 0.25, "perplexity": pytest.approx(2.0)}


def test_control_is_zero_when_the_code_is_ignored_and_not_otherwise() -> None:
    lam = models.lam()
    for seed in range(100):  # an untrained bottleneck uses one code until it knows its input's scale
        lam.encode(models.frames(seed=seed))
    lam.eval()
    assert measure_lam(lam, clips()).metrics["control_db"] != 0
    nn.init.zeros_(lam.inject.project.weight)
    assert measure_lam(lam, clips()).metrics["control_db"] == pytest.approx(0, abs=1e-6)


def test_copying_is_measured_against_the_next_frame() -> None:
    still = [Clip(models.frames(batch=1, num=1).expand(1, 4, 3, 16, 16), ["a.mp4"], [0])]
    assert measure_lam(models.lam().eval(), still).metrics["copy_psnr_db"] == pytest.approx(100)


def test_measuring_twice_gives_the_same_and_needs_no_global_randomness() -> None:
    tokenizer, dynamics, lam = models.tokenizer().eval(), models.dynamics().eval(), models.lam().eval()
    tokens = torch.randint(16, (2, 5, 4), generator=torch.Generator().manual_seed(0))
    windows = [TokenClip(tokens, torch.randint(4, (2, 4), generator=torch.Generator().manual_seed(1)))]
    before = torch.get_rng_state()
    for measure in (
        lambda: measure_tokenizer(tokenizer, clips()),
        lambda: measure_dynamics(dynamics, lam.code_vectors(), windows),
    ):
        assert measure().metrics == measure().metrics
    assert torch.equal(torch.get_rng_state(), before)


def test_the_dynamics_model_gains_from_its_codes_only_if_it_reads_them() -> None:
    dynamics, lam = models.dynamics().eval(), models.lam().eval()
    tokens = torch.randint(16, (2, 5, 4), generator=torch.Generator().manual_seed(0))
    windows = [TokenClip(tokens, torch.tensor([[0, 1, 2, 3], [3, 1, 0, 2]]))]
    assert measure_dynamics(dynamics, lam.code_vectors(), windows).metrics["control_nats"] != 0
    nn.init.zeros_(dynamics.inject.project.weight)
    metrics = measure_dynamics(dynamics, lam.code_vectors(), windows).metrics
    assert metrics["control_nats"] == pytest.approx(0, abs=1e-6)
    assert 0 <= metrics["accuracy"] <= 1


def test_a_panel_puts_frames_side_by_side_and_clips_under_one_another() -> None:
    white, black = torch.ones(2, 3, 4, 5), torch.zeros(2, 3, 4, 5)
    picture = panel([white, black])
    assert picture.shape == (8, 10, 3)
    assert (picture[:4] == 255).all()
    assert (picture[4:] == 0).all()
    assert png(picture).startswith(b"\x89PNG")


def test_health_of_a_bottleneck_is_told_by_what_fits_its_kind() -> None:
    def health(code: Any) -> dict[str, float]:
        torch.manual_seed(0)
        quantizer = Quantizer(code, 6)
        rows = torch.randn(64, 3, 6)
        quantizer(rows)
        return bottleneck_health([quantizer.eval()(rows), quantizer(rows[:9])], quantizer)

    plain = {"codes_used", "code_usage", "perplexity"}
    assert health(FSQConfig(levels=(3, 3))).keys() == plain
    tokens = {f"token_{at}_{name}" for at in range(2) for name in ("usage", "perplexity")}
    product = health(VQConfig(num_codes=4, dim=2, tokens=2))
    assert product.keys() == plain | tokens
    assert product["perplexity"] <= product["token_0_perplexity"] * product["token_1_perplexity"] + 1e-6
    units = {"active_units", "effective_rank"}
    assert health(NoneConfig(dim=3)).keys() == plain | units
    vae = health(VAEConfig(dim=3))
    assert vae.keys() == plain | units | {"kl_nats", "kl_nats_dim_0", "kl_nats_dim_1", "kl_nats_dim_2"}
    assert vae["kl_nats"] == pytest.approx(sum(vae[f"kl_nats_dim_{at}"] for at in range(3)))
    assert vae["active_units"] == 3
