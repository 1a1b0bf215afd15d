"""Which true actions stand behind each code, as a page shows it: a table of shares, and a few words per code.

Of a large alphabet only the commonest codes have a row, `codes.MOST_LISTED` of them at most, and the rest is counted.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from genie_lite.evals.codes import listed

Tree = Mapping[str, Any]

CLEAR = 2 / 3  # a code whose commonest action is rarer than this has its two commonest shown


def code_table(agreement: Tree) -> dict[str, Any]:
    """Rows of codes, columns of actions that occur, cells with the share of a code's transitions.

    `left_out` says how many codes that occur have no row and what share of the transitions they carry; None if none.

    Args:
        agreement: the tree of `codes.Agreement`.
    """
    counts, names = _counts(agreement), agreement["action_names"]
    all_of = _by_action(agreement)
    columns = [place for place, num in enumerate(all_of) if num]
    total = max(sum(all_of), 1)
    codes = list(counts)
    shown = [codes[place] for place in listed(np.array([sum(row) for row in counts.values()]))]
    num_hidden = agreement.get("num_others", 0) + sum(
        any(row) for code, row in counts.items() if code not in shown
    )
    num_seen = sum(sum(counts[code]) for code in shown)
    return {
        "actions": [names[place] for place in columns],
        "marginal": [all_of[place] / total for place in columns],
        "rows": [
            {
                "code": code,
                "count": sum(counts[code]),
                "share": sum(counts[code]) / total,
                "cells": [
                    {"count": counts[code][place], "share": counts[code][place] / max(sum(counts[code]), 1)}
                    for place in columns
                ],
            }
            for code in shown
        ],
        "left_out": {"num": num_hidden, "share": 1 - num_seen / total} if num_hidden else None,
    }


def share_of(agreement: Tree, code: int) -> float | None:
    """Share of all transitions that carry a code; None if it is not listed."""
    counts = _counts(agreement)
    return sum(counts[code]) / max(sum(_by_action(agreement)), 1) if code in counts else None


def actions_of(agreement: Tree, code: int) -> list[tuple[str, float]]:
    """The commonest action of a code with its share, or the two commonest where none is clear; none if unused."""
    counts = _counts(agreement).get(code, [])
    if not sum(counts):
        return []
    best = sorted(range(len(counts)), key=lambda place: -counts[place])
    shares = [(agreement["action_names"][place], counts[place] / sum(counts)) for place in best]
    return shares[:1] if shares[0][1] >= CLEAR else shares[:2]


def _counts(agreement: Tree) -> dict[int, list[int]]:
    """Rows by code; reports of earlier versions have one for every code."""
    counts = agreement["counts"]
    return dict(zip(agreement.get("codes", range(len(counts))), counts, strict=True))


def _by_action(agreement: Tree) -> list[int]:
    """Transitions of each action, whatever their code."""
    others = agreement.get("others") or [0] * len(agreement["action_names"])
    return [sum(column) for column in zip(*agreement["counts"], others, strict=True)]
