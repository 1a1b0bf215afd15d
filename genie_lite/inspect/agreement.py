"""How many bits codes and embeddings share with the action, and the table of codes by actions."""

from collections.abc import Iterator

import numpy as np

from genie_lite.evals.codes import Agreement, agreement
from genie_lite.evals.interval import mean_over
from genie_lite.inspect.information import (
    MOST_ROWS,
    code_information,
    few_columns,
    shuffled,
    vector_choice_information,
    vector_information,
)
from genie_lite.inspect.labelled import Labelled
from genie_lite.inspect.measure import Measure
from genie_lite.types import Interval

MOST_TABLE_CODES = 256  # a larger table of codes and actions is none to look at


def measure_information(rows: Labelled, seed: int) -> Iterator[tuple[str, Measure]]:
    """AMI of code and choice, and bits that code and embedding share with the action."""
    test = np.flatnonzero(rows.test)
    if rows.is_discrete:
        table = _agreement(rows, test)
        other = _agreement(rows, test, seed)
        yield "ami", Measure(table.ami, {"shuffled": other.ami, "nmi": table.nmi, "purity": table.purity})
    test = test[np.linspace(0, len(test) - 1, min(MOST_ROWS, len(test))).astype(int)]
    action, code = rows.action[test], rows.ours.code[test]
    vector = few_columns(rows.ours.embedding[test])
    if rows.is_discrete:
        entropy = float(code_information(action, action).mean())
        pairs = (
            ("information_code", lambda order: code_information(code[order], action)),
            ("information_embedding", lambda order: vector_choice_information(vector[order], action)),
        )
    else:
        entropy, few = None, few_columns(action)
        pairs = (
            ("information_code", lambda order: vector_choice_information(few, code[order])),
            ("information_embedding", lambda order: vector_information(vector[order], few)),
        )
    same = np.arange(len(test))
    for name, bits in pairs:
        local, chance = bits(same), bits(shuffled(same, seed))
        episode = rows.ours.source[test]
        beside: dict[str, Interval | float] = {"shuffled": mean_over(chance, episode)}
        beside |= {} if entropy is None else {"entropy of the action": entropy}
        found = mean_over(local, episode)
        yield name, Measure(found, beside, decides=mean_over(local - chance, episode))


def code_table(rows: Labelled, num_codes: int) -> Agreement | None:
    """Counts of codes by actions on the test split, where both are few enough to be looked at."""
    if not rows.is_discrete or num_codes > MOST_TABLE_CODES:
        return None
    return agreement(rows.ours.code[rows.test], rows.action[rows.test], num_codes, rows.labels.names)


def _agreement(rows: Labelled, test: np.ndarray, seed: int | None = None) -> Agreement:
    codes, code = np.unique(rows.ours.code[test], return_inverse=True)
    code = code if seed is None else shuffled(code, seed)
    return agreement(code, rows.action[test], len(codes), rows.labels.names)
