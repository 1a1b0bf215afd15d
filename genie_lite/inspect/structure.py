"""Do codes add up, turn round, and mean the same everywhere?

    additivity    |z(a,c) - z(a,b) - z(b,c)| / |z(a,c)|    two steps at once are the sum of the two
    reversal      |z(b,a) + z(a,b)| / |z(a,b)|             the way back is minus the way there
    effect        every code applied to many start frames: the share of the motion that the code decides

The first two are 0 for displacements. Unrelated vectors give about 1.7 and 1.4, and what a model gets with the second
pair of another clip is its own baseline. Source: ALAM (arXiv:2605.10819), which trains for them; a model that was
not may be good without, so they decide only where it was (`judge.py`).

The third is a two-way analysis of variance of the mean flow (`motion.py`), frames by codes: the variance between codes
over that and what is left when frame and code are accounted for. 1: a code means one motion. 0: it depends on the
picture. Codes shuffled within each frame are the baseline.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from einops import rearrange, repeat

from genie_lite.evals.interval import bootstrap, by_unit, ratio
from genie_lite.inspect.config import Thresholds
from genie_lite.inspect.held_out import HeldOut, foretell, say
from genie_lite.inspect.measure import Measure, mean_of
from genie_lite.inspect.motion import main_motion
from genie_lite.models.lam import LatentActionModel
from genie_lite.types import Interval

STARTS = 64  # frames that codes are applied to
MOST_CODES = 16


def measure_sums(
    lam: LatentActionModel,
    untrained: LatentActionModel,
    held_out: HeldOut,
    batch: int,
    thresholds: Thresholds,
) -> Iterator[tuple[str, Measure]]:
    """Additivity and reversal, against shuffled pairs and the network before training."""
    for name, of in (("additivity", _additivity), ("reversal", _reversal)):
        ours, shuffled = of(lam, held_out, batch)
        other, _ = of(untrained, held_out, batch)
        wanted = thresholds.residual * mean_of(shuffled)
        yield name, Measure(ours, {"shuffled": shuffled, "random_lam": other}, wanted=wanted)


def measure_effect(
    lam: LatentActionModel, held_out: HeldOut, codes: Sequence[int], batch: int, seed: int
) -> Iterator[tuple[str, Measure]]:
    """Agreement of the motion that each of these codes makes of many start frames."""
    chosen = _starts(held_out)
    common = torch.tensor(list(codes)[:MOST_CODES], device=lam.place.device)
    vectors = lam.quantizer.vector_of(common).detach().float().cpu()
    starts = repeat(held_out.frames[chosen, 0], "f c h w -> (f m) c h w", m=len(vectors))
    after = foretell(lam, starts, repeat(vectors, "m d -> (f m) d", f=len(chosen)), batch)
    moved = rearrange(main_motion(starts, after), "(f m) d -> f m d", m=len(vectors))
    source = held_out.source[chosen]
    yield (
        "effect",
        Measure(
            bootstrap(by_unit(_sums(moved), source), _share_of_codes),
            {"shuffled": float(_share_of_codes(_sums(_shuffled(moved, seed)).sum(axis=0)))},
        ),
    )


def _additivity(lam: LatentActionModel, held_out: HeldOut, batch: int) -> tuple[Interval, Interval]:
    a, b, c = (held_out.frames[:, place] for place in range(3))
    ab, bc, ac = (say(lam, *pair, batch).embedding for pair in ((a, b), (b, c), (a, c)))
    other = bc[torch.from_numpy(held_out.elsewhere())]
    return _residual(ac - ab - bc, ac, held_out), _residual(ac - ab - other, ac, held_out)


def _reversal(lam: LatentActionModel, held_out: HeldOut, batch: int) -> tuple[Interval, Interval]:
    a, b = held_out.frames[:, 0], held_out.frames[:, 1]
    ab, ba = say(lam, a, b, batch).embedding, say(lam, b, a, batch).embedding
    other = ba[torch.from_numpy(held_out.elsewhere())]
    return _residual(ba + ab, ab, held_out), _residual(other + ab, ab, held_out)


def _residual(left: torch.Tensor, whole: torch.Tensor, held_out: HeldOut) -> Interval:
    """Sum of lengths over sum of lengths: a mean of ratios would be that of the shortest vectors."""
    lengths = torch.stack([left.norm(dim=1), whole.norm(dim=1).clamp_min(1e-6)], dim=1)
    return bootstrap(by_unit(lengths.double().numpy(), held_out.source), ratio)


def _starts(held_out: HeldOut) -> np.ndarray:
    """One clip of every source, then a second one of each, until there are enough."""
    seen: dict[str, int] = {}
    turn = []
    for name in held_out.source.tolist():
        seen[name] = seen.get(name, 0) + 1
        turn.append(seen[name])
    return np.argsort(turn, kind="stable")[:STARTS]


def _sums(moved: np.ndarray) -> np.ndarray:
    """(frames, codes + 2, d): of each code the motion without the frame's mean; the sum of its squares; one."""
    inner = moved - moved.mean(axis=1, keepdims=True)
    squares = (inner**2).sum(axis=1, keepdims=True)
    ones = np.ones_like(squares)
    return np.concatenate([inner, squares, ones], axis=1)


def _share_of_codes(sums: np.ndarray) -> np.ndarray:
    frames = sums[..., -1, :]
    total = sums[..., -2, :].sum(axis=-1)
    between = ((sums[..., :-2, :] ** 2).sum(axis=-2) / frames).sum(axis=-1)
    return np.where(total > 1e-9, between / np.maximum(total, 1e-9), 0.0)


def _shuffled(moved: np.ndarray, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.stack([random.permutation(row) for row in moved])
