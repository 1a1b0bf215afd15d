"""With labels: how much of what was done do codes and embeddings tell, and is it said in the right row?

    code               one choice per transition          -> the commonest action of each code, or the mean
    embedding          the vector before the bottleneck   -> a linear reader, and MLP(128, 128)
    majority           nothing                            -> the commonest action, or the mean
    shuffled           codes of other transitions         -> what the reader gets from counting
    random_lam         the network before training        -> what shape and size give for nothing
    hold_last          the action before                  -> what inertia gives
    frame              frame k alone, with all labels     -> what the scene gives away (adapt/ceiling.py)
    supervised         frames k and k + 1, all labels     -> the most that this network could tell

Readers learn on the sources of the training split and are scored on those of the test split.
"""

from collections.abc import Iterator

import numpy as np

from genie_lite.adapt.ceiling import Sees, read_supervised
from genie_lite.adapt.idm import IDMConfig
from genie_lite.adapt.setting import Setting
from genie_lite.inspect.agreement import measure_information
from genie_lite.inspect.information import shuffled
from genie_lite.inspect.labelled import Labelled, linear_reader, scale_of
from genie_lite.inspect.measure import Measure
from genie_lite.inspect.readers import read_network
from genie_lite.inspect.scores import Scores
from genie_lite.inspect.shift import measure_shift
from genie_lite.models.lam import LatentActionModel
from genie_lite.types import Interval


def measure_actions(
    rows: Labelled, lam: LatentActionModel, config: IDMConfig, way: float, setting: Setting
) -> Iterator[tuple[str, Measure]]:
    """All checks that need labels, on the test split; `way` is the share of it that is asked for."""
    guesses = read(rows, lam, config, setting)
    truth, episode = rows.action[rows.test], rows.ours.source[rows.test]
    scores = Scores(guesses, truth, scale_of(rows), episode)
    common = {name: scores.score(name) for name in ("majority", "hold_last", "frame", "supervised")}
    for name, arm, base in (
        ("probe_code", "code", "random_lam"),
        ("probe_linear", "linear", "random_lam_linear"),
        ("probe_embedding", "embedding", "random_lam_embedding"),
    ):
        beside = common | {"random_lam": scores.score(base), "shuffled": scores.score("shuffled")}
        gains = [scores.gain(arm, over) for over in ("majority", base)]
        yield name, Measure(scores.score(arm), beside, decides=min(gains, key=_low))
    if rows.is_discrete:
        yield from _balanced(rows, scores, setting.seed)
    yield "beyond_frame", Measure(scores.gain("embedding", "frame"), {"frame": common["frame"]})
    # A linear reader decides: the deeper one gets nearly as far on the untrained network's embedding of some footage.
    others = {"code": "code", "random_lam": "random_lam_linear", "MLP(128, 128)": "embedding"}
    ways = {name: scores.way(arm, "majority", "supervised") for name, arm in others.items()}
    beyond = scores.beyond("linear", "majority", "supervised", way)
    yield "way", Measure(scores.way("linear", "majority", "supervised"), ways, decides=beyond)
    yield "shift", measure_shift(rows)
    yield from measure_information(rows, setting.seed)


def read(
    rows: Labelled, lam: LatentActionModel, config: IDMConfig, setting: Setting
) -> dict[str, np.ndarray]:
    """What every reader says of the test split."""
    train, test, num = rows.train, rows.test, rows.labels.num_actions
    even = np.ones(int(train.sum()))
    guesses = {}
    for spoken, code, linear, network in (
        (rows.ours, "code", "linear", "embedding"),
        (rows.other, "random_lam", "random_lam_linear", "random_lam_embedding"),
    ):
        guesses[code] = _read_code(rows, spoken.tokens[train], spoken.tokens[test], even)
        guesses[linear] = _read_vector(rows, spoken.embedding, even)
        guesses[network] = read_network(
            spoken.embedding[train],
            rows.action[train],
            even,
            num,
            rows.ours.source[train],
            spoken.embedding[test],
            setting.seed,
        )
    wrong_train, wrong_test = (shuffled(rows.ours.tokens[split], setting.seed) for split in (train, test))
    guesses["shuffled"] = _read_code(rows, wrong_train, wrong_test, even)
    guesses["majority"] = _nothing(rows)
    before, known = rows.at(-1)
    held = known if rows.is_discrete else known[:, None]
    guesses["hold_last"] = np.where(held[test], before[test], guesses["majority"])
    looks: dict[str, Sees] = {"frame": "still", "supervised": "transition"}
    for name, sees in looks.items():
        answer = read_supervised(
            lam.config,
            rows.footage,
            rows.labels,
            rows.ours.row[train],
            rows.ours.row[test],
            config,
            setting.named(f"a network that reads actions: {name}"),
            sees=sees,
            stride=rows.stride,
            eye=lam.eye,
        ).numpy()
        guesses[name] = answer.argmax(axis=1) if rows.is_discrete else answer
    return guesses


# --- readers ---------------------------------------------------------------------------------------------


def _read_vector(rows: Labelled, vector: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return linear_reader(rows, vector[rows.train], rows.action[rows.train], weight)(vector[rows.test])


def _read_code(rows: Labelled, seen: np.ndarray, unseen: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """By the table of what goes with each code; of several tokens linearly, since few of their mixtures are seen."""
    action = rows.action[rows.train]
    if seen.shape[1] > 1:
        sizes = np.maximum(seen.max(axis=0), unseen.max(axis=0)) + 1
        hot, other = (
            np.concatenate(
                [np.eye(size)[column] for size, column in zip(sizes, tokens.T, strict=True)], axis=1
            )
            for tokens in (seen, unseen)
        )
        return linear_reader(rows, hot, action, weight)(other)
    codes, where = np.unique(seen[:, 0], return_inverse=True)
    dense = np.eye(rows.labels.num_actions)[action] if rows.is_discrete else action.astype(np.float64)
    sums = np.zeros((len(codes) + 1, dense.shape[1]))
    np.add.at(sums, where, weight[:, None] * dense)
    sums[-1] = (weight[:, None] * dense).sum(axis=0)  # for a code never seen
    place = np.searchsorted(codes, unseen[:, 0]).clip(max=len(codes) - 1)
    place = np.where(codes[place] == unseen[:, 0], place, len(codes))
    if rows.is_discrete:
        return sums.argmax(axis=1)[place]
    count = np.append(np.bincount(where, weight, minlength=len(codes)), weight.sum())
    return (sums / count[:, None])[place]


def _nothing(rows: Labelled) -> np.ndarray:
    action, num = rows.action[rows.train], int(rows.test.sum())
    if rows.is_discrete:
        return np.full(num, np.bincount(action).argmax())
    return np.broadcast_to(action.mean(axis=0, dtype=np.float64), (num, action.shape[1]))


def _balanced(rows: Labelled, scores: Scores, seed: int) -> Iterator[tuple[str, Measure]]:
    """The same with readers that weigh every choice alike; a guess of always the commonest one gets 1 / choices."""
    train, test, num = rows.train, rows.test, rows.labels.num_actions
    count = np.bincount(rows.action[train], minlength=num)
    weight = (train.sum() / ((count > 0).sum() * np.maximum(count, 1)))[rows.action[train]]
    guesses = {
        "code": _read_code(rows, rows.ours.tokens[train], rows.ours.tokens[test], weight),
        "embedding": read_network(
            rows.ours.embedding[train],
            rows.action[train],
            weight,
            num,
            rows.ours.source[train],
            rows.ours.embedding[test],
            seed,
        ),
    }
    even = Scores(guesses, rows.action[test], scale_of(rows), rows.ours.source[test])
    beside = {name: scores.balanced(name, num) for name in ("majority", "frame", "supervised")}
    yield "balanced_code", Measure(even.balanced("code", num), beside)
    yield "balanced_embedding", Measure(even.balanced("embedding", num), beside)


# --- small things ----------------------------------------------------------------------------------------


def _low(interval: Interval) -> float:
    return interval.mean if np.isnan(interval.low) else interval.low
