"""Which true actions stand behind each code, as a page shows it: a table of shares, and a few words per code."""

from collections.abc import Mapping
from typing import Any

Tree = Mapping[str, Any]

CLEAR = 2 / 3  # a code whose commonest action is rarer than this has its two commonest shown


def code_table(agreement: Tree) -> dict[str, Any]:
    """Rows of codes, columns of actions that occur, cells with the share of a code's transitions.

    Args:
        agreement: the tree of `codes.Agreement`.
    """
    counts, names = agreement["counts"], agreement["action_names"]
    columns = [place for place in range(len(names)) if any(row[place] for row in counts)]
    total = max(sum(map(sum, counts)), 1)
    return {
        "actions": [names[place] for place in columns],
        "marginal": [sum(row[place] for row in counts) / total for place in columns],
        "rows": [
            {
                "code": code,
                "count": sum(row),
                "share": sum(row) / total,
                "cells": [{"count": row[place], "share": row[place] / max(sum(row), 1)} for place in columns],
            }
            for code, row in enumerate(counts)
        ],
    }


def share_of(agreement: Tree, code: int) -> float:
    """Share of all transitions that carry a code."""
    return sum(agreement["counts"][code]) / max(sum(map(sum, agreement["counts"])), 1)


def actions_of(agreement: Tree, code: int) -> list[tuple[str, float]]:
    """The commonest action of a code with its share, or the two commonest where none is clear; none if unused."""
    counts = agreement["counts"][code]
    if not sum(counts):
        return []
    best = sorted(range(len(counts)), key=lambda place: -counts[place])
    shares = [(agreement["action_names"][place], counts[place] / sum(counts)) for place in best]
    return shares[:1] if shares[0][1] >= CLEAR else shares[:2]
