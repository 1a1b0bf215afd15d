"""The benchmark of loading: that all read the same clips, what its rows say; never how long anything took."""

import gc
import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genie_lite.recipe import load_recipe

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))  # as for a script that is run from there
loader = importlib.import_module("loader")
loader_data = importlib.import_module("loader_data")
measure = importlib.import_module("measure")


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return loader_data.make(tmp_path_factory.mktemp("material"), num_clips=2, size_px=32, num_tokens=16)


@pytest.fixture(autouse=True)
def few_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "BATCH", 2)
    monkeypatch.setattr(loader, "WINDOWS", {"mp4": 4, "jpeg": 4, "tokens": 8})


def test_every_form_holds_the_same_clips(material: Any) -> None:
    video, jpeg = (list(shards.samples("train")) for shards in (material.video, material.jpeg))
    assert [sample.key for sample in video] == [sample.key for sample in jpeg]
    for sample, other, (path, length) in zip(video, jpeg, material.files, strict=True):
        assert path.read_bytes() == sample.mp4
        assert length == len(sample.frames()) == 160
        away = np.abs(sample.frames().astype(int) - other.frames().astype(int))
        assert away.mean() < 6
    frames = material.video.num_frames("train")
    assert material.tokens.num_frames("train") == frames
    rows = np.concatenate([np.load(path) for path in material.rows])
    assert rows.shape == (frames, 16)
    mapped = material.tokens.map(material.tokens.of("train")[0])
    assert mapped.words[mapped.tokens[0] :][: 160 * 16].tolist() == rows[:160].flatten().tolist()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset closes no tar
def test_all_readers_take_turns_and_ours_is_the_measure(material: Any, capsys: pytest.CaptureFixture) -> None:
    rows = loader.compare(material, frames=4, rounds=1)
    gc.collect()
    names = [(row["stored"], row["reader"]) for row in rows]
    expected = ["genie_lite", "genie_lite cached", "decord", "webdataset + decord"]
    assert [name for stored, name in names if stored == "mp4" and name != "torchcodec"] == expected
    assert names[-3:] == [("jpeg", "genie_lite"), ("tokens", "genie_lite"), ("tokens", "numpy")]
    assert len({tuple(row) for row in rows}) == 1
    assert "torchcodec" in capsys.readouterr().out or ("mp4", "torchcodec") in names


def test_ours_over_is_how_many_times_as_fast_ours_is() -> None:
    timed = {
        f"mp4 {name}": measure.Timed(wall_s=1.0, cpu_s=cpu_s)
        for name, cpu_s in (("genie_lite", 2.0), ("decord", 1.0))
    }
    row = loader.row_of(loader.Reader("mp4", "decord", lambda: None), timed)
    assert (row["windows_per_cpu_s"], row["ours_over"], row["times_mp4"]) == (4.0, 0.5, 2.0)


def test_memory_is_looked_at_three_times(material: Any) -> None:
    rows = list(loader.watch(material, frames=4, num=20))
    assert [row["stored"] for row in rows] == ["mp4", "tokens"]
    assert all(row[f"rss_mb_{when}"] > 1 for row in rows for when in ("tenth", "half", "end"))
    assert list(loader.watch(material, frames=4, num=0)) == []


def test_waiting_is_a_share_of_training(tmp_path: Path) -> None:
    recipe = load_recipe(ROOT / "recipes" / "toy" / "demo.yaml")
    num_tokens = (32 // 8) ** 2
    material = loader_data.make(tmp_path, num_clips=2, size_px=32, num_tokens=num_tokens)
    rows = list(loader.wait(material, recipe, steps=2))
    assert [row["loading_processes"] for row in rows] == [0, 1]
    assert all(0 < row["share"] < 1 for row in rows)
    assert list(loader.wait(material, recipe, steps=0)) == []
