"""What people call the codes of a world: kept beside it, and read again the next time.

names.json   {"format": 1, "lam": sha256 of the model that gives the codes, "names": {"3": "jump"}}

Codes of another latent action model mean other things, so names of another one are left out, with a warning.
"""

import json
import threading
import unicodedata
import warnings

from genie_lite.errors import UserError
from genie_lite.play.shelf import Shelf

FORMAT = 1
FILE = "names.json"
LONGEST = 40  # characters


class Names:
    """Code to name. Safe from several threads, and from several processes but for two that name at one moment."""

    def __init__(self, shelf: Shelf, lam_sha256: str, num_codes: int) -> None:
        """Read what was kept.

        Args:
            shelf: where it is kept.
            lam_sha256: of the weights that the codes come from.
            num_codes: names are of codes from 0 to below this.

        Raises:
            UserError: a file that holds something else than names.
        """
        self._shelf, self._lam, self._num_codes = shelf, lam_sha256, num_codes
        self._lock = threading.Lock()
        self._names = self._read()

    def get(self) -> dict[int, str]:
        """The names there are, in the order of the codes."""
        with self._lock:
            return dict(sorted(self._names.items()))

    def set(self, code: int, name: str) -> dict[int, str]:
        """Call a code so, and keep it; an empty name takes the name away. Returns all names.

        Raises:
            UserError: no such code, a name that is too long or cannot be printed, or no place to keep it.
        """
        if type(code) is not int or not 0 <= code < self._num_codes:
            raise UserError(f"code: found {str(code)[:40]}, expected 0 to {self._num_codes - 1}")
        name = checked(name)
        with self._lock:
            # Another process may have written since.
            names = self._read() | {code: name}
            names = {each: called for each, called in sorted(names.items()) if called}
            tree = {
                "format": FORMAT,
                "lam": self._lam,
                "names": {str(each): called for each, called in names.items()},
            }
            self._shelf.write(FILE, (json.dumps(tree, indent=2) + "\n").encode())
            self._names = names
            return dict(names)

    def _read(self) -> dict[int, str]:
        data = self._shelf.read(FILE)
        if data is None:
            return {}
        try:
            tree = json.loads(data)
            if tree["format"] != FORMAT:
                raise ValueError(f"format {str(tree['format'])[:40]}, this version reads {FORMAT}")
            if tree["lam"] != self._lam:
                warnings.warn(
                    f"play/{FILE}: names codes of another latent action model; they are left out, and replaced when "
                    "a code is named",
                    stacklevel=3,
                )
                return {}
            names = {int(code): checked(name) for code, name in tree["names"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"play/{FILE}: not names of codes ({error}); delete it") from error
        return {code: name for code, name in names.items() if 0 <= code < self._num_codes and name}


def checked(name: str) -> str:
    """A name, without space around it.

    Raises:
        UserError: no text, too long, or with characters that cannot be printed.
    """
    if not isinstance(name, str):
        raise UserError(f"name: found {type(name).__name__}, expected text")
    name = unicodedata.normalize("NFC", name.strip())
    if len(name) > LONGEST:
        raise UserError(f"name: found {len(name)} characters, expected at most {LONGEST}")
    if not name.isprintable():
        raise UserError(f"name: found {name[:LONGEST]!r}, expected characters that can be printed")
    return name
