"""How well a world follows true actions, on held-out episodes whose actions are known.

    true actions ─▶ codes ─▶ world   driven      what whoever plays with real actions gets
    frames ─LAM──▶ codes ─▶ world    inferred    what the world can do where codes are read off what happened
    drawn actions ▶ codes ─▶ world   drawn       the same actions, of other moments: nothing is followed

All three begin from the same frames, with the same noise, and are compared with what really followed. An inferred code
knows what happened, a wall for instance, and an action does not: `driven` need not reach `inferred`, but a map that is
any good leaves `drawn` behind. A world that was trained on true actions has no inferred codes to be compared with.

Two figures tell of the map alone. `code_accuracy`: share of transitions whose code is the one that the action is turned
into, beside always saying the commonest. `round_trip`: of the transitions whose code an action is turned into, the
share that have this action; means over actions as frequent as they are; 1 where every action has a code of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from genie_lite.data.labels import Labels
from genie_lite.data.loading.loader import Clip
from genie_lite.evals import fidelity
from genie_lite.evals.fidelity import compare
from genie_lite.evals.interval import bootstrap, by_unit, mean_over
from genie_lite.evals.rollout import Continuation
from genie_lite.evals.transitions import Transitions
from genie_lite.evals.tree import to_tree
from genie_lite.models.world import World
from genie_lite.types import Interval

# (true actions, those one transition before or NaN) -> codes, of rows
ToCodes = Callable[[Int[Tensor, " b"] | Float[Tensor, "b a"], Float[Tensor, "b a"] | None], Int[Tensor, " b"]]


@dataclass(frozen=True)
class MapScore:
    """How well actions are turned into codes, on held-out transitions. round_trip: None for vectors."""

    transitions: int
    code_accuracy: Interval
    commonest_accuracy: Interval
    round_trip: Interval | None


@dataclass(frozen=True)
class DriveScore:
    """Per horizon t (frames after the prompt): PSNR in dB, with intervals over episodes.

    psnr_db: driven by true actions. drawn_psnr_db: by actions of other moments. inferred_psnr_db: by inferred codes.
    control_db: driven minus drawn, above 0 when actions are followed. to_inferred_db: driven minus inferred. The last
    two about inferred codes are empty for a world of true actions.
    """

    psnr_db: dict[int, Interval]
    drawn_psnr_db: dict[int, Interval]
    inferred_psnr_db: dict[int, Interval]
    control_db: dict[int, Interval]
    to_inferred_db: dict[int, Interval]

    def tree(self) -> dict[str, Any]:
        """Plain data, for the section `drive` of evaluate.json."""
        return to_tree(self)


def known_actions(
    clips: Sequence[Clip], labels: Labels, codes_of: ToCodes
) -> tuple[list[Clip], list[Int[Tensor, "b k"]]]:
    """The windows of which every transition has a label, and the codes that their true actions stand for."""
    kept: list[Clip] = []
    codes: list[Tensor] = []
    for clip in clips:
        index = np.asarray(clip.frame_index, dtype=np.int64)
        first = index[:, :-1]
        at = labels.locate(np.repeat(clip.source, first.shape[1]), first.ravel()).reshape(first.shape)
        whole = (at >= 0).all(axis=1)
        if labels.kind == "discrete":
            whole &= (np.diff(index, axis=1) == 1).all(axis=1)
        if not whole.any():
            continue
        rows = np.flatnonzero(whole)
        part = _rows_of(clip, rows)
        action = labels.action[at[rows]]
        found = [_codes_at(action, k, codes_of) for k in range(action.shape[1])]
        kept.append(part)
        codes.append(torch.stack(found, dim=1).to(part.frames.device))
    return kept, codes


def score_map(held_out: Transitions, codes_of: ToCodes, num_codes: int) -> MapScore:
    """Score a map from actions to codes on labelled transitions of held-out episodes, at least one."""
    action = torch.from_numpy(held_out.action)
    is_choice = action.ndim == 1
    before = None
    if not is_choice:
        before = torch.from_numpy(np.where(held_out.follows[:, None], held_out.before, np.float32("nan")))
    said = codes_of(action, before).numpy()
    usual = np.bincount(held_out.code, minlength=num_codes).argmax()
    return MapScore(
        transitions=len(held_out),
        code_accuracy=mean_over(said == held_out.code, held_out.episode),
        commonest_accuracy=mean_over(held_out.code == usual, held_out.episode),
        round_trip=_round_trip(held_out, said) if is_choice else None,
    )


def score_drive(
    world: World,
    driven: Sequence[Continuation],
    inferred: Sequence[Continuation] | None,
    horizons: Sequence[int],
    seed: int = 0,
) -> DriveScore:
    """Compare rollouts of true actions with those of drawn ones, and of inferred codes where there are any.

    Args:
        world: that made them.
        driven: rollouts whose codes are those of true actions.
        inferred: of the same windows and noise.
        horizons: 1 is the first sampled frame.
        seed: of the order in which actions are dealt out to other moments.
    """
    ours, drawn = _errors(driven), _errors(_dealt(world, driven, seed))
    theirs = None if inferred is None else _errors(inferred)
    episodes = np.asarray([name for each in driven for name in each.episodes])

    def psnr(error: np.ndarray) -> dict[int, Interval]:
        return {t: fidelity.psnr_db(error[:, t - 1], episodes) for t in horizons}

    def gain(reference: np.ndarray) -> dict[int, Interval]:
        return {t: fidelity.gain_db(ours[:, t - 1], reference[:, t - 1], episodes) for t in horizons}

    return DriveScore(
        psnr_db=psnr(ours),
        drawn_psnr_db=psnr(drawn),
        inferred_psnr_db={} if theirs is None else psnr(theirs),
        control_db=gain(drawn),
        to_inferred_db={} if theirs is None else gain(theirs),
    )


def _rows_of(clip: Clip, rows: np.ndarray) -> Clip:
    chosen = rows.tolist()
    parts = {
        name: [getattr(clip, name)[row] for row in chosen] for name in ("source", "start", "frame_index")
    }
    return replace(clip, frames=clip.frames[chosen], key=[], dt_s=[], weight=None, **parts)


def _codes_at(action: np.ndarray, k: int, codes_of: ToCodes) -> Tensor:
    """The codes of the k-th transition of some windows, the action before it known but for the first."""
    now = torch.from_numpy(action[:, k])
    if action.ndim == 2:
        return codes_of(now, None)
    before = torch.from_numpy(action[:, k - 1]) if k else torch.full_like(now, torch.nan)
    return codes_of(now, before)


def _round_trip(held_out: Transitions, said: np.ndarray) -> Interval:
    """See on top. A table of each episode: how often each action met each code that any action is turned into."""
    num_actions, codes = int(held_out.action.max()) + 1, np.unique(said)
    code_of = np.full(num_actions, -1)
    code_of[held_out.action] = np.searchsorted(codes, said)
    met = (held_out.code[:, None] == codes[None]).astype(float)
    table = np.zeros((len(met), num_actions, len(codes) + 1))
    table[np.arange(len(met)), held_out.action, :-1] = met
    table[np.arange(len(met)), held_out.action, -1] = 1  # all transitions, whatever their code

    def statistic(sums: np.ndarray) -> np.ndarray:
        total = sums[..., :-1].sum(axis=-2)
        share = sums[..., :-1] / np.maximum(total, 1e-9)[..., None, :]
        own = share[..., np.arange(num_actions), code_of] * (code_of >= 0)
        return (own * sums[..., -1]).sum(axis=-1) / np.maximum(sums[..., -1].sum(axis=-1), 1e-9)

    return bootstrap(by_unit(table, held_out.episode), statistic)


def _dealt(world: World, driven: Sequence[Continuation], seed: int) -> list[Continuation]:
    """The same rollouts, each transition led by the action of another one, of any window."""
    codes = torch.cat([each.codes.flatten() for each in driven])
    order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(seed)).to(codes.device)
    parts = codes[order].split([each.codes.numel() for each in driven])
    made = []
    for each, part in zip(driven, parts, strict=True):
        dealt = part.view_as(each.codes)
        made.append(replace(each, codes=dealt, sampled=world.rollout(each.prompt, dealt, each.seed)))
    return made


def _errors(continuations: Sequence[Continuation]) -> np.ndarray:
    return np.concatenate([compare(each.sampled, each.target).error for each in continuations])
