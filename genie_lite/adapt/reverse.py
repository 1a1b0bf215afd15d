"""From a true action to a latent one, so that a world of codes can be driven by real actions.

    ChoiceToCode    choice -> how often each code went with it            (discrete)
    VectorToCode    vector, or its change -> small network -> codes       (continuous)

Learnt from the same few labelled transitions as the mapping the other way (`mapping.py`), and scored on held-out
folds of them beside the commonest code. Neither sees a frame. Where one action leads to several codes (walking into a
wall is one thing, walking another) whoever knows the frame brings what it leads one to expect (`prior.py`); without
it the likeliest is taken, of nearly equals the rarer one, which speaks less
of other actions: argmax p(code | action) / p(code) ** RARITY. By counts alone "left" and "right" may both become the
code that both often lead to; by lift, with an exponent of 1, a code seen once with a rare choice beats the one that
this choice nearly always leads to. Means over 30 draws of 200 labels, scored on held-out episodes of two games:

    exponent    right codes         actions likeliest of their code
    0           0.49 and 0.41       0.89 and 0.36
    0.25        0.49 and 0.42       0.98 and 0.36
    1           0.48 and 0.20       0.99 and 0.34

A robot's action is often a pose, of which a transition says little; its change since the last action says more.
Which of them is read, or both, is decided on the folds.

    reverse.safetensors   weights, or counts
    reverse.json          actions, score, and what it rests on; written last

Source: the inverse of Genie's dictionary, arXiv:2402.15391, section 3.3. Differs: held-out score, vectors.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from safetensors import SafetensorError
from torch import Tensor, nn

from genie_lite.adapt.continuous import previous
from genie_lite.adapt.mapping import MappingConfig, MappingInput, MLPMapping, fit_mapping, folds
from genie_lite.adapt.material import Material
from genie_lite.adapt.supervised import ActionSpace, Kind
from genie_lite.artifact import read_weights, write_weights
from genie_lite.card import read_card
from genie_lite.config import Config, parse
from genie_lite.errors import UserError
from genie_lite.files import write_json

FORMAT = 1
WEIGHTS_FILE, CARD_FILE = "reverse.safetensors", "reverse.json"
CARD_KEYS = {"spec": dict, "score": dict, "parents": dict, "sha256": str}
RARITY = 0.25
PRIOR = 1.0  # transitions that every choice is thought to have been seen with, spread like all codes
Reads = Literal["choice", "action", "change", "both"]
VECTOR_READS: tuple[Reads, ...] = ("action", "change", "both")


class ReverseSpec(Config):
    """All that is needed to build an `ActionToCode` again.

    names: of the choices, or of the vector's components. num_codes: of the world. num_seen: how many of them the
    labels hold; no other is ever said. reads: the choice, the vector, its change since the action before, or both.
    """

    kind: Kind
    names: tuple[str, ...] = Field(min_length=1)
    num_codes: int = Field(ge=1)
    num_seen: int = Field(ge=1)
    reads: Reads
    hidden: int = Field(default=128, ge=1)
    depth: int = Field(default=2, ge=0)


class ActionToCode(nn.Module, ABC):
    """True actions in, codes out."""

    codes: Int[Tensor, " seen"]
    usual: Float[Tensor, " seen"]
    low: Float[Tensor, " a"]
    high: Float[Tensor, " a"]
    rest: Float[Tensor, " a"]

    def __init__(self, spec: ReverseSpec) -> None:
        super().__init__()
        self.spec = spec
        width = len(spec.names)
        self.register_buffer("codes", torch.zeros(spec.num_seen, dtype=torch.int64))
        self.register_buffer("usual", torch.full((spec.num_seen,), 1 / spec.num_seen))  # share of each code
        self.register_buffer("low", torch.zeros(width))  # of the labels, in the action's own units
        self.register_buffer("high", torch.ones(width))
        self.register_buffer("rest", torch.zeros(width))  # the labels' mean

    @property
    def actions(self) -> ActionSpace:
        """What goes in."""
        return ActionSpace(self.spec.kind, self.spec.names)

    @property
    def num_codes(self) -> int:
        """Of the world."""
        return self.spec.num_codes

    @torch.no_grad()
    def probabilities(
        self, action: Int[Tensor, " b"] | Float[Tensor, "b a"], before: Float[Tensor, "b a"] | None = None
    ) -> Float[Tensor, "b num_codes"]:
        """How likely each code is to be seen where the action is taken; sums to 1.

        Args:
            action: choices, or vectors in their own units.
            before: the vectors one transition earlier, for what reads changes; without them, or where one is NaN,
                the change is counted from the labels' mean. Choices do without.

        Raises:
            UserError: actions of another kind, shape or range.
        """
        over_seen = self._answer(action, before)
        spread = over_seen.new_zeros(len(over_seen), self.num_codes)
        return spread.index_copy_(1, self.codes, over_seen)

    @torch.no_grad()
    def codes_of(
        self,
        action: Int[Tensor, " b"] | Float[Tensor, "b a"],
        before: Float[Tensor, "b a"] | None = None,
        expected: Float[Tensor, "b num_codes"] | None = None,
    ) -> Int[Tensor, " b"]:
        """The likeliest code of each action; without `expected`, of nearly equals the rarer one.

        Args:
            action: see `probabilities`.
            before: likewise.
            expected: how likely each code is where the actions are taken, before one knows them (`prior.py`).
        """
        over_seen = self._answer(action, before)
        if expected is None:
            return self.codes[pick(over_seen, self.usual)]
        likelihood = over_seen / self.usual
        return self.codes[(likelihood * expected.to(over_seen.device)[:, self.codes]).argmax(dim=1)]

    def _answer(self, action: Tensor, before: Tensor | None) -> Tensor:
        self._check(action)
        return self._over_seen(action.to(self.codes.device), before)

    @abstractmethod
    def _over_seen(self, action: Tensor, before: Tensor | None) -> Tensor:
        """Probabilities of the codes that the labels hold."""

    @abstractmethod
    def _check(self, action: Tensor) -> None:
        """Refuse what is no action of this kind."""


class ChoiceToCode(ActionToCode):
    """A table; a choice without labels answers with how often each code was seen at all."""

    table: Float[Tensor, "a seen"]

    def __init__(self, spec: ReverseSpec) -> None:
        super().__init__(spec)
        self.register_buffer("table", torch.full((len(spec.names), spec.num_seen), 1 / spec.num_seen))

    def fit(self, action: Int[Tensor, " rows"], seen: Int[Tensor, " rows"]) -> "ChoiceToCode":
        """Count; `seen` is a code's place in `codes`."""
        self.table.copy_(table_of(action, seen, *self.table.shape))
        return self

    def _over_seen(self, action: Tensor, before: Tensor | None) -> Tensor:
        return self.table[action]

    def _check(self, action: Tensor) -> None:
        num = len(self.spec.names)
        is_whole = not (action.is_floating_point() or action.dtype == torch.bool)
        if not (is_whole and action.ndim == 1) or (
            len(action) and not (int(action.min()) >= 0 and int(action.max()) < num)
        ):
            raise UserError(
                f"action: found {action.tolist()}, expected integers from 0 to {num - 1} ({', '.join(self.spec.names)})"
            )


class VectorToCode(ActionToCode):
    """A small network over the standardised vector, its change, or both."""

    def __init__(self, spec: ReverseSpec) -> None:
        super().__init__(spec)
        width = len(spec.names) * (2 if spec.reads == "both" else 1)
        self.net = MLPMapping(width, spec.num_seen, spec.hidden, spec.depth, is_discrete=True)

    def _over_seen(self, action: Tensor, before: Tensor | None) -> Tensor:
        last = self.rest.expand_as(action) if before is None else before.to(action.device)
        last = torch.where(last.isnan(), self.rest, last)
        return self.net(_input(read(self.spec.reads, action.float(), last.float())))

    def _check(self, action: Tensor) -> None:
        width = len(self.spec.names)
        is_right = action.is_floating_point() and action.ndim == 2 and action.shape[1] == width
        if not is_right or not bool(action.isfinite().all()):
            raise UserError(
                f"action: found {list(action.shape)} of {action.dtype}, expected finite floats [batch, {width}] "
                f"({', '.join(self.spec.names)})"
            )


@dataclass(frozen=True)
class Pairs:
    """Labelled transitions: what was done, and the code of what was seen.

    action: one-hot choices, or vectors in their own units. before: like action, one transition earlier, NaN where no
    label within the budget says it. code: of the transition. episodes: of each row, rows in time within each.
    actions, num_codes: what there is to choose from, on either side.
    """

    action: Float[Tensor, "rows a"]
    before: Float[Tensor, "rows a"]
    code: Int[Tensor, " rows"]
    episodes: np.ndarray
    actions: ActionSpace
    num_codes: int

    def of(self, rows: Tensor) -> "Pairs":
        """Those of a mask."""
        chosen = self.episodes[rows.numpy()]
        return Pairs(
            self.action[rows], self.before[rows], self.code[rows], chosen, self.actions, self.num_codes
        )


@dataclass(frozen=True)
class ReverseScore:
    """On labels that were not seen, in whole-episode folds where there are enough episodes.

    transitions: rows. accuracy: share of them whose code is the one that `codes_of` says; commonest_accuracy: where
    always the commonest code is said. loss_nats, commonest_loss_nats: cross-entropy of the same two. tried: loss of
    each way to read a vector.
    """

    transitions: int
    accuracy: float
    commonest_accuracy: float
    loss_nats: float
    commonest_loss_nats: float
    tried: dict[str, float]


@dataclass(frozen=True)
class FittedReverse:
    """A reverse map, and how good it is."""

    reverse: ActionToCode
    score: ReverseScore


def pairs_of(material: Material) -> Pairs:
    """The labelled transitions, within the budget, of what an adaptation is made from."""
    rows = np.flatnonzero(material.labelled)
    last = previous(material)[rows]
    before = material.target[np.maximum(last, 0)].clone()
    before[torch.from_numpy((last < 0) | ~material.labelled[last])] = torch.nan
    return Pairs(
        action=material.target[rows],
        before=before,
        code=material.given.code[rows],
        episodes=material.source[rows],
        actions=material.actions,
        num_codes=material.num_codes,
    )


def fit_reverse(pairs: Pairs, config: MappingConfig, seed: int) -> FittedReverse:
    """Learn action -> code from labelled transitions, and score it on held-out folds of them.

    Args:
        pairs: at least two; of vectors, those whose action before is known count, where there are two of them.
        config: folds, and sizes and steps of the network that reads vectors.
        seed: of the network's weights and batches.
    """
    assert len(pairs.code) >= 2, "one row cannot be held out from itself"
    if pairs.actions.kind == "discrete":
        return _fit_choices(pairs, config)
    follows = ~pairs.before.isnan().any(dim=1)
    return _fit_vectors(pairs.of(follows) if int(follows.sum()) >= 2 else pairs, config, seed)


def save_reverse(folder: Path, fitted: FittedReverse, parents: Mapping[str, str]) -> None:
    """Write `reverse.safetensors`, then `reverse.json`, which names what the map rests on."""
    sha256 = write_weights(folder / WEIGHTS_FILE, fitted.reverse)
    card = {
        "format": FORMAT,
        "spec": json.loads(fitted.reverse.spec.model_dump_json()),
        "score": asdict(fitted.score),
        "parents": dict(parents),
        "sha256": sha256,
    }
    write_json(folder / CARD_FILE, card)


def rests_on(folder: Path) -> dict[str, str] | None:
    """Hashes of what the reverse map of a folder was made from; None where there is none.

    Raises:
        UserError: there is a damaged one.
    """
    return _card(folder)["parents"] if (folder / CARD_FILE).is_file() else None


def load_reverse(folder: Path) -> ActionToCode:
    """Load a saved reverse map, in evaluation mode.

    Raises:
        UserError: there is none, another format, or weights that do not match the card.
    """
    path = folder / CARD_FILE
    if not path.is_file():
        raise UserError(f"{folder}: no map from actions to codes here ({CARD_FILE} is missing); run adapt")
    card = _card(folder)
    reverse = build(parse(card["spec"], ReverseSpec, str(path)))
    try:
        weights = read_weights(folder / WEIGHTS_FILE, card["sha256"], CARD_FILE, f"delete {path}")
        reverse.load_state_dict(weights, strict=True)
    except (RuntimeError, SafetensorError) as error:
        raise UserError(f"{path}: does not describe the weights beside it; delete it") from error
    return reverse.eval()


def build(spec: ReverseSpec) -> ActionToCode:
    """A map of the shape that a spec tells, without its weights."""
    return ChoiceToCode(spec) if spec.kind == "discrete" else VectorToCode(spec)


def read(reads: Reads, action: Float[Tensor, "rows a"], before: Float[Tensor, "rows a"]) -> Tensor:
    """What the network is shown of a vector and the one before it."""
    parts = {"action": [action], "change": [action - before], "both": [action, action - before]}
    return torch.cat(parts[reads], dim=1)


def pick(probability: Float[Tensor, "rows seen"], usual: Float[Tensor, "*rows seen"]) -> Int[Tensor, " rows"]:
    """The code to take, from how likely each is under an action and how frequent it is under all."""
    return (probability / usual**RARITY).argmax(dim=1)


def table_of(
    action: Int[Tensor, " rows"], seen: Int[Tensor, " rows"], num_actions: int, num_seen: int
) -> Float[Tensor, "num_actions num_seen"]:
    """Probability of each code under each choice: counts, and a prior of one transition spread like all codes."""
    counts = torch.zeros(num_actions, num_seen)
    counts.index_put_((action, seen), torch.ones(len(seen)), accumulate=True)
    usual = counts.sum(dim=0, keepdim=True) + 1 / num_seen
    counts = counts + PRIOR * usual / usual.sum()
    return counts / counts.sum(dim=1, keepdim=True)


def _card(folder: Path) -> dict[str, Any]:
    return read_card(
        folder / CARD_FILE, "a card of a map from actions to codes", FORMAT, CARD_KEYS, "it is made again"
    )


def _fit_choices(pairs: Pairs, config: MappingConfig) -> FittedReverse:
    codes, seen = pairs.code.unique(return_inverse=True)
    action, sizes = pairs.action.argmax(dim=1), (pairs.action.shape[1], len(codes))
    fold = folds(pairs.episodes, config.folds)
    held_out = torch.zeros(len(seen), len(codes))
    for held in fold.unique():
        held_out[fold == held] = table_of(action[fold != held], seen[fold != held], *sizes)[
            action[fold == held]
        ]
    reverse = ChoiceToCode(_spec(pairs, "choice", config)).fit(action, seen)
    _measure(reverse, pairs, codes, seen)
    return FittedReverse(reverse.eval(), _score(held_out, seen, fold, {}))


def _fit_vectors(pairs: Pairs, config: MappingConfig, seed: int) -> FittedReverse:
    codes, seen = pairs.code.unique(return_inverse=True)
    target, rest = F.one_hot(seen, len(codes)).float(), pairs.action.mean(dim=0)
    before = torch.where(pairs.before.isnan(), rest, pairs.before)
    network = config.model_copy(update={"kind": "mlp"})
    found = {
        reads: fit_mapping(
            _input(read(reads, pairs.action, before)),
            target,
            pairs.episodes,
            len(codes),
            network,
            is_discrete=True,
            seed=seed,
        )
        for reads in VECTOR_READS
    }
    tried = {reads: fitted.held_out["mlp"] for reads, fitted in found.items()}
    best = min(VECTOR_READS, key=lambda reads: tried[reads])
    reverse = VectorToCode(_spec(pairs, best, config))
    reverse.net.load_state_dict(found[best].mapping.state_dict())
    _measure(reverse, pairs, codes, seen)
    score = _score(found[best].predictions, seen, folds(pairs.episodes, config.folds), tried)
    return FittedReverse(reverse.eval(), score)


def _spec(pairs: Pairs, reads: Reads, config: MappingConfig) -> ReverseSpec:
    return ReverseSpec(
        kind=pairs.actions.kind,
        names=pairs.actions.names,
        num_codes=pairs.num_codes,
        num_seen=len(pairs.code.unique()),
        reads=reads,
        hidden=config.hidden,
        depth=config.depth,
    )


def _measure(reverse: ActionToCode, pairs: Pairs, codes: Tensor, seen: Tensor) -> None:
    """Take the codes, how frequent each is, and the actions' range from the labels."""
    reverse.codes.copy_(codes)
    reverse.usual.copy_(table_of(torch.zeros_like(seen), seen, 1, len(codes))[0])
    reverse.low.copy_(pairs.action.amin(dim=0))
    reverse.high.copy_(pairs.action.amax(dim=0))
    reverse.rest.copy_(pairs.action.mean(dim=0))


def _score(held_out: Tensor, seen: Tensor, fold: Tensor, tried: dict[str, float]) -> ReverseScore:
    usual = _commonest(seen, fold, held_out.shape[1])
    return ReverseScore(
        transitions=len(seen),
        accuracy=_share(pick(held_out, usual) == seen),
        commonest_accuracy=_share(usual.argmax(dim=1) == seen),
        loss_nats=_nats(held_out, seen),
        commonest_loss_nats=_nats(usual, seen),
        tried=tried,
    )


def _commonest(seen: Tensor, fold: Tensor, num_seen: int) -> Float[Tensor, "rows seen"]:
    """How often each code occurs in the other folds: what one says who does not know the action."""
    always = torch.zeros_like(seen)
    rows = [table_of(always[fold != held], seen[fold != held], 1, num_seen) for held in fold]
    return torch.cat(rows)


def _share(right: Tensor) -> float:
    return float(right.float().mean())


def _nats(probability: Tensor, seen: Tensor) -> float:
    likely = probability.gather(1, seen[:, None]).clamp_min(1e-3)  # as `mapping.py` scores
    return float(-likely.log().mean())


def _input(context: Tensor) -> MappingInput:
    return MappingInput(torch.zeros(len(context), dtype=torch.int64), context)
