"""Which codes are in use, and how much there is for them to say.

    discrete      codes in use, perplexity, share of the commonest code; of several tokens, use at the worst position
    continuous    active units, and what of the menu, by whose centres a world is steered, is in use
    footage       pairs in which nothing moves, and pairs in which nearly everything does

A unit is active if its mean varies over the transitions by more than 0.01 (Burda et al., arXiv:1509.00519); of a
bottleneck without noise, and so without a scale, the effective rank is taken instead.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from genie_lite.evals.codes import Usage, usage
from genie_lite.evals.interval import bootstrap, mean_over
from genie_lite.inspect.config import Thresholds
from genie_lite.inspect.held_out import HeldOut
from genie_lite.inspect.measure import Measure
from genie_lite.inspect.motion import share_moving
from genie_lite.inspect.spoken import Spoken
from genie_lite.metrics import active_units, effective_rank, psnr_db
from genie_lite.models.lam import LatentActionModel

COUNTED = 16  # codes of a larger alphabet cannot all be common
WIDE = 512  # dimensions of which a covariance is taken
STILL_DB = 50.0  # closer than a grey level: nothing to name


@dataclass(frozen=True)
class Alphabet:
    """sizes: choices at each position. is_continuous: whether they only stand for vectors that may be anything."""

    sizes: tuple[int, ...]
    is_continuous: bool


def alphabet_of(lam: LatentActionModel) -> Alphabet:
    """What a model can say."""
    return Alphabet(lam.quantizer.sizes, lam.quantizer.is_continuous)


def measure_use(spoken: Spoken, alphabet: Alphabet, thresholds: Thresholds) -> Iterator[tuple[str, Measure]]:
    """Counts of codes, or of active units and of the menu."""
    by_position = [_count(column, size) for column, size in zip(spoken.tokens.T, alphabet.sizes, strict=True)]
    # Where positions have alphabets of different sizes, the one that makes the least of its own.
    worst = min(
        range(len(by_position)), key=lambda place: by_position[place].perplexity / alphabet.sizes[place]
    )
    used, source, size = by_position[worst], spoken.source, alphabet.sizes[worst]
    at_most = min(size, COUNTED)
    of = f" at position {worst + 1} of {len(by_position)}, the worst" if len(by_position) > 1 else ""
    in_use = Measure(
        float(used.codes_used),
        {"alphabet": float(size)},
        wanted=float(np.ceil(thresholds.codes_used * at_most)),
        fact=f"{used.codes_used} of {size} codes{of}; {size - used.codes_used} are dead or nearly so.",
    )
    if alphabet.is_continuous:
        yield "active_units", _active_units(spoken, thresholds)
        yield "menu_used", in_use
    else:
        yield "codes_used", in_use
        yield (
            "perplexity",
            _evenness(spoken, alphabet, f"{used.perplexity:.1f}{of}" if of else "", thresholds),
        )
    commonest = int(np.argmax(used.share))
    yield (
        "top_code",
        Measure(
            mean_over(spoken.tokens[:, worst] == commonest, source),
            {"even": 1 / size},
            fact=f"Code {commonest} is the commonest{of}.",
        ),
    )


def measure_footage(held_out: HeldOut) -> Iterator[tuple[str, Measure]]:
    """How much of the footage says anything, and whether the camera moves."""
    first, second = held_out.frames[:, 0], held_out.frames[:, 1]
    still = (psnr_db(first, second) >= STILL_DB).numpy()
    yield "still", Measure(mean_over(still, held_out.source))
    yield "moving_camera", Measure(mean_over(share_moving(first, second) > 0.5, held_out.source))


def _count(code: np.ndarray, num_codes: int) -> Usage:
    """Usage; of a large alphabet no code can be common, so a tenth of an even share is enough there."""
    return usage(code, num_codes, at_least=min(0.005, 0.1 / num_codes))


def _evenness(spoken: Spoken, alphabet: Alphabet, worst: str, thresholds: Thresholds) -> Measure:
    """Perplexity of the codes; of several tokens that of all of them together, since together they are the code."""
    num_codes = float(math.prod(alphabet.sizes))
    found = bootstrap(_counts(spoken.code, spoken.source), _perplexity)
    return Measure(
        found,
        {"alphabet": num_codes},
        wanted=max(2.0, thresholds.perplexity * min(num_codes, COUNTED)),
        fact=f"As much as {found.mean:.1f} equally frequent codes{f'; {worst}' if worst else ''}.",
    )


def _counts(code: np.ndarray, source: np.ndarray) -> np.ndarray:
    """(sources, codes that occur): the bootstrap of a large alphabet has to fit into memory."""
    seen, place = np.unique(code, return_inverse=True)
    names, unit = np.unique(source, return_inverse=True)
    table = np.zeros((len(names), len(seen)))
    np.add.at(table, (unit, place), 1)
    return table


def _perplexity(sums: np.ndarray) -> np.ndarray:
    share = sums / sums.sum(axis=-1, keepdims=True)
    return np.exp(-(share * np.log(np.maximum(share, 1e-12))).sum(axis=-1))


def _active_units(spoken: Spoken, thresholds: Thresholds) -> Measure:
    """Counted over all transitions; an interval over sources would say how alike these are, not more."""
    rows, width = torch.from_numpy(spoken.embedding), spoken.embedding.shape[1]
    rank = effective_rank(_narrow(rows))
    # Without noise there is no scale that says when a dimension is silent, but the balance of all of them.
    units = rank if spoken.spread is None else float(active_units(rows))
    return Measure(
        units,
        {"dimensions": float(width)},
        wanted=float(min(thresholds.active_units, width)),
        fact=f"The {width} dimensions vary as much as {rank:.1f} equal and independent ones.",
    )


def _narrow(rows: Float[Tensor, "rows d"]) -> Float[Tensor, "some e"]:
    """Some rows, turned so that they lie in as many dimensions as there are of them: rank needs no more."""
    if rows.shape[1] <= WIDE:
        return rows
    some = rows[torch.linspace(0, len(rows) - 1, min(WIDE, len(rows))).long()].double()
    left, scale, _ = torch.linalg.svd(some - some.mean(dim=0), full_matrices=False)
    return left * scale
