"""From a latent action to a true one, learnt from a few labelled transitions.

    DictionaryMapping   code -> how often each action went with it           (discrete; Genie)
    MLPMapping          embeddings around the transition -> action           (both kinds; LAPO, CLAM)
    RidgeMapping        the same, linear with a closed form                  (continuous)

All are `nn.Module`s from `MappingInput` to one row of numbers per transition: the probability of each
action, or the action in its own units. None sees the frames: given the frame, a mapping becomes a policy that
clones the few labels. Which one is used, and for how long it is trained, is decided on held-out folds of
the labels alone.

Sources: Genie, arXiv:2402.15391, section 3.3 (dictionary); LAPO, arXiv:2312.10812 (decoder of latents).
Differs: Genie draws one real action per code; here the whole distribution is kept, and `choose` draws.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from genie_lite.adapt.supervised import ActionSpace
from genie_lite.artifact import write_weights
from genie_lite.config import Config
from genie_lite.errors import UserError
from genie_lite.files import write_json
from genie_lite.latents.table import Latents

MappingKind = Literal["dictionary", "mlp", "ridge"]
FULL_BATCH = 1024  # labels; a few hundred are one batch, many are drawn from
MOST_COLUMNS = (
    256  # one-hot columns of a token; of larger alphabets few labels say nothing, and embeddings tell them
)
CHECK_EVERY = 10  # steps between looks at the held-out fold
RIDGE_STRENGTHS = tuple(float(10.0**power) for power in range(-2, 6))


class MappingConfig(Config):
    """How to learn a mapping."""

    kind: Literal["auto", "dictionary", "mlp", "ridge"] = "auto"
    before: int = Field(default=0, ge=0)  # earlier transitions whose embeddings are read too
    after: int = Field(default=0, ge=0)  # later ones; relabelling is done offline, so the future may help
    hidden: int = Field(default=128, ge=1)
    depth: int = Field(default=2, ge=0)  # hidden layers of the MLP
    lr: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=0.03, ge=0)
    steps: int = Field(default=400, ge=1)  # at most; the held-out folds decide how many
    folds: int = Field(default=5, ge=2)
    relabel: Literal["mode", "sample", "soft"] = "soft"  # see `choose`


@dataclass(frozen=True)
class MappingInput:
    """What a mapping may look at, one row per transition.

    code: index of the latent action. context: embeddings from `before` to `after` the transition, side by
    side (zero beyond the ends of the shot), and each token of the code once more as one-hot, unless its alphabet
    is larger than 256.
    """

    code: Int[Tensor, " rows"]
    context: Float[Tensor, "rows d"]

    def __getitem__(self, rows: Tensor) -> "MappingInput":
        return MappingInput(self.code[rows], self.context[rows])

    def __len__(self) -> int:
        return len(self.code)


def mapping_input(latents: Latents, num_codes: int, before: int, after: int) -> MappingInput:
    """Gather what mappings read. All rows must be valid, in the order of extraction; shots may touch."""
    assert latents.valid.all()
    embedding = torch.from_numpy(latents.embedding).float()
    code = torch.from_numpy(latents.code).long()
    shot = torch.from_numpy(np.unique(latents.key, return_inverse=True)[1])
    place = torch.arange(len(code))
    context = []
    for shift in range(-before, after + 1):
        other = (place + shift).clamp(0, max(len(code) - 1, 0))
        same_shot = (shot[other] == shot) & (other == place + shift)
        context.append(embedding[other] * same_shot[:, None])
    return MappingInput(code, torch.cat([*context, _one_hot(latents, num_codes)], dim=1))


def _one_hot(latents: Latents, num_codes: int) -> Float[Tensor, "rows columns"]:
    tokens = torch.from_numpy(latents.tokens).long()
    num_tokens = tokens.shape[1]
    alphabet = round(num_codes ** (1 / num_tokens))
    assert alphabet**num_tokens == num_codes, "every token has the same alphabet"
    if alphabet > MOST_COLUMNS:
        return torch.zeros(len(tokens), 0)
    return rearrange(F.one_hot(tokens, alphabet).float(), "rows m codes -> rows (m codes)")


class DictionaryMapping(nn.Module):
    """Counts of actions per code; a code without labels answers with the counts of all."""

    counts: Float[Tensor, "num_codes num_actions"]

    def __init__(self, num_codes: int, num_actions: int) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(num_codes, num_actions))

    def fit(self, given: MappingInput, target: Float[Tensor, "rows num_actions"]) -> "DictionaryMapping":
        """Count; `target` has one row of probabilities (usually one-hot) per transition."""
        self.counts.zero_().index_add_(0, given.code, target)
        return self

    def forward(self, given: MappingInput) -> Float[Tensor, "rows num_actions"]:
        total = self.counts.sum(dim=1, keepdim=True)
        counts = torch.where(total > 0, self.counts, self.counts.sum(dim=0, keepdim=True))
        counts = torch.where(counts.sum() > 0, counts, 1.0)
        return (counts / counts.sum(dim=1, keepdim=True))[given.code]


class _FromContext(nn.Module):
    """Reads the context: standardises it, and brings the answers back to the actions' units."""

    mean: Float[Tensor, " d"]
    std: Float[Tensor, " d"]
    action_mean: Float[Tensor, " num_actions"]
    action_std: Float[Tensor, " num_actions"]

    def __init__(self, width: int, num_actions: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.register_buffer("action_mean", torch.zeros(num_actions))
        self.register_buffer("action_std", torch.ones(num_actions))

    def measure(self, context: Float[Tensor, "rows d"]) -> None:
        """Take the scale of the inputs from these; a column that never changes is left at zero."""
        self.mean.copy_(context.mean(dim=0))
        self.std.copy_(context.std(dim=0, unbiased=False).clamp_min(1e-3))

    def standardised(self, given: MappingInput) -> Float[Tensor, "rows d"]:
        return (given.context - self.mean) / self.std

    def in_units(self, normalised: Float[Tensor, "rows num_actions"]) -> Float[Tensor, "rows num_actions"]:
        return normalised * self.action_std + self.action_mean


class MLPMapping(_FromContext):
    """The context through a small network."""

    def __init__(self, width: int, num_actions: int, hidden: int, depth: int, is_discrete: bool) -> None:
        super().__init__(width, num_actions)
        self.is_discrete = is_discrete
        sizes = [width, *[hidden] * depth]
        layers = [nn.Sequential(nn.Linear(a, b), nn.GELU()) for a, b in pairwise(sizes)]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], num_actions))

    def raw(self, given: MappingInput) -> Float[Tensor, "rows num_actions"]:
        """Logits of the actions, or the normalised action."""
        return self.layers(self.standardised(given))

    def forward(self, given: MappingInput) -> Float[Tensor, "rows num_actions"]:
        return self.raw(given).softmax(dim=1) if self.is_discrete else self.in_units(self.raw(given))


class RidgeMapping(_FromContext):
    """Linear map from the standardised context, with a penalty on its size."""

    weight: Float[Tensor, "d num_actions"]
    bias: Float[Tensor, " num_actions"]

    def __init__(self, width: int, num_actions: int) -> None:
        super().__init__(width, num_actions)
        self.register_buffer("weight", torch.zeros(width, num_actions))
        self.register_buffer("bias", torch.zeros(num_actions))

    def fit(
        self, given: MappingInput, target: Float[Tensor, "rows num_actions"], strength: float
    ) -> "RidgeMapping":
        """Solve for the weights; the bias is not penalised."""
        self.measure(given.context)
        rows = self.standardised(given).double()
        bias = target.double().mean(dim=0)
        gram = rows.T @ rows + strength * torch.eye(rows.shape[1], dtype=torch.float64)
        self.weight.copy_(torch.linalg.solve(gram, rows.T @ (target.double() - bias)))
        self.bias.copy_(bias)
        return self

    def forward(self, given: MappingInput) -> Float[Tensor, "rows num_actions"]:
        return self.in_units(self.standardised(given) @ self.weight + self.bias)


Mapping = DictionaryMapping | MLPMapping | RidgeMapping
CLASSES: dict[MappingKind, type[Mapping]] = {
    "dictionary": DictionaryMapping,
    "mlp": MLPMapping,
    "ridge": RidgeMapping,
}


@dataclass(frozen=True)
class Fitted:
    """A mapping and how it was chosen.

    held_out: loss of each candidate on labels it had not seen (cross-entropy in nats, or mean squared error
    of normalised actions). accuracy: of each candidate's likeliest action on those labels; empty if
    continuous. choice: number of steps of the MLP, strength of the ridge, nothing for the dictionary. predictions: what
    the chosen one said of each row without having seen it (probabilities, or normalised actions).
    """

    mapping: Mapping
    kind: MappingKind
    held_out: dict[str, float]
    accuracy: dict[str, float]
    choice: float
    predictions: Float[Tensor, "rows num_actions"]


@dataclass(frozen=True)
class _Task:
    """What every candidate is tried on. target: normalised if continuous. fold: of each row."""

    given: MappingInput
    target: Tensor
    fold: Tensor
    num_codes: int
    config: MappingConfig
    is_discrete: bool
    seed: int

    def splits(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows to learn from and rows to be scored on, once per fold."""
        for held in self.fold.unique():
            yield torch.nonzero(self.fold != held)[:, 0], torch.nonzero(self.fold == held)[:, 0]

    def loss(self, prediction: Tensor) -> float:
        """Cross-entropy in nats, or mean squared error."""
        if not self.is_discrete:
            return float(F.mse_loss(prediction, self.target))
        return float(-(self.target * prediction.clamp_min(1e-3).log()).sum(dim=1).mean())

    def accuracy(self, prediction: Tensor) -> float:
        """Share of the rows whose likeliest action is the true one."""
        return float((prediction.argmax(1) == self.target.argmax(1)).float().mean())


@dataclass(frozen=True)
class _Candidate:
    """predictions: held-out rows as predicted without them. choice: see `Fitted`. build: on all labels."""

    predictions: Tensor
    choice: float
    build: Callable[[], Mapping]


def fit_mapping(
    given: MappingInput,
    target: Float[Tensor, "rows num_actions"],
    episodes: Sequence[str] | np.ndarray,
    num_codes: int,
    config: MappingConfig,
    *,
    is_discrete: bool,
    seed: int,
) -> Fitted:
    """Learn a mapping from labelled transitions.

    Args:
        given: rows of the labelled transitions, episode by episode and in time.
        target: one-hot actions, or actions in their own units.
        episodes: episode of each row; folds are whole episodes, or blocks of time if there are few.
        num_codes: size of the alphabet.
        config: candidates and their sizes. "auto" tries dictionary and MLP, or ridge and MLP.
        is_discrete: whether `target` holds choices.
        seed: of the initial weights and of the batches.

    Raises:
        UserError: the kind of mapping does not fit the kind of actions.
    """
    assert len(given) >= 2, "one row cannot be held out from itself"
    mean, std = torch.zeros(target.shape[1]), torch.ones(target.shape[1])
    if not is_discrete:
        mean, std = target.mean(dim=0), target.std(dim=0, unbiased=False)
        std = torch.where(std > 1e-6, std, 1.0)
        target = (target - mean) / std
    kinds = _candidates(config.kind, is_discrete)
    task = _Task(given, target, folds(episodes, config.folds), num_codes, config, is_discrete, seed)
    candidates = {kind: _try(kind, task) for kind in kinds}
    losses = {kind: task.loss(each.predictions) for kind, each in candidates.items()}
    right = {kind: task.accuracy(each.predictions) for kind, each in candidates.items() if is_discrete}
    # Relabelling uses the likeliest actions, so accuracy decides; the loss breaks ties.
    best = min(kinds, key=lambda kind: (-right.get(kind, 0.0), losses[kind]))
    mapping = candidates[best].build()
    if isinstance(mapping, _FromContext):
        mapping.action_mean.copy_(mean)
        mapping.action_std.copy_(std)
    return Fitted(mapping, best, losses, right, candidates[best].choice, candidates[best].predictions)


def save_mapping(
    folder: Path, mapping: Mapping, actions: ActionSpace, num_codes: int, config: MappingConfig
) -> None:
    """Write `mapping.safetensors` (normalisers included) and `mapping.json`, which says how to read it."""
    sha256 = write_weights(folder / "mapping.safetensors", mapping)
    kind = next(name for name, cls in CLASSES.items() if isinstance(mapping, cls))
    card = {
        "format": 1,
        "kind": kind,
        "actions": {"kind": actions.kind, "names": list(actions.names)},
        "num_codes": num_codes,
        "context_width": 0 if isinstance(mapping, DictionaryMapping) else len(mapping.mean),
        "config": config.model_dump(),
        "sha256": sha256,
    }
    write_json(folder / "mapping.json", card)


def folds(episodes: Sequence[str] | np.ndarray, num_folds: int) -> Int[Tensor, " rows"]:
    """Fold of each row: whole episodes where there are enough of them, else equal blocks of time.

    Neighbouring transitions resemble each other, so rows are never dealt out one by one.
    """
    _, first, where = np.unique(np.asarray(episodes, dtype=str), return_index=True, return_inverse=True)
    num_episodes = len(first)
    if num_episodes >= 3:
        order = np.argsort(np.argsort(first))  # number episodes as they come
        return torch.from_numpy(order[where] % min(num_folds, num_episodes))
    rows = len(where)
    return torch.from_numpy(np.arange(rows) * min(num_folds, max(rows, 1)) // max(rows, 1))


def choose(
    probability: Float[Tensor, "rows num_actions"],
    how: Literal["mode", "sample", "soft"],
    generator: torch.Generator,
) -> Float[Tensor, "rows num_actions"]:
    """What a policy is told to do where only the chance of each action is known.

    Args:
        probability: of each action.
        how: "mode" tells the likeliest action, "sample" draws one (Genie), both one-hot; "soft" tells the
            probabilities themselves, which is what cloning many draws would learn.
        generator: of the draws.
    """
    if how == "soft":
        return probability.clone()
    if how == "mode":
        return F.one_hot(probability.argmax(dim=1), probability.shape[1]).float()
    drawn = torch.multinomial(probability, 1, generator=generator)[:, 0]
    return F.one_hot(drawn, probability.shape[1]).float()


def _candidates(kind: MappingKind | Literal["auto"], is_discrete: bool) -> tuple[MappingKind, ...]:
    allowed: tuple[MappingKind, ...] = ("dictionary", "mlp") if is_discrete else ("ridge", "mlp")
    if kind == "auto":
        return allowed
    if kind not in allowed:
        raise UserError(
            f"adapt.mapping.kind: '{kind}' does not fit {'discrete' if is_discrete else 'continuous'} "
            f"actions; expected auto, {' or '.join(allowed)}"
        )
    return (kind,)


def _try(kind: MappingKind, task: _Task) -> _Candidate:
    num_actions = task.target.shape[1]
    if kind == "mlp":
        return _try_mlp(task)
    if kind == "dictionary":
        return _choose(
            task,
            (0.0,),
            lambda rows, wanted, _: DictionaryMapping(task.num_codes, num_actions).fit(rows, wanted),
        )
    return _choose(
        task,
        RIDGE_STRENGTHS,
        lambda rows, wanted, strength: RidgeMapping(rows.context.shape[1], num_actions).fit(
            rows, wanted, strength
        ),
    )


def _choose(
    task: _Task, choices: Sequence[float], fit: Callable[[MappingInput, Tensor, float], Mapping]
) -> _Candidate:
    """Try every choice on every fold; keep the one with the smallest held-out loss."""
    tried = {}
    for choice in choices:
        predictions = torch.zeros_like(task.target)
        for seen, unseen in task.splits():
            mapping = fit(task.given[seen], task.target[seen], choice)
            predictions[unseen] = mapping(task.given[unseen])
        tried[choice] = predictions
    best = min(choices, key=lambda choice: task.loss(tried[choice]))
    return _Candidate(tried[best], best, lambda: fit(task.given, task.target, best))


def _try_mlp(task: _Task) -> _Candidate:
    """Train on each fold's complement, look at every few steps, and keep the number of steps that is best."""
    history: dict[int, Tensor] = {}
    for seen, unseen in task.splits():

        def look(step: int, mapping: MLPMapping, unseen: Tensor = unseen) -> None:
            history.setdefault(step, torch.zeros_like(task.target))[unseen] = mapping(task.given[unseen])

        _train_mlp(task, seen, task.config.steps, look)
    best = min(history, key=lambda step: task.loss(history[step]))
    everything = torch.arange(len(task.given))
    return _Candidate(history[best], float(best), lambda: _train_mlp(task, everything, best))


def _train_mlp(
    task: _Task, rows: Tensor, steps: int, look: Callable[[int, MLPMapping], None] | None = None
) -> MLPMapping:
    """Train on some rows for a number of steps; `look(steps done, mapping)` is called every few of them."""
    given, target, config = task.given[rows], task.target[rows], task.config
    generator = torch.Generator().manual_seed(task.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.seed)
        mapping = MLPMapping(
            given.context.shape[1], target.shape[1], config.hidden, config.depth, task.is_discrete
        )
    mapping.measure(given.context)
    optimizer = torch.optim.AdamW(mapping.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    for step in range(1, steps + 1):
        batch = torch.arange(len(given))
        if len(given) > FULL_BATCH:
            batch = torch.randint(len(given), (FULL_BATCH,), generator=generator)
        raw = mapping.raw(given[batch])
        loss = F.cross_entropy(raw, target[batch]) if task.is_discrete else F.mse_loss(raw, target[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if look is not None and (step % CHECK_EVERY == 0 or step == steps):
            with torch.no_grad():
                look(step, mapping)
    return mapping.eval()
