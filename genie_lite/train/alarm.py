"""A word in time when a bottleneck says nothing, with advice that fits its kind; and another when it speaks again.

    collapsed   next to nothing gets through: one code for everything, or vectors that are all alike
    ignored     something gets through, and the decoder does without it

What it reads is what validation measures; `train/callbacks.py` asks.
"""

import logging
from collections.abc import Mapping
from typing import Any, Literal

log = logging.getLogger(__name__)

Trouble = Literal["collapsed", "ignored"]
TROUBLES: tuple[Trouble, ...] = ("collapsed", "ignored")

LOW_PERPLEXITY = 1.5  # of all tokens together
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
IGNORED_ADVICE = (
    "let it see less of the past (model.past_window=1), weigh what moves (weights.motion), use model.predict=change "
    f"where the background stands still, or {FURTHER_APART}"
)


class CodeAlarm:
    """Remembers what is wrong, and tells when that changes."""

    def __init__(self, place: str) -> None:
        """Begin each message with `place`."""
        self._place = place
        self._present: set[Trouble] = set()

    def look(self, kind: str | None, metrics: Mapping[str, float], step: int, steps: int) -> None:
        """Tell what is new in a validation.

        Args:
            kind: of the bottleneck; None where there is none, and nothing to be told.
            metrics: of the validation.
            step: of training.
            steps: of the whole of it; whether the decoder ignores the code is asked from half of them on.
        """
        if kind is None:
            return
        self._update("collapsed", _collapse(kind, metrics), COLLAPSE_ADVICE[kind], step)
        if step >= steps / 2 and "collapsed" not in self._present:  # which explains the other
            self._update("ignored", _neglect(metrics), IGNORED_ADVICE, step)

    def state(self) -> list[str]:
        """What is wrong, to be stored."""
        return sorted(self._present)

    def recall(self, state: list[str]) -> None:
        """Go on from what was stored."""
        self._present = {trouble for trouble in TROUBLES if trouble in state}

    def _update(self, trouble: Trouble, found: tuple[float, str] | None, advice: str, step: int) -> None:
        if found is None:
            return
        gets_through, figures = found
        subject = "the codes have collapsed" if trouble == "collapsed" else "the decoder ignores the codes"
        relief = (
            "the codes are in use again" if trouble == "collapsed" else "the decoder reads the codes again"
        )
        if gets_through < 1 and trouble not in self._present:
            self._present.add(trouble)
            log.warning("%s: %s at step %d (%s); %s", self._place, subject, step, figures, advice)
        elif gets_through >= RELIEF and trouble in self._present:
            self._present.remove(trouble)
            log.warning("%s: %s at step %d (%s)", self._place, relief, step, figures)


def kind_of(spec: Any) -> str | None:
    """The kind of bottleneck of a model's configuration; None where it has none of its own."""
    code = getattr(spec, "code", None)
    return None if code is None else code.kind


def _collapse(kind: str, metrics: Mapping[str, float]) -> tuple[float, str] | None:
    """How much gets through, as a multiple of too little, and in words; None where it was not measured."""
    if kind in ("vae", "none"):
        if "active_units" not in metrics:
            return None
        words = f"{metrics['active_units']:.0f} units active"
        enough = metrics["active_units"] * RELIEF  # one is
        if kind == "none":
            return enough, f"{words}, effective rank {metrics['effective_rank']:.1f}"
        return min(
            enough, metrics["kl_nats"] / LOW_KL_NATS
        ), f"{words}, divergence {metrics['kl_nats']:.3f} nats"
    if "perplexity" not in metrics:
        return None
    return metrics["perplexity"] / LOW_PERPLEXITY, f"perplexity {metrics['perplexity']:.2f}"


def _neglect(metrics: Mapping[str, float]) -> tuple[float, str] | None:
    """What wrong codes cost, as a multiple of too little, and in words; None where it was not measured."""
    if "control_db" not in metrics:
        return None
    return metrics["control_db"] / LOW_CONTROL_DB, f"wrong codes cost {metrics['control_db']:.2f} dB"
