from itertools import pairwise

import pytest
import torch
from torch import nn

from genie_lite.train.config import TrainConfig
from genie_lite.train.optim import build_optimizer, learning_rate, parameter_groups, step_seed


def train_config(**settings: object) -> TrainConfig:
    return TrainConfig.model_validate({"steps": 100, "lr": 0.1, "warmup_steps": 10} | settings)


class Mixed(nn.Module):
    """One parameter of every sort."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 4)
        self.linear = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.place = nn.Parameter(torch.zeros(3, 4))
        self.frozen = nn.Linear(4, 4).requires_grad_(False)


def test_only_matrices_decay() -> None:
    model = Mixed()
    decayed, spared = parameter_groups(model, 0.1)
    assert decayed["params"] == [model.linear.weight]
    assert decayed["weight_decay"] == 0.1
    assert spared["weight_decay"] == 0.0
    names = {name for name, each in model.named_parameters() if any(each is one for one in spared["params"])}
    assert names == {"table.weight", "linear.bias", "norm.weight", "norm.bias", "place"}


def test_every_trainable_parameter_is_optimized_once() -> None:
    model = Mixed()
    optimized = [each for group in parameter_groups(model, 0.1) for each in group["params"]]
    assert len(optimized) == len({id(each) for each in optimized})
    assert sum(each.numel() for each in optimized) == sum(
        each.numel() for each in model.parameters() if each.requires_grad
    )


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_the_learning_rate_climbs_to_its_peak_and_falls_to_its_end(schedule: str) -> None:
    train = train_config(schedule=schedule, lr_end=0.01)
    rates = [learning_rate(step, train) for step in range(101)]
    assert 0 < rates[0] < rates[9] < rates[10] == 0.1
    assert all(later <= earlier for earlier, later in pairwise(rates[10:]))
    assert rates[100] == pytest.approx(0.01)


def test_wsd_is_constant_between_warm_up_and_the_last_fifth() -> None:
    train = train_config(schedule="wsd")
    assert {learning_rate(step, train) for step in range(10, 81)} == {0.1}
    assert learning_rate(90, train) == pytest.approx(0.05)


def test_cosine_is_half_way_down_half_way_through() -> None:
    assert learning_rate(55, train_config()) == pytest.approx(0.05)


def test_a_run_shorter_than_its_warm_up_has_a_learning_rate() -> None:
    train = train_config(steps=3)
    assert all(0 < learning_rate(step, train) < 0.1 for step in range(3))


def test_the_optimizer_follows_the_schedule() -> None:
    train = train_config(steps=20, warmup_steps=3)
    optimizer, schedule = build_optimizer(Mixed(), train)
    found = []
    for _ in range(20):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert found == pytest.approx([learning_rate(step, train) for step in range(20)])


def test_step_seeds_differ_in_every_argument() -> None:
    seeds = {step_seed(seed, step) for seed in range(3) for step in range(20)}
    assert len(seeds) == 3 * 20
    assert all(0 <= seed < 2**63 for seed in seeds)
