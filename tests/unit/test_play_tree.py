"""A game's tree keeps every frame of every branch."""

import numpy as np
import pytest

from genie_lite.errors import UserError
from genie_lite.play.tree import CHUNK, Action, Moment, Rows, Tree


def tree(**limits: int) -> Tree:
    given = {"most_frames": 10_000, "most_branches": 100} | limits
    return Tree(num_tokens=2, vocabulary=100, num_components=None, **given)


def grow(of: Tree, moment: Moment, codes: list[int]) -> Moment:
    for code in codes:
        moment = of.append(moment, code, np.array([code, moment.frame]), code)
    return moment


def test_a_branch_has_its_parents_frames_and_its_own() -> None:
    game = tree()
    end = grow(game, Moment(0, 0), [1, 2, 3, 4])
    assert end == Moment(0, 4)
    assert grow(game, Moment(0, 2), [7, 8]) == Moment(1, 4)
    assert grow(game, Moment(1, 3), [9]) == Moment(2, 4)
    assert game.codes(Moment(0, 4)).tolist() == [1, 2, 3, 4]
    assert game.codes(Moment(1, 4)).tolist() == [1, 2, 7, 8]
    assert game.codes(Moment(2, 4)).tolist() == [1, 2, 7, 9]
    assert game.tokens(Moment(2, 4), 2).tolist() == [[7, 2], [9, 3]]
    assert game.codes(Moment(2, 1)).tolist() == [1]
    assert game.codes(Moment(2, 1), 5).tolist() == [1]
    assert game.codes(Moment(1, 0)).tolist() == []
    assert game.tokens(Moment(1, 4), 0).shape == (0, 2)
    assert game.owner(Moment(2, 3)) == Moment(1, 3)
    assert game.owner(Moment(2, 2)) == Moment(0, 2)
    assert game.led_to(Moment(2, 3)) == (7, 7)
    assert game.led_to(Moment(2, 0)) == (None, None)
    assert game.describe()[2] == {"id": 2, "parent": 1, "at": 3, "frames": 4, "codes": [9], "actions": [9]}


def test_a_branch_that_parts_in_its_parents_past_is_the_ancestors() -> None:
    game = tree()
    grow(game, Moment(0, 0), [1, 2, 3])
    grow(game, Moment(0, 2), [7])
    assert grow(game, Moment(1, 1), [5]) == Moment(2, 2)
    assert game.describe()[2] == {"id": 2, "parent": 0, "at": 1, "frames": 2, "codes": [5], "actions": [5]}
    assert game.begun(2) == {"id": 2, "parent": 0, "at": 1}


def test_acting_at_the_end_of_a_branch_goes_on_with_it() -> None:
    game = tree()
    grow(game, Moment(0, 0), [1, 2, 3])
    grow(game, Moment(0, 2), [7])
    assert grow(game, Moment(0, 3), [4]) == Moment(0, 4)
    assert grow(game, Moment(1, 3), [8]) == Moment(1, 4)


def test_long_branches_are_whole() -> None:
    game, num = tree(), 2 * CHUNK + 10
    end = grow(game, Moment(0, 0), [number % 50 for number in range(num)])
    assert game.codes(end).tolist() == [number % 50 for number in range(num)]
    assert game.tokens(Moment(0, CHUNK + 2), 4)[:, 1].tolist() == [CHUNK - 2, CHUNK - 1, CHUNK, CHUNK + 1]
    assert game.codes(Moment(0, CHUNK), 1).tolist() == [(CHUNK - 1) % 50]


def test_tokens_are_kept_small() -> None:
    game = Tree(64, 512, None, 10_000, 10)
    for _ in range(CHUNK):
        game.append(game.end(0), 1, np.full(64, 511), None)
    (chunk,) = game._branches[0].tokens._chunks
    assert chunk.nbytes == 2 * 64 * CHUNK
    large = Tree(1, 2**16 + 1, None, 10, 10)
    large.append(Moment(0, 0), 0, np.array([2**16]), None)
    assert large.tokens(Moment(0, 1)).tolist() == [[2**16]]


@pytest.mark.parametrize(
    ("components", "actions"), [(None, [3, None, 0]), (2, [[0.1, -2.0], None, [0.0, 1.0]])]
)
def test_actions_are_kept_as_they_were(components: int | None, actions: list[Action]) -> None:
    game = Tree(1, 10, components, 10, 10)
    for action in actions:
        game.append(game.end(0), 1, np.array([0]), action)
    assert game.actions(game.end(0)) == actions
    assert game.describe()[0]["actions"] == actions
    assert [game.led_to(Moment(0, frame + 1))[1] for frame in range(3)] == actions


def test_a_moment_that_there_is_not_is_told() -> None:
    game = tree()
    grow(game, Moment(0, 0), [1, 2])
    game.expect(Moment(0, 2))
    for moment, words in (
        (Moment(0, 3), "frame: found 3, expected 0 to 2 of branch 0"),
        (Moment(1, 0), "branch: found 1, expected 0 to 0"),
        (Moment(-1, 0), "branch: found -1"),
        (Moment(0, -1), "frame: found -1"),
    ):
        with pytest.raises(UserError, match=words):
            game.expect(moment)


def test_a_game_that_is_full_takes_no_more() -> None:
    game = tree(most_frames=3)
    grow(game, Moment(0, 0), [1, 2, 3])
    with pytest.raises(UserError, match="this game has 3 frames, as many as are kept; begin a new one"):
        grow(game, Moment(0, 3), [1])
    game = tree(most_branches=2)
    grow(game, Moment(0, 0), [1, 2, 3])
    grow(game, Moment(0, 0), [1])
    with pytest.raises(UserError, match="this game has 2 branches"):
        grow(game, Moment(0, 1), [1])
    assert grow(game, Moment(0, 3), [1]) == Moment(0, 4)


def test_who_reads_while_a_frame_comes_sees_it_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    game, seen, put = tree(), [], Rows.append

    def watched(rows: Rows, row: object) -> None:
        put(rows, row)
        end = game.end(0)
        seen.append((end.frame, len(game.codes(end)), len(game.tokens(end)), len(game.actions(end))))

    monkeypatch.setattr(Rows, "append", watched)
    grow(game, Moment(0, 0), [1])
    assert seen == [(0, 0, 0, 0), (0, 0, 0, 0), (1, 1, 1, 1)]
