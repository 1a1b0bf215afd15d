"""From a report's numbers to plain sentences: are the latent actions any good, and if not, why?

Each check has a threshold that was fixed before any run, and three outcomes: it holds, it fails, or the
interval is too wide to tell. What was not measured is left out. A failing check names its likeliest cause,
read off the other numbers.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Outcome = Literal["holds", "unclear", "fails"]
Tree = Mapping[str, Any]

SHARE_OF_CODES = 5 / 8  # of the alphabet, that should be in use
SMALL_ALPHABET = 16  # a larger one is not counted in full: its codes cannot all be common
MINUS = "\N{MINUS SIGN}"
ENOUGH_CODE_GAIN_DB = 0.2  # below this, wrong codes hurt a prediction too little to call them read


@dataclass(frozen=True)
class Check:
    """outcome of a claim, the figures it rests on, and for a claim that does not hold the likeliest cause."""

    claim: str
    outcome: Outcome
    evidence: str
    cause: str = ""


@dataclass(frozen=True)
class Verdict:
    """answer to "are the latent actions any good?", in a word and in a sentence, and the checks behind it."""

    answer: str
    sentence: str
    checks: tuple[Check, ...]


# What the codes do, and do not do, if a check holds, or fails.
Words = tuple[str, str]
USAGE: Words = ("are in use", "are not in use")
CONTROL: Words = ("steer the world", "do not steer the world")
ROLLOUT: Words = (
    "let rollouts beat a copy of the last frame",
    "do not let rollouts beat a copy of the last frame",
)
PROBE: Words = ("name true actions", "do not name true actions")
POLICY: Words = (
    "make a better policy than the same labels alone",
    "make no better policy than the same labels alone",
)
ALL: tuple[Words, ...] = (USAGE, CONTROL, ROLLOUT, PROBE, POLICY)
DECISIVE = (USAGE, CONTROL)  # where one of these fails, the codes are of no use yet


def judge(tree: Tree) -> Verdict:
    """Check every threshold whose figures are in the tree of a report."""
    found = (_usage(tree), _control(tree), _rollout(tree), _probe(tree), _policy(tree))
    done = [(words, check) for words, check in zip(ALL, found, strict=True) if check is not None]
    return Verdict(*_answer(done), tuple(check for _, check in done))


def _answer(done: list[tuple[Words, Check]]) -> tuple[str, str]:
    if not done:
        return "Not measured", "This run has not been evaluated."
    good = [words[0] for words, check in done if check.outcome == "holds"]
    bad = [words[1] for words, check in done if check.outcome == "fails"]
    unclear = [words[0] for words, check in done if check.outcome == "unclear"]
    missing = [words[0] for words in ALL if words not in [each for each, _ in done]]
    parts = [text for text in (_list(good), _list(bad)) if text]
    sentence = f"The codes {', but '.join(parts)}." if parts else ""
    if unclear:
        sentence += f" Too close to call: whether they {_list(unclear)}."
    if missing:
        sentence += f" Not measured: whether they {_list(missing)}."
    if len(good) == len(done):
        return ("So far, yes" if missing else "Yes"), sentence
    useless = any(check.outcome == "fails" for words, check in done if words in DECISIVE)
    return ("Not yet" if useless or not good else "In part"), sentence.strip()


def _usage(tree: Tree) -> Check | None:
    lam = tree.get("lam")
    if not lam:
        return None
    used, num = lam["codes_used"], lam["num_codes"]
    wanted = math.ceil(SHARE_OF_CODES * min(num, SMALL_ALPHABET))
    evidence = (
        f"{used} of {num} codes carry more than 0.5 % of the transitions each (asked: {wanted}); "
        f"they are worth {lam['perplexity']:.1f} equally frequent ones."
    )
    cause = (
        "The vocabulary has collapsed. Raise the restart threshold of unused codes, lower the weight of the "
        "commitment, or use the FSQ bottleneck."
    )
    return _check(USAGE, "holds" if used >= wanted else "fails", evidence, cause)


def _control(tree: Tree) -> Check | None:
    control = tree.get("control")
    if not control:
        return None
    delta = control["delta_psnr_db"]
    noise = signed(control["noise_delta_psnr_db"], " dB")
    evidence = (
        f"With the right codes, sampled frames at t = {control['t']} are {signed(delta, ' dB')} closer to "
        f"the truth than with random codes; sampling noise alone gives {noise}."
    )
    return _check(CONTROL, above_zero(delta), evidence, _why_no_control(tree))


def _why_no_control(tree: Tree) -> str:
    gain = tree.get("lam", {}).get("code_gain_db")
    if gain is None:
        return ""
    if gain < ENOUGH_CODE_GAIN_DB:
        return (
            f"The latent action model itself hardly reads its codes: wrong ones cost it {gain:.2f} dB in one "
            "transition. Train it longer, weigh moving pixels more, or look for livelier footage."
        )
    return (
        f"The codes do carry something (wrong ones cost the latent action model {gain:.2f} dB in one "
        "transition), but the dynamics model does not follow them yet: train it longer."
    )


def _rollout(tree: Tree) -> Check | None:
    rollout = tree.get("rollout")
    if not rollout:
        return None
    t = "4" if "4" in rollout["psnr_db"] else next(iter(rollout["psnr_db"]))
    ours, copied, ceiling = (rollout[name][t] for name in ("psnr_db", "copy_last_psnr_db", "ceiling_psnr_db"))
    evidence = (
        f"At t = {t}: {ours:.1f} dB against {copied:.1f} dB for copying the last frame "
        f"({signed(rollout['gain_db'][t], ' dB')}); the tokenizer allows {ceiling:.1f} dB."
    )
    if ceiling < copied:
        cause = (
            "The tokenizer is the limit: its reconstruction of the true frame is already farther off than a "
            "copy of the last one. Train it longer, or give it smaller patches."
        )
    else:
        cause = (
            f"The tokenizer leaves {ceiling - copied:.1f} dB of room above copying; the dynamics model does "
            "not use it. Train it longer, or sample at a lower temperature."
        )
    return _check(ROLLOUT, above_zero(rollout["gain_db"][t]), evidence, cause)


def _probe(tree: Tree) -> Check | None:
    gain = tree.get("probe_gain")
    if not gain:
        return None
    is_accuracy = tree["probe_about"]["kind"] == "accuracy"
    nothing = "majority" if is_accuracy else "mean"

    def shown(arm: str) -> str:
        mean = tree["probe"][arm]["mean"]
        return percent(mean) if is_accuracy else f"{mean:.2f}".replace("-", MINUS)

    said = (
        "tells the true action at" if is_accuracy else "explains a share of the true action's variance, R²:"
    )
    beside = {nothing: NOTHING[nothing], "random_lam": "an untrained network's code"} | BESIDE
    figures = [f"{label}: {shown(arm)}" for arm, label in beside.items() if arm in tree["probe"]]
    evidence = f"The code alone {said} {shown('code')}; {', '.join(figures)}."
    outcome = _worst([above_zero(gain[f"code_over_{base}"]) for base in (nothing, "random_lam")])
    return _check(PROBE, outcome, evidence, _why_no_actions(tree, nothing))


NOTHING = {"majority": "always the commonest one", "mean": "always the mean"}
BESIDE = {"hold_last": "the action before", "supervised": "a model trained with all labels"}


def _why_no_actions(tree: Tree, nothing: str) -> str:
    gain = tree["probe_gain"]
    if "embedding_over_random_lam_embedding" in gain and (
        above_zero(gain["embedding_over_random_lam_embedding"]) == "holds"
        and above_zero(gain[f"embedding_over_{nothing}"]) == "holds"
    ):
        return (
            "The embedding before the bottleneck does tell the action; the few codes spend their bits on "
            "something else that moves. More codes, or a decoder on the embedding, would keep it."
        )
    if _holds(_control(tree)):
        return (
            "The codes do steer the world, so they describe motion; with inertia, or a camera that moves, "
            "the motion in a frame says little about the button pressed in it."
        )
    return "The codes carry too little of what happens between two frames."


def _policy(tree: Tree) -> Check | None:
    policy, gain = tree.get("policy"), tree.get("policy_gain")
    if not policy or not gain or "latent" not in policy:
        return None
    ours = policy["latent"]
    rivals = [name for name in ("random", "bc") if f"latent_over_{name}" in gain]
    if not rivals:
        return None
    shown = [*rivals, *({"idm"} & policy.keys())]
    rates = ", ".join(f"{percent(policy[name]['mean'])} for {RIVALS[name]}" for name in shown)
    evidence = (
        f"On {ours['episodes']} unseen levels it succeeds in {percent(ours['mean'])} "
        f"({percent(ours['low'])} to {percent(ours['high'])}), against {rates}."
    )
    outcome = _worst([above_zero(gain[f"latent_over_{name}"]) for name in rivals])
    return _check(POLICY, outcome, evidence, _why_no_policy(tree))


RIVALS = {
    "random": "random play",
    "bc": "cloning from the same labels",
    "idm": "an inverse model that spreads them over the same video",  # uses the video too: told, not asked for
}


def _why_no_policy(tree: Tree) -> str:
    policy = tree["policy"]
    if "oracle" in policy and policy["oracle"]["mean"] <= policy["latent"]["mean"] + 0.05:
        return (
            f"Even with every label this policy network reaches {percent(policy['oracle']['mean'])}: cloning "
            "itself is the limit, not the latent actions."
        )
    if _holds(_probe(tree)):
        return (
            "The codes do name actions, but too seldom the right one in the moments that decide an episode."
        )
    return "The codes say too little about the true action for labels made from them to be worth cloning."


def above_zero(interval: Mapping[str, float | None]) -> Outcome:
    """Whether a difference is above zero: fails if its mean is not, unclear if its interval is not."""
    mean, low = interval["mean"], interval["low"]
    assert mean is not None
    if low is not None and low > 0:
        return "holds"
    return "unclear" if mean > 0 else "fails"


def signed(interval: Mapping[str, float | None], unit: str = "") -> str:
    """A difference with its interval: +1.20 dB [+0.80, +1.60]."""
    text = f"{interval['mean']:+.2f}{unit}"
    if interval["low"] is not None:
        text += f" [{interval['low']:+.2f}, {interval['high']:+.2f}]"
    return text.replace("-", MINUS)


def percent(share: float | None) -> str:
    """A share in [0, 1] in whole percent; unknown where there is no interval."""
    return "unknown" if share is None else f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def _check(words: Words, outcome: Outcome, evidence: str, cause: str) -> Check:
    return Check(f"The codes {words[0]}", outcome, evidence, "" if outcome == "holds" else cause)


def _holds(check: Check | None) -> bool:
    return check is not None and check.outcome == "holds"


def _worst(outcomes: Sequence[Outcome]) -> Outcome:
    order: list[Outcome] = ["fails", "unclear", "holds"]
    return min(outcomes, key=order.index)


def _list(claims: list[str]) -> str:
    return " and ".join([", ".join(claims[:-1]), claims[-1]] if len(claims) > 1 else claims)
