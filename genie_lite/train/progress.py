"""One line with the time that is left, where someone can see it."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Bar:
    """A progress bar on standard error; silent when that is not a terminal."""

    def __init__(self, title: str, total: int) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._title = title
        self._task = self._progress.add_task(title, total=total)
        self._progress.start()

    def show(self, done: int, note: str = "") -> None:
        """Move the bar, with a note behind the title."""
        self._progress.update(self._task, completed=done, description=f"{self._title}  {note}".rstrip())

    def close(self) -> None:
        """Leave the last state on the screen."""
        self._progress.stop()
