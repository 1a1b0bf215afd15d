"""A bottleneck that says nothing is told of once, with advice that fits, and again when it is well."""

import logging
from typing import Any

import pytest
import torch
from torch import nn

from genie_lite.data.loading.clip import Clip
from genie_lite.models.lam import LatentActionModel
from genie_lite.nn.quantize import FSQConfig, NoneConfig, ResidualVQConfig, VAEConfig, VQConfig
from genie_lite.train.alarm import CodeAlarm, kind_of, letters_of, low_perplexity
from genie_lite.train.validation import measure_lam
from tests import models

KINDS: list[Any] = [
    VQConfig(num_codes=4, dim=4),
    VQConfig(num_codes=4, dim=4, tokens=2),
    ResidualVQConfig(num_codes=4, dim=4),
    FSQConfig(levels=(4, 4)),
    VAEConfig(dim=4),
    NoneConfig(dim=4),
]
ADVICE = {
    "vq": "restart_below",
    "residual_vq": "take fewer books",
    "fsq": "no book to blame",
    "vae": "lower model.code.beta",
    "none": "lower train.lr",
}


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    messages = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return messages


def measured(code: Any, *, is_broken: bool) -> dict[str, float]:
    """Validation of a model with random weights; a broken one has a bottleneck that tells nothing apart."""
    torch.manual_seed(0)
    model = LatentActionModel(models.lam().config.model_copy(update={"code": code}))
    frames = [models.frames(batch=8, seed=seed) for seed in range(30)]
    for each in frames:
        model.encode(each)
    if is_broken:
        nn.init.zeros_(model.quantizer.project.weight)
    model.eval()
    return measure_lam(model, [Clip(each, ["a.mp4"] * 8, [0] * 8) for each in frames[:3]]).metrics


@pytest.mark.parametrize("code", KINDS, ids=lambda code: code.kind)
def test_a_model_whose_codes_tell_nothing_is_told_of_once_and_again_when_it_is_well(
    code: Any, caplog: pytest.LogCaptureFixture
) -> None:
    alarm = CodeAlarm("runs/lam")
    broken, well = measured(code, is_broken=True), measured(code, is_broken=False) | {"control_db": 1.0}
    with caplog.at_level(logging.WARNING):
        alarm.look(code.kind, well, step=10, steps=100)
        assert told(caplog) == []
        alarm.look(code.kind, broken, step=20, steps=100)
        (message,) = told(caplog)
        assert message.startswith("runs/lam: the codes have collapsed at step 20 (")
        assert ADVICE[code.kind] in message
        alarm.look(code.kind, broken, step=80, steps=100)
        assert told(caplog) == [], "neither again, nor that the decoder ignores them"
        alarm.look(code.kind, well, step=90, steps=100)
        (message,) = told(caplog)
        assert "in use again at step 90" in message


def test_one_token_that_never_changes_is_named(caplog: pytest.LogCaptureFixture) -> None:
    alarm = CodeAlarm("runs/lam")
    well = {f"token_{at}_perplexity": 4.0 for at in range(3)} | {"perplexity": 40.0}
    with caplog.at_level(logging.WARNING):
        alarm.look("vq", well, step=10, steps=100, letters=8)
        assert told(caplog) == []
        alarm.look("vq", well | {"token_1_perplexity": 1.0, "perplexity": 4.1}, step=20, steps=100, letters=8)
        (message,) = told(caplog)
        assert message.startswith(
            "runs/lam: token 2 of 3 has collapsed at step 20 (token_1_perplexity 1.00, perplexity 4.10 together); "
            "take fewer tokens (model.code.tokens), raise model.code.restart_below"
        )
        alarm.look("vq", well | {"token_1_perplexity": 1.6}, step=30, steps=100, letters=8)
        assert told(caplog) == [], "a figure at its limit is no news"
        alarm.look("vq", well, step=40, steps=100, letters=8)
        assert "in use again at step 40" in told(caplog)[0]


def test_a_book_of_a_model_with_one_dead_token_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    code = VQConfig(num_codes=4, dim=4, tokens=3, share=False)
    torch.manual_seed(0)
    model = LatentActionModel(models.lam().config.model_copy(update={"code": code}))
    for seed in range(5):
        model.encode(models.frames(batch=8, seed=seed))
    with torch.no_grad():
        model.quantizer.project.weight[8:] = 0.0
    metrics = measure_lam(model.eval(), [Clip(models.frames(batch=8), ["a.mp4"] * 8, [0] * 8)]).metrics
    with caplog.at_level(logging.WARNING):
        CodeAlarm("runs/lam").look("vq", metrics, step=1, steps=10, letters=letters_of(model.config))
    assert "token 3 of 3 has collapsed" in told(caplog)[0]


@pytest.mark.parametrize(
    ("code", "letters", "low"),
    [
        (VQConfig(num_codes=8), 8, 1.5),
        (VQConfig(num_codes=256, tokens=2), 256, 1.5),
        (ResidualVQConfig(num_codes=512, depth=1), 512, 2.0),
        (VQConfig(num_codes=1024), 1024, 3.0),
        (FSQConfig(levels=(8, 5, 5)), 200, 1.5),
        (VAEConfig(menu=65536), 0, 1.5),
        (FSQConfig(levels=(8, 8, 8, 8, 5, 5, 5, 3)), 3, 1.5),  # each level is a token, and the least decides
    ],
)
def test_of_a_large_alphabet_more_must_be_in_use(code: Any, letters: int, low: float) -> None:
    assert letters_of(models.lam().config.model_copy(update={"code": code})) == letters
    assert low_perplexity(letters) == pytest.approx(low)


def test_a_thousand_codes_of_which_two_are_used_have_collapsed(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for perplexity, letters in ((2.0, 8), (2.0, 256), (3.1, 1024), (3.1, 65536)):
            CodeAlarm("runs/lam").look("vq", {"perplexity": perplexity}, step=1, steps=10, letters=letters)
        assert told(caplog) == []
        CodeAlarm("runs/lam").look("vq", {"perplexity": 2.0}, step=1, steps=10, letters=1024)
        assert "the codes have collapsed at step 1 (perplexity 2.00)" in told(caplog)[0]


@pytest.mark.parametrize("kind", ["vae", "none"])
def test_a_menu_of_which_one_centre_is_used_is_told_of_though_vectors_differ(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    alarm = CodeAlarm("runs/lam")
    well = {"active_units": 23.0, "effective_rank": 9.0, "kl_nats": 8.0, "perplexity": 6.0}
    idle = well | {"perplexity": 1.0}
    with caplog.at_level(logging.WARNING):
        alarm.look(kind, well, step=10, steps=100)
        assert told(caplog) == []
        alarm.look(kind, idle, step=20, steps=100)
        (message,) = told(caplog)
        assert "the menu has collapsed: nearly all codes are one of its centres at step 20 (perp" in message
        assert "model.code.menu" in message
        resumed = CodeAlarm("runs/lam")
        resumed.recall(alarm.state())
        resumed.look(kind, idle, step=30, steps=100)
        assert told(caplog) == []
        resumed.look(kind, well, step=40, steps=100)
        assert "the menu is in use again at step 40" in told(caplog)[0]
        alike = idle | {"active_units": 0.0}
        CodeAlarm("runs/lam").look(kind, alike, step=20, steps=100)
        assert len(told(caplog)) == 1, "vectors that are all alike explain it"


def test_a_decoder_that_ignores_the_code_is_told_of_in_the_second_half(
    caplog: pytest.LogCaptureFixture,
) -> None:
    alarm = CodeAlarm("runs/lam")
    ignoring = {"perplexity": 3.0, "control_db": 0.001}
    with caplog.at_level(logging.WARNING):
        alarm.look("vq", ignoring, step=49, steps=100)
        assert told(caplog) == []
        alarm.look("vq", ignoring, step=50, steps=100)
        (message,) = told(caplog)
        assert (
            "the decoder ignores the codes at step 50 (wrong codes cost 0.00 dB); let it see less" in message
        )
        alarm.look("vq", ignoring | {"control_db": 0.055}, step=60, steps=100)
        assert told(caplog) == [], "a figure at its limit is no news"
        alarm.look("vq", ignoring | {"control_db": 0.5}, step=70, steps=100)
        assert "reads the codes again at step 70" in told(caplog)[0]


def test_a_model_with_a_cut_wire_from_code_to_picture_ignores_it(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    model = LatentActionModel(models.lam().config.model_copy(update={"code": NoneConfig(dim=4)}))
    model.encode(models.frames(batch=8))
    nn.init.zeros_(model.inject.project.weight)
    metrics = measure_lam(model.eval(), [Clip(models.frames(batch=8), ["a.mp4"] * 8, [0] * 8)]).metrics
    with caplog.at_level(logging.WARNING):
        CodeAlarm("runs/lam").look("none", metrics, step=9, steps=10)
    assert "the decoder ignores the codes" in told(caplog)[0]


def test_what_was_told_is_not_told_again_after_a_resume(caplog: pytest.LogCaptureFixture) -> None:
    first, second = CodeAlarm("runs/lam"), CodeAlarm("runs/lam")
    with caplog.at_level(logging.WARNING):
        first.look("fsq", {"perplexity": 1.0}, step=1, steps=10)
        assert len(told(caplog)) == 1
        second.recall(first.state())
        second.look("fsq", {"perplexity": 1.0}, step=2, steps=10)
        assert told(caplog) == []


def test_a_model_without_codes_of_its_own_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    assert kind_of(models.dynamics().spec) is None
    assert kind_of(models.tokenizer().config) == "vq"
    with caplog.at_level(logging.WARNING):
        CodeAlarm("runs/dynamics").look(None, {"control_nats": 0.0}, step=9, steps=10)
    assert told(caplog) == []
