"""Mutual information in bits between what a model says and what was done, with what chance gives taken off.

    code and choice        plug-in estimate, corrected for its bias (Miller 1955, Madow)
    vector and choice      nearest neighbours within a choice (Ross 2014, doi:10.1371/journal.pone.0087357)
    vector and vector      nearest neighbours in the joint space (Kraskov et al. 2004, arXiv:cond-mat/0305641, first)

Every estimate is a mean over rows, so every one of them comes as its rows: their mean over episodes has an interval,
and rows of shuffled partners say what chance gives. Distances are maximum norms of standardised columns. Neighbours
tell little in many dimensions, therefore `few_columns` first.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch

NEIGHBOURS = 3
MOST_ROWS = 2000  # of which all distances are taken
MOST_COLUMNS = 6
CHUNK = 256
JITTER = 1e-8  # breaks ties of equal rows, whose distance says nothing


def code_information(code: np.ndarray, choice: np.ndarray) -> np.ndarray:
    """Rows, in bits, of two integer columns; the mean is corrected for the bias of counting few rows."""
    codes, code = np.unique(code, return_inverse=True)
    choices, choice = np.unique(choice, return_inverse=True)
    counts = np.zeros((len(codes), len(choices)))
    np.add.at(counts, (code, choice), 1)
    joint = counts / len(code)
    chance = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    rows = np.log(joint[code, choice] / chance[code, choice])
    bias = ((counts > 0).sum() - len(codes) - len(choices) + 1) / (2 * len(code))
    return (rows - bias) / math.log(2)


def vector_choice_information(vector: np.ndarray, choice: np.ndarray) -> np.ndarray:
    """Rows, in bits, of vectors (rows, d) and integers; a choice that occurs once tells nothing and gives 0."""
    vector = _spread(vector)
    num, (_, where, count) = len(vector), np.unique(choice, return_inverse=True, return_counts=True)
    rows = np.zeros(num)
    for rows_of, distance in _distances(vector):
        alike = where[rows_of][:, None] == where
        size = count[where[rows_of]]
        nearest = np.minimum(NEIGHBOURS, size - 1)
        within = np.where(alike, distance, np.inf)
        within.sort(axis=1)
        radius = within[np.arange(len(within)), nearest]  # the row itself is at 0
        inside = (distance < np.where(np.isfinite(radius), radius, 0)[:, None]).sum(axis=1)  # itself too
        local = _psi(num) + _psi(np.maximum(nearest, 1)) - _psi(size) - _psi(np.maximum(inside, 1))
        rows[rows_of] = np.where(size > 1, local, 0.0)
    return rows / math.log(2)


def vector_information(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Rows, in bits, of two columns of vectors (rows, d), (rows, e)."""
    first, second = _spread(first), _spread(second)
    num = len(first)
    rows = np.zeros(num)
    for (rows_of, one), (_, other) in zip(_distances(first), _distances(second), strict=True):
        both = np.maximum(one, other)
        radius = np.partition(both, NEIGHBOURS, axis=1)[:, NEIGHBOURS, None]
        inside = [(each < radius).sum(axis=1) for each in (one, other)]  # the row itself makes them n + 1
        rows[rows_of] = _psi(NEIGHBOURS) + _psi(num) - _psi(inside[0]) - _psi(inside[1])
    return rows / math.log(2)


def few_columns(rows: np.ndarray, most: int = MOST_COLUMNS) -> np.ndarray:
    """The principal components of standardised columns, as many as neighbours can be told apart in."""
    centred = _standard(rows)
    if rows.shape[1] <= most:
        return centred
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    return centred @ directions[:most].T


def shuffled(rows: np.ndarray, seed: int) -> np.ndarray:
    """The same rows in another order: what they say of any other column is chance."""
    return rows[np.random.default_rng(seed).permutation(len(rows))]


def _standard(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float64)
    scale = rows.std(axis=0)
    return (rows - rows.mean(axis=0)) / np.where(scale > 1e-9, scale, 1.0)


def _spread(rows: np.ndarray) -> np.ndarray:
    """Standardised columns whose equal rows are not quite equal."""
    standard = _standard(rows.reshape(len(rows), -1))
    return standard + JITTER * np.random.default_rng(0).normal(size=standard.shape)


def _distances(rows: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Maximum norms from some rows to all, chunk by chunk."""
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        distance = np.zeros((len(part), len(rows)))
        for column in range(rows.shape[1]):
            np.maximum(distance, np.abs(part[:, column, None] - rows[:, column]), out=distance)
        yield slice(start, start + len(part)), distance


def _psi(values: np.ndarray | int) -> np.ndarray:
    return torch.digamma(torch.as_tensor(np.asarray(values, dtype=np.float64))).numpy()
