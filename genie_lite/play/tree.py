"""One game: a tree of branches, of which every frame's code, tokens and action are kept.

    branch 0      0 1 2 3 4 5 6        frame 0 is the last of the frames that the game began from
    branch 1            └ 3 4 5        parts from its parent at frame 2: it has frames 0 to 5, its own from 3 on

A frame is numbered by the codes that led to it. Tokens are small numbers, kept in chunks as they come, so that a
game of thousands of frames takes little memory and no moment is ever copied.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from genie_lite.errors import UserError

CHUNK = 256  # rows
NO_ACTION = -1  # of a frame that a code led to, in a world of choices

Action = int | list[float] | None
"""A choice, the components of a vector, or nothing where a code was given itself."""


@dataclass(frozen=True)
class Moment:
    """A frame of a branch; also one that the branch shares with its parent."""

    branch: int
    frame: int


class Rows:
    """Rows of numbers that grow; those there are never move."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self._shape, self._dtype = shape, dtype
        self._chunks: list[ndarray] = []
        self._num = 0

    def __len__(self) -> int:
        return self._num

    def append(self, row: Any) -> None:
        """Put one row after the others."""
        place = self._num % CHUNK
        if place == 0:
            self._chunks.append(np.empty((CHUNK, *self._shape), self._dtype))
        self._chunks[-1][place] = row
        self._num += 1

    def between(self, first: int, end: int) -> ndarray:
        """A copy of rows first to end - 1."""
        assert 0 <= first <= end <= self._num, (first, end, self._num)
        pieces = [
            self._chunks[number][max(first - number * CHUNK, 0) : end - number * CHUNK]
            for number in range(first // CHUNK, -(-end // CHUNK))
        ]
        return np.concatenate([np.empty((0, *self._shape), self._dtype), *pieces])


@dataclass(frozen=True)
class Branch:
    """What was played on from a moment. at: the last frame that it shares with its parent; the rows are its own."""

    parent: int | None
    at: int
    codes: Rows
    tokens: Rows
    actions: Rows

    @property
    def end(self) -> int:
        """The number of its last frame."""
        return self.at + len(self.codes)


class Tree:
    """All branches of one game."""

    def __init__(
        self,
        num_tokens: int,
        vocabulary: int,
        num_components: int | None,
        most_frames: int,
        most_branches: int,
    ) -> None:
        """Begin with frame 0 alone.

        Args:
            num_tokens: of one frame.
            vocabulary: tokens are less than this.
            num_components: of an action that is a vector; None where actions are choices.
            most_frames: that are kept, of all branches together.
            most_branches: that are kept.
        """
        self._token_type = np.dtype(np.uint16 if vocabulary <= 2**16 else np.uint32)
        self._num_tokens, self._num_components = num_tokens, num_components
        self._most_frames, self._most_branches = most_frames, most_branches
        self._branches = [self._empty(None, 0)]
        self._num_frames = 0

    def end(self, branch: int) -> Moment:
        """The last frame of a branch."""
        return Moment(branch, self._branches[branch].end)

    def expect(self, moment: Moment) -> None:
        """Complain of a moment that there is not.

        Raises:
            UserError: no such branch, or no such frame of it.
        """
        if not 0 <= moment.branch < len(self._branches):
            raise UserError(f"branch: found {moment.branch}, expected 0 to {len(self._branches) - 1}")
        end = self._branches[moment.branch].end
        if not 0 <= moment.frame <= end:
            raise UserError(f"frame: found {moment.frame}, expected 0 to {end} of branch {moment.branch}")

    def expect_room(self, moment: Moment) -> None:
        """Complain if no frame can follow a moment.

        Raises:
            UserError: this game has as many frames, or branches, as are kept.
        """
        if self._num_frames >= self._most_frames:
            raise UserError(f"this game has {self._num_frames} frames, as many as are kept; begin a new one")
        if moment != self.end(moment.branch) and len(self._branches) >= self._most_branches:
            raise UserError(
                f"this game has {len(self._branches)} branches, as many as are kept; begin a new one"
            )

    def append(self, moment: Moment, code: int, tokens: Int[ndarray, " n"], action: Action) -> Moment:
        """Put a frame after a moment: on its branch if it is the end of that, else on a new one."""
        self.expect_room(moment)
        if moment != self.end(moment.branch):
            owner = self.owner(moment)
            self._branches.append(self._empty(owner.branch, owner.frame))
            moment = Moment(len(self._branches) - 1, owner.frame)
        branch = self._branches[moment.branch]
        branch.tokens.append(tokens)
        branch.actions.append(self._kept_action(action))
        branch.codes.append(code)  # last: by it other threads see that the frame is there
        self._num_frames += 1
        return Moment(moment.branch, moment.frame + 1)

    def owner(self, moment: Moment) -> Moment:
        """The same frame, under the branch that it was played on."""
        branch = moment.branch
        while (parent := self._branches[branch].parent) is not None and moment.frame <= self._branches[
            branch
        ].at:
            branch = parent
        return Moment(branch, moment.frame)

    def led_to(self, moment: Moment) -> tuple[int | None, Action]:
        """The code and the action that led to a frame; None to frame 0."""
        if moment.frame == 0:
            return None, None
        owner = self.owner(moment)
        branch = self._branches[owner.branch]
        row = owner.frame - branch.at - 1
        return int(branch.codes.between(row, row + 1)[0]), self._action(
            branch.actions.between(row, row + 1)[0]
        )

    def codes(self, moment: Moment, num: int | None = None) -> Int[ndarray, " k"]:
        """Codes that led to the last `num` frames up to a moment, all of them if not given; frame 0 has none."""
        return self._last(moment, num, "codes").astype(np.int64)

    def tokens(self, moment: Moment, num: int | None = None) -> Int[ndarray, "k n"]:
        """Tokens of the same frames."""
        return self._last(moment, num, "tokens").astype(np.int64)

    def actions(self, moment: Moment) -> list[Action]:
        """Actions of all frames up to a moment, from frame 1 on."""
        return [self._action(row) for row in self._last(moment, None, "actions")]

    def begun(self, branch: int) -> dict[str, Any]:
        """Where a branch began, as plain data."""
        return {"id": branch, "parent": self._branches[branch].parent, "at": self._branches[branch].at}

    def describe(self) -> list[dict[str, Any]]:
        """Every branch with its own codes and actions, as plain data."""
        return [
            {
                **self.begun(number),
                "frames": branch.end,
                "codes": branch.codes.between(0, len(branch.codes)).tolist(),
                "actions": [self._action(row) for row in branch.actions.between(0, len(branch.actions))],
            }
            for number, branch in enumerate(self._branches)
        ]

    def __len__(self) -> int:
        """Number of branches."""
        return len(self._branches)

    def _last(self, moment: Moment, num: int | None, name: str) -> ndarray:
        first = 0 if num is None else max(0, moment.frame - num)
        pieces = [getattr(branch, name).between(low, high) for branch, low, high in self._path(moment, first)]
        return np.concatenate([getattr(self._branches[0], name).between(0, 0), *reversed(pieces)])

    def _path(self, moment: Moment, first: int) -> Iterator[tuple[Branch, int, int]]:
        """The branches that frames first + 1 to the moment lie on, the last one first, each with its rows."""
        number, end = moment.branch, moment.frame
        while end > first:
            branch = self._branches[number]
            if end > branch.at:
                yield branch, max(first, branch.at) - branch.at, end - branch.at
                end = branch.at
            if branch.parent is None:
                return
            number = branch.parent

    def _empty(self, parent: int | None, at: int) -> Branch:
        actions = (
            Rows((), np.dtype(np.int32))
            if self._num_components is None
            else Rows((self._num_components,), np.dtype(np.float64))
        )
        return Branch(
            parent, at, Rows((), np.dtype(np.uint16)), Rows((self._num_tokens,), self._token_type), actions
        )

    def _kept_action(self, action: Action) -> Any:
        if action is None:
            return NO_ACTION if self._num_components is None else np.nan
        return action

    def _action(self, row: Any) -> Action:
        if self._num_components is None:
            return None if row == NO_ACTION else int(row)
        return None if np.isnan(row).any() else row.tolist()
