"""The table of latent actions: which cells a plan has, one cell from its recording to its row, and the arithmetic."""

import importlib
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from genie_lite.data.labels import Labels
from genie_lite.errors import UserError

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))  # as for a script that is run from there
latent_plan = importlib.import_module("latent_plan")
latent_table = importlib.import_module("latent_table")
latent_shared = importlib.import_module("latent_shared")
latent_cell = importlib.import_module("latent_cell")
latent_cost = importlib.import_module("latent_cost")
latent_actions = importlib.import_module("latent_actions")

TINY = {
    "name": "tiny",
    "recipe": "recipes/toy/demo.yaml",
    "change": [
        "record={game: toy, episodes: 6, test_episodes: 3, levels: [0, 6], test_levels: [100, 103], max_frames: 12}",
        "data.ingest.shard_samples=3",
        "tokenizer.train={steps: 2, batch: 2, clip_frames: 4, val_clips: 2, precision: 32-true}",
        "tokenizer.model={frame_hw: [32, 32], patch: 16, width: 16, depth: 1, heads: 2, window: 2}",
        "tokenizer.model.code={kind: fsq, levels: [4, 4]}",
        "lam.model={frame_hw: [32, 32], patch: 16, width: 16, depth: 1, heads: 2, window: 2}",
        "lam.model.code={kind: vq, num_codes: 4, dim: 4}",
        "lam.train={steps: 3, batch: 2, clip_frames: 4, val_clips: 2, precision: 32-true}",
        "dynamics.model={width: 16, depth: 1, heads: 2, window: 2}",
        "dynamics.train={steps: 2, batch: 2, clip_frames: 4, val_clips: 2, precision: 32-true}",
        "sampling={refinements: 1, temperature: 1.0}",
        "adapt.labels_budget=20",
        "adapt.mapping={kind: dictionary}",
        "adapt.idm={steps: 2, batch: 4, precision: 32-true}",
        "adapt.policy={steps: 2, batch: 4, width: 16, depth: 1, heads: 2, precision: 32-true}",
        "evaluate={clips: 2, batch: 2, horizon: 4, control_draws: 1, levels: [200, 204], num_envs: 4}",
    ],
    "bottlenecks": {"vq": [], "fsq": ["lam.model.code={kind: fsq, levels: [3, 3]}"]},
    "tables": [{"bottlenecks": ["vq"], "videos": ["clean", "shake-2"]}],
    "clips": 2,
}


def plan_of(**changes: Any) -> Any:
    return latent_plan.Plan.model_validate_json(json.dumps(TINY | changes))


# plans


@pytest.mark.parametrize(
    "path", sorted((ROOT / "benchmarks" / "plans").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_plan_has_cells_and_a_recipe_for_each(path: Path, tmp_path: Path) -> None:
    plan = latent_plan.load_plan(path.stem)
    assert plan.name == path.stem
    cells = latent_plan.cells_of(plan)
    assert len({cell.name for cell in cells}) == len(cells) > 1
    # Whatever the video, the recipe is the same.
    for cell in {(cell.bottleneck, cell.input, cell.labels): cell for cell in cells}.values():
        recipe = latent_plan.recipe_of_cell(plan, cell, 1, tmp_path)
        assert recipe.seed == 1
        assert recipe.folder == tmp_path / "cells" / cell.name / "seed-1"
        assert (recipe.lam.labels.budget if recipe.lam.labels else 0) == cell.labels
    assert latent_plan.recipe_of_base(plan, tmp_path).folder == tmp_path / "base"


def test_a_cell_of_two_tables_is_one_with_all_that_either_asks() -> None:
    tables = [
        {"bottlenecks": ["vq", "fsq"], "labels": [0, 50]},
        {"bottlenecks": ["vq"], "arms": ["latent"]},
        {"bottlenecks": ["vq"], "world": True, "arms": ["oracle", "latent"]},
    ]
    cells = latent_plan.cells_of(plan_of(tables=tables))
    assert [cell.name for cell in cells] == [
        "vq_pixels_0_clean",
        "vq_pixels_50_clean",
        "fsq_pixels_0_clean",
        "fsq_pixels_50_clean",
    ]
    assert (cells[0].world, cells[0].arms) == (True, ("latent", "oracle"))
    assert (cells[1].world, cells[1].arms) == (False, ())


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"bottlenecks": ["vqq"]}, "unknown 'vqq', expected one of vq, fsq"),
        ({"bottlenecks": ["vq"], "inputs": ["dino"]}, "unknown 'dino', expected one of pixels"),
        (
            {"bottlenecks": ["vq"], "videos": ["shake-4"]},
            "unknown 'shake-4', expected clean or such as shake-2",
        ),
    ],
)
def test_what_a_table_names_must_be_there(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        plan_of(tables=[table])


def test_a_video_s_name_says_what_lies_over_it() -> None:
    config = latent_plan.distractor_of("background-3")
    assert (config.kind, config.strength) == ("background", 3)
    assert latent_plan.distractor_of("clean").kind == "none"
    with pytest.raises(UserError, match="expected a YAML file, or one of coinrun"):
        latent_plan.load_plan("nothing")


# a cell


def test_a_cell_is_made_once_and_measured_as_far_as_it_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "tiny.yaml", tmp_path / "out"
    path.write_text(yaml.safe_dump(TINY))
    words = [str(path), "--out", str(out), "--seeds", "0"]
    latent_actions.main([*words, "--plan"])
    assert "2 cells with their seeds, 0 done, 2 to do" in capsys.readouterr().out
    assert not out.exists()

    latent_actions.main([*words, "--only", "shake"])
    result_file = out / "cells" / "vq_pixels_0_shake-2" / "seed-0" / "result.json"
    result = json.loads(result_file.read_text())
    assert set(result["probe"]["probe"]) >= {"embedding", "code", "majority", "supervised", "random_lam"}
    assert result["lam"]["num_codes"] == 4
    assert not {"policy", "control"} & result.keys()
    assert {"lam", "probe", "ceiling", "clips"} <= result["seconds"].keys() == result["cpu_seconds"].keys()
    assert "| shake-2 | vq | pixels | 0 | 1 |" in capsys.readouterr().out

    written = result_file.stat().st_mtime_ns
    latent_actions.main([*words, "--only", "shake"])
    assert "done before" in capsys.readouterr().err
    assert result_file.stat().st_mtime_ns == written

    # More is asked of the same cell: its latent action model is not trained again.
    trained = (result_file.parent / "lam" / "artifact.json").stat().st_mtime_ns
    asked = "tables=[{bottlenecks: [vq], labels: [0, 10], videos: [shake-2], world: true, arms: [latent]}]"
    latent_actions.main([words[0], asked, *words[1:], "--only", "_0_"])
    result = json.loads(result_file.read_text())
    assert result["control"]["delta_psnr_db"]["num"] > 0
    assert set(result["policy"]["policy"]) == {"random", "latent"}
    assert (result_file.parent / "lam" / "artifact.json").stat().st_mtime_ns == trained

    latent_actions.main([words[0], asked, *words[1:], "--plan"])
    told = capsys.readouterr().out
    assert "2 cells with their seeds, 1 done, 1 to do" in told
    assert "hours" in told

    with pytest.raises(SystemExit):
        latent_actions.main([words[0], asked, "clips=3", *words[1:], "--only", "_0_"])
    assert "was made with clips=2, now it is 3" in capsys.readouterr().err

    # A setting that came later, and that nothing here depends on, is no other setting.
    before = json.loads(result_file.read_text())
    del before["made_from"]["recipe"]["adapt"]["prior_steps"]
    result_file.write_text(json.dumps(before))
    latent_actions.main([words[0], asked, *words[1:], "--only", "_0_"])
    assert "done before" in capsys.readouterr().err

    # Another machine that is given the results has nothing to do, and tells the same.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(out / "results.jsonl", elsewhere)
    latent_actions.main(["--out", str(elsewhere), "--report"])
    assert (elsewhere / "table.md").read_text() == (out / "table.md").read_text()
    latent_actions.main([words[0], asked, "--out", str(elsewhere), "--seeds", "0", "--plan"])
    assert "1 done, 1 to do" in capsys.readouterr().out


def test_a_cell_is_shown_the_labels_of_its_policies_and_read_token_by_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = [
        *TINY["change"],
        "record.wander=0.5",  # strollers have labels, too, but are no demonstrations
        "adapt.demonstrations='expert_*'",
        "adapt.labels_budget=10",
        "lam.model.code={kind: vq, num_codes: 2, dim: 2, tokens: 2}",
    ]
    tables = [{"bottlenecks": ["vq"], "labels": [10], "arms": ["latent"]}]
    shared = latent_shared.Shared(plan_of(change=changes, tables=tables), tmp_path)
    budgets: list[Labels] = []
    tokens: list[int] = []
    drawn, probed = Labels.budget, latent_cell.probe_discrete

    def draw(labels: Labels, *args: Any) -> Labels:
        budgets.append(drawn(labels, *args))
        return budgets[-1]

    def probe(*args: Any, num_tokens: int = 1, **others: Any) -> Any:
        tokens.append(num_tokens)
        return probed(*args, num_tokens=num_tokens, **others)

    monkeypatch.setattr(Labels, "budget", draw)
    monkeypatch.setattr(latent_cell, "probe_discrete", probe)
    (cell,) = latent_plan.cells_of(shared.plan)
    result = latent_cell.run_cell(shared, cell, 0)
    assert result["made_from"]["recipe"]["lam"]["labels"]["budget"] == 10
    heads = json.loads((tmp_path / "cells" / cell.name / "seed-0" / "lam" / "heads.json").read_text())
    assert [robot["name"] for robot in heads["config"]["robots"]] == ["toy"]

    assert any("wander_" in name for name in shared.labels.episodes), shared.labels.episodes
    rows = [set(zip(each.sources, each.frame_index, strict=True)) for each in budgets]
    assert [len(each) for each in rows] == [10, 10]
    assert len(rows[0] | rows[1]) == 10, "the same labels, not twice as many"
    assert tokens == [2]


def test_a_ceiling_is_of_what_it_was_made_from(tmp_path: Path) -> None:
    shared = latent_shared.Shared(plan_of(), tmp_path)
    cell, shards = latent_plan.cells_of(shared.plan)[0], shared.shards("clean")
    lam = latent_cell.LatentActionModel(shared.base.lam.model)
    test = latent_cell.label_transitions(lam, list(shards.samples("test")), shared.labels, "cpu")

    def ceilings(*changes: str, labels: Labels | None = None) -> int:
        """How many there are, once a recipe with changes has asked for its own."""
        plan = plan_of(change=[*TINY["change"], *changes])
        other = latent_shared.Shared(plan, tmp_path)
        if labels is not None:
            other.__dict__["labels"] = labels
        recipe = latent_plan.recipe_of_cell(plan, cell, 0, tmp_path)
        other.supervised(recipe, cell, shards, test, None)
        return len(list((tmp_path / "ceilings").iterdir()))

    assert ceilings() == ceilings() == 1
    assert ceilings("lam.model.code={kind: fsq, levels: [3, 3]}") == 1, "the bottleneck has no part in it"
    assert ceilings("adapt.idm.steps=3") == 2
    assert ceilings("lam.model.depth=2") == 3
    assert ceilings(labels=replace(shared.labels, action=4 - shared.labels.action)) == 4
    key, others = latent_shared.ceiling_key, shared.shards("shake-2")
    eyes = [torch.nn.Linear(2, 2) for _ in range(2)]
    keys = [key(shared.base, each, shared.labels, eye) for each in (shards, others) for eye in (None, *eyes)]
    assert len(set(keys)) == 6


def test_distracted_video_of_another_recording_is_refused(tmp_path: Path) -> None:
    shared = latent_shared.Shared(plan_of(), tmp_path)
    made = shared.shards("shake-1").fingerprint
    assert shared.shards("shake-1").fingerprint == made
    (tmp_path / "videos" / "shake-1").rename(tmp_path / "videos" / "shake-2")
    with pytest.raises(UserError, match="holds other shards than shake-2 of these"):
        shared.shards("shake-2")


def test_labelled_clips_count_in_what_a_cell_will_take() -> None:
    stage = latent_plan.recipe_of_base(plan_of(), Path("out")).lam
    assert latent_cost.lam_s(stage, 2.0) == 3 * 2.0
    labelled = type(stage).model_validate(stage.model_dump() | {"labels": {"batch": 1}})
    assert latent_cost.lam_s(labelled, 2.0) == 3 * 2.0 * 1.5


# the table


def made_up(
    bottleneck: str, labels: int, video: str, seed: int, embedding: float, **more: Any
) -> dict[str, Any]:
    probe = {"embedding": embedding, "code": embedding - 0.1, "random_lam_embedding": 0.4, "majority": 0.3}
    probe["supervised"] = 0.9
    return {
        "cell": {"bottleneck": bottleneck, "input": "pixels", "labels": labels, "video": video},
        "seed": seed,
        "commit": "abc1234",
        "machine": "a machine",
        "probe": {
            "probe": {name: {"mean": value} for name, value in probe.items()},
            "share": {"embedding": (embedding - 0.3) / 0.6, "code": None},
        },
        "lam": {"codes_used": 8, "code_gain_db": 1.0 + seed},
        **more,
    }


def test_a_row_holds_means_and_students_intervals_over_seeds() -> None:
    results = [made_up("vq", 0, "clean", seed, 0.6 + 0.1 * seed) for seed in range(3)]
    head, _, row = latent_table.table(latent_table.grouped(results))
    cells = dict(zip(head.split("|")[1:-1], row.split("|")[1:-1], strict=True))
    found = {name.strip(): cell.strip() for name, cell in cells.items()}
    # mean 70, standard deviation 10, t(2 degrees) = 4.303: 70 ± 4.303 · 10 / √3
    assert found["embedding, %"] == "70.0 [45.2, 94.8]"
    assert found["code tells, dB"] == "2.00 [-0.48, 4.48]"
    assert found["guess, %"] == "30.0 [30.0, 30.0]"
    assert found["way, embedding, %"] == "67 [25, 108]"
    assert "way, code, %" not in found  # nobody has it
    assert "policy, %" not in found
    assert found["seeds"] == "3"


def test_r2_may_fall_below_nothing_and_a_share_of_hits_may_not() -> None:
    hits = [made_up("vq", 0, "clean", seed, 0.1 + 0.1 * seed) for seed in range(2)]
    assert "| 15.0 [0.0, 78.5] |" in latent_table.table(latent_table.grouped(hits))[2]
    robots = [each | {"probe": each["probe"] | {"probe_about": {"kind": "r2"}}} for each in hits]
    assert "| 15.0 [-48.5, 78.5] |" in latent_table.table(latent_table.grouped(robots))[2]


def test_what_distractors_cost_is_taken_seed_by_seed() -> None:
    results = [
        *(made_up("vq", 0, "clean", seed, 0.80 + 0.05 * seed) for seed in range(2)),
        *(made_up("vq", 0, "shake-3", seed, 0.50 + 0.05 * seed) for seed in range(2)),
        *(made_up("vq", 200, "shake-3", seed, 0.75 + 0.05 * seed) for seed in range(2)),
    ]
    lines = latent_table.gap_table(latent_table.grouped(results))
    assert lines[2:] == [
        "| shake-3 | vq | pixels | 0 | 30.0 [30.0, 30.0] | 30.0 [30.0, 30.0] |",
        "| shake-3 | vq | pixels | 200 | – | 5.0 [5.0, 5.0] |",
    ]


def test_the_report_has_what_was_measured_and_where() -> None:
    policy = {"policy": {"random": {"mean": 0.2}, "latent": {"mean": 0.5}, "bc": {"mean": 0.25}}}
    control = {"delta_psnr_db": {"mean": 1.9}}
    results = [
        made_up("fsq", 0, "clean", 0, 0.7),
        made_up("vq", 0, "clean", 0, 0.6, policy={"policy": policy["policy"]}, control=control),
    ]
    text = latent_table.report(results)
    assert "Measured at `abc1234` on a machine." in text
    assert (
        "| clean | vq | pixels | 0 | 1 | 60.0 | 50.0 | 40.0 | 30.0 | 90.0 | 50 | 8 | 1.00 | 1.90 | 50 |"
        in text
    )
    assert (
        "| clean | fsq | pixels | 0 | 1 | 70.0 | 60.0 | 40.0 | 30.0 | 90.0 | 67 | 8 | 1.00 | – | – |" in text
    )
    assert "| clean | vq | pixels | 0 | 20 | 50 | 25 |" in text
    assert "What distractors cost" not in text


def test_damaged_results_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results.jsonl").write_text('{"cell": {}\n')
    with pytest.raises(SystemExit):
        latent_actions.main(["--out", str(tmp_path), "--report"])
    assert "results.jsonl: damaged" in capsys.readouterr().err


def test_nothing_done_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        latent_actions.main(["--out", str(tmp_path), "--report"])
    assert "no cell is done; run a plan first" in capsys.readouterr().err
