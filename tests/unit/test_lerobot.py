"""A robot dataset is read as it is, and an episode that does not fit together is left out with a reason."""

import json
from pathlib import Path

import av
import numpy as np
import pytest

from genie_lite.data import lerobot
from genie_lite.errors import UserError
from tests.lerobot_fixture import CAMERA, JOINTS, write_lerobot


def change_info(root: Path, **keys: object) -> None:
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def test_actions_are_joined_to_the_videos_name(tmp_path: Path) -> None:
    actions = write_lerobot(tmp_path)
    labels = lerobot.read_labels(tmp_path)
    assert labels.kind == "continuous"
    assert labels.names == JOINTS
    assert set(labels.episodes) == set(actions)
    for source, action in actions.items():
        assert (tmp_path / source).is_file()
        for frame in (0, 5, len(action) - 1):
            found = labels.lookup(source, frame)
            assert found is not None
            np.testing.assert_array_equal(found, action[frame])
    assert [episode.path for episode in lerobot.read(tmp_path).episodes] == [
        tmp_path / each for each in actions
    ]


def test_broken_episodes_are_quarantined_and_the_rest_is_used(tmp_path: Path) -> None:
    actions = write_lerobot(tmp_path, num_episodes=5)
    sources = list(actions)
    (tmp_path / sources[0]).unlink()
    (tmp_path / "data/chunk-000/episode_000001.parquet").unlink()
    (tmp_path / sources[2]).write_bytes((tmp_path / sources[2]).read_bytes()[:100])
    lines = (tmp_path / "meta/episodes.jsonl").read_text().splitlines()
    lines[3] = lines[3].replace('"length": 12', '"length": 13')
    (tmp_path / "meta/episodes.jsonl").write_text("\n".join(lines))
    data = lerobot.read(tmp_path)
    assert [episode.source for episode in data.episodes] == sources[4:]
    reasons = dict(data.quarantined)
    assert reasons.keys() == set(sources[:4])
    assert "video file is missing" in reasons[sources[0]]
    assert "data file is missing" in reasons[sources[1]]
    assert "unreadable" in reasons[sources[2]]
    assert "12 rows" in reasons[sources[3]]


def test_a_video_of_another_length_is_quarantined(tmp_path: Path) -> None:
    actions = write_lerobot(tmp_path / "a", num_frames=12)
    write_lerobot(tmp_path / "b", num_frames=9)
    source = next(iter(actions))
    (tmp_path / "a" / source).write_bytes((tmp_path / "b" / source).read_bytes())
    assert dict(lerobot.read(tmp_path / "a").quarantined)[source].startswith("9 frames in the video, 12 rows")


def test_no_header_is_read_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Foreign headers have crashed decoders before; a crash of the child costs one episode."""
    actions = write_lerobot(tmp_path)
    monkeypatch.setattr(av, "open", lambda *_, **__: pytest.fail("opened here"))
    data = lerobot.read(tmp_path)
    assert [episode.source for episode in data.episodes] == list(actions)


def test_a_list_of_other_files_is_not_followed(tmp_path: Path) -> None:
    """FFmpeg would open a text that names other files, whatever its ending; here only containers are read."""
    source, other, *_ = write_lerobot(tmp_path)
    neighbour = (tmp_path / source).with_name("secret.mp4")
    neighbour.write_bytes((tmp_path / other).read_bytes())
    (tmp_path / source).write_text("ffconcat version 1.0\nfile secret.mp4\n")
    assert dict(lerobot.read(tmp_path).quarantined)[source].startswith("unreadable: not a readable video")


def test_nothing_usable_is_an_error_with_the_first_reason(tmp_path: Path) -> None:
    for source in write_lerobot(tmp_path, num_episodes=2):
        (tmp_path / source).unlink()
    with pytest.raises(UserError, match=r"no usable episode among 2.*video file is missing"):
        lerobot.read(tmp_path)


def test_the_camera_is_chosen_by_its_name(tmp_path: Path) -> None:
    write_lerobot(tmp_path, cameras=(CAMERA, "observation.images.wrist"))
    assert lerobot.read(tmp_path, "wrist").camera == "observation.images.wrist"
    with pytest.warns(UserWarning, match=f"2 cameras, using {CAMERA}"):
        assert lerobot.read(tmp_path).camera == CAMERA
    with pytest.raises(UserError, match=r"no single camera is called 'chest'; found .*cam_high"):
        lerobot.read(tmp_path, "chest")


def test_names_may_be_missing(tmp_path: Path) -> None:
    write_lerobot(tmp_path)
    features = json.loads((tmp_path / "meta/info.json").read_text())["features"]
    features["action"]["names"] = None
    change_info(tmp_path, features=features)
    assert lerobot.read_labels(tmp_path).names == ("action_0", "action_1", "action_2", "action_3")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"codebase_version": "v3.0"}, "codebase_version is 'v3.0', expected one of v2.0, v2.1"),
        ({"fps": None}, "fps missing"),
        ({"video_path": "{nonsense}.mp4"}, "unknown field"),
        ({"video_path": "../../{episode_index}.mp4"}, "must stay inside"),
    ],
)
def test_a_dataset_of_another_form_is_refused(tmp_path: Path, keys: dict[str, object], message: str) -> None:
    write_lerobot(tmp_path)
    change_info(tmp_path, **keys)
    with pytest.raises(UserError, match=message):
        lerobot.read(tmp_path)


def test_a_plain_folder_is_no_dataset(tmp_path: Path) -> None:
    assert not lerobot.is_lerobot(tmp_path)
    with pytest.raises(UserError, match="expected the root folder of a LeRobot"):
        lerobot.read(tmp_path)
