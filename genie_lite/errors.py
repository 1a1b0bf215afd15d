"""The one exception that is shown to a user without a traceback."""


class UserError(ValueError):
    """A mistake of the user's, told in one line: what, where, found, expected, what to do.

    The command line prints the message and exits with code 2; `--debug` shows the traceback.
    """
