"""How well a world follows true actions."""

import numpy as np
import pytest
import torch
from torch import Tensor

from genie_lite.data.labels import Labels
from genie_lite.data.loading.loader import Clip
from genie_lite.evals.driven import DriveScore, ToCodes, known_actions, score_drive, score_map
from genie_lite.evals.rollout import continue_clips
from genie_lite.evals.transitions import Transitions
from genie_lite.models.world import World


class Brightness(World):
    """A world of two actions, darker and brighter by a tenth; nothing is sampled, and nothing is loaded."""

    def __init__(self) -> None: ...

    def rollout(self, frames: Tensor, codes: Tensor, seed: int) -> Tensor:
        moved = (0.2 * codes.float() - 0.1).cumsum(dim=1)
        return (frames[:, -1:] + moved[:, :, None, None, None]).clamp(0, 1)


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


def same(action: Tensor, before: Tensor | None) -> Tensor:
    return action


ACTIONS = torch.randint(2, (6, 4), generator=torch.Generator().manual_seed(0))
NAMES = [f"e{row}" for row in range(6)]


def drive(codes_of: ToCodes, inferred: Tensor | None = None) -> DriveScore:
    world = Brightness()
    kept, codes = known_actions([clip(ACTIONS, NAMES)], labels(ACTIONS, NAMES), codes_of)
    driven = continue_clips(world, kept, horizon=4, codes=codes)
    theirs = None if inferred is None else continue_clips(world, kept, horizon=4, codes=[inferred])
    return score_drive(world, driven, theirs, (1, 4))


def test_a_world_that_obeys_is_exact_and_dealt_actions_lose() -> None:
    score = drive(same, ACTIONS)
    assert score.psnr_db[4].mean > 90
    assert score.control_db[4].low > 0
    assert score.to_inferred_db[4].mean == pytest.approx(0)


def test_actions_turned_around_are_worse_than_dealt_ones() -> None:
    score = drive(lambda action, before: 1 - action)
    assert score.control_db[4].mean < 0
    assert score.inferred_psnr_db == score.to_inferred_db == {}


def test_only_windows_with_all_labels_are_driven() -> None:
    given = labels(ACTIONS, NAMES)
    kept, codes = known_actions([clip(ACTIONS, NAMES)], given.select(np.arange(len(given)) != 5), same)
    assert kept[0].source == ["e0", "e2", "e3", "e4", "e5"]
    assert torch.equal(codes[0], ACTIONS[[0, 2, 3, 4, 5]])
    assert known_actions([clip(ACTIONS, NAMES)], given.of(()), same) == ([], [])


def test_vectors_are_turned_into_codes_beside_the_one_before() -> None:
    seen = []

    def note(action: Tensor, before: Tensor | None) -> Tensor:
        assert before is not None
        seen.append(before)
        return torch.zeros(len(action), dtype=torch.int64)

    given = labels(ACTIONS, NAMES)
    vectors = Labels(
        given.sources, given.frame_index, given.action[:, None].astype(np.float32), "continuous", ("x",)
    )
    known_actions([clip(ACTIONS, NAMES)], vectors, note)
    assert bool(seen[0].isnan().all())
    assert torch.equal(seen[1][:, 0], ACTIONS[:, 0].float())


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
    right = score_map(rows, lambda action, before: action + 2, 4)
    assert right.code_accuracy.mean == right.round_trip.mean == 1.0  # type: ignore[union-attr]
    assert right.commonest_accuracy.mean == 0.5
    one_for_all = score_map(rows, lambda action, before: torch.full_like(action, 2), 4)
    assert one_for_all.code_accuracy.mean == 0.5
    assert one_for_all.round_trip.mean == pytest.approx(0.5)  # type: ignore[union-attr]
    turned = score_map(rows, lambda action, before: 3 - action, 4)
    assert turned.round_trip.mean == 0.0  # type: ignore[union-attr]
