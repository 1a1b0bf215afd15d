"""What every training here is told beside what to learn: the seed, the device, and whom to keep informed."""

from collections.abc import Callable
from dataclasses import dataclass, replace

Progress = Callable[[str, int, int], None]  # (what is being done, done, total)


@dataclass(frozen=True)
class Setting:
    """How to train, whatever is trained.

    seed: of all randomness. device: where to train. progress: told how far things are. doing: what is done.
    """

    seed: int
    device: str = "cpu"
    progress: Progress | None = None
    doing: str = ""

    def named(self, doing: str) -> "Setting":
        """The same, for a part of the work."""
        return replace(self, doing=doing)

    def tell(self, done: int, total: int) -> None:
        """Pass on how much of the present part is done."""
        if self.progress is not None:
            self.progress(self.doing, done, total)
