"""Scores of predicted actions against true ones, as tables of sums per episode (see evals/interval.py).

One table holds all that is compared, so that every difference and every share is a paired one.
"""

from collections.abc import Mapping

import numpy as np

from genie_lite.evals.interval import bootstrap, by_unit
from genie_lite.types import Interval


class Scores:
    """Predictions by name on the same transitions: accuracy of choices, R² of vectors, and what lies between two.

    R² is that of standardised components; its total is taken around the mean of the training split.
    """

    def __init__(
        self, guesses: Mapping[str, np.ndarray], truth: np.ndarray, scale: np.ndarray, episode: np.ndarray
    ) -> None:
        """Compare once.

        Args:
            guesses: (rows,) integers or (rows, components) by name.
            truth: of the same shape.
            scale: (components,) standard deviation of each; not read for choices.
            episode: of every row.
        """
        self.is_discrete = truth.ndim == 1
        self._guesses, self._truth, self._episode = guesses, truth, episode
        # The loss of each row: 1 for a wrong choice, squared distance for a vector.
        self._loss = {
            name: (guess != truth).astype(float)
            if self.is_discrete
            else (((guess - truth) / scale) ** 2).sum(axis=1)
            for name, guess in guesses.items()
        }
        self._whole = (
            np.ones(len(truth)) if self.is_discrete else self._loss["majority"]
        )  # what the score is a share of

    def score(self, name: str) -> Interval:
        """Accuracy, or R²: 1 without an error; 0 for R² of the mean."""
        return self._of([name, None], lambda loss: 1 - loss[..., 0] / _positive(loss[..., 1]))

    def gain(self, name: str, over: str) -> Interval:
        """Score minus score, on the same episodes."""
        return self._of(
            [name, over, None], lambda loss: (loss[..., 1] - loss[..., 0]) / _positive(loss[..., 2])
        )

    def way(self, name: str, floor: str, ceiling: str) -> Interval:
        """How far from one score to another a third one lies: 0 at the floor, 1 at the ceiling.

        NaN where the ceiling is not surely above the floor: a share of nothing is any number.
        """
        if not self.gain(ceiling, floor).low > 0:
            return Interval(np.nan, np.nan, np.nan, len(np.unique(self._episode)))
        return self._of(
            [name, floor, ceiling],
            lambda loss: (
                (loss[..., 1] - loss[..., 0])
                / np.where(loss[..., 1] > loss[..., 2], loss[..., 1] - loss[..., 2], np.nan)
            ),
        )

    def beyond(self, name: str, floor: str, ceiling: str, share: float) -> Interval:
        """Score minus what lies at that share of the way; a difference, so it is steady where `way` is not."""
        return self._of(
            [name, floor, ceiling, None],
            lambda loss: (
                ((1 - share) * loss[..., 1] + share * loss[..., 2] - loss[..., 0]) / _positive(loss[..., 3])
            ),
        )

    def balanced(self, name: str, num_actions: int) -> Interval:
        """Recall averaged over the choices that occur; a choice that no drawn episode has does not count."""
        hits_and_rows = np.zeros((len(self._truth), num_actions, 2))
        rows = np.arange(len(self._truth))
        hits_and_rows[rows, self._truth, 0] = self._guesses[name] == self._truth
        hits_and_rows[rows, self._truth, 1] = 1
        return bootstrap(by_unit(hits_and_rows, self._episode), _mean_recall)

    def loss(self, name: str) -> np.ndarray:
        """Loss of each row: 0 or 1 for choices, squared distance for vectors."""
        return self._loss[name]

    def _of(self, names: list, statistic) -> Interval:
        columns = [self._whole if name is None else self._loss[name] for name in names]
        return bootstrap(by_unit(np.stack(columns, axis=1), self._episode), statistic)


def _positive(sums: np.ndarray) -> np.ndarray:
    return np.maximum(sums, 1e-9)


def _mean_recall(sums: np.ndarray) -> np.ndarray:
    hits, rows = sums[..., 0], sums[..., 1]
    recall = np.divide(hits, rows, out=np.zeros_like(hits), where=rows > 0)
    return recall.sum(axis=-1) / (rows > 0).sum(axis=-1)
