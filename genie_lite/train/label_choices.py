"""The labels that lead a dynamics model: choices of one kind, though they may come from several places."""

from collections.abc import Mapping, Sequence

from genie_lite.data.labels import Labels, join_labels
from genie_lite.errors import UserError


def choices_of(labels: Sequence[Labels] | Mapping[str, Labels]) -> Labels:
    """All of them as one.

    Raises:
        UserError: there are none, they are vectors, or they name different actions.
    """
    given = list(labels.values()) if isinstance(labels, Mapping) else list(labels)
    if not given:
        raise UserError("dynamics.labels: is set, but there are no labels; name them (labels.source)")
    for each in given:
        if each.kind == "continuous":
            raise UserError(
                f"dynamics.model.condition: kind is actions, but the labels are vectors "
                f"({', '.join(each.names[:3])} …); expected choices, such as a game's. Lead the world by codes "
                "(kind: codes), and turn vectors into codes with what adapt learns"
            )
    return join_labels(given)
