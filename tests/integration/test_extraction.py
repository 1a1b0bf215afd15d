"""From what a user names to a file of latent actions: videos, robots' datasets and shards."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from genie_lite.cli import Format
from genie_lite.data.cutting.segment import IngestConfig
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
    told = extract_latents(RUN, Wanted(str(videos), tmp_path / "out"))
    rows = read_latents(tmp_path / "out")
    assert told["sources"] == 2
    np.testing.assert_allclose(rows.dt_s[rows.valid], 0.1, atol=1e-6)
    assert (~rows.valid).sum() == 2  # the last frame of each: no shot was cut into pieces


def test_a_longer_window(videos: Path, tmp_path: Path) -> None:
    extract_latents(RUN, Wanted(str(videos), tmp_path / "out", window_s=0.3))
    rows = read_latents(tmp_path / "out")
    np.testing.assert_allclose(rows.dt_s[rows.valid], 0.3, atol=1e-6)
    assert (~rows.valid).sum() == 6


def test_labels_are_written_beside(videos: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.parquet"
    write_labels(labels, ["a.mp4"] * 2, [0, 4], [1, 0], kind="discrete", names=["left", "right"])
    extract_latents(RUN, Wanted(str(videos), tmp_path / "out", labels=labels))
    assert read_manifest(tmp_path / "out")["counts"]["labelled"] == 2


def test_shards_bring_their_own_rate(videos: Path, tmp_path: Path) -> None:
    ingest([str(videos)], tmp_path / "shards", IngestConfig(rate_hz=5.0, near_duplicates=False, test_share=0))
    with pytest.raises(UserError, match=r"--rate: .* are shards"):
        extract_latents(RUN, Wanted(str(tmp_path / "shards"), tmp_path / "out", rate_hz=10.0))
    with pytest.warns(UserWarning, match="window of 0.1 s: the nearest at 5 frames per second is 1 frames"):
        extract_latents(RUN, Wanted(str(tmp_path / "shards"), tmp_path / "out"))
