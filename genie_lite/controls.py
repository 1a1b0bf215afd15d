"""What one can do in a world, and the code that each thing stands for: codes themselves, or true actions.

    code_controls(world)        every code by its number; always there
    action_controls(run)        the actions of the run's labels; None where nothing was adapted

In a world that was trained on true actions (`models/condition.py`) these are its codes, and both say so.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from genie_lite.adapt.adapt import read_adapted
from genie_lite.adapt.config import AdaptConfig
from genie_lite.adapt.material import draw_budget
from genie_lite.adapt.policy import Policy
from genie_lite.adapt.prior import expect, load_prior
from genie_lite.adapt.reverse import (
    ActionToCode,
    FittedReverse,
    Pairs,
    fit_reverse,
    load_reverse,
    rests_on,
    save_reverse,
)
from genie_lite.adapt.supervised import ActionSpace
from genie_lite.artifact import is_finished, read_artifact
from genie_lite.config import parse
from genie_lite.data.labels import Labels, fingerprint
from genie_lite.data.shards.shards import Sample, ShardSet
from genie_lite.errors import UserError
from genie_lite.evals.transitions import label_transitions
from genie_lite.folder import demonstrated, labels_of, recipe_of, shards_of
from genie_lite.models.dynamics import DynamicsSpec
from genie_lite.models.lam import load_lam
from genie_lite.models.world import World


@dataclass(frozen=True)
class Controls:
    """What one can do in a world, and the code that each thing stands for.

    kind: codes themselves, a true choice, or a true vector. names: per code, per choice or per component. low, high:
    of a vector, the range of the labels, in its own units; empty otherwise. num_codes: of the world. reads_change:
    whether a vector means more beside the one before it, see `codes_of`. prior: what a picture leads one to expect.
    """

    kind: Literal["code", "discrete", "continuous"]
    names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    num_codes: int
    reads_change: bool = False
    reverse: ActionToCode | None = field(default=None, repr=False, compare=False)
    prior: Policy | None = field(default=None, repr=False, compare=False)

    @property
    def reads_frames(self) -> bool:
        """Whether an action means more beside the frame that it is taken at, see `codes_of`."""
        return self.reverse is not None and self.prior is not None

    def codes_of(
        self,
        action: Int[Tensor, " b"] | Float[Tensor, "b a"],
        before: Float[Tensor, "b a"] | None = None,
        frames: Float[Tensor, "b c h w"] | None = None,
    ) -> Int[Tensor, " b"]:
        """The likeliest code of each action.

        Args:
            action: numbers of codes or of choices, or vectors in their own units.
            before: the vectors one transition earlier, where `reads_change`; see `ActionToCode.probabilities`.
            frames: in [0, 1], that the actions are taken at, where `reads_frames`; without them an action has the same
                code everywhere.

        Raises:
            UserError: actions of another kind, shape or range.
        """
        if self.reverse is not None:
            expected = None if self.prior is None or frames is None else expect(self.prior, frames)
            return self.reverse.codes_of(action, before, expected).to(action.device)
        is_whole = not (action.is_floating_point() or action.dtype == torch.bool) and action.ndim == 1
        if not is_whole or (len(action) and not 0 <= int(action.min()) <= int(action.max()) < self.num_codes):
            raise UserError(
                f"action: found {action.tolist()}, expected integers from 0 to {self.num_codes - 1}"
            )
        return action.long()


def code_controls(world: World) -> Controls:
    """Every code by its number, or by its name in a world of true actions."""
    if world.actions:
        return _own(world.actions)
    names = tuple(str(code) for code in range(world.num_codes))
    return Controls("code", names, (), (), world.num_codes)


def action_controls(run: Path) -> Controls | None:
    """The true actions of an adapted run, or of one whose world was trained on them.

    The map to codes is read from the run, and made first where it was adapted before there was one: from its labels and
    the shots they are of, in seconds. It is kept where the run can be written to.

    Returns:
        None where the run was not adapted, and with a warning that says why where the map can neither be read nor
        made.

    Raises:
        UserError: no run here.
    """
    if names := _led_by(run):
        return _own(names)
    folder = run / "adapt"
    if not (folder / "adapt.json").is_file():
        return None
    try:
        reverse = _reverse_of(run)
    except UserError as error:
        warnings.warn(f"{run}: actions cannot be told apart, so there are codes only: {error}", stacklevel=2)
        return None
    kind, names = reverse.spec.kind, reverse.spec.names
    is_vector = kind == "continuous"
    return Controls(
        kind=kind,
        names=names,
        low=tuple(reverse.low.tolist()) if is_vector else (),
        high=tuple(reverse.high.tolist()) if is_vector else (),
        num_codes=reverse.num_codes,
        reads_change=reverse.spec.reads in ("change", "both"),
        reverse=reverse,
        prior=load_prior(folder, read_artifact(run / "lam", "lam").sha256),
    )


def _own(names: tuple[str, ...]) -> Controls:
    """Of a world whose codes are its actions."""
    return Controls("discrete", names, (), (), len(names))


def _led_by(run: Path) -> tuple[str, ...]:
    """Names of the true actions that the world of a run was trained on."""
    if not is_finished(run / "dynamics"):
        return ()
    artifact = read_artifact(run / "dynamics", "dynamics")
    return parse(artifact.config, DynamicsSpec, str(run / "dynamics")).sizes.actions


def _reverse_of(run: Path) -> ActionToCode:
    folder, parents = run / "adapt", read_adapted(run / "adapt").summary["parents"]
    found = read_artifact(run / "lam", "lam").sha256
    if parents.get("lam") != found:
        raise UserError(
            f"{folder}: was adapted to another latent action model (lam {parents.get('lam')}, found {found}); "
            "run genie-lite run to adapt again"
        )
    if rests_on(folder) == parents:
        return load_reverse(folder)
    fitted = _fit_again(run)
    try:
        save_reverse(folder, fitted, parents)
    except OSError as error:
        warnings.warn(f"{folder}: the map from actions to codes is not kept ({error})", stacklevel=3)
    return fitted.reverse


def _fit_again(run: Path) -> FittedReverse:
    """The map that `adapt` would have written, from the same labels."""
    summary, recipe = read_adapted(run / "adapt").summary, recipe_of(run)
    config = parse(summary["config"], AdaptConfig, str(run / "adapt" / "adapt.json"))
    shards, labels = shards_of(recipe), labels_of(recipe)
    now = {"shards": shards.fingerprint, "labels": fingerprint(labels)}
    if changed := [name for name, each in now.items() if summary["parents"].get(name) != each]:
        raise UserError(f"{run / 'adapt'}: {' and '.join(changed)} are not those it was adapted with")
    usable = demonstrated(_with_transitions(labels, shards), config.demonstrations)
    budget, lam = draw_budget(usable, config, summary["seed"]), load_lam(run / "lam")
    rows = label_transitions(lam, _shots_of(budget, shards), budget)
    one_hot = np.eye(budget.num_actions, dtype=np.float32)
    action, before = (
        one_hot[each] if budget.kind == "discrete" else each for each in (rows.action, rows.before)
    )
    pairs = Pairs(
        action=torch.from_numpy(action),
        before=torch.from_numpy(np.where(rows.follows[:, None], before, np.float32("nan"))),
        code=torch.from_numpy(rows.code),
        episodes=rows.episode,
        actions=ActionSpace(budget.kind, budget.names),
        num_codes=lam.num_codes,
    )
    return fit_reverse(pairs, config.mapping, summary["seed"])


def _with_transitions(labels: Labels, shards: ShardSet) -> Labels:
    """The labels of frames that a transition of the training split begins with."""
    metas = [sample.meta for sample in shards.samples("train")]
    native = [np.asarray(meta["source_frames"][:-1], dtype=np.int64) for meta in metas]
    source = np.repeat([meta["source"] for meta in metas], [len(each) for each in native])
    rows = labels.locate(source, np.concatenate(native))
    kept = np.zeros(len(labels), dtype=bool)
    kept[rows[rows >= 0]] = True
    return labels.select(kept)


def _shots_of(labels: Labels, shards: ShardSet) -> Iterator[Sample]:
    """Shots of the labelled episodes."""
    episodes = set(labels.episodes)
    return (sample for sample in shards.samples("train") if sample.meta["source"] in episodes)
