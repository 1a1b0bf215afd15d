"""How much of the true action a latent action tells: small readers, split by episode, beside baselines.

    code       one choice per transition      -> the commonest action of each code; a linear reader of its tokens
    embedding  the vector before quantizing   -> a linear softmax, or ridge regression
    majority   nothing (mean, if continuous)  -> what anyone gets without looking
    random_lam the same network, untrained    -> what its shape and size give for nothing
    hold_last  the true action before         -> what inertia gives
    others     predictions handed in by name, such as a fully supervised inverse model

Discrete actions are scored by accuracy, and by balanced accuracy with readers that weigh every action alike;
continuous ones by R² of standardised components, per group. Transitions in which nothing moved stay in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from einops import rearrange

from genie_lite.data.labels import ACTION
from genie_lite.evals.interval import bootstrap, by_unit, mean_over
from genie_lite.evals.transitions import Transitions
from genie_lite.evals.tree import to_tree
from genie_lite.types import Interval

EVERYTHING = "all"
MOST_COLUMNS = 512  # one-hot columns of codes; those that are rarer in the training rows have none
# (arm, baseline): the comparisons that decide, each a paired difference on the same episodes.
COMPARED = (
    ("code", "majority"),
    ("code", "random_lam"),
    ("embedding", "majority"),
    ("embedding", "random_lam_embedding"),
)


@dataclass(frozen=True)
class Split:
    """Transitions to fit readers on and transitions to score them on; no episode is in both."""

    train: Transitions
    test: Transitions

    def __post_init__(self) -> None:
        """An episode on both sides would let a reader recognise it."""
        shared = set(self.train.episode) & set(self.test.episode)
        assert not shared, f"episodes in train and test: {sorted(shared)[:3]}"
        assert len(self.train), "the probe needs labelled transitions to fit on"
        assert len(self.test), "the probe needs labelled transitions to score on"


@dataclass(frozen=True)
class ProbeScore:
    """Scores by arm, in [0, 1] for accuracy, at most 1 for R². Intervals over test episodes.

    kind: "accuracy" or "r2". score: of each arm. balanced: balanced accuracy of each arm (accuracy only).
    groups: R² of each group of components, by arm (r2 only). change: share of the squared change since the
    action before that an arm explains, by arm and group (r2 only). gain: "a_over_b" paired differences.
    """

    kind: str
    score: dict[str, Interval]
    gain: dict[str, Interval]
    num_train: int
    num_test: int
    balanced: dict[str, Interval] = field(default_factory=dict)
    groups: dict[str, dict[str, Interval]] = field(default_factory=dict)
    change: dict[str, dict[str, Interval]] = field(default_factory=dict)

    def tree(self) -> dict[str, Any]:
        """The sections `probe` and `probe_balanced`, `_groups`, `_change`, `_gain`, `_about` of the report."""
        about = {
            "kind": self.kind,
            "action": ACTION,
            "train_transitions": self.num_train,
            "test_transitions": self.num_test,
        }
        sections = {
            "probe": self.score,
            "probe_balanced": self.balanced,
            "probe_groups": self.groups,
            "probe_change": self.change,
            "probe_gain": self.gain,
            "probe_about": about,
        }
        return {name: to_tree(section) for name, section in sections.items() if section}


def probe_discrete(
    trained: Split,
    untrained: Split,
    num_codes: int,
    num_actions: int,
    others: Mapping[str, np.ndarray] | None = None,
    num_tokens: int = 1,
) -> ProbeScore:
    """Read discrete actions from codes and embeddings.

    Args:
        trained: rows of the latent action model under test.
        untrained: the same transitions seen by the same network with random weights.
        num_codes: size of the alphabet of codes.
        num_actions: number of actions.
        others: (test rows,) integer predictions by name, in the order of `trained.test`.
        num_tokens: choices that a code is made of.
    """
    handed, codes = dict(others or {}), (num_codes, num_tokens)
    plain = _discrete_arms(trained, untrained, codes, num_actions, balanced=False) | handed
    even = _discrete_arms(trained, untrained, codes, num_actions, balanced=True) | handed
    test, truth = trained.test, trained.test.action
    hits = {name: (guess == truth).astype(float) for name, guess in plain.items()}
    return ProbeScore(
        kind="accuracy",
        score={name: mean_over(hit, test.episode) for name, hit in hits.items()},
        gain={
            f"{arm}_over_{base}": mean_over(hits[arm] - hits[base], test.episode) for arm, base in COMPARED
        },
        balanced={name: _balanced(guess, truth, num_actions, test.episode) for name, guess in even.items()},
        num_train=len(trained.train),
        num_test=len(test),
    )


def probe_continuous(
    trained: Split,
    untrained: Split,
    num_codes: int,
    groups: Mapping[str, Sequence[int]] | None = None,
    others: Mapping[str, np.ndarray] | None = None,
    given_last: Sequence[str] = (),
    num_tokens: int = 1,
) -> ProbeScore:
    """Read continuous actions from codes and embeddings.

    Args:
        trained: rows of the latent action model under test.
        untrained: the same transitions seen by the same network with random weights.
        num_codes: size of the alphabet of codes.
        groups: name to components of the action, such as {"left arm": [0, 1, 2]}.
        others: (test rows, components) predictions by name, in the order of `trained.test`.
        given_last: those of `others` that were given the action before; they are scored by what they add.
        num_tokens: choices that a code is made of.
    """
    arms = _continuous_arms(trained, untrained, (num_codes, num_tokens)) | dict(others or {})
    truth, episode = trained.test.action.astype(np.float64), trained.test.episode
    scale = _spread(trained.train.action)
    parts = dict(groups or {}) | {EVERYTHING: range(truth.shape[1])}

    def table(arm: str, part: str) -> np.ndarray:
        return _squares(arms[arm], truth, scale, list(parts[part]), episode)

    r2 = {arm: {part: bootstrap(table(arm, part), _r_squared) for part in parts} for arm in arms}
    pairs = [(arm, "mean" if base == "majority" else base) for arm, base in COMPARED]
    return ProbeScore(
        kind="r2",
        score={arm: by_part[EVERYTHING] for arm, by_part in r2.items()},
        gain={
            f"{arm}_over_{base}": bootstrap(
                np.stack([table(arm, EVERYTHING), table(base, EVERYTHING)], axis=1), _r_squared_gain
            )
            for arm, base in pairs
        },
        groups={arm: {part: each for part, each in r2[arm].items() if part != EVERYTHING} for arm in r2}
        if groups
        else {},
        change={
            arm: {
                part: bootstrap(
                    np.stack([table(arm, part), table("hold_last", part)], axis=1), _share_of_change
                )
                for part in parts
            }
            for arm in given_last
        },
        num_train=len(trained.train),
        num_test=len(trained.test),
    )


# --- codes as columns ------------------------------------------------------------------------------------


def code_columns(
    code: np.ndarray, unseen: np.ndarray, num_codes: int, num_tokens: int
) -> tuple[np.ndarray, np.ndarray]:
    """One-hot columns for a linear reader: of each token, and of the code as a whole.

    Of a large alphabet only the 512 commonest have a column, so that it costs no more than a small one.

    Args:
        code: (rows,), to learn from.
        unseen: (others,), to be read.
        num_codes: size of the alphabet of codes.
        num_tokens: choices that each is made of; with one, there are the codes' columns alone.
    """
    alphabet = round(num_codes ** (1 / num_tokens))
    places = [] if num_tokens == 1 else [alphabet**place for place in range(num_tokens)]
    pairs = [(code, unseen), *((code // place % alphabet, unseen // place % alphabet) for place in places)]
    columns = [_one_hot(*pair) for pair in pairs]
    return np.concatenate([each[0] for each in columns], 1), np.concatenate([each[1] for each in columns], 1)


def _one_hot(value: np.ndarray, unseen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    names, count = np.unique(value, return_counts=True)
    kept = np.sort(names[np.argsort(-count, kind="stable")[:MOST_COLUMNS]])
    return (value[:, None] == kept).astype(float), (unseen[:, None] == kept).astype(float)


# --- readers of discrete actions -------------------------------------------------------------------------


def _discrete_arms(
    trained: Split, untrained: Split, codes: tuple[int, int], num_actions: int, *, balanced: bool
) -> dict[str, np.ndarray]:
    arms = {}
    for split, code_name, vector_name in (
        (trained, "code", "embedding"),
        (untrained, "random_lam", "random_lam_embedding"),
    ):
        train, test = split.train, split.test
        weight = _row_weights(train.action, num_actions, balanced)
        arms[code_name] = _read_code(split, weight, codes, num_actions)
        arms[vector_name] = read_linear(train.embedding, train.action, weight, num_actions, test.embedding)
    commonest = int(np.bincount(trained.train.action, minlength=num_actions).argmax())
    arms["majority"] = np.full(len(trained.test), commonest)
    arms["hold_last"] = np.where(trained.test.follows, trained.test.before, commonest)
    return arms


def _read_code(split: Split, weight: np.ndarray, codes: tuple[int, int], num_actions: int) -> np.ndarray:
    train, test = split.train, split.test
    if codes[1] == 1:
        return look_up(train.code, train.action, weight, codes[0], num_actions)[test.code]
    seen, unseen = code_columns(train.code, test.code, *codes)
    return read_linear(seen, train.action, weight, num_actions, unseen)


def _row_weights(action: np.ndarray, num_actions: int, balanced: bool) -> np.ndarray:
    """1 for every row, or weights that give every action the same sum; mean 1 either way."""
    if not balanced:
        return np.ones(len(action))
    count = np.bincount(action, minlength=num_actions)
    return (len(action) / ((count > 0).sum() * np.maximum(count, 1)))[action]


def look_up(
    code: np.ndarray, action: np.ndarray, weight: np.ndarray, num_codes: int, num_actions: int
) -> np.ndarray:
    """The heaviest action of every code, (num_codes,); a code never seen gets the heaviest action of all."""
    counts = np.zeros((num_codes, num_actions))
    np.add.at(counts, (code, action), weight)
    return np.where(counts.sum(axis=1) > 0, counts.argmax(axis=1), counts.sum(axis=0).argmax())


def read_linear(
    vector: np.ndarray, action: np.ndarray, weight: np.ndarray, num_actions: int, unseen: np.ndarray
) -> np.ndarray:
    """Fit a linear softmax (L-BFGS, small weight decay) and return the likeliest action of unseen vectors."""
    centre, scale = vector.mean(axis=0), np.maximum(vector.std(axis=0), 1e-6)
    features = torch.from_numpy((vector - centre) / scale).double()
    target, row_weight = torch.from_numpy(action), torch.from_numpy(weight).double()
    matrix = torch.zeros(features.shape[1], num_actions, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(num_actions, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([matrix, bias], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        error = torch.nn.functional.cross_entropy(features @ matrix + bias, target, reduction="none")
        loss = (row_weight * error).mean() + 1e-4 * matrix.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    logits = torch.from_numpy((unseen - centre) / scale).double() @ matrix + bias
    return logits.argmax(dim=1).numpy()


# --- readers of continuous actions -----------------------------------------------------------------------


def _continuous_arms(trained: Split, untrained: Split, codes: tuple[int, int]) -> dict[str, np.ndarray]:
    arms = {}
    for split, code_name, vector_name in (
        (trained, "code", "embedding"),
        (untrained, "random_lam", "random_lam_embedding"),
    ):
        train, test = split.train, split.test
        seen, unseen = code_columns(train.code, test.code, *codes)
        arms[code_name] = read_ridge(seen, train.action, unseen)
        arms[vector_name] = read_ridge(train.embedding, train.action, test.embedding)
    mean = trained.train.action.mean(axis=0, dtype=np.float64)
    arms["mean"] = np.broadcast_to(mean, trained.test.action.shape)
    arms["hold_last"] = np.where(trained.test.follows[:, None], trained.test.before, mean)
    return arms


def read_ridge(vector: np.ndarray, action: np.ndarray, unseen: np.ndarray) -> np.ndarray:
    """Ridge regression on standardised vectors with a free intercept; predictions for unseen vectors."""
    centre, scale = vector.mean(axis=0, dtype=np.float64), _spread(vector)
    features, mean = (vector - centre) / scale, action.mean(axis=0, dtype=np.float64)
    gram = features.T @ features + np.eye(features.shape[1])
    weights = np.linalg.solve(gram, features.T @ (action - mean))
    return (unseen - centre) / scale @ weights + mean


def _spread(values: np.ndarray) -> np.ndarray:
    """Standard deviation of each column; 1 for a column that never changes."""
    spread = values.std(axis=0, dtype=np.float64)
    return np.where(spread > 1e-6, spread, 1.0)


# --- scores, as tables of sums per episode ---------------------------------------------------------------


def _balanced(guess: np.ndarray, truth: np.ndarray, num_actions: int, episode: np.ndarray) -> Interval:
    hits_and_rows = np.zeros((len(truth), num_actions, 2))
    rows = np.arange(len(truth))
    hits_and_rows[rows, truth, 0] = guess == truth
    hits_and_rows[rows, truth, 1] = 1
    return bootstrap(by_unit(hits_and_rows, episode), _mean_recall)


def _mean_recall(sums: np.ndarray) -> np.ndarray:
    """Recall averaged over the actions that occur."""
    hits, rows = sums[..., 0], sums[..., 1]
    recall = np.divide(hits, rows, out=np.zeros_like(hits), where=rows > 0)
    return recall.sum(axis=-1) / (rows > 0).sum(axis=-1)


def _squares(
    guess: np.ndarray, truth: np.ndarray, scale: np.ndarray, part: list[int], episode: np.ndarray
) -> np.ndarray:
    """(episodes, 4, components): squared residual, value, squared value, rows; all standardised."""
    value = truth[:, part] / scale[part]
    residual = (guess[:, part] / scale[part] - value) ** 2
    return by_unit(rearrange([residual, value, value**2, np.ones_like(value)], "s r c -> r s c"), episode)


def _r_squared(sums: np.ndarray) -> np.ndarray:
    """1 - residual / total, summed over the components; the total is around the mean of the drawn rows."""
    residual, value, square, rows = (sums[..., place, :] for place in range(4))
    total = (square - value**2 / rows).sum(axis=-1)
    return 1 - residual.sum(axis=-1) / np.maximum(total, 1e-9)


def _share_of_change(sums: np.ndarray) -> np.ndarray:
    """1 - residual / residual of the action before."""
    residual, held = (sums[..., arm, 0, :].sum(axis=-1) for arm in range(2))
    return 1 - residual / np.maximum(held, 1e-9)


def _r_squared_gain(sums: np.ndarray) -> np.ndarray:
    return _r_squared(sums[..., 0, :, :]) - _r_squared(sums[..., 1, :, :])
