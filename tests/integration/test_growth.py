"""A folder of shards grows with the folder of videos, and what it holds already stays as it is."""

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genie_lite.data.cutting.sandbox import Sandbox
from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.data.ingest import finish as finish_module
from genie_lite.data.ingest import manifest as manifest_module
from genie_lite.data.ingest.ingest import ingest
from genie_lite.data.ingest.plan import Plan
from genie_lite.data.ingest.workers import Workers
from genie_lite.data.shards.shards import ShardSet
from genie_lite.errors import UserError
from genie_lite.files import write_bytes
from tests.forked import run_forked
from tests.videos import wandering_square, write

CONFIG = IngestConfig(
    size_px=32,
    segment_frames=16,
    min_frames=4,
    shard_samples=2,
    test_share=0.3,
    letterbox=False,
    min_motion=0.0,
)
GROW = f"""
import os, signal, sys
from pathlib import Path
from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.data.ingest.ingest import ingest
from genie_lite.data.ingest.workers import Workers

def progress(done, total):
    if done == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

config = IngestConfig.model_validate_json('''{CONFIG.model_dump_json()}''')
ingest([Path(sys.argv[1])], Path(sys.argv[2]), config, progress=progress, workers=Workers(num=1), grow=True)
"""


def film(folder: Path, *names: str) -> Path:
    for name in names:
        write(folder / f"{name}.mp4", wandering_square(Path(name).name, 12, 32))
    return folder


def grow(folder: Path, out: Path) -> dict[str, Any]:
    summary = ingest([folder], out, CONFIG, workers=Workers(num=2), grow=True)
    rows = {row["source"]: row for row in map(json.loads, (out / "manifest.jsonl").read_text().splitlines())}
    assert len(rows) == summary.sources
    assert summary.samples == sum(shard.samples for shard in ShardSet.open(out).shards)
    return rows


def content(out: Path) -> dict[str, bytes]:
    assert not (out / ".ingest").exists()
    return {file.name: file.read_bytes() for file in out.iterdir() if file.name != ".ingest.lock"}


@pytest.fixture
def corpus(tmp_path: Path) -> tuple[Path, Path]:
    """A folder of five videos, and the shards of them."""
    folder, out = film(tmp_path / "videos", "a", "b", "c", "d", "e"), tmp_path / "shards"
    grow(folder, out)
    return folder, out


def test_new_videos_become_new_shards(corpus: tuple[Path, Path]) -> None:
    folder, out = corpus
    before, names = content(out), {shard.file for shard in ShardSet.open(out).shards}
    film(folder, "f", "deep/a")
    rows = grow(folder, out)
    after = content(out)
    assert rows.keys() == {"a.mp4", "b.mp4", "c.mp4", "d.mp4", "e.mp4", "f.mp4", "deep/a.mp4"}
    assert {name: after[name] for name in names} == {name: before[name] for name in names}
    new = [shard for shard in ShardSet.open(out).shards if shard.file not in names]
    assert sum(shard.samples for shard in new) == 1, "deep/a shows what a shows"
    assert (rows["deep/a.mp4"]["status"], rows["deep/a.mp4"]["reason"]) == ("filtered", "duplicate of a.mp4")
    keys = [sample.key for split in ("train", "test") for sample in ShardSet.open(out).samples(split)]
    assert len(set(keys)) == len(keys) == 6


def test_where_nothing_is_new_nothing_is_done(
    corpus: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = corpus
    monkeypatch.setattr(Sandbox, "read", lambda *_: pytest.fail("decoded again"))
    before = content(out)
    grow(folder, out)
    assert content(out) == before


def test_videos_that_are_gone_stay_and_moved_ones_are_known(
    corpus: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = corpus
    monkeypatch.setattr(Sandbox, "read", lambda *_: pytest.fail("decoded again"))
    before = content(out)
    (folder / "a.mp4").unlink()
    shutil.move(folder, tmp_path / "elsewhere")
    grow(tmp_path / "elsewhere", out)
    assert content(out) == before


def test_a_video_that_has_changed_is_a_mistake(corpus: tuple[Path, Path]) -> None:
    folder, out = corpus
    write(folder / "c.mp4", wandering_square("other", 20, 32))
    before = content(out)
    with pytest.raises(UserError, match=r"1 of its videos have changed .*c\.mp4"):
        grow(folder, out)
    assert content(out) == before


def test_other_settings_are_a_mistake(corpus: tuple[Path, Path]) -> None:
    folder, out = corpus
    with pytest.raises(UserError, match="crf was 12, now 20"):
        ingest([folder], out, CONFIG.model_copy(update={"crf": 20}), grow=True)


@pytest.mark.parametrize("at", [1, 3])
def test_growing_is_killed_and_goes_on(corpus: tuple[Path, Path], tmp_path: Path, at: int) -> None:
    folder, out = corpus
    film(folder, "f", "g", "h", "i")
    shutil.copytree(out, tmp_path / "whole")
    grow(folder, tmp_path / "whole")
    killed = run_forked(["-c", GROW, str(folder), str(out), str(at)], tmp_path)
    assert killed.returncode == -signal.SIGKILL
    assert ShardSet.open(out).num_samples("train") + ShardSet.open(out).num_samples("test") == 5
    grow(folder, out)
    assert content(out) == content(tmp_path / "whole")


def test_videos_that_come_while_it_was_stopped_are_added_after(corpus: tuple[Path, Path]) -> None:
    folder, out = corpus
    film(folder, "f", "g", "h")
    run_forked(["-c", GROW, str(folder), str(out), "1"], folder)
    film(folder, "later")
    rows = grow(folder, out)
    assert rows.keys() >= {"f.mp4", "g.mp4", "h.mp4", "later.mp4"}
    assert {row["status"] for row in rows.values()} == {"ingested"}


def test_a_brighter_copy_is_no_new_clip_and_says_of_what(corpus: tuple[Path, Path]) -> None:
    folder, out = corpus
    same = wandering_square("d", 12, 32).astype(int) + 8
    write(folder / "brighter.mp4", np.clip(same, 0, 255).astype(np.uint8))
    rows = grow(folder, out)
    assert rows["brighter.mp4"]["reason"] == "no clip is left: 1 near duplicate"
    assert rows["brighter.mp4"]["dropped"] == {"near duplicate": 1}
    (of,) = rows["brighter.mp4"]["duplicates"].values()
    assert of.startswith("d-")


STEPS = ("manifest.jsonl", "signatures.jsonl", "shards.json", "plan.json")


@pytest.mark.parametrize("grows", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_the_end_of_a_round_may_be_cut_short_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, grows: bool
) -> None:
    """Right after each of the last writes, and after the plan is gone but not the rest of the work."""
    folder, out = film(tmp_path / "videos", "a", "b", "c", "d"), tmp_path / "shards"
    whole = tmp_path / "whole"
    ingest([folder], whole, CONFIG, workers=Workers(num=1))
    with monkeypatch.context() as patched:
        if step == "plan.json":
            patched.setattr(shutil, "rmtree", interrupted(shutil.rmtree, ".ingest", runs=False))
        else:
            for module in (finish_module, manifest_module):
                patched.setattr(module, "write_bytes", interrupted(write_bytes, step))
        with pytest.raises(KeyboardInterrupt):
            ingest([folder], out, CONFIG, workers=Workers(num=1))
    ingest([folder], out, CONFIG, workers=Workers(num=1), grow=grows)
    if step == "plan.json":  # the rest of a finished round harms nothing and is removed by the next one
        shutil.copy(folder / "a.mp4", folder / "z.mp4")
        rows = grow(folder, out)
        assert rows["z.mp4"]["reason"] == "duplicate of a.mp4"
    else:
        assert content(out) == content(whole)


def interrupted(function: Callable[..., Any], name: str, *, runs: bool = True) -> Callable[..., Any]:
    """The same function, but that it is the last thing that happens when it is called for a file of this name."""

    def call(path: Path, *arguments: Any, **options: Any) -> Any:
        if Path(path).name == name and not runs:
            if (Path(path) / "twins.json").is_file():
                raise KeyboardInterrupt
            return function(path, *arguments, **options)
        result = function(path, *arguments, **options)
        if Path(path).name == name:
            raise KeyboardInterrupt
        return result

    return call


def test_a_round_that_ends_while_its_plan_is_looked_at_is_over(
    corpus: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the lock, the plan may be gone between two looks at it."""
    folder, out = corpus
    film(folder, "f")
    (out / ".ingest").mkdir()
    (out / ".ingest" / "plan.json").write_text("{}")

    def gone(path: Path) -> Plan:
        path.unlink()
        raise FileNotFoundError(path)

    with monkeypatch.context() as patched:
        patched.setattr(Plan, "read", gone)
        rows = grow(folder, out)
    assert rows["f.mp4"]["status"] == "ingested"
