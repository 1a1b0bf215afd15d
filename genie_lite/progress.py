"""What a person sees while a command works: one line per stage, and how far a long job is; all on stderr.

A bar says how long it will still take: redrawn in place on a terminal, a line now and then in a log.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY_S = 30


def say(text: str) -> None:
    """One line of progress."""
    sys.stderr.write(f"{text}\n")


class Bar:
    """Progress on standard error: redrawn in place where someone watches, else a line every half minute."""

    def __init__(self, title: str, total: int) -> None:
        console = Console(stderr=True)
        self._view = _Drawn(title, total, console) if console.is_terminal else _Lines(title, total)

    def show(self, done: int, note: str = "") -> None:
        """Say how much is done, with a note behind the title."""
        self._view.show(done, note)

    def close(self) -> None:
        """Leave the last state on the screen."""
        self._view.close()


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


class _Drawn:
    def __init__(self, title: str, total: int, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console)
        self._title = title
        self._task = self._progress.add_task(title, total=total)
        self._progress.start()

    def show(self, done: int, note: str) -> None:
        self._progress.update(self._task, completed=done, description=f"{self._title}  {note}".rstrip())

    def close(self) -> None:
        self._progress.stop()


class _Lines:
    """The time left is told from what was done since the first call: a resumed job does not begin at 0."""

    def __init__(self, title: str, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._title, self._total, self._clock = title, total, clock
        self._first: int | None = None
        self._start_s = self._told_s = clock()

    def show(self, done: int, note: str) -> None:
        now_s = self._clock()
        if self._first is None:
            self._first, self._start_s = done, now_s
        if now_s - self._told_s < LINE_EVERY_S:
            return
        self._told_s = now_s
        left = _left(done - self._first, self._total - done, now_s - self._start_s)
        sys.stderr.write(f"{'  '.join(filter(None, (self._title, f'{done}/{self._total}', note, left)))}\n")

    def close(self) -> None:
        pass


def _left(num_done: int, num_left: int, seconds: float) -> str:
    """The time left at the speed so far, nothing where no speed is known yet."""
    if num_done < 1:
        return ""
    minutes, rest = divmod(round(seconds * num_left / num_done), 60)
    return f"{minutes}:{rest:02d} left"
