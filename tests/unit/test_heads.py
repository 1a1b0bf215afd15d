"""Heads for true actions: what they learn and say, and that labels in training bring out what distractors drown."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from genie_lite.errors import UserError
from genie_lite.models.heads import (
    ActionHeads,
    HeadsSpec,
    KnownActions,
    RobotActions,
    read_heads,
    remove_heads,
    write_heads,
)
from genie_lite.models.lam import LAMConfig, LAMWeights, LatentActionModel, objective
from genie_lite.nn.quantize import NoneConfig

GAME = RobotActions(name="game", kind="discrete", names=("left", "right"))
ARM = RobotActions(name="arm", kind="continuous", names=("x", "y", "grip"))


def two_robots(width: int = 4) -> ActionHeads:
    torch.manual_seed(0)
    heads = ActionHeads(HeadsSpec(width=width, robots=(GAME, ARM)))
    heads.standardise(0, torch.ones(3, 2))  # choices have no mean
    heads.standardise(1, torch.tensor([[0.0, 5.0, 1.0], [100.0, 7.0, 1.0]]))
    return heads


def known(num: int = 4) -> KnownActions:
    """Clips of the game and of the arm in turn, two transitions each, of which one has a label."""
    robot = torch.arange(num) % 2
    action = torch.zeros(num, 2, 3)
    action[robot == 0, :, 0] = 1.0
    action[robot == 1] = torch.tensor([50.0, 6.0, 1.0])
    return KnownActions(robot, action, torch.tensor([True, False]).expand(num, 2).contiguous())


def test_choices_count_in_nats_and_vectors_in_deviations() -> None:
    heads = two_robots()
    with torch.no_grad():
        for parameter in heads.parameters():
            parameter.zero_()
    error = heads(torch.randn(4, 2, 4), known())
    # A uniform guess costs log 2; the mean of the arm's actions is what the head says at zero.
    torch.testing.assert_close(error, torch.tensor(0.5 * np.log(2), dtype=torch.float32))
    moved = KnownActions(known().robot, known().action + torch.tensor([50.0, 0.0, 0.0]), known().known)
    moved.action[::2] = known().action[::2]
    torch.testing.assert_close(
        heads(torch.randn(4, 2, 4), moved), torch.tensor(0.5 * (np.log(2) + 1 / 3), dtype=torch.float32)
    )


def test_only_known_transitions_and_the_clips_robot_count() -> None:
    heads, embedding = two_robots(), torch.randn(4, 2, 4, requires_grad=True)
    heads(embedding, known()).backward()
    assert embedding.grad is not None
    assert (embedding.grad[:, 0].abs().sum(dim=-1) > 0).all(), "a gradient reaches the encoder"
    assert embedding.grad[:, 1].abs().sum() == 0
    heads.zero_grad()
    only_game = KnownActions(torch.zeros(4, dtype=torch.long), known().action, known().known)
    heads(embedding, only_game).backward()
    assert all(parameter.grad is not None for parameter in heads.parameters()), (
        "processes wait for each other's"
    )
    game, arm = (
        sum(float(each.grad.abs().sum()) for each in head.parameters() if each.grad is not None)
        for head in heads.heads
    )
    assert game > 0
    assert arm == 0


def test_actions_come_out_in_their_own_units(tmp_path: Path) -> None:
    heads = two_robots()
    embedding = torch.randn(5, 3, 4)
    chances = heads.answer(embedding, "game")
    torch.testing.assert_close(chances.sum(dim=-1), torch.ones(5, 3))
    vector = heads.answer(embedding, "arm")
    torch.testing.assert_close(vector[..., :2].mean(), torch.tensor(28.0), atol=25.0, rtol=0)
    write_heads(tmp_path, heads.spec, heads.state_dict())
    again = read_heads(tmp_path)
    assert not again.training
    assert torch.equal(again.answer(embedding, 1), vector)
    with pytest.raises(UserError, match=r"robot 'leg': no head for it; expected one of 'game', 'arm'"):
        again.answer(embedding, "leg")
    with pytest.raises(UserError, match="robot 2"):
        again.answer(embedding, 2)


def test_missing_and_damaged_heads_are_told_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no heads for actions here .* where lam\.labels is set"):
        read_heads(tmp_path)
    write_heads(tmp_path, two_robots().spec, two_robots(width=6).state_dict())
    with pytest.raises(UserError, match="weights of other heads"):
        read_heads(tmp_path)
    (tmp_path / "heads.safetensors").write_bytes(b"half")
    with pytest.raises(UserError, match=r"heads\.safetensors: missing, or not what heads\.json says"):
        read_heads(tmp_path)
    remove_heads(tmp_path)
    assert not list(tmp_path.iterdir())


def pushed(num: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A small dim square goes left or right as it is told; above it a large bright one appears anywhere."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.zeros(num, 2, 3, 16, 16)
    goes_right = torch.randint(2, (num,), generator=generator)
    start = torch.randint(5, 9, (num,), generator=generator)
    place = torch.randint(0, 7, (num, 2, 2), generator=generator)
    for clip, right, left, above in zip(
        frames, goes_right.tolist(), start.tolist(), place.tolist(), strict=True
    ):
        for frame, column, (y, x) in zip(clip, (left, left + 6 * right - 3), above, strict=True):
            frame[:, y : y + 5, x : x + 6] = 0.9
            frame[0, 12:15, column : column + 3] = 0.6
    return frames, goes_right


def probe(model: LatentActionModel) -> float:
    """Accuracy of a linear reader of the embedding, on clips that it has not seen."""
    frames, goes_right = pushed(600, seed=77)
    with torch.no_grad():
        embedding = model.eval().encode(frames).embedding[:, 0]
    rows = torch.cat([embedding, torch.ones(len(embedding), 1)], dim=1)
    wanted = 2.0 * goes_right[:, None] - 1
    weight = torch.linalg.lstsq(rows[:300], wanted[:300]).solution
    return float(((rows[300:] @ weight).sign() == wanted[300:]).float().mean())


def train(*, with_labels: bool, steps: int = 100) -> tuple[LatentActionModel, ActionHeads]:
    torch.manual_seed(0)
    shape = LAMConfig(frame_hw=(16, 16), patch=8, width=32, depth=1, heads=2, code=NoneConfig(dim=2))
    model = LatentActionModel(shape)
    heads = ActionHeads(HeadsSpec(width=model.code_dim, robots=(GAME,)))
    few, action = pushed(50, seed=10**6)
    labels = KnownActions(
        robot=torch.zeros(50, dtype=torch.long),
        action=F.one_hot(action, 2).float()[:, None],
        known=torch.ones(50, 1, dtype=torch.bool),
    )
    optimizer = torch.optim.AdamW([*model.parameters(), *heads.parameters()], lr=5e-3)
    many, _ = pushed(1000, seed=5)
    for step in range(steps):
        frames = many[torch.randint(1000, (16,), generator=torch.Generator().manual_seed(step))]
        out = model(frames, others=few if with_labels else None)
        label = None if out.others is None else heads(out.others, labels)
        loss = objective(out, frames, LAMWeights(), label=label)
        assert ("label" in loss.terms) == with_labels
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    return model, heads


def test_fifty_labels_in_training_bring_out_the_action_that_a_distractor_drowns() -> None:
    """What changes most is somebody else's doing: without a label nothing says which change is the action."""
    alone, (helped, heads) = train(with_labels=False)[0], train(with_labels=True)
    without, with_labels = probe(alone), probe(helped)
    assert without < 0.7
    assert with_labels > 0.85
    frames, goes_right = pushed(300, seed=99)
    answer = heads.answer(helped.encode(frames).embedding[:, 0], "game").argmax(dim=-1)
    assert float((answer == goes_right).float().mean()) > 0.85, (
        "the head reads actions off the model as it is"
    )
