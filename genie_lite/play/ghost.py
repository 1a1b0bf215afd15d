"""The real engine, led along a game's tree: it takes the same actions, and goes back where the player goes back."""

import threading
from collections.abc import Callable

from jaxtyping import UInt8
from numpy import ndarray

from genie_lite.errors import UserError
from genie_lite.play.tree import Moment, Tree
from genie_lite.play.twin import Twin

SAVE_EVERY = (
    200  # frames; from the last save on, actions are taken again, a thousand in a fraction of a second
)


class Ghost:
    """A twin and where it stands. Its methods may be called from any thread, and wait for each other."""

    def __init__(self, twin: Twin, tree: Tree) -> None:
        """Put an engine at the beginning of a game.

        Args:
            twin: at the beginning of its level, which is frame 0 of the game.
            tree: of the game.
        """
        self._twin, self._tree = twin, tree
        self._place = Moment(0, 0)
        self._saves = {self._place: twin.save()}
        self._lock = threading.Lock()

    def show(self, moment: Moment) -> tuple[UInt8[ndarray, "h w c"], bool]:
        """The real game's frame at a moment, and whether it is over there.

        Raises:
            UserError: a code led there, which the real game knows nothing of; or the engine has died.
        """
        with self._lock:
            goal = self._tree.owner(moment)
            if goal != self._place:
                self._go(moment)
                self._place = goal
            return self._twin.frame, self._twin.done

    def close(self) -> None:
        """End the engine."""
        with self._lock:
            self._twin.close()

    def _go(self, moment: Moment) -> None:
        before = self._owner(moment, moment.frame - 1)
        if before == self._place:
            self._take(moment)
            return
        # The save that is nearest on the way there.
        actions = self._tree.actions(moment)
        if None in actions:
            raise _led_by_a_code(actions.index(None) + 1)
        frame = next(each for each in range(moment.frame, -1, -1) if self._owner(moment, each) in self._saves)
        self._twin.restore(self._saves[self._owner(moment, frame)])
        self._place = self._owner(moment, frame)
        for each in range(frame + 1, moment.frame + 1):
            self._take(Moment(moment.branch, each))

    def _take(self, moment: Moment) -> None:
        _, action = self._tree.led_to(moment)
        if not isinstance(action, int):
            raise _led_by_a_code(moment.frame)
        self._twin.step(action)
        self._place = self._tree.owner(moment)
        if moment.frame % SAVE_EVERY == 0:
            self._saves[self._place] = self._twin.save()

    def _owner(self, moment: Moment, frame: int) -> Moment:
        return self._tree.owner(Moment(moment.branch, frame))


def led_ghost(open_twin: Callable[[], Twin], tree: Tree, moment: Moment) -> Ghost:
    """Open an engine and lead it to a moment. Takes long; the engine is ended where any of it fails.

    Raises:
        UserError: it cannot be opened, or cannot be led there.
    """
    twin = open_twin()
    try:
        ghost = Ghost(twin, tree)
        ghost.show(moment)
    except BaseException:
        twin.close()
        raise
    return ghost


def _led_by_a_code(frame: int) -> UserError:
    return UserError(
        f"frame {frame}: a code led there, and the real game takes actions only; play in actions"
    )
