"""Cards: the JSON files that say what lies beside them. Written last; a damaged one is told in one line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genie_lite.errors import UserError
from genie_lite.files import read_json


def read_card(path: Path, what: str, version: int, keys: Mapping[str, type], again: str) -> dict[str, Any]:
    """Read a card that is there.

    Args:
        path: of the card.
        what: it should be, such as "a policy's card".
        version: of the format that is understood.
        keys: that must be there, and what each must be.
        again: what makes a new one, such as "run adapt again". That keeps what it finds, so the advice is to
            delete the card first.

    Raises:
        UserError: not JSON, another format, or a key that is missing or of another kind.
    """
    advice = f"delete it and {again}"
    card = read_json(path, what, advice)
    if card.get("format") != version:
        raise UserError(f"{path}: format {card.get('format')}, this version reads {version}; {advice}")
    for key, kind in keys.items():
        if not isinstance(card.get(key), kind):
            found = f"found {card[key]!r}" if key in card else "missing"
            raise UserError(f"{path}: not {what}, {key}: {found}, expected {kind.__name__}; {advice}")
    return card
