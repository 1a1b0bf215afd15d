"""Names that come from data and become parts of paths: none of them may lead out of the folder that is written.

Shards and datasets are downloaded from strangers, and the key of a sample, a feature and a split end up in the names
of files.
"""

from pathlib import PurePosixPath, PureWindowsPath

from genie_lite.errors import UserError

SPLITS = ("train", "test")


def fault_of_name(name: object) -> str | None:
    """Why a name must not become a path below a folder, None where it may."""
    if not isinstance(name, str) or not name:
        return f"its name is {name!r}, expected a text"
    parts = PurePosixPath(name).parts
    is_inside = not (PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or ".." in parts)
    if not is_inside or "\\" in name or not name.isprintable() or parts in ((), (".",)):
        return f"its name {name!r} leads out of the folder that is written"
    return None


def expect_name(name: object, where: str) -> None:
    """Refuse a name that leads out of a folder.

    Raises:
        UserError: it does; `where` says whose name it is.
    """
    if (fault := fault_of_name(name)) is not None:
        raise UserError(f"{where}: {fault}; expected a relative one without '..'")


def fault_of_split(split: object, expected: str) -> str | None:
    """Why the split that a sample says of itself cannot be used: it is none of ours, or not that of its shard."""
    if split == expected and split in SPLITS:
        return None
    return f"its split is {split!r}, expected {' or '.join(SPLITS)}, as its shard's ({expected!r})"
