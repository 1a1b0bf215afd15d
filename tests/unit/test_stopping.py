"""A rival with few labels stops before it has learnt them by heart."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch

from genie_lite.adapt.footage import Footage
from genie_lite.adapt.idm import IDMConfig, infer, train_idm
from genie_lite.adapt.policy import Policy, PolicyConfig, fit_policy
from genie_lite.adapt.setting import Setting
from genie_lite.adapt.stopping import best_stop, held_out, looks
from genie_lite.adapt.supervised import ActionSpace, Examples
from tests import models
from tests.footage import footage

SIDES = ActionSpace("discrete", ("left", "right"))
TINY = PolicyConfig(
    context=1,
    patch=4,
    merge=2,
    width=16,
    depth=1,
    heads=2,
    steps=80,
    batch=16,
    lr=0.01,
    warmup_steps=5,
    precision="32-true",
)


def noisy(shots: int = 6, length: int = 8) -> tuple[Footage, np.ndarray]:
    """Frames of noise, each easy to know again, with a bright side; and which side it is."""
    random = np.random.default_rng(0)
    side = random.integers(2, size=shots * length)
    frames = random.integers(0, 120, (len(side), 16, 16, 3), dtype=np.uint8)
    for frame, right in zip(frames, side, strict=True):
        frame[:, 8 * right : 8 * right + 8] += 60
    return replace(footage((length,) * shots), frames=frames), side


def meaningless(side: np.ndarray) -> np.ndarray:
    """Labels that nothing in a frame tells: on each side every other frame is called right."""
    labels = np.empty_like(side)
    for each in (0, 1):
        labels[side == each] = np.arange((side == each).sum()) % 2
    return labels


def cloned(action: np.ndarray, shown: Footage, config: PolicyConfig = TINY) -> Policy:
    examples = Examples(np.arange(len(action)), torch.eye(2)[action], shown.source)
    return fit_policy(shown, examples, SIDES, config, Setting(0))


def test_random_labels_stop_a_policy_early() -> None:
    shown, side = noisy()
    stop = cloned(meaningless(side), shown).stop
    assert stop is not None
    assert stop.steps <= stop.most / 2, "what cannot be known is not learnt by heart"
    assert stop.held_out_loss[stop.most] > stop.held_out_loss[stop.steps] + 0.1


def test_labels_that_can_be_known_are_learnt() -> None:
    shown, side = noisy()
    policy = cloned(side, shown)
    assert policy.stop is not None
    assert policy.stop.held_out_loss[policy.stop.steps] < 0.4
    told = policy.answer(shown.ending_at(np.arange(len(side)), policy.config.context))
    assert (told.argmax(1).numpy() == side).mean() > 0.95


def test_the_network_returned_is_trained_on_all_labels_for_the_steps_chosen() -> None:
    shown, side = noisy()
    stopped = cloned(side, shown, TINY.model_copy(update={"steps": 1}))
    examples = Examples(np.arange(len(side)), torch.eye(2)[side])
    plain = fit_policy(shown, examples, SIDES, TINY.model_copy(update={"steps": 1}), Setting(0))
    assert plain.stop is None
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, stopped.state_dict()[name])


def test_few_labels_are_not_passed_over_more_often_than_allowed() -> None:
    shown, side = noisy()
    policy = cloned(side, shown, TINY.model_copy(update={"passes": 5}))
    assert policy.stop is not None
    assert policy.stop.most == 15, "5 passes over 48 labels, 16 at a time"


def test_an_inverse_model_stops_too() -> None:
    shown, side = noisy()
    rows = np.flatnonzero(shown.has_next)
    by_chance = meaningless(side)[rows]
    config = IDMConfig(steps=40, batch=16, lr=0.01, warmup_steps=5, precision="32-true")
    examples = Examples(rows, torch.eye(2)[by_chance], shown.source[rows])
    model = train_idm(models.lam().config, shown, examples, SIDES, config, Setting(0))
    assert model.stop is not None
    assert model.stop.steps <= 20
    assert infer(model, shown, rows, config.context).shape == (len(rows), 2)


def test_progress_says_what_is_done_and_how_far() -> None:
    shown, side = noisy()
    told: list[tuple[str, int, int]] = []
    setting = Setting(0, progress=lambda *each: told.append(each)).named("clone")
    config = TINY.model_copy(update={"steps": 2})
    fit_policy(shown, Examples(np.arange(len(side)), torch.eye(2)[side]), SIDES, config, setting)
    assert told == [("clone", 1, 2), ("clone", 2, 2)]


@pytest.mark.parametrize("episodes", [["a", "a"], ["a", "b"]])
@pytest.mark.parametrize("kind", ["discrete", "continuous"])
def test_two_labels_are_enough_to_train(episodes: list[str], kind: Literal["discrete", "continuous"]) -> None:
    shown, _ = noisy()
    examples = Examples(np.arange(2), torch.eye(2), np.array(episodes))
    policy = fit_policy(shown, examples, ActionSpace(kind, ("left", "right")), TINY, Setting(0))
    assert policy.stop is not None
    assert all(np.isfinite(loss) for loss in policy.stop.held_out_loss.values())
    assert all(tensor.isfinite().all() for tensor in policy.state_dict().values())


@pytest.mark.parametrize(("num", "held"), [(2, 1), (5, 1), (10, 2), (12, 2)])
def test_a_fifth_of_the_episodes_is_held_out_whole(num: int, held: int) -> None:
    episodes = np.repeat([f"episode-{number}" for number in range(num)], 3)
    out = held_out(episodes, seed=0).reshape(num, 3)
    assert (out.all(axis=1) | ~out.any(axis=1)).all()
    assert out.all(axis=1).sum() == held


@pytest.mark.parametrize(("rows", "held"), [(10, [8, 9]), (2, [1]), (3, [2])])
def test_of_a_single_episode_its_end_is_held_out(rows: int, held: list[int]) -> None:
    assert np.flatnonzero(held_out(np.full(rows, "only"), seed=0)).tolist() == held


def test_looks_are_evenly_spaced_and_the_fewest_of_equal_steps_win() -> None:
    assert sorted(looks(80)) == [10, 20, 30, 40, 50, 60, 70, 80]
    assert sorted(looks(3)) == [1, 2, 3]
    assert best_stop({10: 0.5, 20: 0.2, 30: 0.2, 40: 0.9}, 40).steps == 20
