"""What `meta/info.json` of a LeRobot dataset says, checked, and the form in which every version lists its episodes."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genie_lite.data.video.place import Place
from genie_lite.errors import UserError

SEPARATE = ("v2.0", "v2.1")  # a file per episode
SHARED = ("v3.0",)  # many episodes in one file
VERSIONS = SEPARATE + SHARED


@dataclass(frozen=True)
class Listed:
    """One episode as the dataset lists it; nothing of it has been looked at.

    index: its number. source: its name, below the dataset's folder. place: of its video. part: the end of its
    name, where it shares its video with others. table: the file with its actions. length: frames it should
    have. fault: why it can not be found at all.
    """

    index: int
    source: str
    place: Place
    table: Path
    length: int
    part: str = ""
    fault: str | None = None


@dataclass(frozen=True)
class Info:
    """A dataset's `meta/info.json`.

    cameras: its video features. names: one per action component; none in a dataset without actions.
    """

    root: Path
    version: str
    rate_hz: float
    cameras: tuple[str, ...]
    names: tuple[str, ...]
    tree: dict[str, Any]

    def camera(self, wanted: str | None) -> str:
        """The feature that is called so, or whose name ends so; the first one for None.

        Raises:
            UserError: none is, or several are.
        """
        if wanted is None:
            return self.cameras[0]
        matches = [name for name in self.cameras if name == wanted or name.endswith(f".{wanted}")]
        if len(matches) != 1:
            found = ", ".join(self.cameras)
            raise UserError(f"{self.root}: no single camera is called '{wanted}'; found {found}")
        return matches[0]

    def file(self, kind: str, **values: int | str) -> Path:
        """The path of a file below the dataset's folder, by the pattern `video_path` or `data_path`.

        Raises:
            UserError: the pattern asks for something else, or leads out of the folder.
        """
        try:
            path = Path(self.tree[kind].format(**values))
        except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
            raise UserError(f"{self.root}/meta/info.json: {kind} has an unknown field: {error!r}") from error
        if path.is_absolute() or ".." in path.parts:
            raise UserError(f"{self.root}/meta/info.json: {kind} must stay inside the dataset")
        return path


def is_lerobot(root: Path) -> bool:
    """Whether a folder looks like a LeRobot dataset of any version."""
    return (root / "meta" / "info.json").is_file()


def says_lerobot(root: Path) -> bool:
    """Whether a folder that nobody has called a dataset says so itself: others have a `meta/info.json` too."""
    try:
        return is_lerobot(root) and "codebase_version" in json.loads(
            (root / "meta" / "info.json").read_bytes()
        )
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def read_info(root: Path) -> Info:
    """Read and check `meta/info.json`.

    Raises:
        UserError: it is missing or damaged, of a version that is not known, or of a dataset without video.
    """
    path = root / "meta" / "info.json"
    if not path.is_file():
        raise UserError(f"{path}: missing; expected the root folder of a LeRobot dataset")
    try:
        tree = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON: {error}") from error
    version = tree.get("codebase_version") if isinstance(tree, dict) else None
    if version not in VERSIONS:
        raise UserError(f"{path}: codebase_version is {version!r}, expected one of {', '.join(VERSIONS)}")
    needed = ["fps", "features", "data_path", "video_path", *(["chunks_size"] if version in SEPARATE else [])]
    missing = [key for key in needed if not tree.get(key)]
    if missing:
        raise UserError(f"{path}: {', '.join(missing)} missing or empty; a dataset with videos has them")
    features, rate_hz = tree["features"], _rate_hz(tree["fps"], path)
    if not (isinstance(features, dict) and all(isinstance(feature, dict) for feature in features.values())):
        raise UserError(f"{path}: features is no mapping of names to what each is")
    cameras = tuple(name for name, feature in features.items() if feature.get("dtype") == "video")
    if not cameras:
        raise UserError(
            f"{root}: no feature of dtype 'video' in meta/info.json; expected at least one camera"
        )
    return Info(root, version, rate_hz, cameras, _action_names(features.get("action"), root), tree)


def _rate_hz(fps: Any, path: Path) -> float:
    if isinstance(fps, int | float) and 0 < fps < 1e6:
        return float(fps)
    raise UserError(f"{path}: fps is {fps!r}, expected frames per second")


def _action_names(action: dict[str, Any] | None, root: Path) -> tuple[str, ...]:
    if action is None:
        return ()  # video alone, which may be all that is wanted
    shape = action.get("shape")
    if not (isinstance(shape, list) and len(shape) == 1 and isinstance(shape[0], int) and shape[0] > 0):
        raise UserError(f"{root}: feature 'action' has shape {shape}, expected one dimension such as [7]")
    names = tuple(_flat(action.get("names")))
    return names if len(names) == shape[0] else tuple(f"action_{i}" for i in range(shape[0]))


def _flat(names: Any) -> Iterator[str]:
    """Names come as a list, a list in a list, a mapping group -> list, or not at all."""
    if isinstance(names, str):
        yield names
    elif isinstance(names, dict | list):
        for part in names.values() if isinstance(names, dict) else names:
            yield from _flat(part)
