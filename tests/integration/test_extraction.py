"""From what a user names to a file of latent actions: videos, robots' datasets and shards."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from genie_lite import extraction
from genie_lite.cli import Format
from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.data.ingest import ingest as ingest_module
from genie_lite.data.ingest.ingest import ingest
from genie_lite.data.labels import write_labels
from genie_lite.errors import UserError
from genie_lite.extraction import PARQUET, Wanted, extract_latents
from genie_lite.latents.formats.registry import FORMATS
from genie_lite.latents.table import read_latents, read_manifest
from genie_lite.pretrained import pretrained
from tests.lerobot_fixture import write_lerobot
from tests.videos import wandering_square, write

RUN = pretrained("coinrun")  # 64 px, 10 frames per second


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("robot") / "dataset"
    write_lerobot(root, num_episodes=2, num_frames=40, rate_hz=30)
    return root


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name in ("a", "b"):
        write(folder / f"{name}.mp4", wandering_square(name, 40, 64))
    return folder


def test_every_frame_of_a_robot_has_a_row_beside_its_action(robot: Path, tmp_path: Path) -> None:
    """D4: row k is frame k, at the dataset's own rate, though the model learnt from another."""
    told = extract_latents(RUN, Wanted(str(robot), tmp_path / "out"))
    rows, manifest = read_latents(tmp_path / "out"), read_manifest(tmp_path / "out")
    fps = 1 / np.median(np.diff(rows.timestamp_s[:10]))
    window = round(0.1 * fps)
    assert manifest["every"] == "frame"
    assert told["window"]["native_frames"] == window
    for number, source in enumerate(np.unique(rows.source)):
        own = rows.select(rows.source == source)
        assert own.action is not None
        table = pq.read_table(sorted(robot.rglob("episode_*.parquet"))[number])
        assert own.frame_index.tolist() == list(range(table.num_rows))
        np.testing.assert_allclose(own.action, np.stack(table["action"].to_pylist()), rtol=1e-6)
        assert own.valid.tolist() == [True] * (table.num_rows - window) + [False] * window
        assert set(own.horizon_frames[own.valid]) == {window}


def test_a_rate_of_ones_own(robot: Path, tmp_path: Path) -> None:
    extract_latents(RUN, Wanted(str(robot), tmp_path / "out", rate_hz=10.0))
    assert read_manifest(tmp_path / "out")["every"] == "step"
    assert read_manifest(tmp_path / "out")["window"]["frames"] == 1


def test_a_layout_of_somebody_elses_keeps_its_folder_clean(robot: Path, tmp_path: Path) -> None:
    wanted = Wanted(str(robot), tmp_path / "out", "lerobot-v3")
    extract_latents(RUN, wanted)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"data", "meta", "videos"}
    assert (tmp_path / "out.work" / "manifest.json").is_file()
    extract_latents(RUN, wanted)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_sidecar_of_a_robot_lies_beside_its_shards(robot: Path, tmp_path: Path) -> None:
    extract_latents(RUN, Wanted(str(robot), tmp_path / "out", "webdataset"))
    shards = {path.name for path in (tmp_path / "out.work" / "shards").glob("*.tar")}
    assert shards
    assert {path.name for path in (tmp_path / "out").glob("*.tar")} == shards


def test_the_command_line_offers_what_there_is() -> None:
    assert [each.value for each in Format] == [PARQUET, *FORMATS]


def test_videos_are_described_at_the_models_rate(videos: Path, tmp_path: Path) -> None:
    told = extract_latents(RUN, Wanted(str(videos), tmp_path / "out", cuts=False))
    rows = read_latents(tmp_path / "out")
    assert told["sources"] == 2
    np.testing.assert_allclose(rows.dt_s[rows.valid], 0.1, atol=1e-6)
    assert (~rows.valid).sum() == 2  # the last frame of each: no shot was cut into pieces


def test_no_transition_reaches_across_a_cut(tmp_path: Path) -> None:
    """Though the run was trained on games, where nobody looks for cuts."""
    scenes = [np.full((20, 64, 64, 3), level, np.uint8) for level in (20, 220)]
    for scene, seed in zip(scenes, "ab", strict=True):
        scene[:] = scene // 2 + wandering_square(seed, 20, 64) // 2
    write(tmp_path / "videos" / "cut.mp4", np.concatenate(scenes))
    with pytest.warns(UserWarning, match="one file is one shot, as of a game, add --no-cuts"):
        extract_latents(RUN, Wanted(str(tmp_path / "videos"), tmp_path / "out"))
    rows = read_latents(tmp_path / "out")
    assert rows.frame_index[~rows.valid].tolist() == [19, 39]
    extract_latents(RUN, Wanted(str(tmp_path / "videos"), tmp_path / "whole", cuts=False))
    assert (~read_latents(tmp_path / "whole").valid).sum() == 1


def test_what_cannot_be_read_is_told(videos: Path, tmp_path: Path) -> None:
    shutil.copytree(videos, tmp_path / "videos")
    (tmp_path / "videos" / "broken.mp4").write_bytes(b"nothing" * 20)
    with pytest.warns(UserWarning, match=r"1 of 3 videos cannot be used \(broken.mp4: "):
        told = extract_latents(RUN, Wanted(str(tmp_path / "videos"), tmp_path / "out", cuts=False))
    assert told["videos_left_out"] == 1
    assert told["sources"] == 2


def test_what_can_be_refused_is_refused_at_once(
    videos: Path, robot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "ingest_found", lambda *_, **__: pytest.fail("hours of work"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    shutil.copytree(robot, tmp_path / "many" / "a")
    refused = {
        "lies in .* whose videos are read": Wanted(str(videos), videos / "out"),
        "holds 1 LeRobot datasets": Wanted(str(tmp_path / "many"), tmp_path / "out"),
        "thesis": Wanted(str(videos), tmp_path / "full", "lapa", cuts=False),
        "no such label file": Wanted(str(videos), tmp_path / "out", labels=tmp_path / "nope", cuts=False),
    }
    for said, wanted in refused.items():
        with pytest.raises(UserError, match=said if said != "thesis" else "full"):
            extract_latents(RUN, wanted)
    assert not (tmp_path / "out").exists()
    assert {path.name for path in (tmp_path / "full").iterdir()} == {"thesis.txt"}


def test_a_longer_window(videos: Path, tmp_path: Path) -> None:
    extract_latents(RUN, Wanted(str(videos), tmp_path / "out", window_s=0.3, cuts=False))
    rows = read_latents(tmp_path / "out")
    np.testing.assert_allclose(rows.dt_s[rows.valid], 0.3, atol=1e-6)
    assert (~rows.valid).sum() == 6


def test_labels_are_written_beside(videos: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.parquet"
    write_labels(labels, ["a.mp4"] * 2, [0, 4], [1, 0], kind="discrete", names=["left", "right"])
    extract_latents(RUN, Wanted(str(videos), tmp_path / "out", labels=labels, cuts=False))
    assert read_manifest(tmp_path / "out")["counts"]["labelled"] == 2


def test_shards_bring_their_own_rate(videos: Path, tmp_path: Path) -> None:
    ingest([str(videos)], tmp_path / "shards", IngestConfig(rate_hz=5.0, near_duplicates=False, test_share=0))
    with pytest.raises(UserError, match=r"--rate: .* are shards"):
        extract_latents(RUN, Wanted(str(tmp_path / "shards"), tmp_path / "out", rate_hz=10.0))
    with pytest.warns(UserWarning, match="window of 0.1 s: the nearest at 5 frames per second is 1 frames"):
        extract_latents(RUN, Wanted(str(tmp_path / "shards"), tmp_path / "out"))


def test_sources_are_listed_once(robot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To check them, to read them, and to name the labels that come along."""
    listings, own = [], extraction.find_sources
    monkeypatch.setattr(extraction, "find_sources", lambda *a, **k: listings.append(a) or own(*a, **k))
    monkeypatch.setattr(ingest_module, "find_sources", lambda *_, **__: pytest.fail("listed again"))
    extract_latents(RUN, Wanted(str(robot), tmp_path / "out"))
    assert len(listings) == 1
    assert read_manifest(tmp_path / "out")["counts"]["labelled"]
