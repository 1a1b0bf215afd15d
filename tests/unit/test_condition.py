"""A world that is led by true actions: its table, its states, and that it learns to obey."""

import pytest
import torch
from torch import Tensor

from genie_lite.config import parse
from genie_lite.errors import UserError
from genie_lite.models.condition import UNKNOWN, ActionsCondition, ActionTable
from genie_lite.models.dynamics import (
    DynamicsConfig,
    DynamicsModel,
    DynamicsSizes,
    DynamicsSpec,
    DynamicsWeights,
    objective,
)
from genie_lite.models.sampling import SamplingConfig
from genie_lite.models.world import World
from genie_lite.train.config import DynamicsStage
from tests import models

NAMES = ("stay", "left", "right")


def led(with_codes: bool = False, window: int = 3, missing: float = 0.1) -> DynamicsModel:
    """A model that fits `models.tokenizer()` and `models.lam()` and is led by three actions."""
    torch.manual_seed(0)
    condition = ActionsCondition(with_codes=with_codes, missing=missing)
    shape = DynamicsConfig(width=16, depth=2, heads=2, window=window, corruption=0.0, condition=condition)
    sizes = DynamicsSizes(vocabulary=16, num_tokens=4, code_dim=4, actions=NAMES)
    return DynamicsModel(DynamicsSpec(model=shape, sizes=sizes))


def world(with_codes: bool = False, cache: bool = True, **sampling: object) -> World:
    config = SamplingConfig.model_validate({"refinements": 2, **sampling})
    return World(models.tokenizer(), models.lam(), led(with_codes), config, cache=cache)


def actions(num: int = 9, batch: int = 2) -> Tensor:
    return torch.randint(len(NAMES), (batch, num), generator=torch.Generator().manual_seed(5))


def test_a_transition_takes_its_action_or_the_row_of_none() -> None:
    table = ActionTable(ActionsCondition(), 3, 4)
    codes, known = torch.tensor([[5, 0, 2]]), torch.tensor([[2, UNKNOWN, 0]])
    assert table.rows(codes, known).tolist() == [[2, 3, 0]]
    assert table.rows(codes).tolist() == [[3, 3, 3]]
    vectors = table.vectors(torch.randn(6, 4))
    assert vectors.shape == (4, 4)
    assert torch.equal(vectors[3], table.missing)


def test_with_codes_a_transition_without_a_label_keeps_its_code() -> None:
    table = ActionTable(ActionsCondition(with_codes=True), 3, 4)
    codes, known = torch.tensor([[5, 0, 2]]), torch.tensor([[2, UNKNOWN, 0]])
    assert table.rows(codes, known).tolist() == [[2, 3, 0]]
    assert table.rows(codes).tolist() == [[8, 3, 5]]
    code_vectors = torch.randn(6, 4)
    assert torch.equal(table.vectors(code_vectors)[3 + 5], table.missing + code_vectors[5])


def test_a_share_of_the_labels_is_hidden_whoever_computes_them() -> None:
    table = ActionTable(ActionsCondition(missing=0.3), 3, 4)
    known = torch.zeros(64, 50, dtype=torch.int64)
    whole = table.hide(known, torch.Generator().manual_seed(0))
    assert 0.27 < float((whole == UNKNOWN).float().mean()) < 0.33
    parts = [table.hide(known[rank::2], torch.Generator().manual_seed(0), (rank, 2)) for rank in range(2)]
    assert torch.equal(torch.stack(parts, dim=1).flatten(0, 1), whole)


def test_a_model_led_by_codes_has_no_table() -> None:
    plain = models.dynamics()
    assert plain.condition is None
    assert plain.actions == ()
    assert not any("condition" in name for name in plain.state_dict())
    vectors = torch.randn(4, 4)
    assert plain.code_table(vectors) is vectors


def test_the_codes_of_such_a_world_are_its_actions() -> None:
    made = world()
    assert made.num_codes == 3
    assert made.actions == NAMES
    state = made.reset(models.frames(num=1), seed=0)
    ends = [made.step(state, torch.full((2,), action))[1] for action in range(3)]
    assert not torch.equal(ends[0], ends[1])
    with pytest.raises(UserError, match="expected 2 integers from 0 to 2"):
        made.step(state, torch.tensor([0, 3]))  # a code of the latent action model, not an action


@pytest.mark.parametrize("with_codes", [False, True])
def test_between_given_frames_no_action_is_known(with_codes: bool) -> None:
    made, frames = world(with_codes), models.frames(num=3)
    state = made.reset(frames, seed=0)
    codes = models.lam().eval().encode(frames).index if with_codes else torch.zeros(2, 2, dtype=torch.int64)
    assert torch.equal(state.codes[:, -2:], len(NAMES) + codes)


@pytest.mark.parametrize("with_codes", [False, True])
@pytest.mark.parametrize("micro_batch", [1, 4])
def test_cache_and_recall_are_exact(with_codes: bool, micro_batch: int) -> None:
    cached = world(with_codes, micro_batch=micro_batch)
    plain = world(with_codes, cache=False, micro_batch=micro_batch)
    one, other = (each.reset(models.frames(num=2), seed=7) for each in (cached, plain))
    for action in actions().unbind(dim=1):
        (one, picture), (other, same) = cached.step(one, action), plain.step(other, action)
        assert torch.equal(picture, same)
        one = cached.recall(one.tensors())


def moves(tokens: Tensor, action: Tensor) -> Tensor:
    """The rule of the toy: an action moves every token to its own quarter of the alphabet, to the place it had."""
    return 4 * (1 + action[..., None]) + tokens % 4


def lesson(generator: torch.Generator, batch: int = 32, num: int = 3) -> tuple[Tensor, Tensor]:
    """Tokens `b t n` of clips in the toy, and the actions `b t-1`."""
    tokens = [torch.randint(16, (batch, 4), generator=generator)]
    action = torch.randint(3, (batch, num - 1), generator=generator)
    for each in action.unbind(dim=1):
        tokens.append(moves(tokens[-1], each))
    return torch.stack(tokens, dim=1), action


def obeyed(*, shuffled: bool, with_codes: bool = False) -> float:
    """Share of tokens that are where the true action takes them, after a little training on half labelled clips."""
    model, generator = led(with_codes), torch.Generator().manual_seed(0)
    assert model.condition is not None
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    code_vectors = models.lam().code_vectors().detach()
    for _ in range(100):
        tokens, action = lesson(generator)
        told = action.flatten()[torch.randperm(action.numel(), generator=generator)].view_as(action)
        shown = (told if shuffled else action).clone()
        shown[16:] = UNKNOWN
        rows = model.rows_of(torch.zeros_like(action), model.condition.hide(shown, generator))
        out = model(tokens, model.code_table(code_vectors)[rows], generator)
        optimizer.zero_grad()
        objective(out, tokens, DynamicsWeights()).total.backward()
        optimizer.step()
    made = World(models.tokenizer(), models.lam(), model, SamplingConfig(refinements=1, temperature=0.0))
    state = made.reset(models.frames(num=1, batch=32), seed=0)
    action = torch.arange(32) % 3
    after, _ = made.step(state, action)
    return float((after.tokens[:, -1] == moves(state.tokens[:, -1], action)).float().mean())


def test_a_world_learns_to_obey_the_actions_that_it_is_shown() -> None:
    right, wrong = obeyed(shuffled=False), obeyed(shuffled=True)
    assert right > 0.9
    assert wrong < 0.5


def test_actions_that_nobody_names_are_refused() -> None:
    shape = DynamicsConfig(width=16, depth=1, heads=2, condition=ActionsCondition())
    with pytest.raises(ValueError, match="it is not known which; labels name them"):
        DynamicsModel(DynamicsSpec(model=shape, sizes=DynamicsSizes(vocabulary=16, num_tokens=4, code_dim=4)))


TRAIN = {"steps": 1}


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"model": {"condition": {"kind": "actions"}}}, "kind is actions, but labels are not set"),
        ({"labels": {"budget": 5}}, "labels are set, but model.condition.kind is codes"),
        ({"model": {"condition": {"kind": "action"}}}, "kind"),
        ({"model": {"condition": {"kind": "actions", "missing": 1.0}}, "labels": {}}, "missing"),
        (
            {
                "model": {"condition": {"kind": "actions"}},
                "labels": {"batch": 3},
                "train": {"steps": 1, "accumulate": 2},
            },
            "labels.batch 3 is not divisible by train.accumulate 2",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(tree: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse({"train": TRAIN, **tree}, DynamicsStage, "dynamics")


def test_labels_of_the_right_kind_are_taken() -> None:
    tree = {"model": {"condition": {"kind": "actions", "with_codes": True}}, "labels": {}, "train": TRAIN}
    stage = parse(tree, DynamicsStage, "dynamics")
    assert stage.uses_labels
    assert not parse({"train": TRAIN}, DynamicsStage, "dynamics").uses_labels
