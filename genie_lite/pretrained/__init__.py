"""Models that come with the toolkit: exported runs, one folder each, with a card that says what they can do."""

from pathlib import Path

from genie_lite.errors import UserError

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """What there is, such as coinrun."""
    return sorted(path.parent.name for path in FOLDER.glob("*/recipe.yaml"))


def pretrained(name: str) -> Path:
    """The folder of a pretrained world, to be used like that of a run.

    Raises:
        UserError: there is none of this name.
    """
    if name not in names():
        raise UserError(f"--pretrained: found '{name}', expected one of {', '.join(names())}")
    return FOLDER / name
