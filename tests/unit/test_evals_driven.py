"""How well a world follows true actions."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from genie_lite.data.labels import Labels
from genie_lite.data.loading.loader import Clip
from genie_lite.evals.driven import (
    DriveScore,
    Known,
    ToCodes,
    deal,
    known_actions,
    lead,
    score_drive,
    score_map,
)
from genie_lite.evals.rollout import continue_clips
from genie_lite.evals.transitions import Transitions
from genie_lite.models.world import World


class Brightness(World):
    """A world of two actions, darker and brighter by a tenth; its state is its frame, and nothing is sampled."""

    def __init__(self) -> None: ...

    def reset(self, frames: Tensor, *_: Any, **__: Any) -> Any:
        return frames[:, -1]

    def step(self, state: Any, code: Tensor) -> Any:
        frame = (state + (0.2 * code.float() - 0.1)[:, None, None, None]).clamp(0, 1)
        return frame, frame


def clip(actions: Tensor, names: list[str]) -> Clip:
    """What the world would show under these actions."""
    first = torch.full((len(actions), 1, 3, 8, 8), 0.5)
    world = Brightness()
    frames = torch.cat([first, world.rollout(first, actions, 0)], dim=1)
    num = frames.shape[1]
    return Clip(frames, names, [0] * len(names), frame_index=[list(range(num))] * len(names))


def labels(actions: Tensor, names: list[str]) -> Labels:
    rows = [(name, k, int(a)) for name, row in zip(names, actions, strict=True) for k, a in enumerate(row)]
    source, index, action = zip(*sorted(rows), strict=True)
    return Labels(np.asarray(source), np.asarray(index), np.asarray(action), "discrete", ("down", "up"))


def same(action: Tensor, before: Tensor | None, frames: Tensor | None) -> Tensor:
    return action


ACTIONS = torch.randint(2, (6, 4), generator=torch.Generator().manual_seed(0))
NAMES = [f"e{row}" for row in range(6)]


def drive(codes_of: ToCodes, inferred: Tensor | None = None) -> DriveScore:
    world, whole = Brightness(), {"prompt_frames": 1, "horizon": 4}
    known = known_actions([clip(ACTIONS, NAMES)], labels(ACTIONS, NAMES))
    driven, drawn = lead(world, known, codes_of, **whole), lead(world, deal(known, 0), codes_of, **whole)
    theirs = None
    if inferred is not None:
        theirs = continue_clips(world, [each.clip for each in known], horizon=4, codes=[inferred])
    return score_drive(driven, drawn, theirs, (1, 4))


def test_a_world_that_obeys_is_exact_and_dealt_actions_lose() -> None:
    score = drive(same, ACTIONS)
    assert score.psnr_db[4].mean > 90
    assert score.control_db[4].low > 0
    assert score.to_inferred_db[4].mean == pytest.approx(0)


def test_actions_turned_around_are_worse_than_dealt_ones() -> None:
    score = drive(lambda action, before, frames: 1 - action)
    assert score.control_db[4].mean < 0
    assert score.inferred_psnr_db == score.to_inferred_db == {}


def test_an_action_is_turned_into_a_code_at_the_frame_that_the_world_shows() -> None:
    seen = []

    def note(action: Tensor, before: Tensor | None, frames: Tensor | None) -> Tensor:
        assert frames is not None
        seen.append(frames[:, 0, 0, 0])
        return action

    known = known_actions([clip(ACTIONS, NAMES)], labels(ACTIONS, NAMES))
    (led,) = lead(Brightness(), known, note, prompt_frames=2, horizon=3)
    assert torch.equal(led.codes, ACTIONS[:, 1:])
    assert torch.allclose(torch.stack(seen, 1)[:, 1:], led.sampled[:, :-1, 0, 0, 0])
    assert torch.equal(seen[0], known[0].clip.frames[:, 1, 0, 0, 0])
    assert led.sampled.shape == led.target.shape == (6, 3, 3, 8, 8)


def test_dealt_actions_are_the_same_ones_elsewhere() -> None:
    known = known_actions([clip(ACTIONS, NAMES), clip(1 - ACTIONS[:3], NAMES[:3])], labels(ACTIONS, NAMES))
    dealt = deal(known, 0)
    before, after = (torch.cat([each.action.flatten() for each in some]) for some in (known, dealt))
    assert (before != after).any()
    assert torch.equal(before.sort().values, after.sort().values)
    assert [each.clip for each in dealt] == [each.clip for each in known]
    assert [each.action.shape for each in dealt] == [each.action.shape for each in known]


def test_only_windows_with_all_labels_are_driven() -> None:
    given = labels(ACTIONS, NAMES)
    (known,) = known_actions([clip(ACTIONS, NAMES)], given.select(np.arange(len(given)) != 5))
    assert known.clip.source == ["e0", "e2", "e3", "e4", "e5"]
    assert torch.equal(known.action, ACTIONS[[0, 2, 3, 4, 5]])
    assert known.before is None
    assert known_actions([clip(ACTIONS, NAMES)], given.of(())) == []


def test_vectors_are_turned_into_codes_beside_the_one_before() -> None:
    seen = []

    def note(action: Tensor, before: Tensor | None, frames: Tensor | None) -> Tensor:
        seen.append((action, before))
        return torch.zeros(len(action), dtype=torch.int64)

    given = labels(ACTIONS, NAMES)
    vectors = Labels(
        given.sources, given.frame_index, given.action[:, None].astype(np.float32), "continuous", ("x",)
    )
    known = known_actions([clip(ACTIONS, NAMES)], vectors)
    lead(Brightness(), known, note, prompt_frames=1, horizon=4)
    assert bool(seen[0][1].isnan().all())
    assert torch.equal(seen[1][1][:, 0], ACTIONS[:, 0].float())
    (dealt,) = deal(known, 0)
    assert pairs_of(dealt) == pairs_of(known[0])


def pairs_of(known: Known) -> list[list[float]]:
    """Every action with the one before it, in order of size."""
    assert known.before is not None
    return sorted(torch.cat([known.action, known.before], -1).nan_to_num(9).view(-1, 2).tolist())


def transitions(action: list[int], code: list[int]) -> Transitions:
    num = len(action)
    return Transitions(
        code=np.asarray(code),
        embedding=np.zeros((num, 1), np.float32),
        action=np.asarray(action),
        episode=np.asarray([f"e{row % 3}" for row in range(num)]),
        frame_index=np.arange(num),
        before=np.asarray(action),
        follows=np.zeros(num, bool),
    )


def test_a_map_is_scored_by_its_codes_and_by_the_way_back() -> None:
    rows = transitions([0, 0, 0, 1, 1, 1], [2, 2, 2, 3, 3, 3])
    frames = np.zeros((6, 8, 8, 3), np.uint8)
    right = score_map(rows, frames, lambda action, before, frames: action + 2, 4)
    assert right.code_accuracy.mean == right.blind_accuracy.mean == right.round_trip.mean == 1.0  # type: ignore[union-attr]
    assert right.commonest_accuracy.mean == 0.5
    one_for_all = score_map(rows, frames, lambda action, before, frames: torch.full_like(action, 2), 4)
    assert one_for_all.code_accuracy.mean == 0.5
    assert one_for_all.round_trip.mean == pytest.approx(0.5)  # type: ignore[union-attr]
    turned = score_map(rows, frames, lambda action, before, frames: 3 - action, 4)
    assert turned.round_trip.mean == 0.0  # type: ignore[union-attr]


def test_a_map_that_sees_is_scored_beside_itself_without_eyes() -> None:
    rows = transitions([0] * 6, [0, 1, 0, 1, 0, 1])
    frames = np.zeros((6, 8, 8, 3), np.uint8)
    frames[1::2] = 255

    def look(action: Tensor, before: Tensor | None, frames: Tensor | None) -> Tensor:
        return action if frames is None else frames[:, 0, 0, 0].long()

    score = score_map(rows, frames, look, 2, batch=4)
    assert score.code_accuracy.mean == 1.0
    assert score.blind_accuracy.mean == 0.5
