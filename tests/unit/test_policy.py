"""The policy: what it sees, that it learns to do what it is told, how it plays, and how it is saved."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genie_lite.adapt.footage import Footage
from genie_lite.adapt.idm import IDMConfig, infer, train_idm
from genie_lite.adapt.policy import (
    Policy,
    PolicyConfig,
    fit_policy,
    fixed_fn,
    load_policy,
    policy_fn,
    random_fn,
    save_policy,
)
from genie_lite.adapt.setting import Setting
from genie_lite.adapt.supervised import ActionSpace, Examples
from genie_lite.config import parse
from genie_lite.errors import UserError
from tests import models
from tests.footage import footage

TINY = PolicyConfig(
    context=2, patch=4, merge=2, width=16, depth=1, heads=2, steps=40, batch=16, lr=0.01, precision="32-true"
)
SIDES = ActionSpace("discrete", ("left", "right"))


def sided(num: int = 32) -> tuple[Footage, np.ndarray]:
    """Frames that are bright on the left or on the right, and which it is."""
    side = np.random.default_rng(0).integers(2, size=num)
    frames = np.full((num, 16, 16, 3), 30, dtype=np.uint8)
    for frame, right in zip(frames, side, strict=True):
        frame[:, 8 * right : 8 * right + 8] = 220
    return replace(footage((num,)), frames=frames), side


def trained(config: PolicyConfig = TINY, seed: int = 0) -> tuple[Policy, Footage, np.ndarray]:
    shown, side = sided()
    return cloned(shown, torch.eye(2)[side], config=config, seed=seed), shown, side


def cloned(
    shown: Footage,
    target: torch.Tensor,
    actions: ActionSpace = SIDES,
    config: PolicyConfig = TINY,
    seed: int = 0,
) -> Policy:
    return fit_policy(shown, Examples(np.arange(len(target)), target), actions, config, Setting(seed))


def told(policy: Policy, shown: Footage, num: int) -> torch.Tensor:
    """What the policy says at the first rows."""
    return policy.answer(shown.ending_at(np.arange(num), policy.config.context))


def test_a_clip_before_the_start_repeats_the_first_frame() -> None:
    clips = footage((6, 5)).ending_at(np.array([0, 2, 6, 7]), 3)[:, :, 0, 0, 0] * 255
    assert clips.round().int().tolist() == [[0, 0, 0], [0, 1, 2], [6, 6, 6], [6, 6, 7]]


def test_cloning_learns_what_it_is_told() -> None:
    policy, shown, side = trained()
    assert (told(policy, shown, len(side)).argmax(1).numpy() == side).mean() > 0.95


def test_cloning_learns_probabilities() -> None:
    shown, side = sided()
    target = torch.tensor([0.7, 0.3]).expand(len(side), -1)
    policy = cloned(shown, target)
    assert abs(float(told(policy, shown, 4)[:, 0].mean()) - 0.7) < 0.1


def test_a_continuous_policy_answers_in_the_actions_units() -> None:
    shown, side = sided()
    target = torch.from_numpy(np.stack([1000 + side, -0.001 * side], axis=1)).float()
    arms = ActionSpace("continuous", ("lift", "turn"))
    policy = cloned(shown, target, arms)
    error = (told(policy, shown, len(side)) - target).abs().mean(dim=0)
    assert (error < 0.5 * target.std(dim=0)).all()


def test_the_newest_frame_is_the_last() -> None:
    """Only the newest frame tells the action; a policy fed in the wrong order could not know it."""
    shown, side = sided()
    policy, _, _ = trained()
    act = policy_fn(policy, temperature=0.0)
    old, new = shown.frames[side == 0][:1], shown.frames[side == 1][:1]
    generator = torch.Generator()
    assert act(np.stack([old, old, new], axis=1), generator).tolist() == [1]
    assert act(old[:, None], generator).tolist() == [0], (
        "shorter than the context: the first frame is repeated"
    )


def test_play_is_drawn_from_the_policys_distribution() -> None:
    policy, shown, side = trained()
    frames = shown.frames[side == 1][:1]
    many = np.repeat(frames[:, None], 400, axis=0)
    hot = policy_fn(policy, temperature=1e4)(many, torch.Generator().manual_seed(0))
    assert 0.4 < hot.mean() < 0.6
    again = policy_fn(policy, temperature=1e4)(many, torch.Generator().manual_seed(0))
    assert np.array_equal(hot, again)
    assert policy_fn(policy, temperature=0.0)(many, torch.Generator()).tolist() == [1] * 400


def test_rivals_that_do_not_look() -> None:
    frames = np.zeros((300, 1, 4, 4, 3), dtype=np.uint8)
    drawn = random_fn(3)(frames, torch.Generator().manual_seed(0))
    assert set(drawn.tolist()) == {0, 1, 2}
    assert set(fixed_fn(2)(frames, torch.Generator()).tolist()) == {2}


def test_the_same_seed_gives_the_same_policy() -> None:
    quick = TINY.model_copy(update={"steps": 3})
    (first, shown, _), (second, _, _), (other, _, _) = (trained(quick, seed) for seed in (0, 0, 1))
    answers = [told(policy, shown, 4) for policy in (first, second, other)]
    assert torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[2])


def test_low_precision_learns_too() -> None:
    policy, shown, side = trained(TINY.model_copy(update={"precision": "bf16-mixed"}))
    assert (told(policy, shown, len(side)).argmax(1).numpy() == side).mean() > 0.95


def test_save_and_load_gives_the_same_answers(tmp_path: Path) -> None:
    policy, shown, _ = trained()
    save_policy(tmp_path, policy, {"parents": {"lam": "abc"}})
    loaded = load_policy(tmp_path)
    assert torch.equal(told(loaded, shown, 8), told(policy, shown, 8))
    assert loaded.actions == SIDES


def test_a_policy_that_was_tampered_with_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"policy\.json is missing"):
        load_policy(tmp_path)
    policy, _, _ = trained(TINY.model_copy(update={"steps": 1}))
    save_policy(tmp_path, policy, {})
    (tmp_path / "policy.safetensors").write_bytes(b"other")
    with pytest.raises(UserError, match="not the file that"):
        load_policy(tmp_path)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda card: "", r"no valid JSON"),
        (lambda card: json.dumps(card)[:100], r"no valid JSON"),
        (lambda card: "[]", r"expected an object, found list"),
        (lambda card: json.dumps(card | {"format": 9}), r"format 9, this version reads 1"),
        (lambda card: json.dumps(card | {"about": None}), r"about: found None, expected dict"),
        (lambda card: json.dumps({key: card[key] for key in card if key != "sha256"}), "sha256: missing"),
        (lambda card: json.dumps(card | {"frame_hw": [16]}), "does not describe the weights"),
        (lambda card: json.dumps(card | {"frame_hw": [16, "x"]}), "does not describe the weights"),
        (lambda card: json.dumps(card | {"actions": {"kind": "discrete"}}), "does not describe the weights"),
        (lambda card: json.dumps(card | {"config": card["config"] | {"width": 32}}), "does not describe"),
        (lambda card: json.dumps(card | {"config": {"heads": 0}}), r"heads: found 0"),
    ],
)
def test_a_damaged_card_is_told_in_one_line(
    damage: Callable[[dict[str, Any]], str], said: str, tmp_path: Path
) -> None:
    policy, _, _ = trained(TINY.model_copy(update={"steps": 1}))
    save_policy(tmp_path, policy, {})
    path = tmp_path / "policy.json"
    path.write_text(damage(json.loads(path.read_text())))
    with pytest.raises(UserError, match=said) as error:
        load_policy(tmp_path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"heads": 0}, "heads"),
        ({"patch": 0}, "patch"),
        ({"merge": 0}, "merge"),
        ({"depth": 0}, "depth"),
        ({"steps": 0}, "steps"),
        ({"width": 30, "heads": 4}, "width 30 cannot be split into 4 heads"),
    ],
)
def test_a_shape_that_cannot_be_is_refused_when_the_recipe_is_read(change: dict[str, int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse(change, PolicyConfig, "recipe.yaml")


def test_frames_that_merged_patches_do_not_tile_are_refused() -> None:
    TINY.check_frame((16, 24))
    with pytest.raises(UserError, match=r"patch 4 times merge 2 is 8 pixels, .* frames of 16x20"):
        TINY.check_frame((16, 20))


def test_the_inverse_model_reads_the_change() -> None:
    """Whether the next frame is brighter cannot be seen in frame k alone."""
    up = np.random.default_rng(1).integers(2, size=63)
    level = np.stack([np.full(63, 128), np.where(up, 168, 88)], axis=1).reshape(126).astype(np.uint8)
    frames = np.broadcast_to(level[:, None, None, None], (126, 16, 16, 3))
    shown = replace(footage((2,) * 63), frames=frames)
    rows = np.arange(0, 126, 2)
    config = IDMConfig(steps=60, batch=16, lr=0.01, precision="32-true")
    model = train_idm(models.lam().config, shown, Examples(rows, torch.eye(2)[up]), SIDES, config, Setting(0))
    answer = infer(model, shown, rows, config.context)
    assert (answer.argmax(1).numpy() == up).mean() > 0.95
