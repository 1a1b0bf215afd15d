"""Embeddings against labels one transition earlier, of the same one, and one later: which are told best?"""

import numpy as np

from genie_lite.evals.interval import mean_over
from genie_lite.inspect.labelled import Labelled, linear_reader, scale_of
from genie_lite.inspect.measure import Measure
from genie_lite.inspect.scores import Scores
from genie_lite.types import Interval

SHIFTS = (-1, 0, 1)


def measure_shift(rows: Labelled) -> Measure:
    """Embeddings against labels one transition earlier, the same, one later: the same should be told best."""
    moved = {shift: rows.at(shift) for shift in SHIFTS}
    everywhere = np.logical_and.reduce([known for _, known in moved.values()])
    train, test = rows.train & everywhere, rows.test & everywhere
    episode = rows.ours.source[test]
    if not train.any() or not test.any():
        return Measure(Interval(np.nan, np.nan, np.nan, 0))
    told, losses = {}, {}
    for shift, (action, _) in moved.items():
        guess = linear_reader(rows, rows.ours.embedding[train], action[train], np.ones(int(train.sum())))(
            rows.ours.embedding[test]
        )
        mean = np.broadcast_to(action[train].mean(axis=0), guess.shape) if not rows.is_discrete else guess
        score = Scores({"guess": guess, "majority": mean}, action[test], scale_of(rows), episode)
        told[shift], losses[shift] = score.score("guess"), score.loss("guess")
    gains = {shift: mean_over(losses[shift] - losses[0], episode) for shift in SHIFTS if shift}
    worst = min(gains, key=lambda shift: gains[shift].mean)
    return Measure(
        gains[worst],
        {f"shift {shift:+d}": value for shift, value in told.items()},
        fact=ABOUT_SHIFT[worst] if gains[worst].high < 0 else "",
    )


ABOUT_SHIFT = {
    1: "Labels lag by one: row k tells the action of row k + 1, so it describes k + 1 \N{RIGHTWARDS ARROW} k + 2.",
    -1: "Labels lead by one: row k tells the action of row k \N{MINUS SIGN} 1, whose effect comes one transition late.",
}
