"""A word in time when a bottleneck says nothing, with advice that fits its kind; and another when it speaks again.

    collapsed   next to nothing gets through: one code for everything, one token of it that never changes, or vectors
                that are all alike
    menu        vectors differ, but all are nearest to one centre, so that a world has nothing to be steered by
    ignored     something gets through, and the decoder does without it

What it reads is what validation measures; `train/callbacks.py` asks.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

log = logging.getLogger(__name__)

Trouble = Literal["collapsed", "menu", "ignored"]
TROUBLES: tuple[Trouble, ...] = ("collapsed", "menu", "ignored")

LOW_PERPLEXITY = 1.5
# Of a large alphabet one letter in 256 is to carry something; but three are never too few, since there is video in
# which only three things happen: left, right, and nothing.
LOW_SHARE, ENOUGH_PERPLEXITY = 1 / 256, 3.0
LOW_KL_NATS = 0.02
LOW_CONTROL_DB = 0.05  # what wrong codes cost; where it matters it is tenths at least
RELIEF = 1.2  # times as much ends a trouble, so that a figure at its limit is told once

FURTHER_APART = "put the frames of a pair further apart (model.pair_s, or a lower rate of the shards)"
COLLAPSE_ADVICE = {
    "vq": "raise model.code.restart_below, lower weights.commitment or train.lr, or use model.code.kind=fsq",
    "residual_vq": "raise model.code.restart_below, lower weights.commitment or train.lr, take fewer books "
    "(model.code.depth), or use model.code.kind=fsq",
    "fsq": f"there is no book to blame: lower train.lr, check that frames change (copy_psnr_db), or {FURTHER_APART}",
    "vae": "the prior has won (posterior collapse): lower model.code.beta tenfold",
    "none": f"there is nothing to learn or it is not learnt: lower train.lr, check that frames change (copy_psnr_db), "
    f"or {FURTHER_APART}",
}
FEWER_TOKENS = (
    "take fewer tokens (model.code.tokens), "  # of the kind vq; the other kinds say it, or have one
)
MENU_ADVICE = (
    "what the decoder is told is not touched by it, but worlds, exports by code and tables of codes are: train longer, "
    "raise model.code.menu, or check that frames change (copy_psnr_db)"
)
IGNORED_ADVICE = (
    "let it see less of the past (model.past_window=1), weigh what moves (weights.motion), use model.predict=change "
    f"where the background stands still, or {FURTHER_APART}"
)
RELIEVED: Mapping[Trouble, str] = {
    "collapsed": "the codes are in use again",
    "menu": "the menu is in use again",
    "ignored": "the decoder reads the codes again",
}


@dataclass(frozen=True)
class Finding:
    """gets_through: as a multiple of too little. subject: what is wrong if it is below 1. figures: in words."""

    gets_through: float
    subject: str
    figures: str
    advice: str


class CodeAlarm:
    """Remembers what is wrong, and tells when that changes."""

    def __init__(self, place: str) -> None:
        """Begin each message with `place`."""
        self._place = place
        self._present: set[Trouble] = set()

    def look(
        self, kind: str | None, metrics: Mapping[str, float], step: int, steps: int, letters: int = 0
    ) -> None:
        """Tell what is new in a validation.

        Args:
            kind: of the bottleneck; None where there is none, and nothing to be told.
            metrics: of the validation.
            step: of training.
            steps: of the whole of it; whether the decoder ignores the code is asked from half of them on.
            letters: codes that one token may be, see `letters_of`; of many, more have to be in use.
        """
        if kind is None:
            return
        is_continuous = kind in ("vae", "none")
        collapse = _alike(kind, metrics) if is_continuous else _unused(kind, metrics, letters)
        self._update("collapsed", collapse, step)
        if "collapsed" in self._present:  # which explains the others
            return
        if is_continuous:
            self._update("menu", _idle_menu(metrics), step)
        if step >= steps / 2:
            self._update("ignored", _neglect(metrics), step)

    def state(self) -> list[str]:
        """What is wrong, to be stored."""
        return sorted(self._present)

    def recall(self, state: list[str]) -> None:
        """Go on from what was stored."""
        self._present = {trouble for trouble in TROUBLES if trouble in state}

    def _update(self, trouble: Trouble, found: Finding | None, step: int) -> None:
        if found is None:
            return
        if found.gets_through < 1 and trouble not in self._present:
            self._present.add(trouble)
            log.warning(
                "%s: %s at step %d (%s); %s", self._place, found.subject, step, found.figures, found.advice
            )
        elif found.gets_through >= RELIEF and trouble in self._present:
            self._present.remove(trouble)
            log.warning("%s: %s at step %d (%s)", self._place, RELIEVED[trouble], step, found.figures)


def kind_of(spec: Any) -> str | None:
    """The kind of bottleneck of a model's configuration; None where it has none of its own."""
    code = getattr(spec, "code", None)
    return None if code is None else code.kind


def letters_of(spec: Any) -> int:
    """How many codes one token of a model may be, by its configuration; 0 where it has no alphabet of its own.

    Of tokens of different sizes the smallest one, whose perplexity cannot be more.
    """
    code = getattr(spec, "code", None)
    return 0 if code is None or code.kind in ("vae", "none") else min(code.sizes)


def low_perplexity(letters: int) -> float:
    """Below this an alphabet has collapsed: 1.5 of up to 384 letters, 2 of 512, and 3 of 768 or more."""
    return min(max(LOW_PERPLEXITY, LOW_SHARE * letters), ENOUGH_PERPLEXITY)


def _alike(kind: str, metrics: Mapping[str, float]) -> Finding | None:
    """Whether continuous vectors differ; None where it was not measured."""
    if "active_units" not in metrics:
        return None
    gets_through = metrics["active_units"] * RELIEF  # one is enough
    figures = f"{metrics['active_units']:.0f} units active"
    if kind == "none":
        figures += f", effective rank {metrics['effective_rank']:.1f}"
    else:
        gets_through = min(gets_through, metrics["kl_nats"] / LOW_KL_NATS)
        figures += f", divergence {metrics['kl_nats']:.3f} nats"
    return Finding(gets_through, "the codes have collapsed", figures, COLLAPSE_ADVICE[kind])


def _unused(kind: str, metrics: Mapping[str, float], letters: int) -> Finding | None:
    """Whether codes differ, and each token of them; None where it was not measured."""
    if "perplexity" not in metrics:
        return None
    together, low = metrics["perplexity"], low_perplexity(letters)
    tokens = _tokens(metrics)
    at, least = min(enumerate(tokens), key=lambda each: each[1], default=(0, together))
    if together < low or not tokens:
        figures = f"perplexity {together:.2f}"
        return Finding(together / low, "the codes have collapsed", figures, COLLAPSE_ADVICE[kind])
    return Finding(
        least / low,
        f"token {at + 1} of {len(tokens)} has collapsed",
        f"token_{at}_perplexity {least:.2f}, perplexity {together:.2f} together",
        (FEWER_TOKENS if kind == "vq" else "") + COLLAPSE_ADVICE[kind],
    )


def _tokens(metrics: Mapping[str, float]) -> list[float]:
    """Perplexity of each token by itself, where a code is made of several."""
    found = []
    while f"token_{len(found)}_perplexity" in metrics:
        found.append(metrics[f"token_{len(found)}_perplexity"])
    return found


def _idle_menu(metrics: Mapping[str, float]) -> Finding | None:
    """Whether the centres of continuous vectors are in use; None where it was not measured."""
    if "perplexity" not in metrics:
        return None
    found = metrics["perplexity"]
    return Finding(
        found / LOW_PERPLEXITY,
        "the menu has collapsed: nearly all codes are one of its centres",
        f"perplexity {found:.2f}",
        MENU_ADVICE,
    )


def _neglect(metrics: Mapping[str, float]) -> Finding | None:
    """Whether wrong codes cost anything; None where it was not measured."""
    if "control_db" not in metrics:
        return None
    found = metrics["control_db"]
    figures = f"wrong codes cost {found:.2f} dB"
    return Finding(found / LOW_CONTROL_DB, "the decoder ignores the codes", figures, IGNORED_ADVICE)
