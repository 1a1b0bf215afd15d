"""The one exception that is shown to a user without a traceback, and what to say of a name that is none."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake of the user's, told in one line: what, where, found, expected, what to do.

    The command line prints the message and exits with code 2; `--debug` shows the traceback.
    """


def suggestion(found: str, known: Iterable[str]) -> str:
    """What a user may have meant by a name: the nearest that there is, or all of them."""
    names = list(known)
    near = difflib.get_close_matches(found, names, n=1)
    return f"did you mean '{near[0]}'?" if near else f"expected one of {', '.join(names)}"
