"""Mappings from latent actions to true ones: what they learn, how one is chosen, and what is saved."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from genie_lite.adapt.mapping import (
    DictionaryMapping,
    MappingConfig,
    MappingInput,
    RidgeMapping,
    choose,
    fit_mapping,
    folds,
    mapping_input,
    save_mapping,
)
from genie_lite.adapt.supervised import ActionSpace
from genie_lite.config import parse
from genie_lite.errors import UserError
from genie_lite.files import sha256_of
from genie_lite.latents.table import Latents

QUICK = MappingConfig(steps=60, hidden=16, folds=3)
EPISODES = np.repeat(["a", "b", "c", "d"], 15)


def latents(embedding: np.ndarray, code: np.ndarray, key: np.ndarray) -> Latents:
    """Valid transitions of some shots; what mappings do not read is constant."""
    rows = len(code)
    zeros = np.zeros(rows)
    return Latents(
        source=key,
        key=key,
        split=np.full(rows, "train"),
        frame_index=np.arange(rows),
        timestamp_s=zeros,
        horizon_frames=zeros,
        dt_s=zeros,
        code=code.astype(np.int32),
        tokens=code.astype(np.int32)[:, None],
        embedding=embedding.astype(np.float32),
        recon_psnr_db=zeros,
        copy_psnr_db=zeros,
        valid=np.ones(rows, dtype=bool),
    )


def given(code: Tensor, context: Tensor) -> MappingInput:
    return MappingInput(code, context)


def test_context_stops_at_the_ends_of_a_shot() -> None:
    embedding = np.arange(1.0, 6.0)[:, None]
    rows = latents(embedding, np.zeros(5), np.array(["a", "a", "a", "b", "b"]))
    context = mapping_input(rows, num_codes=2, before=1, after=1).context
    assert context[:, 0].tolist() == [0, 1, 2, 0, 4], "the transition before"
    assert context[:, 1].tolist() == [1, 2, 3, 4, 5], "the transition itself"
    assert context[:, 2].tolist() == [2, 3, 0, 5, 0], "the transition after"
    assert context[:, 3:].tolist() == [[1, 0]] * 5, "its code"


def test_dictionary_counts_and_falls_back_to_the_commonest() -> None:
    code = torch.tensor([0, 0, 0, 2])
    action = F.one_hot(torch.tensor([1, 1, 0, 2]), 3).float()
    mapping = DictionaryMapping(num_codes=4, num_actions=3).fit(given(code, torch.zeros(4, 1)), action)
    answer = mapping(given(torch.tensor([0, 2, 3]), torch.zeros(3, 1)))
    torch.testing.assert_close(answer[0], torch.tensor([1 / 3, 2 / 3, 0.0]))
    assert answer[1].tolist() == [0, 0, 1]
    assert answer[2].tolist() == [0.25, 0.5, 0.25], "a code without labels answers with all of them"


def test_a_dictionary_without_labels_knows_nothing() -> None:
    answer = DictionaryMapping(2, 4)(given(torch.tensor([1]), torch.zeros(1, 1)))
    assert answer.tolist() == [[0.25] * 4]


def test_ridge_recovers_a_linear_map() -> None:
    torch.manual_seed(0)
    context, weight = torch.randn(200, 5), torch.randn(5, 2)
    target = context @ weight + 3
    mapping = RidgeMapping(5, 2).fit(given(torch.zeros(200).long(), context), target, strength=1e-3)
    torch.testing.assert_close(mapping(given(torch.zeros(200).long(), context)), target, atol=1e-3, rtol=1e-3)


def test_auto_takes_the_dictionary_where_only_the_code_tells() -> None:
    torch.manual_seed(0)
    code = torch.randint(4, (60,))
    action = F.one_hot((code * 3) % 4, 4).float()
    fitted = fit_mapping(
        given(code, torch.randn(60, 30)), action, EPISODES, 4, QUICK, is_discrete=True, seed=0
    )
    assert fitted.kind == "dictionary"
    assert fitted.accuracy["dictionary"] == 1.0
    assert fitted.accuracy["mlp"] < 1.0


def test_auto_takes_the_mlp_where_only_the_embedding_tells() -> None:
    torch.manual_seed(0)
    context = torch.randn(60, 3)
    action = F.one_hot((context[:, 0] > 0).long(), 2).float()
    fitted = fit_mapping(
        given(torch.randint(4, (60,)), context), action, EPISODES, 4, QUICK, is_discrete=True, seed=0
    )
    assert fitted.kind == "mlp"
    assert fitted.accuracy["mlp"] > 0.8 > fitted.accuracy["dictionary"]


def test_noise_is_not_learnt() -> None:
    torch.manual_seed(0)
    context, target = torch.randn(60, 20), torch.randn(60, 2)
    fitted = fit_mapping(
        given(torch.zeros(60).long(), context), target, EPISODES, 1, QUICK, is_discrete=False, seed=0
    )
    answer = fitted.mapping(given(torch.zeros(60).long(), context))
    assert float(answer.std()) < 0.5 * float(target.std()), "held-out folds ask for a strong penalty"


def test_continuous_answers_come_in_the_actions_units() -> None:
    torch.manual_seed(0)
    context = torch.randn(60, 2)
    target = torch.stack([100 + 0.01 * context[:, 0], -5 + 10 * context[:, 1]], dim=1)
    rows = given(torch.zeros(60).long(), context)
    fitted = fit_mapping(rows, target, EPISODES, 1, QUICK, is_discrete=False, seed=0)
    assert fitted.kind == "ridge"
    error = (fitted.mapping(rows) - target).abs().mean(dim=0) / target.std(dim=0)
    assert (error < 0.05).all()


def test_a_kind_that_does_not_fit_the_actions_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match=r"'ridge' does not fit discrete actions; expected auto, dictionary"):
        fit_mapping(
            given(torch.zeros(4).long(), torch.zeros(4, 1)),
            torch.eye(4),
            EPISODES[:4],
            1,
            MappingConfig(kind="ridge"),
            is_discrete=True,
            seed=0,
        )


@pytest.mark.parametrize("is_discrete", [True, False])
@pytest.mark.parametrize("episodes", [["a", "a"], ["a", "b"]])
def test_two_labels_are_enough(is_discrete: bool, episodes: list[str]) -> None:
    rows = given(torch.tensor([0, 1]), torch.eye(2))
    fitted = fit_mapping(rows, torch.eye(2), episodes, 2, QUICK, is_discrete=is_discrete, seed=0)
    assert all(np.isfinite(loss) for loss in fitted.held_out.values())
    assert fitted.mapping(rows).isfinite().all()


@pytest.mark.parametrize("change", [{"folds": 1}, {"steps": 0}, {"hidden": 0}, {"before": -1}, {"depth": -1}])
def test_settings_that_cannot_be_are_refused(change: dict[str, int]) -> None:
    (key,) = change
    with pytest.raises(UserError, match=key):
        parse(change, MappingConfig, "recipe.yaml")


def test_folds_keep_episodes_and_time_together() -> None:
    by_episode = folds(EPISODES, 3)
    assert all(len(by_episode[torch.from_numpy(name == EPISODES)].unique()) == 1 for name in "abcd")
    assert by_episode.unique().tolist() == [0, 1, 2]
    by_time = folds(["a"] * 10, 5)
    assert by_time.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_choices_follow_the_probabilities() -> None:
    probability = torch.tensor([[0.2, 0.8]]).expand(4000, -1)
    generator = torch.Generator().manual_seed(0)
    assert choose(probability, "mode", generator)[0].tolist() == [0, 1]
    assert torch.equal(choose(probability, "soft", generator), probability)
    drawn = choose(probability, "sample", generator)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert abs(float(drawn[:, 1].mean()) - 0.8) < 0.03


@pytest.mark.parametrize("kind", ["dictionary", "mlp", "ridge"])
def test_a_saved_mapping_is_complete(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    rows = given(torch.randint(3, (60,)), torch.randn(60, 4))
    is_discrete = kind != "ridge"
    target = F.one_hot(torch.randint(2, (60,)), 2).float() if is_discrete else torch.randn(60, 2)
    config = MappingConfig.model_validate({"kind": kind, "steps": 20, "hidden": 8, "folds": 3})
    fitted = fit_mapping(rows, target, EPISODES, 3, config, is_discrete=is_discrete, seed=0)
    actions = ActionSpace("discrete" if is_discrete else "continuous", ("x", "y"))
    save_mapping(tmp_path, fitted.mapping, actions, 3, config)
    card = json.loads((tmp_path / "mapping.json").read_text())
    assert card["kind"] == kind
    assert card["actions"]["names"] == ["x", "y"]
    assert card["sha256"] == sha256_of(tmp_path / "mapping.safetensors")
    saved = load_file(tmp_path / "mapping.safetensors")
    assert saved.keys() == fitted.mapping.state_dict().keys()
    for name, tensor in fitted.mapping.state_dict().items():
        assert torch.equal(saved[name], tensor)


def test_the_same_seed_gives_the_same_mapping() -> None:
    rows = given(torch.zeros(60).long(), torch.randn(60, 4, generator=torch.Generator().manual_seed(0)))
    target = F.one_hot(torch.arange(60) % 2, 2).float()
    config = MappingConfig(kind="mlp", steps=20, hidden=8, folds=3)
    first, second, other = (
        fit_mapping(rows, target, EPISODES, 1, config, is_discrete=True, seed=seed).mapping(rows)
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_the_context_has_columns_for_each_token_not_for_each_of_their_combinations() -> None:
    code = np.array([0, 5, 65535])
    rows = replace(
        latents(np.zeros((3, 2)), code, np.array(["a"] * 3)),
        tokens=np.array([[0, 0, 0, 0], [0, 0, 0, 5], [15, 15, 15, 15]], dtype=np.int32),
    )
    found = mapping_input(rows, num_codes=16**4, before=0, after=0)
    assert found.code.tolist() == code.tolist()
    assert found.context.shape == (3, 2 + 4 * 16)
    columns = found.context[:, 2:].reshape(3, 4, 16)
    assert columns.argmax(dim=2).tolist() == [[0, 0, 0, 0], [0, 0, 0, 5], [15, 15, 15, 15]]
    assert (columns.sum(dim=2) == 1).all()


def test_a_large_alphabet_has_no_columns_and_its_embedding_tells() -> None:
    rows = latents(np.ones((3, 2)), np.array([0, 5, 4095]), np.array(["a"] * 3))
    assert mapping_input(rows, num_codes=4096, before=0, after=0).context.shape == (3, 2)
