"""The benchmarks of play: that rivals do the same work, that formulas are right, that every row can be a table's."""

import importlib
import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch

from genie_lite.artifact import Artifact, write_artifact
from genie_lite.config import dump
from genie_lite.latents.table import read_manifest
from genie_lite.models.lam import LatentActionModel
from genie_lite.models.sampling import SamplingConfig
from genie_lite.models.world import World
from genie_lite.recipe import load_recipe
from genie_lite.train.config import DynamicsStage, LAMStage, TokenizerStage
from genie_lite.train.module import DynamicsModule, LAMModule, TokenizerModule
from tests import models
from tests.training import SIZE_PX, stage_config, write_shards

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))  # as when one of them is run: they import each other by name
generate, refinements, extraction, growth, peers = (
    importlib.import_module(name) for name in ("generate", "refinements", "extract", "growth", "peers")
)

TINY = peers.Shape(
    1, frames=4, size_px=16, patch=8, lam_patch=8, width=16, depth=2, heads=2, codes=16, actions=4
)
CHANGES = (
    "record=null",
    "data.source=videos",
    "evaluate.levels=null",
    "evaluate.horizon=4",
    "evaluate.batch=2",
    f"data.ingest.size_px={SIZE_PX}",
    f"tokenizer.model.frame_hw=[{SIZE_PX}, {SIZE_PX}]",
    f"lam.model.frame_hw=[{SIZE_PX}, {SIZE_PX}]",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of untrained models, on shards of moving squares."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    write_shards(folder / "shards")
    torch.manual_seed(0)
    tokenizer, lam, dynamics = (stage_config(name) for name in ("tokenizer", "lam", "dynamics"))
    assert isinstance(tokenizer, TokenizerStage)
    assert isinstance(lam, LAMStage)
    assert isinstance(dynamics, DynamicsStage)
    first, second = TokenizerModule(tokenizer), LAMModule(lam)
    third = DynamicsModule(dynamics, (first.model, second.model), seed=0)
    parents: dict[str, Artifact] = {}
    for name, module in (("tokenizer", first), ("lam", second), ("dynamics", third)):
        given = dict(parents) if name == "dynamics" else {}
        parents[name] = write_artifact(folder / name, name, module.model, module.spec, "", given, {}, {}, 1.0)
    (folder / "recipe.yaml").write_text(dump(load_recipe(ROOT / "recipes/maze/demo.yaml", CHANGES)))
    return folder


def told(
    module: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> Any:
    """What a script prints, one row per line."""
    monkeypatch.setattr(sys, "argv", [module.__name__, *words])
    module.main()
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


# --- generate --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_frames", [1, 3])
def test_our_uncached_rival_makes_the_same_frames(num_frames: int) -> None:
    world = generate.build(TINY)
    state = world.reset(torch.rand(3, num_frames, 3, 16, 16), seed=5)
    code = torch.tensor([0, 3, 1])
    ours, whole, grouped = (
        make(world, state, code, 3, group)()
        for make, group in (
            (generate.remembering, 3),
            (generate.recomputing, 3),
            (generate.recomputing, 2),
        )
    )
    assert ours.shape == (3, 3, 16, 16)
    torch.testing.assert_close(whole, ours, atol=1e-4, rtol=0)
    torch.testing.assert_close(grouped, whole, atol=1e-4, rtol=0)
    other = generate.recomputing(world, state, torch.tensor([1, 0, 2]), 3, 3)()
    assert not torch.allclose(other, ours, atol=1e-2), "the code counts"


def test_a_stream_begins_with_all_of_the_window_but_one() -> None:
    state = generate.begin(generate.build(TINY), TINY)
    assert state.frame.tolist() == [TINY.frames - 2]


@pytest.mark.parametrize(
    ("millions", "width", "depth", "gflop", "frames_per_s"), [(1, 128, 4, 0.56, 53), (3, 192, 6, 1.6, 18)]
)
def test_the_roofline_is_that_of_the_table_it_comes_from(
    millions: float, width: int, depth: int, gflop: float, frames_per_s: float
) -> None:
    """64 tokens, 16 frames, 4 passes, no decoder, on two cores with 30 GFLOP/s: world_models.md, section 3.2."""
    shape = peers.Shape(1, 16, width=width, depth=depth)
    assert 4 * generate.pass_flop(shape, millions * 1e6) / 1e9 == pytest.approx(gflop, rel=0.02)
    cores = generate.Machine(flops=30e9, bandwidth=float("inf"))
    assert 1 / generate.roofline_s(shape, millions * 1e6, 4, cores) == pytest.approx(frames_per_s, rel=0.03)


def test_the_roofline_is_the_slower_of_arithmetic_and_memory() -> None:
    shape = peers.Shape(2, 16, width=128, depth=4)
    memory = generate.Machine(flops=float("inf"), bandwidth=1e9)
    kept = 2 * 4 * 64 * 16 * 128  # keys and values of 4 blocks, 64 tokens, 16 frames
    assert generate.roofline_s(shape, 1e6, 5, memory) == pytest.approx(5 * 4 * (1e6 + 2 * kept) / 1e9)
    both = generate.Machine(flops=1e9, bandwidth=1e9)
    work = 5 * 2 * generate.pass_flop(shape, 1e6) / 1e9
    assert generate.roofline_s(shape, 1e6, 5, both, decode_flop=1e6) == pytest.approx(work + 2 * 1e6 / 1e9)


@pytest.mark.parametrize(("size", "most"), [(1, 1.5), (3, 3.0), (10, 11.0)])
def test_sizes_are_what_they_are_called(size: int, most: float) -> None:
    dynamics = generate.build(generate.shape_of(size)).dynamics
    assert 0.9 * size <= sum(each.numel() for each in dynamics.parameters()) / 1e6 <= most


class Sleeper:
    """A peer that does nothing, and so is faster."""

    name = "sleeper"

    def sample_frame(self, shape: Any, passes: int) -> Any:
        return lambda: None


def test_rows_have_the_same_keys_and_what_takes_too_long_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "limits", lambda *_: generate.Machine(1e12, 1e12))
    weights = generate.build(TINY).dynamics
    work = generate.pass_flop(TINY, generate._weights(weights.transformer, weights.to_logits)) / 1e9
    given = Namespace(
        device="cpu", batches=[1, 2], passes=[1, 4], rounds=1, micro_batch=None, most_gflop=9.5 * work
    )
    rows = list(generate.measure(TINY, [Sleeper()], given))
    # one stream: 1 pass over 4 frames is 4 units of work, 4 passes are 16; ours are 2 and 5. Two streams: twice that
    assert [(row["batch"], row["passes"], row["whole_frames_per_s"] is None) for row in rows] == [
        (1, 1, False),
        (1, 4, True),
        (2, 1, False),
    ]
    assert len({tuple(row) for row in rows}) == 1
    assert rows[0]["over_fastest"] == rows[0]["over_sleeper"] < 1
    assert rows[1]["over_fastest"] is rows[1]["sleeper_frames_per_s"] is None
    assert all(row["frames_per_s"] > 0 and row["roofline_share"] > 0 for row in rows)
    assert "in 4 passes" in capsys.readouterr().err


def test_ratios_are_to_the_fastest_rival() -> None:
    assert generate._over({"ours": 12.0, "a": 2.0, "b": 3.0}, ["a", "b"]) == 4.0


# --- refinements -----------------------------------------------------------------------------------------------


def test_passes_are_compared_on_the_same_clips(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(run), "--passes", "1", "3", "--clips", "2", "--rounds", "1"]
    rows = told(refinements, monkeypatch, capsys, *words)
    assert [row["passes"] for row in rows] == [1, 3]
    assert list(rows[0]) == [
        "passes",
        "rollout_psnr_db_t1",
        "rollout_psnr_db_t4",
        "over_most_db_t4",
        "delta_psnr_db",
        "delta_psnr_db_low",
        "delta_psnr_db_high",
        "frames_per_s",
    ]
    assert rows[1]["over_most_db_t4"] == "0.00 [0.00, 0.00]"
    assert rows[0]["rollout_psnr_db_t4"] != rows[1]["rollout_psnr_db_t4"]
    again = told(refinements, monkeypatch, capsys, *words)
    quality = [{name: row[name] for name in list(row)[:-1]} for row in rows]
    assert [{name: row[name] for name in list(row)[:-1]} for row in again] == quality


def test_a_folder_that_is_no_run_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (refinements, extraction):
        with pytest.raises(SystemExit) as left:
            told(module, monkeypatch, capsys, str(tmp_path))
        assert left.value.code == 2
        assert "not a run's folder" in capsys.readouterr().err


# --- extract ---------------------------------------------------------------------------------------------------


def test_extraction_is_timed_beside_decoding(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (row,) = told(extraction, monkeypatch, capsys, str(run), "--rounds", "1", "--shards", "2")
    assert row["frames"] == 2 * (9 + 7)
    assert row["over_decoding"] == pytest.approx(row["extract_s"] / row["decode_s"])
    assert row["frames_per_s"] == pytest.approx(row["frames"] / row["extract_s"])


def test_both_do_all_the_work_every_time(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", num_train=1)
    config = models.lam().config
    lam = LatentActionModel(config.model_copy(update={"frame_hw": (SIZE_PX, SIZE_PX)})).eval()
    assert extraction.decode(shards) == 2 * (9 + 7)
    out = tmp_path / "out"
    out.mkdir()
    job = extraction.extracting(shards, lam, out)
    job()
    job()
    manifests = [read_manifest(folder) for folder in out.iterdir()]
    assert [manifest["counts"]["rows"] for manifest in manifests] == [2 * (9 + 7)] * 2


# --- growth ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("power", [0.0, 1.0, 1.7])
def test_the_exponent_of_a_power_law_is_found(power: float) -> None:
    assert growth.exponent({size: 0.3 * size**power for size in (4, 8, 16, 64)}) == pytest.approx(power)


def test_a_row_tells_what_grew() -> None:
    row = growth.describe("clips", {2: growth.Cost(0.5, 10.0), 4: growth.Cost(1.0, 40.0)})
    assert row == {
        "what": "clips",
        "sizes": "2 4",
        "seconds": "0.5 1",
        "exponent": pytest.approx(1.0),
        "memory_mb": "10 40",
        "memory_exponent": pytest.approx(2.0),
    }
    flat = growth.describe("frames", {2: growth.Cost(0.5, 0.0), 4: growth.Cost(0.5, 0.0)}, fit_memory=False)
    assert flat["exponent"] == pytest.approx(0.0)
    assert flat["memory_exponent"] is None


def test_what_a_step_keeps_is_counted_once_and_without_the_weights() -> None:
    layer = torch.nn.Linear(256, 256, bias=False)
    rows = torch.randn(512, 256, requires_grad=True)
    # Both products read the same rows and the same weights; 512 x 256 numbers of 4 bytes.
    assert growth.kept_mb(layer, lambda: (layer(rows) + layer(rows)).sum()) == pytest.approx(0.5)
    small, large = (growth.kept_mb(*growth.clip_loss(num, 4)) for num in (3, 9))
    assert 2 * small < large


def test_steps_of_growing_clips_are_timed() -> None:
    costs = growth.train({3: (3, 4), 6: (6, 4)}, rounds=1)
    assert list(costs) == [3, 6]
    assert all(cost.seconds > 0 for cost in costs.values())


def test_a_rollout_is_looked_at_as_it_grows_older() -> None:
    torch.manual_seed(0)
    world = World(models.tokenizer(), models.lam(), models.dynamics(), SamplingConfig(refinements=1))
    costs = growth.roll_out(world, 40)
    assert list(costs) == [4, 8, 12, 16, 20, 24, 28, 32, 36, 40]
    assert costs[4].memory_mb == 0.0
    assert growth.resident_mb() > 50  # torch alone
