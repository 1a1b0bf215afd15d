"""From measurements to outcomes, and from outcomes to a verdict.

An outcome minds the interval: a check holds or fails only where the whole interval is on one side of the threshold.
Where the failure of another check explains that of this one, this one is not counted, and says so.

    good for play                    codes in use, read, steady, in the right rows; nothing leaks; a world follows them
    good for policy pre-training     codes in use, read, in the right rows; nothing leaks; actions can be read off

What *must hold* has to be shown; what *must not fail* may be too close to call. Additivity and reversal decide where
the model was trained for them (`asked`), and there about policies alone: who asks for sums and directions does
arithmetic with embeddings, while a world is steered by one code at a time. Of other models they are told.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from genie_lite.evals.tree import to_tree
from genie_lite.inspect.config import Thresholds
from genie_lite.inspect.measure import Measure, Value, mean_of
from genie_lite.inspect.rules import RULES, Rule
from genie_lite.types import Interval

Outcome = Literal["holds", "unclear", "fails", "told"]
Answer = Literal[
    "good for play and for policy pre-training", "good for play", "good for policy pre-training", "not yet"
]

MUST_NOT_FAIL = (
    "perplexity",
    "active_units",
    "copy_gap",
    "row",
    "frame",
    "future_similarity",
    "shift",
)
FOR_PLAY = ("codes_used", "menu_used", "effect", "control")
FOR_POLICY = ("probe_embedding", "beyond_frame", "additivity", "reversal")
MUST_HOLD = ("code_gap", "scene_cut")
MUST_HOLD_FOR_POLICY = ("way",)


@dataclass(frozen=True)
class Check:
    """One line of the report; see `Rule` and `Measure`. threshold: in words."""

    name: str
    group: str
    title: str
    value: Value
    unit: str
    baselines: Mapping[str, Value]
    threshold: str
    outcome: Outcome
    meaning: str
    remedy: str

    def tree(self) -> dict[str, Any]:
        """As plain JSON."""
        return to_tree(self)


@dataclass(frozen=True)
class Verdict:
    """What the latent actions are good for, in a word and in a sentence, and why."""

    answer: Answer
    sentence: str
    why: tuple[str, ...]


def judge(
    measures: Mapping[str, Measure], thresholds: Thresholds, asked: Collection[str] = ()
) -> list[Check]:
    """Compare every measurement with what its rule asks, in the order of the rules.

    Args:
        measures: by the name of their rule.
        thresholds: of the rules.
        asked: what the model was trained to have, of that which training may be asked for (`Rule.unasked`).
    """
    unknown = measures.keys() - {rule.name for rule in RULES}
    assert not unknown, f"no rule for {sorted(unknown)}"
    outcomes: dict[str, Outcome] = {
        rule.name: _outcome(rule, measures[rule.name], thresholds, asked)
        for rule in RULES
        if rule.name in measures
    }
    return [
        _check(rule, measures[rule.name], outcomes, thresholds) for rule in RULES if rule.name in measures
    ]


def conclude(checks: list[Check]) -> Verdict:
    """What the codes are good for.

    Of several causes the first one named is the likeliest: what is collapsed, or ignored, cannot be aligned either.
    """
    outcome: dict[str, Outcome] = {check.name: check.outcome for check in checks}
    has_labels = "way" in outcome
    common = _blocking(outcome, MUST_NOT_FAIL, MUST_HOLD)
    play = common + _blocking(outcome, FOR_PLAY, ())
    policy = common + _blocking(outcome, FOR_POLICY, MUST_HOLD_FOR_POLICY if has_labels else ())
    answer = _answer(not play, not policy)
    why = [_reason(check) for check in checks if check.name in {*play, *policy}]
    if not why:
        why = [check.meaning for check in checks if check.name in WORTH_SAYING and check.outcome == "holds"]
    open_questions = [
        check for check in checks if check.outcome == "unclear" and check.name not in {*play, *policy}
    ]
    sentence = _sentence(answer, why, play, policy)
    if open_questions and answer != "not yet":
        sentence += f" Too close to call: {_list([each.title for each in open_questions])}."
    if not has_labels:
        sentence += " Without labels nobody knows what the codes say of true actions."
    return Verdict(answer, sentence, tuple(why))


WORTH_SAYING = ("perplexity", "active_units", "code_gap", "control", "scene_cut", "effect", "way")


def _blocking(
    outcome: Mapping[str, Outcome], must_not_fail: tuple[str, ...], must_hold: tuple[str, ...]
) -> list[str]:
    failed = [name for name in must_not_fail if outcome.get(name) == "fails"]
    return failed + [name for name in must_hold if outcome.get(name, "holds") != "holds"]


def _answer(play: bool, policy: bool) -> Answer:
    if play and policy:
        return "good for play and for policy pre-training"
    if play:
        return "good for play"
    return "good for policy pre-training" if policy else "not yet"


def _sentence(answer: Answer, why: list[str], play: list[str], policy: list[str]) -> str:
    if answer == "not yet":
        return f"Not yet. {why[0]}"
    if not play and not policy:
        return f"{answer.capitalize()}."
    other = "play" if play else "policy pre-training"
    return f"{answer.capitalize()}, not for {other}: {why[0]}"


def _reason(check: Check) -> str:
    if check.outcome == "fails":
        return check.meaning
    holds = next(rule.holds for rule in RULES if rule.name == check.name)
    return f"It is not shown that {holds[0].lower()}{holds[1:]}"


def _check(rule: Rule, measure: Measure, outcomes: Mapping[str, Outcome], thresholds: Thresholds) -> Check:
    outcome = outcomes[rule.name]
    void = [name for name in rule.needs if outcomes.get(name) == "fails"]
    if outcome == "fails" and void:
        title = next(each.title for each in RULES if each.name == void[0])
        outcome, meaning = "unclear", f"This says nothing as long as another check fails: {title}."
    else:
        meaning = _meaning(rule, outcome)
    # What fits better by next to nothing names no mistake.
    fact = "" if rule.asks == "not below" and outcome != "fails" else measure.fact
    return Check(
        rule.name,
        rule.group,
        rule.title,
        measure.value,
        rule.unit,
        measure.baselines,
        _threshold(rule, measure, thresholds),
        outcome,
        f"{meaning} {fact}".strip(),
        rule.remedy if outcome in ("fails", "unclear") else "",
    )


def _meaning(rule: Rule, outcome: Outcome) -> str:
    if outcome == "fails":
        return rule.fails
    if outcome == "unclear" and rule.asks == "not below":
        return "Too close to call: the neighbours fit neither clearly worse nor clearly better."
    if outcome == "unclear":
        return "Too close to call: the interval lies on both sides of the threshold."
    if outcome == "told" and rule.unasked:
        return rule.unasked
    return rule.holds


def _outcome(rule: Rule, measure: Measure, thresholds: Thresholds, asked: Collection[str]) -> Outcome:
    if rule.asks == "told":
        return "told"
    found = _compared(rule, measure, thresholds)
    return "told" if rule.unasked and rule.name not in asked and found != "holds" else found


def _compared(rule: Rule, measure: Measure, thresholds: Thresholds) -> Outcome:
    value = measure.decides if measure.decides is not None else measure.value
    if math.isnan(mean_of(value)):
        return "unclear"
    if rule.asks == "above" or measure.decides is not None:
        return _above(value)
    if rule.asks == "not below":
        return _not_below(value, -getattr(thresholds, rule.threshold))
    wanted = _wanted(rule, measure, thresholds)
    if rule.asks == "at least":
        return _at_least(value, wanted)
    return _at_least(_negative(value), -wanted)


def _wanted(rule: Rule, measure: Measure, thresholds: Thresholds) -> float:
    return measure.wanted if measure.wanted is not None else getattr(thresholds, rule.threshold)


def _at_least(value: Value, wanted: float) -> Outcome:
    if not isinstance(value, Interval):
        return "holds" if value >= wanted else "fails"
    if math.isnan(value.low):  # one source says nothing about others
        return "unclear" if value.mean >= wanted else "fails"
    if value.low >= wanted:
        return "holds"
    return "fails" if value.high < wanted else "unclear"


def _above(value: Value) -> Outcome:
    """Zero itself is not above."""
    low, high = _ends(value)
    if math.isnan(low):
        return "unclear" if mean_of(value) > 0 else "fails"
    if low > 0:
        return "holds"
    return "fails" if high <= 0 else "unclear"


def _not_below(value: Value, wanted: float) -> Outcome:
    """What lies between the tolerated and zero is neither right nor wrong, as with codes that say nothing."""
    low, high = _ends(value)
    if math.isnan(low):
        return "fails" if mean_of(value) < wanted else "unclear"
    if low > 0:
        return "holds"
    return "fails" if high < wanted else "unclear"


def _ends(value: Value) -> tuple[float, float]:
    return (value.low, value.high) if isinstance(value, Interval) else (value, value)


def _negative(value: Value) -> Value:
    if isinstance(value, Interval):
        return Interval(-value.mean, -value.high, -value.low, value.num)
    return -value


def _threshold(rule: Rule, measure: Measure, thresholds: Thresholds) -> str:
    if rule.asks == "told":
        return ""
    if rule.asks == "not below":
        return f"not below {-getattr(thresholds, rule.threshold):.3g}"
    if rule.asks == "above":
        return "above the baselines" if measure.decides is not None else "above 0"
    return f"{rule.asks} {_wanted(rule, measure, thresholds):.3g}"


def _list(items: list[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
