"""The training benchmarks: what they count, how they compare, where they write; never how long anything took."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from genie_lite.errors import UserError
from genie_lite.recipe import load_recipe
from tests.forked import run_forked

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))  # as for a script that is run from there
measure = importlib.import_module("measure")
peers = importlib.import_module("peers")
step = importlib.import_module("step")
limit = importlib.import_module("limit")
recipe_cost = importlib.import_module("recipe_cost")

TINY = peers.Shape(
    batch=2, frames=2, size_px=16, patch=8, lam_patch=16, width=16, depth=1, heads=2, codes=16, actions=4
)


class FakePeer:
    """Counts its calls; a step of it is nothing."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls: list[str] = []

    def _job(self, what: str) -> Any:
        return peers.Job(lambda: self.calls.append(what), parameters=2_000_000)

    def tokenizer_step(self, shape: Any, precision: str = "fp32") -> Any:
        return self._job(f"tokenizer {precision}")

    def lam_step(self, shape: Any, precision: str = "fp32") -> Any:
        return self._job(f"lam {precision}")

    def dynamics_step(self, shape: Any, precision: str = "fp32") -> Any:
        return self._job(f"dynamics {precision}")

    def sample_frame(self, shape: Any, passes: int, precision: str = "fp32") -> Any:
        return self._job(f"sample {precision}")


# measure.py


def test_rivals_take_turns_and_warm_up_rounds_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    seconds = {"a": iter([9.0, 1.0, 5.0, 2.0]), "b": iter([9.0, 4.0, 4.0, 7.0])}

    def timed(job: Callable[[], object]) -> tuple[float, float]:
        name = job()
        assert isinstance(name, str)
        order.append(name)
        value = next(seconds[name])
        return value, 2 * value

    monkeypatch.setattr(measure, "_seconds", timed)
    result = measure.take_turns({"a": lambda: "a", "b": lambda: "b"}, rounds=3, warm_up=1)
    assert order == ["a", "b"] * 4
    assert result == {"a": measure.Timed(wall_s=2.0, cpu_s=4.0), "b": measure.Timed(wall_s=4.0, cpu_s=8.0)}


def test_a_table_replaces_the_last_one_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "benchmarks.md"
    path.write_text(
        "above\n\n<!-- step: begin -->\n<!-- step: end -->\n\nbelow\n<!-- limit: begin -->\n<!-- limit: end -->\n"
    )
    measure.write_table("step", [{"stage": "old", "cpu_s": 1.0}], "python old.py", path)
    rows = [
        {"stage": "lam", "cpu_s": 0.012345, "over": None},
        {"stage": "dynamics", "cpu_s": 1234.5, "over": 2},
    ]
    measure.write_table("step", rows, "python new.py", path)
    text = path.read_text()
    before, _, rest = text.partition("<!-- step: begin -->")
    table, _, after = rest.partition("<!-- step: end -->")
    assert before == "above\n\n"
    assert after == "\n\nbelow\n<!-- limit: begin -->\n<!-- limit: end -->\n"
    assert "old" not in table
    assert "`python new.py`, commit `" in table
    assert table.strip().splitlines()[-4:] == [
        "| stage | cpu_s | over |",
        "| --- | --- | --- |",
        "| lam | 0.0123 | – |",
        "| dynamics | 1234 | 2 |",
    ]


def test_a_table_without_a_place_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "benchmarks.md"
    path.write_text("<!-- step: end -->\n<!-- step: begin -->\n")
    with pytest.raises(AssertionError, match="no place for 'step'"):
        measure.write_table("step", [{"stage": "lam"}], "python step.py", path)


def test_every_benchmark_has_its_place_in_the_docs() -> None:
    text = measure.TABLES.read_text()
    for name in ("step", "limit"):
        assert text.index(f"<!-- {name}: begin -->") < text.index(f"<!-- {name}: end -->")


def test_a_training_step_moves_the_parameters_down_the_gradient_of_this_step_alone() -> None:
    weight = nn.Parameter(torch.tensor(3.0))
    run = measure.training_step(torch.optim.SGD([weight], lr=0.5), lambda: weight * 2.0, bf16=False)
    run()
    assert weight.item() == 2.0
    run()
    assert weight.item() == 1.0


@pytest.mark.parametrize(("bf16", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_training_step_runs_in_the_precision_asked_for(bf16: bool, dtype: torch.dtype) -> None:
    layer, seen = nn.Linear(4, 4), []

    def loss() -> torch.Tensor:
        out = layer(torch.ones(2, 4))
        seen.append(out.dtype)
        return out.float().sum()

    measure.training_step(torch.optim.SGD(layer.parameters()), loss, bf16=bf16)()
    assert seen == [dtype]


# step.py


def test_the_ratio_is_that_of_the_fastest_peer_in_its_best_precision() -> None:
    timed = {"a": measure.Timed(9.0, 4.0), "a_bf16": measure.Timed(9.0, 3.0), "b": measure.Timed(1.0, 5.0)}
    row = step.costs(measure.Timed(7.0, 2.0), timed)
    assert row == {
        "ours_cpu_s": 2.0,
        "a_cpu_s": 4.0,
        "a_bf16_cpu_s": 3.0,
        "b_cpu_s": 5.0,
        "over_fastest": 1.5,
        "over_fastest_fp32": 2.0,
    }


def test_without_peers_there_is_no_ratio() -> None:
    row = step.costs(measure.Timed(7.0, 2.0), {})
    assert row == {"ours_cpu_s": 2.0, "over_fastest": None, "over_fastest_fp32": None}


def test_every_peer_runs_every_stage_in_both_precisions_as_often_as_we_do() -> None:
    fakes = [FakePeer("quick"), FakePeer("lean")]
    rows = list(step.compare([TINY], fakes, rounds=1))
    assert [(row["stage"], row["shape"], row["ours_precision"]) for row in rows] == [
        (stage, "2x2", precision)
        for stage in ("tokenizer", "lam", "dynamics")
        for precision in ("bf16-mixed", "32-true")
    ]
    assert len({tuple(row) for row in rows}) == 1  # a table has one set of columns
    assert {"quick_cpu_s", "quick_bf16_cpu_s", "lean_cpu_s", "lean_bf16_cpu_s"} <= set(rows[0])
    assert rows[0]["quick_params_m"] == 2.0
    calls = [f"{stage} {p}" for stage in step.STAGES for _ in range(3) for p in ("fp32", "bf16")]
    assert fakes[0].calls == fakes[1].calls == calls  # two rounds to warm up, one that counts


@pytest.mark.parametrize("stage", ["tokenizer", "lam", "dynamics"])
def test_our_step_trains_a_model_of_the_shape_asked_for(stage: str) -> None:
    train = step.TrainConfig(steps=10, batch=TINY.batch, clip_frames=TINY.frames, precision="32-true")
    module = step.our_module(stage, TINY, train)
    before = [parameter.detach().clone() for parameter in module.model.parameters()]
    job = step.our_job(module, train, step.random_batch(module, train, (16, 16)))
    job()
    assert job.parameters == sum(parameter.numel() for parameter in before)
    assert any(not torch.equal(old, new) for old, new in zip(before, module.model.parameters(), strict=True))


def test_our_models_reach_the_whole_clip_as_the_peers_do() -> None:
    shape = peers.Shape(batch=1, frames=4, size_px=16, width=16, depth=2, heads=2, codes=16, actions=4)
    train = step.TrainConfig(steps=10, clip_frames=4)
    tokenizer = step.our_module("tokenizer", shape, train).model
    lam = step.our_module("lam", shape, train).model
    dynamics = step.our_module("dynamics", shape, train).model
    windows = [tokenizer.encoder, tokenizer.decoder, lam.encoder, lam.decoder, dynamics.transformer]
    assert [transformer.window for transformer in windows] == [4] * 5
    assert [len(transformer.blocks) for transformer in windows] == [2] * 5
    assert (tokenizer.num_codes, lam.num_codes, tokenizer.num_tokens) == (16, 4, shape.num_tokens)


def test_a_shape_is_read_as_it_is_written() -> None:
    assert step.shape_of("8x16") == peers.Shape(batch=8, frames=16)
    assert str(step.shape_of("8x16")) == "8x16"


# limit.py


def test_the_products_of_a_linear_layer_are_one_forward_and_two_backward() -> None:
    layer = nn.Linear(3, 5)
    rows = torch.randn(2, 4, 3, requires_grad=True)  # 8 rows of 3
    work = limit.work_of(lambda: layer(rows).sum().backward())
    assert work.products[0] == (8, 3, 5)
    assert sorted(work.products[1:]) == sorted([(8, 5, 3), (5, 8, 3)])
    assert work.batched_flops == 0
    assert work.flops == 3 * 2 * 8 * 3 * 5


def test_a_layer_whose_input_needs_no_gradient_has_no_product_for_it() -> None:
    layer = nn.Linear(3, 5, bias=False)
    work = limit.work_of(lambda: layer(torch.randn(8, 3)).sum().backward())
    assert work.products == [(8, 3, 5), (5, 8, 3)]


def test_products_of_attention_count_as_work_but_are_not_in_the_chain() -> None:
    query, key = torch.randn(6, 4, 3, requires_grad=True), torch.randn(6, 3, 4)
    work = limit.work_of(lambda: (query @ key).sum().backward())
    assert work.products == []
    assert work.flops == work.batched_flops == 2 * (2 * 6 * 4 * 3 * 4)  # forward, and back to the query


def test_the_ratio_is_of_rates_each_with_its_own_work() -> None:
    work = limit.Work(products=[(1000, 1000, 1000)], batched_flops=1_000_000_000)
    row = limit.rates(work, step_s=2.0, chain_s=0.5)
    assert row == {
        "linear_gflop": 2.0,
        "attention_gflop": 1.0,
        "achieved_gflop_per_s": 1.5,
        "bare_gflop_per_s": 4.0,
        "ratio": 0.375,
    }


def test_the_limit_of_every_stage_and_width() -> None:
    rows = list(limit.compare(TINY, [16, 32], rounds=1))
    assert [(row["width"], row["stage"]) for row in rows] == [(w, s) for w in (16, 32) for s in step.STAGES]
    assert len({tuple(row) for row in rows}) == 1


def test_a_step_has_the_products_of_its_layers() -> None:
    """Tokens of a frame, width and depth being known, most of a tokenizer's products can be named beforehand."""
    rows, width = TINY.batch * TINY.frames * TINY.num_tokens, TINY.width
    products = limit.work_of(step.our_step("tokenizer", TINY, "bf16-mixed")).products
    for inner, outer in [(width, 3 * width), (width, 4 * width), (4 * width, width)]:
        forward = (rows, inner, outer)
        # Queries, keys and values of both attentions, or one layer of the MLP, of encoder and decoder.
        assert products.count(forward) >= (4 if outer == 3 * width else 2)
        assert (outer, rows, inner) in products  # the gradient of the weight


# peers.py


@pytest.mark.parametrize("peer", ["TinyWorlds", "StableWorldModel"])
def test_a_path_without_the_peer_is_told(tmp_path: Path, peer: str) -> None:
    with pytest.raises(UserError, match=rf"expected a checkout of .*{tmp_path.name}"):
        getattr(peers, peer)(tmp_path)


def test_the_command_line_tells_of_a_missing_checkout_in_one_line(tmp_path: Path) -> None:
    done = run_forked([str(ROOT / "benchmarks" / "step.py"), "--swm", str(tmp_path)], tmp_path)
    assert done.returncode == 2
    assert (
        f"--swm: expected a checkout of stable-worldmodel with its Genie, but there is no {tmp_path}"
        in done.stderr
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("codes", "expected"), [(1024, (5, 4)), (512, (3, 8)), (16, (2, 4)), (2, (1, 2))])
def test_tinyworlds_gets_exactly_so_many_codes(codes: int, expected: tuple[int, int]) -> None:
    channels, levels = peers._channels_and_levels(codes)
    assert (channels, levels) == expected
    assert levels**channels == codes


def test_tinyworlds_refuses_codes_that_it_cannot_have() -> None:
    with pytest.raises(UserError, match="powers of 2, found 1000"):
        peers._channels_and_levels(1000)


def test_a_checkout_is_imported_without_leaving_its_names_behind(tmp_path: Path) -> None:
    package = tmp_path / "models_of_a_peer"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text("from models_of_a_peer import other\nvalue = other.value\n")
    (package / "other.py").write_text("value = 7\n")
    with peers._importable(tmp_path, "models_of_a_peer"):
        inner = importlib.import_module("models_of_a_peer.inner")
    assert inner.value == 7
    assert str(tmp_path) not in sys.path
    assert not [name for name in sys.modules if name.startswith("models_of_a_peer")]


# recipe_cost.py


def test_the_cost_of_a_recipe_has_a_row_per_stage() -> None:
    small = ["width=16", "depth=1", "heads=2"]
    overrides = [f"{stage}.model.{each}" for stage in step.STAGES for each in small]
    overrides += [f"{stage}.train.{each}" for stage in step.STAGES for each in ("batch=2", "clip_frames=2")]
    recipe = load_recipe(ROOT / "recipes" / "toy" / "demo.yaml", [*overrides, "threads=null"])
    rows = list(recipe_cost.measure(recipe, repeats=1))
    assert [row["stage"] for row in rows] == ["tokenizer", "lam", "dynamics"]
    for row in rows:
        assert row["recipe_hours"] == pytest.approx(row["step_s"] * row["steps"] / 3600, abs=1e-3)
