"""Which codes are in use, and what they have to do with the true actions.

usage       how many codes carry more than 0.5 % of the transitions, and how evenly (perplexity)
agreement   counts of code x action, with mutual information in two normalisations

Measures are of the whole alphabet. Lists by code are of all codes of a small one, and else of the commonest.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from genie_lite.metrics import code_usage, perplexity

IN_USE = 0.005  # a code that fewer transitions carry is an accident, not a word of the vocabulary
MOST_LISTED = 64  # codes that are listed one by one; more are nothing to look at, and megabytes of a report


@dataclass(frozen=True)
class Usage:
    """How a vocabulary is used.

    codes_used: codes that carry more than 0.5 % of the rows, unless asked otherwise.
    num_codes: codes there are.
    perplexity: 1 when one code carries everything, num_codes when all are equally frequent.
    share: of each code of the alphabet, sums to 1.
    """

    codes_used: int
    num_codes: int
    perplexity: float
    share: tuple[float, ...]

    def listing(self) -> dict[str, list[Any]]:
        """`codes` that are listed, see `listed`, and the `share` of each."""
        codes = listed(np.asarray(self.share))
        return {"codes": codes, "share": [self.share[code] for code in codes]}


@dataclass(frozen=True)
class Agreement:
    """Codes against true actions on the same transitions.

    counts: (codes listed, num_actions). action_names: of the columns. codes: of the rows, see `listed`.
    others: (num_actions,), of all codes that occur and are not listed. num_others: how many those are.
    nmi: mutual information over the mean of the two entropies, 0 independent, 1 one-to-one.
    ami: the same with the agreement expected by chance taken off; about 0 for shuffled codes.
    purity: share of the rows whose action is the commonest one of their code.
    """

    counts: tuple[tuple[int, ...], ...]
    action_names: tuple[str, ...]
    nmi: float
    ami: float
    purity: float
    codes: tuple[int, ...]
    others: tuple[int, ...]
    num_others: int


def listed(frequency: np.ndarray) -> list[int]:
    """The codes to list, in their order: all of a small alphabet, else the commonest of those that occur.

    Args:
        frequency: (codes,), of each code of the alphabet, in any unit.
    """
    if len(frequency) <= MOST_LISTED:
        return list(range(len(frequency)))
    commonest = np.argsort(-frequency, kind="stable")[:MOST_LISTED]
    return sorted(commonest[frequency[commonest] > 0].tolist())


def usage(code: np.ndarray, num_codes: int, at_least: float = IN_USE) -> Usage:
    """Usage of a vocabulary by integer codes of any shape, each in [0, num_codes).

    A code counts as used when more than the share `at_least` of the rows carry it.
    """
    index = torch.as_tensor(np.asarray(code)).reshape(-1)
    share = np.bincount(index.numpy(), minlength=num_codes) / max(len(index), 1)
    used = round(code_usage(index, num_codes, at_least) * num_codes)
    return Usage(used, num_codes, perplexity(index, num_codes), tuple(share.tolist()))


def agreement(code: np.ndarray, action: np.ndarray, num_codes: int, action_names: Sequence[str]) -> Agreement:
    """Agreement of integer codes and actions, both (rows,)."""
    counts = np.zeros((num_codes, len(action_names)), dtype=np.int64)
    np.add.at(counts, (code, action), 1)
    codes = listed(counts.sum(axis=1))
    others = np.delete(counts, codes, axis=0)
    return Agreement(
        counts=tuple(tuple(row) for row in counts[codes].tolist()),
        action_names=tuple(action_names),
        nmi=normalised_information(counts),
        ami=adjusted_information(counts),
        purity=float(counts.max(axis=1).sum() / counts.sum()),
        codes=tuple(codes),
        others=tuple(others.sum(axis=0).tolist()),
        num_others=int(others.any(axis=1).sum()),
    )


def normalised_information(counts: np.ndarray) -> float:
    """Mutual information over the arithmetic mean of both entropies, in [0, 1]; 0 if either is constant."""
    bound = (_entropy(counts.sum(axis=1)) + _entropy(counts.sum(axis=0))) / 2
    return _information(counts) / bound if bound > 0 else 0.0


def adjusted_information(counts: np.ndarray) -> float:
    """Mutual information above chance, over the most that could be above chance: at most 1, 0 by chance.

    Source: Vinh, Epps and Bailey 2010, arithmetic mean of the entropies as upper bound.
    """
    rows, columns = counts.sum(axis=1), counts.sum(axis=0)
    expected = _expected_information(rows[rows > 0], columns[columns > 0])
    bound = (_entropy(rows) + _entropy(columns)) / 2
    return (_information(counts) - expected) / (bound - expected) if bound - expected > 1e-12 else 0.0


def _entropy(counts: np.ndarray) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())


def _information(counts: np.ndarray) -> float:
    joint = counts / counts.sum()
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    seen = joint > 0
    return max(0.0, float((joint[seen] * np.log(joint[seen] / independent[seen])).sum()))


def _expected_information(rows: np.ndarray, columns: np.ndarray) -> float:
    """Mean mutual information over all tables with these margins (each cell is hypergeometric)."""
    total = int(rows.sum())
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, total + 1)))])
    expected = 0.0
    for row in rows.tolist():
        for column in columns.tolist():
            cell = np.arange(max(1, row + column - total), min(row, column) + 1)
            log_chance = (
                log_factorial[[row, column, total - row, total - column]].sum()
                - log_factorial[total]
                - log_factorial[cell]
                - log_factorial[row - cell]
                - log_factorial[column - cell]
                - log_factorial[total - row - column + cell]
            )
            gain = cell / total * (np.log(cell) + math.log(total) - math.log(row) - math.log(column))
            expected += float((gain * np.exp(log_chance)).sum())
    return expected
