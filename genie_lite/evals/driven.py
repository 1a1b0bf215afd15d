"""How well a world follows true actions, on held-out episodes whose actions are known.

    true actions ─▶ codes ─▶ world   driven      what whoever plays with real actions gets
    frames ─LAM──▶ codes ─▶ world    inferred    what the world can do where codes are read off what happened
    drawn actions ▶ codes ─▶ world   drawn       the same actions, of other moments: nothing is followed

All three begin from the same frames, with the same noise, and are compared with what really followed. An inferred code
knows what happened, a wall for instance, and an action does not: `driven` need not reach `inferred`, but a map that is
any good leaves `drawn` behind. A world that was trained on true actions has no inferred codes to be compared with.

Figures that tell of the map alone. `code_accuracy`: share of transitions whose code is the one that the action is
turned into, beside that of the same map without the frame (`blind_accuracy`), and of always saying the commonest.
`round_trip`, of the map without the frame: of the transitions whose code an action is turned into, the share that have
this action; means over actions as frequent as they are; 1 where every action has a code of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from genie_lite.data.labels import Labels
from genie_lite.data.loading.loader import Clip, to_frames
from genie_lite.evals import fidelity
from genie_lite.evals.fidelity import compare
from genie_lite.evals.interval import bootstrap, by_unit, mean_over
from genie_lite.evals.rollout import Continuation
from genie_lite.evals.transitions import Transitions
from genie_lite.evals.tree import to_tree
from genie_lite.models.world import World
from genie_lite.types import Interval

Frames = UInt8[np.ndarray, "rows h w c"]
# (true actions, those one transition before or NaN, the frames that they are taken at) -> codes, of rows
ToCodes = Callable[
    [Int[Tensor, " b"] | Float[Tensor, "b a"], Float[Tensor, "b a"] | None, Float[Tensor, "b c h w"] | None],
    Int[Tensor, " b"],
]


@dataclass(frozen=True)
class MapScore:
    """How well actions are turned into codes, on held-out transitions. round_trip: None for vectors."""

    transitions: int
    code_accuracy: Interval
    blind_accuracy: Interval
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


@dataclass(frozen=True)
class Known:
    """A batch of windows of which every action is known.

    action: per transition, true choices or vectors. before: vectors one transition earlier, NaN before the first;
    None for choices.
    """

    clip: Clip
    action: Int[Tensor, "b k"] | Float[Tensor, "b k a"]
    before: Float[Tensor, "b k a"] | None


def known_actions(clips: Sequence[Clip], labels: Labels) -> list[Known]:
    """The windows of which every transition has a label, with their true actions."""
    kept: list[Known] = []
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
        action = torch.from_numpy(labels.action[at[rows]])
        before = None
        if action.ndim == 3:
            before = torch.cat([torch.full_like(action[:, :1], torch.nan), action[:, :-1]], dim=1)
        kept.append(Known(_rows_of(clip, rows), action, before))
    return kept


def deal(known: Sequence[Known], seed: int) -> list[Known]:
    """The same windows, each transition led by the action of another one, of any window."""
    order = torch.randperm(
        sum(each.action.shape[:2].numel() for each in known), generator=torch.Generator().manual_seed(seed)
    )

    def dealt(columns: Sequence[Tensor]) -> list[Tensor]:
        rows = torch.cat([each.flatten(0, 1) for each in columns])[order]
        parts = rows.split([each.shape[:2].numel() for each in columns])
        return [part.view_as(each) for part, each in zip(parts, columns, strict=True)]

    action = dealt([each.action for each in known])
    if any(each.before is None for each in known):
        return [replace(each, action=own) for each, own in zip(known, action, strict=True)]
    before = dealt([each.before for each in known if each.before is not None])
    return [
        replace(each, action=own, before=last) for each, own, last in zip(known, action, before, strict=True)
    ]


@torch.inference_mode()
def lead(
    world: World,
    known: Sequence[Known],
    codes_of: ToCodes,
    *,
    prompt_frames: int,
    horizon: int,
    seed: int = 0,
) -> list[Continuation]:
    """Let the world continue windows under their actions, each turned into a code at the frame that the world shows.

    The same noise as that of `continue_clips`.
    """
    made = []
    for number, each in enumerate(known):
        frames = each.clip.frames[:, : prompt_frames + horizon]
        prompt, target = frames[:, :prompt_frames], frames[:, prompt_frames:]
        state, frame = world.reset(prompt, seed + number), prompt[:, -1]
        sampled, codes = [], []
        for k in range(prompt_frames - 1, prompt_frames - 1 + horizon):
            before = None if each.before is None else each.before[:, k]
            codes.append(codes_of(each.action[:, k], before, frame).to(frame.device))
            state, frame = world.step(state, codes[-1])
            sampled.append(frame)
        made.append(
            Continuation(
                prompt,
                target,
                torch.stack(codes, dim=1),
                torch.stack(sampled, dim=1),
                tuple(each.clip.source),
                seed + number,
            )
        )
    return made


def score_map(
    held_out: Transitions, frames: Frames, codes_of: ToCodes, num_codes: int, batch: int = 256
) -> MapScore:
    """Score a map from actions to codes on labelled transitions of held-out episodes, at least one.

    Args:
        held_out: the transitions.
        frames: the first frame of each, uint8 `rows h w c`.
        codes_of: the map.
        num_codes: of the alphabet.
        batch: rows that are asked for at once.
    """
    action = torch.from_numpy(held_out.action)
    is_choice = action.ndim == 1
    before = None
    if not is_choice:
        before = torch.from_numpy(np.where(held_out.follows[:, None], held_out.before, np.float32("nan")))

    def ask(rows: slice) -> Tensor:
        last = None if before is None else before[rows]
        return codes_of(action[rows], last, to_frames(frames[rows]))

    said = torch.cat([ask(slice(at, at + batch)) for at in range(0, len(action), batch)]).numpy()
    blind = codes_of(action, before, None).numpy()
    usual = np.bincount(held_out.code, minlength=num_codes).argmax()
    return MapScore(
        transitions=len(held_out),
        code_accuracy=mean_over(said == held_out.code, held_out.episode),
        blind_accuracy=mean_over(blind == held_out.code, held_out.episode),
        commonest_accuracy=mean_over(held_out.code == usual, held_out.episode),
        round_trip=_round_trip(held_out, blind) if is_choice else None,
    )


def score_drive(
    driven: Sequence[Continuation],
    drawn: Sequence[Continuation],
    inferred: Sequence[Continuation] | None,
    horizons: Sequence[int],
) -> DriveScore:
    """Compare rollouts of true actions with those of drawn ones, and of inferred codes where there are any.

    Args:
        driven: rollouts that true actions led.
        drawn: those that dealt ones led, of the same windows and noise.
        inferred: those of inferred codes, likewise.
        horizons: 1 is the first sampled frame.
    """
    ours, others = _errors(driven), _errors(drawn)
    theirs = None if inferred is None else _errors(inferred)
    episodes = np.asarray([name for each in driven for name in each.episodes])

    def psnr(error: np.ndarray) -> dict[int, Interval]:
        return {t: fidelity.psnr_db(error[:, t - 1], episodes) for t in horizons}

    def gain(reference: np.ndarray) -> dict[int, Interval]:
        return {t: fidelity.gain_db(ours[:, t - 1], reference[:, t - 1], episodes) for t in horizons}

    return DriveScore(
        psnr_db=psnr(ours),
        drawn_psnr_db=psnr(others),
        inferred_psnr_db={} if theirs is None else psnr(theirs),
        control_db=gain(others),
        to_inferred_db={} if theirs is None else gain(theirs),
    )


def _rows_of(clip: Clip, rows: np.ndarray) -> Clip:
    chosen = rows.tolist()
    parts = {
        name: [getattr(clip, name)[row] for row in chosen] for name in ("source", "start", "frame_index")
    }
    return replace(clip, frames=clip.frames[chosen], key=[], dt_s=[], weight=None, **parts)


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


def _errors(continuations: Sequence[Continuation]) -> np.ndarray:
    return np.concatenate([compare(each.sampled, each.target).error for each in continuations])
