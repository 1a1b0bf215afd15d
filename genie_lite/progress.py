"""What a person sees while a command works: one line per stage, and bars with the time that is left; all on stderr."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from genie_lite.train.progress import Bar


def say(text: str) -> None:
    """One line of progress."""
    sys.stderr.write(f"{text}\n")


class Show:
    """A bar for `progress(done, total)`; it opens at the first call, when the total is known."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar: Bar | None = None

    def __call__(self, done: int, total: int) -> None:
        """Move the bar."""
        self._bar = self._bar or Bar(self._title, total)
        self._bar.show(done)

    def close(self) -> None:
        """Leave the last state on the screen."""
        if self._bar is not None:
            self._bar.close()


class ShowMany:
    """Bars for `progress(what, done, total)`, one after another."""

    def __init__(self) -> None:
        self._what, self._show = "", Show("")

    def __call__(self, what: str, done: int, total: int) -> None:
        """Move the bar of `what`, closing the one before."""
        if what != self._what:
            self._show.close()
            self._what, self._show = what, Show(what)
        self._show(done, total)

    def close(self) -> None:
        """Leave the last state on the screen."""
        self._show.close()


@contextmanager
def bar(title: str) -> Iterator[Show]:
    """One bar, for as long as the block runs."""
    show = Show(title)
    try:
        yield show
    finally:
        show.close()


@contextmanager
def bars() -> Iterator[ShowMany]:
    """A bar for each thing that is done, for as long as the block runs."""
    show = ShowMany()
    try:
        yield show
    finally:
        show.close()
