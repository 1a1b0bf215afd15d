"""Does the code carry the next picture instead of what was done?

    scene cut    a frame and the next frame of *another* video: a code that names actions cannot help there, so the
                 error must jump. Ratio of the errors across cuts and within shots, 1 if the picture passes through.
    S-PCFC       cosine of z(o[k-1], o[k]) and z(o[k+1], o[k]): opposite motions with the same last frame. 1 if the
                 code depends on the last frame alone.
    cycle        the code of A's transition is carried to B, named again there, and brought back to A. Of what the
                 right code gains A over a wrong one, the share that survives; and the ratio of the two errors.

Sources: scene cut and cycle, arXiv:2601.05230 (latent action world models in the wild), where errors across cuts are
2.0 to 2.5 times as large and those of cycles 1.03 to 1.34 times; S-PCFC, arXiv:2505.17006 (CoMo).
Differs: embeddings are centred before their cosine is taken, since a part that all of them share would look like a
leak; and triples whose outer frames are the same are left out.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F

from genie_lite.evals.interval import bootstrap, by_unit, mean_over, ratio
from genie_lite.inspect.held_out import HeldOut, error, foretell, say
from genie_lite.inspect.measure import Measure
from genie_lite.inspect.use import STILL_DB
from genie_lite.metrics import psnr_db
from genie_lite.models.lam import LatentActionModel
from genie_lite.types import Interval


def measure_leak(
    lam: LatentActionModel, untrained: LatentActionModel, held_out: HeldOut, batch: int
) -> Iterator[tuple[str, Measure]]:
    """The three tests above, on the first pairs and triples of all clips."""
    yield "scene_cut", _scene_cut(lam, held_out, batch)
    yield (
        "future_similarity",
        Measure(
            _future_similarity(lam, held_out, batch),
            {
                "random_lam": _future_similarity(untrained, held_out, batch),
                "shuffled": _future_similarity(lam, held_out, batch, shuffled=True),
            },
        ),
    )
    yield from _cycle(lam, held_out, batch)


def _scene_cut(lam: LatentActionModel, held_out: HeldOut, batch: int) -> Measure:
    here, there = held_out.frames[:, 0], held_out.frames[held_out.elsewhere(), 1]
    within = _error_of_pair(lam, here, held_out.frames[:, 1], batch)
    across = _error_of_pair(lam, here, there, batch)
    copies = np.stack([error(here, there), error(here, held_out.frames[:, 1])], axis=1)
    return Measure(
        bootstrap(by_unit(np.stack([across, within], axis=1), held_out.source), _ratio),
        {"copy_last": bootstrap(by_unit(copies, held_out.source), _ratio)},
    )


def _error_of_pair(
    lam: LatentActionModel, first: torch.Tensor, second: torch.Tensor, batch: int
) -> np.ndarray:
    said = say(lam, first, second, batch)
    return error(foretell(lam, first, said.vector, batch), second)


def _future_similarity(
    lam: LatentActionModel, held_out: HeldOut, batch: int, *, shuffled: bool = False
) -> Interval:
    before, at, after = held_out.frames[:, 0], held_out.frames[:, 1], held_out.frames[:, 2]
    forward = say(lam, before, at, batch).embedding.double()
    back = say(lam, after, at, batch).embedding.double()
    if shuffled:
        back = back[torch.from_numpy(held_out.elsewhere())]
    # A triple that ends where it began says nothing: there, both embeddings are the same by right.
    moved = psnr_db(before, after) < STILL_DB
    if not moved.any():
        return Interval(np.nan, np.nan, np.nan, 0)
    forward, back = forward[moved], back[moved]
    centre = torch.cat([forward, back]).mean(dim=0)
    # Rows that all lie on one point have no direction; the cosine calls them unlike, and `use` calls it a collapse.
    cosine = F.cosine_similarity(forward - centre, back - centre, dim=1, eps=1e-6)
    return mean_over(cosine.numpy(), held_out.source[moved.numpy()])


def _cycle(lam: LatentActionModel, held_out: HeldOut, batch: int) -> Iterator[tuple[str, Measure]]:
    partner = held_out.elsewhere()
    first, second = held_out.frames[:, 0], held_out.frames[:, 1]
    said = say(lam, first, second, batch)
    elsewhere = first[partner]
    carried = foretell(lam, elsewhere, said.vector, batch)
    returned = say(lam, elsewhere, carried, batch)
    wrong = said.vector[torch.from_numpy(partner)]
    own, back, other = (
        error(foretell(lam, first, vector, batch), second) for vector in (said.vector, returned.vector, wrong)
    )
    yield (
        "cycle",
        Measure(
            bootstrap(by_unit(np.stack([own, back, other], axis=1), held_out.source), _survives),
            {"shuffled": 0.0},
        ),
    )
    yield (
        "cycle_ratio",
        Measure(
            bootstrap(by_unit(np.stack([back, own], axis=1), held_out.source), _ratio),
            {"shuffled": bootstrap(by_unit(np.stack([other, own], axis=1), held_out.source), _ratio)},
        ),
    )


def _ratio(sums: np.ndarray) -> np.ndarray:
    """First over second; two errors of nothing are alike."""
    return ratio(sums + 1e-9)


def _survives(sums: np.ndarray) -> np.ndarray:
    own, back, other = (sums[..., place] for place in range(3))
    room = other - own
    # Where wrong codes do no harm there is nothing that could survive.
    return np.where(room > 1e-9, (other - back) / np.where(room > 1e-9, room, 1.0), 0.0)
