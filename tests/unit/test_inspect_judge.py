"""From numbers to outcomes, and from outcomes to what the codes are good for."""

import math

import pytest

from genie_lite.inspect.config import Thresholds
from genie_lite.inspect.judge import Check, conclude, judge
from genie_lite.inspect.measure import Measure
from genie_lite.inspect.rules import RULES
from genie_lite.types import Interval

NAN = math.nan


def outcome(name: str, measure: Measure) -> str:
    return next(check.outcome for check in judge({name: measure}, Thresholds()))


def found(mean: float, low: float, high: float) -> Measure:
    return Measure(Interval(mean, low, high, 9))


@pytest.mark.parametrize(
    ("name", "measure", "expected"),
    [
        ("code_gap", found(1.0, 0.5, 1.5), "holds"),
        ("code_gap", found(0.3, 0.1, 0.5), "unclear"),
        ("code_gap", found(0.1, 0.05, 0.15), "fails"),
        ("code_gap", found(1.0, NAN, NAN), "unclear"),  # a single source
        ("code_gap", found(0.1, NAN, NAN), "fails"),
        ("future_similarity", found(0.5, 0.4, 0.6), "holds"),
        ("future_similarity", found(0.8, 0.7, 0.9), "unclear"),
        ("future_similarity", found(0.95, 0.9, 1.0), "fails"),
        ("copy_gap", found(0.0, 0.0, 0.0), "fails"),
        ("copy_gap", found(0.1, -0.1, 0.3), "unclear"),
        ("row", found(0.0, 0.0, 0.0), "unclear"),
        ("row", found(-1.0, -1.5, -0.5), "fails"),
        ("row", found(-0.02, -0.03, -0.01), "unclear"),  # of codes that hardly matter
        ("row", found(1.0, 0.5, 1.5), "holds"),
        ("scene_cut", found(NAN, NAN, NAN), "unclear"),
        ("ami", Measure(0.0), "told"),
        ("codes_used", Measure(5.0, wanted=5.0), "holds"),
        ("codes_used", Measure(4.0, wanted=5.0), "fails"),
        ("way", Measure(Interval(NAN, NAN, NAN, 9), decides=Interval(0.2, 0.1, 0.3, 9)), "holds"),
        ("probe_code", Measure(Interval(0.9, 0.8, 1.0, 9), decides=Interval(0.0, 0.0, 0.0, 9)), "fails"),
    ],
)
def test_an_outcome_minds_the_interval(name: str, measure: Measure, expected: str) -> None:
    assert outcome(name, measure) == expected


def test_a_failure_that_another_one_explains_is_not_counted() -> None:
    bad = {"copy_gap": found(-1.0, -2.0, -0.5), "scene_cut": found(1.0, 0.9, 1.1)}
    first, second = judge(bad, Thresholds())
    assert (first.name, second.outcome) == ("copy_gap", "unclear")
    assert first.title in second.meaning
    alone = judge({"scene_cut": found(1.0, 0.9, 1.1)}, Thresholds())[0]
    assert (alone.outcome, alone.threshold) == ("fails", "at least 2")
    assert alone.remedy


@pytest.mark.parametrize("name", ["additivity", "reversal"])
def test_what_a_model_was_trained_to_have_decides_and_of_others_it_is_told(name: str) -> None:
    good, bad, near = (
        Measure(Interval(mean, mean - 0.1, mean + 0.1, 9), wanted=0.8) for mean in (0.3, 1.2, 0.8)
    )
    by_asked = {
        asked: [judge({name: each}, Thresholds(), asked)[0].outcome for each in (good, bad, near)]
        for asked in ((), (name,))
    }
    assert by_asked == {(): ["holds", "told", "told"], (name,): ["holds", "fails", "unclear"]}
    unasked, asked = (judge({name: bad}, Thresholds(), each)[0] for each in ((), (name,)))
    assert f"give lam.weights.{name} a weight" in unasked.meaning
    assert not unasked.remedy
    assert "though the model was trained" in asked.meaning
    assert f"Raise lam.weights.{name}" in asked.remedy


def checks(**outcomes: str) -> list[Check]:
    """All that decides, holding but for what is given; None leaves a check out."""
    names = ["codes_used", "perplexity", "row", "code_gap", "copy_gap", "control", "frame", "scene_cut"]
    names += ["future_similarity", "effect", "probe_embedding", "beyond_frame", "way", "shift"]
    names += ["additivity", "reversal"]
    state = dict.fromkeys(names, "holds") | outcomes
    return [
        Check(rule.name, rule.group, rule.title, 1.0, "", {}, "", state[rule.name], f"{rule.name} said.", "")  # pyright: ignore[reportArgumentType]
        for rule in RULES
        if state.get(rule.name, "none") != "none"
    ]


BOTH = "good for play and for policy pre-training"


@pytest.mark.parametrize(
    ("outcomes", "answer"),
    [
        ({}, BOTH),
        ({"control": "fails"}, "good for policy pre-training"),
        ({"effect": "fails"}, "good for policy pre-training"),
        ({"control": "unclear"}, BOTH),
        ({"way": "fails"}, "good for play"),
        ({"way": "unclear"}, "good for play"),
        ({"beyond_frame": "fails"}, "good for play"),
        ({"codes_used": "fails"}, "good for policy pre-training"),
        ({"additivity": "told", "reversal": "told"}, BOTH),
        ({"additivity": "fails"}, "good for play"),
        ({"reversal": "fails"}, "good for play"),
        ({"reversal": "unclear"}, BOTH),
        ({"perplexity": "fails"}, "not yet"),
        ({"code_gap": "unclear"}, "not yet"),
        ({"scene_cut": "fails"}, "not yet"),
        ({"shift": "fails"}, "not yet"),
        ({"control": "fails", "way": "fails"}, "not yet"),
        ({name: "none" for name in ("way", "shift", "probe_embedding", "beyond_frame")}, BOTH),
    ],
)
def test_what_decides_what_the_codes_are_good_for(outcomes: dict[str, str], answer: str) -> None:
    verdict = conclude(checks(**outcomes))
    assert verdict.answer == answer
    assert verdict.sentence.lower().startswith(answer)
    assert verdict.why


def test_the_first_cause_is_named_and_open_questions_are() -> None:
    verdict = conclude(checks(perplexity="fails", scene_cut="fails"))
    assert verdict.sentence.startswith("Not yet. perplexity said.")
    assert verdict.why == ("perplexity said.", "scene_cut said.")
    assert "Too close to call: ΔtPSNR of the world" in conclude(checks(control="unclear")).sentence
    assert "Without labels" in conclude(checks(way="none")).sentence


def test_every_rule_has_words_for_every_outcome() -> None:
    names = [rule.name for rule in RULES]
    assert len(names) == len(set(names))
    for rule in RULES:
        assert rule.holds
        assert rule.asks == "told" or (rule.fails and rule.remedy)
        assert not rule.threshold or hasattr(Thresholds(), rule.threshold)
        assert set(rule.needs) <= set(names)


def test_a_measurement_without_a_rule_is_our_mistake() -> None:
    with pytest.raises(AssertionError, match="no rule for"):
        judge({"charm": Measure(1.0)}, Thresholds())
