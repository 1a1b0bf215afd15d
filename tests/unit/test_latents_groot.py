"""Latent actions in LeRobot v2.1 with GR00T's modality.json, read back as GR00T reads them; and how spans are cut."""

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from av.video.frame import PictureType

from genie_lite.data.sources import lerobot
from genie_lite.data.video.container import BadVideo
from genie_lite.data.video.cut import cut
from genie_lite.data.video.place import Place
from genie_lite.errors import UserError
from genie_lite.latents.formats.registry import write
from tests.footage import write_shards
from tests.latent_fixture import HORIZON, latents_of_shards, latents_of_videos
from tests.lerobot_fixture import CAMERA, square_frames, write_lerobot, write_lerobot_v3
from tests.lerobot_readers import Groot, frames_of

STATE = "observation.state"


def add_state(root: Path, width: int = 2) -> None:
    """A state of each frame: its number, and minus that."""
    info = json.loads((root / "meta/info.json").read_text())
    info["features"][STATE] = {"dtype": "float32", "shape": [width], "names": None}
    (root / "meta/info.json").write_text(json.dumps(info))
    for path in (root / "data").glob("*/*.parquet"):
        table = pq.read_table(path)
        k = table["frame_index"].to_numpy().astype(np.float32)
        state = pa.FixedSizeListArray.from_arrays(pa.array(np.stack([k, -k], axis=1).ravel()), width)
        pq.write_table(table.append_column(STATE, state), path)


def latents_of(root: Path, out: Path) -> Path:
    return latents_of_videos(out, {each.source: len(each.action) for each in lerobot.read(root).episodes})


def test_groot_finds_the_latent_as_its_action(tmp_path: Path) -> None:
    root = tmp_path / "robot"
    write_lerobot(root, num_episodes=2)
    add_state(root)
    write("lerobot-v2.1", latents_of(root, tmp_path / "latents"), root, tmp_path / "out")
    data = Groot(tmp_path / "out")
    episode = data.episode(1)
    action = episode["action.latent"]
    assert action.shape == (12, 3)
    assert action[: 12 - HORIZON, 0].tolist() == list(range(12 - HORIZON))
    valid = episode["rows"]["latent_labels.valid"].to_numpy() == 1
    assert valid.tolist() == [True] * 10 + [False] * 2
    every = np.concatenate([data.episode(k)["action.latent"][:10] for k in range(2)])
    np.testing.assert_allclose(action[10], every.mean(axis=0), rtol=1e-6)
    assert episode["state.state"][:, 0].tolist() == list(range(12))
    assert set(episode["annotation.human.task_description"]) == {"move the square"}
    picture = episode["video.cam_high"][7].astype(int)
    assert np.abs(picture - square_frames(1, 12)[7]).mean() < 3
    assert data.camera("cam_high") == (32, 32, 10)
    stats = data.statistics("action", "latent")
    assert stats.keys() == {"mean", "std", "min", "max", "q01", "q99"}
    np.testing.assert_allclose(stats["mean"], every.mean(axis=0), rtol=1e-6)
    assert data.statistics("state", "state")["max"] == [11, 0]


def test_statistics_of_episodes_are_those_of_v21(tmp_path: Path) -> None:
    root = tmp_path / "robot"
    write_lerobot(root, num_episodes=2)
    write("lerobot-v2.1", latents_of(root, tmp_path / "latents"), root, tmp_path / "out")
    info = json.loads((tmp_path / "out/meta/info.json").read_text())
    lines = (tmp_path / "out/meta/episodes_stats.jsonl").read_text().splitlines()
    stats = [json.loads(line) for line in lines]
    assert [line["episode_index"] for line in stats] == [0, 1]
    assert set(stats[0]["stats"]) == set(info["features"])
    assert all(each.keys() == {"min", "max", "mean", "std", "count"} for each in stats[0]["stats"].values())
    assert stats[0]["stats"]["action"]["count"] == [10]
    assert info["total_videos"] == 2
    assert info["total_chunks"] == 1
    assert info["total_frames"] == 24


def test_groups_of_the_source_are_kept(tmp_path: Path) -> None:
    root = tmp_path / "robot"
    write_lerobot(root, num_episodes=1)
    add_state(root)
    own = {
        "state": {"arm": {"start": 0, "end": 1}, "hand": {"start": 1, "end": 2}},
        "action": {"arm": {"start": 0, "end": 4}},
        "video": {"ego": {"original_key": CAMERA}},
    }
    damaged = {"annotation": 3}
    (root / "meta/modality.json").write_text(json.dumps(own | damaged))
    write("lerobot-v2.1", latents_of(root, tmp_path / "latents"), root, tmp_path / "out")
    data = Groot(tmp_path / "out")
    episode = data.episode(0)
    assert episode["state.hand"][:, 0].tolist() == [-float(k) for k in range(12)]
    assert data.statistics("state", "hand")["min"] == [-11]
    assert set(data.modality["action"]) == {"latent"}
    assert len(episode["video.ego"]) == 12


def test_shared_videos_are_cut_to_one_per_episode(tmp_path: Path) -> None:
    root = tmp_path / "robot"
    write_lerobot_v3(root)
    write("lerobot-v2.1", latents_of(root, tmp_path / "latents"), root, tmp_path / "out")
    data = Groot(tmp_path / "out")
    for number, length in enumerate((12, 9, 15, 12)):
        pictures = data.episode(number)["video.cam_high"]
        assert np.abs(pictures.astype(int) - square_frames(number, length)).mean() < 3
        _, times = frames_of(tmp_path / f"out/videos/chunk-000/{CAMERA}/episode_{number:06d}.mp4")
        np.testing.assert_allclose(times, np.arange(length) / 10, atol=1e-4)


def test_shots_have_no_state(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", ("train",))
    write("lerobot-v2.1", latents_of_shards(tmp_path / "latents", shards), shards, tmp_path / "out")
    data = Groot(tmp_path / "out")
    assert data.modality["state"] == {}
    assert data.episode(1)["action.latent"].shape == (7, 3)
    assert data.camera("video") == (16, 16, 10)


def test_pictures_in_tables_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "robot"
    write_lerobot(root, num_episodes=1)
    folder = latents_of(root, tmp_path / "latents")
    info = json.loads((root / "meta/info.json").read_text())
    info["features"]["observation.images.map"] = {"dtype": "image", "shape": [8, 8, 3], "names": None}
    (root / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(UserError, match=r"observation\.images\.map.*lerobot-v3-action"):
        write("lerobot-v2.1", folder, root, tmp_path / "out")


def episodes_in_one_video(path: Path, lengths: tuple[int, ...], b_frames: int = 2) -> list[np.ndarray]:
    """Episodes one after another, each beginning at a key frame, with frames that need a later one."""
    episodes = [square_frames(number, length) for number, length in enumerate(lengths)]
    starts = set(np.cumsum((0, *lengths)).tolist())
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(10))
        stream.height, stream.width = 32, 32
        stream.pix_fmt = "yuv420p"
        stream.options = {
            "crf": "12",
            "g": "250",
            "bf": str(b_frames),
            "sc_threshold": "0",
            "forced-idr": "1",
        }
        for number, pixels in enumerate(np.concatenate(episodes)):
            image = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            image.pts, image.time_base = number, Fraction(1, 10)
            image.pict_type = PictureType.I if number in starts else PictureType.NONE
            container.mux(stream.encode(image))
        container.mux(stream.encode())
    return episodes


def span(path: Path, start: int, stop: int) -> Place:
    return Place(path, span_s=(start / 10, stop / 10))


@pytest.mark.parametrize("b_frames", [0, 2])
def test_a_span_that_begins_at_a_key_frame_is_copied(tmp_path: Path, b_frames: int) -> None:
    path = tmp_path / "all.mp4"
    episodes_in_one_video(path, (12, 9, 15), b_frames)
    whole, _ = frames_of(path)
    for start, stop in ((0, 12), (12, 21), (21, 36)):
        data, how = cut(span(path, start, stop), stop - start, 10.0)
        assert how == "copied"
        (tmp_path / "part.mp4").write_bytes(data)
        pictures, times = frames_of(tmp_path / "part.mp4")
        np.testing.assert_array_equal(pictures, whole[start:stop])
        np.testing.assert_allclose(times, np.arange(stop - start) / 10, atol=1e-4)


@pytest.mark.parametrize(("start", "stop"), [(3, 9), (14, 30), (0, 2)])
def test_any_other_span_is_encoded_again(tmp_path: Path, start: int, stop: int) -> None:
    """The last begins at a key frame, but its second picture needs the fourth."""
    path = tmp_path / "all.mp4"
    episodes = np.concatenate(episodes_in_one_video(path, (12, 9, 15)))
    data, how = cut(span(path, start, stop), stop - start, 10.0)
    assert how == "encoded"
    (tmp_path / "part.mp4").write_bytes(data)
    pictures, times = frames_of(tmp_path / "part.mp4")
    assert np.abs(pictures.astype(int) - episodes[start:stop]).mean() < 4
    np.testing.assert_allclose(times, np.arange(stop - start) / 10, atol=1e-4)


def test_a_span_of_another_length_is_told(tmp_path: Path) -> None:
    path = tmp_path / "all.mp4"
    episodes_in_one_video(path, (12,))
    with pytest.raises(BadVideo, match="7 frames"):
        cut(span(path, 3, 10), 9, 10.0)
