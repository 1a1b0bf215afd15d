"""Where the small files are kept that players of a run make: names of codes, pictures of what codes do.

RUN/play/                            beside the stages
$GENIE_LITE_HOME/play/<key>/         where the run cannot be written, or belongs to the toolkit itself
"""

import warnings
from pathlib import Path

from genie_lite import pretrained
from genie_lite.errors import UserError
from genie_lite.files import HOME_VARIABLE, home, write_bytes

FOLDER = "play"


class Shelf:
    """Files by name. Reading and writing are safe from several threads: a file is whole, or not there."""

    def __init__(self, run: Path, key: str) -> None:
        """Name the places; nothing is made before something is written.

        Args:
            run: the run's folder.
            key: tells runs apart below $GENIE_LITE_HOME, such as a hash of their weights.
        """
        own, other = run / FOLDER, home() / FOLDER / key
        # An installation is nobody's place to write to, even where it could be written.
        is_ours = run.resolve().is_relative_to(pretrained.FOLDER.resolve())
        self._places = (other,) if is_ours else (own, other)

    def read(self, name: str) -> bytes | None:
        """The newest file of that name; None where there is none."""
        found = [path for path in (place / name for place in self._places) if path.is_file()]
        return max(found, key=lambda path: path.stat().st_mtime_ns).read_bytes() if found else None

    def write(self, name: str, data: bytes) -> Path:
        """Write a file, whole or not at all, in the first place that takes it; returns where it is.

        Raises:
            UserError: no place takes it.
        """
        for place in self._places[:-1]:
            try:
                write_bytes(place / name, data)
            except OSError as error:
                warnings.warn(
                    f"{place}: cannot be written ({error.strerror or error}); what players make is kept in "
                    f"{self._places[-1]}",
                    stacklevel=2,
                )
            else:
                return place / name
        try:
            write_bytes(self._places[-1] / name, data)
        except OSError as error:
            raise UserError(
                f"{self._places[-1] / name}: cannot be written ({error.strerror or error}); make room, or set "
                f"{HOME_VARIABLE} to a folder that can"
            ) from error
        return self._places[-1] / name
