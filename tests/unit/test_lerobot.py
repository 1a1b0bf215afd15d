"""A robot dataset is read as it is, and an episode that does not fit together is left out with a reason."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genie_lite.data.sources import lerobot
from genie_lite.data.sources.find import find_sources, names_of_episodes, robots_among
from genie_lite.data.video.codec import decode
from genie_lite.data.video.picture import SquareFitter
from genie_lite.data.video.place import Place
from genie_lite.errors import UserError
from genie_lite.folder import labels_at
from tests.lerobot_fixture import CAMERA, JOINTS, square_frames, write_lerobot, write_lerobot_v3
from tests.videos import write_foreign

WRITERS = [write_lerobot, write_lerobot_v3]
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
TABLE = "data/chunk-000/file-000.parquet"

Column = Sequence[object]


def change_info(root: Path, **keys: object) -> None:
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def change_column(path: Path, name: str, change: Callable[[list], Column]) -> None:
    """Rewrite one column of a Parquet file."""
    table = pq.read_table(path)
    place = table.column_names.index(name)
    column = pa.array(change(table[name].to_pylist()), table.schema.field(name).type)
    pq.write_table(table.set_column(place, name, column), path)


# Any version


@pytest.mark.parametrize("write", WRITERS)
def test_actions_are_joined_to_the_videos_name(
    tmp_path: Path, write: Callable[..., dict[str, np.ndarray]]
) -> None:
    actions = write(tmp_path)
    labels = lerobot.read_labels(tmp_path)
    assert labels.kind == "continuous"
    assert labels.names == JOINTS
    assert set(labels.episodes) == set(actions)
    assert len(labels) == sum(len(action) for action in actions.values())
    for source, action in actions.items():
        for frame in (0, 5, len(action) - 1):
            found = labels.lookup(source, frame)
            assert found is not None
            np.testing.assert_array_equal(found, action[frame])
    data = lerobot.read(tmp_path)
    assert [episode.source for episode in data.episodes] == list(actions)
    assert [episode.place.path for episode in data.episodes] == [
        tmp_path / source.partition("#")[0] for source in actions
    ]


@pytest.mark.parametrize("write", WRITERS)
def test_the_camera_is_chosen_by_its_name(
    tmp_path: Path, write: Callable[..., dict[str, np.ndarray]]
) -> None:
    write(tmp_path, cameras=(CAMERA, "observation.images.wrist"))
    assert lerobot.read(tmp_path, "wrist").camera == "observation.images.wrist"
    assert {source.num_frames for source in find_sources([tmp_path], [], 0.0, camera="wrist")} <= {9, 12, 15}
    assert all("images.wrist" in source.name for source in find_sources([tmp_path], [], 0.0, camera="wrist"))
    with pytest.warns(UserWarning, match=f"2 cameras, using {CAMERA}"):
        assert lerobot.read(tmp_path).camera == CAMERA
    with pytest.raises(UserError, match=r"no single camera is called 'chest'; found .*cam_high"):
        lerobot.read(tmp_path, "chest")


@pytest.mark.parametrize("write", WRITERS)
def test_labels_of_an_episode_are_those_of_all_videos_of_it(
    tmp_path: Path, write: Callable[..., dict[str, np.ndarray]]
) -> None:
    """Shards that were made of either camera's videos find them."""
    cameras = (CAMERA, "observation.images.wrist")
    actions = write(tmp_path, cameras=cameras)
    labels = labels_at(tmp_path)
    assert set(labels.episodes) == set(actions), "of both cameras"
    for camera in cameras:
        names = [source.name for source in find_sources([tmp_path], [], 0.0, camera=camera)]
        assert 2 * len(names) == len(actions)
        for name in names:
            np.testing.assert_array_equal(labels.of([name]).action, actions[name])
    assert set(lerobot.read_labels(tmp_path, "wrist").episodes) < set(labels.episodes)


def test_a_camera_without_videos_takes_no_labels_from_the_other(tmp_path: Path) -> None:
    actions = write_lerobot(tmp_path, cameras=(CAMERA, "observation.images.wrist"))
    shutil.rmtree(next(tmp_path.rglob("observation.images.wrist")))
    assert set(lerobot.read_labels(tmp_path).episodes) == {name for name in actions if CAMERA in name}
    shutil.rmtree(tmp_path / "videos")
    with pytest.raises(UserError, match="no usable episode among 3"):
        lerobot.read_labels(tmp_path)


@pytest.mark.parametrize("write", WRITERS)
def test_nothing_usable_is_an_error_with_the_first_reason(
    tmp_path: Path, write: Callable[..., dict[str, np.ndarray]]
) -> None:
    num = len(write(tmp_path))
    for video in tmp_path.rglob("*.mp4"):
        video.unlink()
    with pytest.raises(UserError, match=rf"no usable episode among {num}.*video file is missing"):
        lerobot.read(tmp_path)
    assert {source.fault for source in find_sources([tmp_path], [], 0.0)} == {"the video file is missing"}


@pytest.mark.parametrize("write", WRITERS)
def test_no_video_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[..., dict[str, np.ndarray]]
) -> None:
    """Of thousands of episodes that would take minutes, and foreign headers have crashed decoders."""
    actions = write(tmp_path)
    monkeypatch.setattr(av, "open", lambda *_, **__: pytest.fail("opened here"))
    monkeypatch.setattr(Place, "open", lambda *_: pytest.fail("opened here"))
    assert [source.name for source in find_sources([tmp_path], [], 0.0)] == sorted(actions)


@pytest.mark.parametrize("write", WRITERS)
def test_a_video_of_another_length_than_its_labels_is_told_once_it_is_decoded(
    tmp_path: Path, write: Callable[..., dict[str, np.ndarray]]
) -> None:
    write(tmp_path)
    source = find_sources([tmp_path], [], 0.0)[0]
    assert source.num_frames == 12
    assert source.misfit(12) is None
    assert source.misfit(9) == "9 frames in the video, 12 rows in the data file"
    assert replace(source, num_frames=None).misfit(9) is None


@pytest.mark.parametrize("write", WRITERS)
def test_names_may_be_missing(tmp_path: Path, write: Callable[..., dict[str, np.ndarray]]) -> None:
    write(tmp_path)
    features = json.loads((tmp_path / "meta/info.json").read_text())["features"]
    features["action"]["names"] = None
    change_info(tmp_path, features=features)
    assert lerobot.read_labels(tmp_path).names == ("action_0", "action_1", "action_2", "action_3")


@pytest.mark.parametrize("write", WRITERS)
def test_an_action_of_one_number_is_stored_without_a_list(
    tmp_path: Path, write: Callable[..., dict[str, np.ndarray]]
) -> None:
    actions = write(tmp_path)
    features = json.loads((tmp_path / "meta/info.json").read_text())["features"]
    features["action"] = {"dtype": "float32", "shape": [1], "names": ["gripper"]}
    change_info(tmp_path, features=features)
    for path in (tmp_path / "data").rglob("*.parquet"):
        table = pq.read_table(path)
        first = pa.array([action[0] for action in table["action"].to_pylist()])
        pq.write_table(table.set_column(table.column_names.index("action"), "action", first), path)
    labels = lerobot.read_labels(tmp_path)
    np.testing.assert_array_equal(labels.action[:, 0], np.concatenate(list(actions.values()))[:, 0])


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"codebase_version": "v1.6"}, r"codebase_version is 'v1.6', expected one of v2.0, v2.1, v3.0"),
        ({"fps": None}, "fps missing"),
        ({"fps": "ten"}, "fps is 'ten', expected frames per second"),
        ({"features": {}}, "features missing"),
        ({"features": ["action"]}, "features is no mapping"),
        ({"features": {"action": {"shape": [4]}}}, "no feature of dtype 'video'"),
        ({"features": {"cam": {"dtype": "video"}, "action": {}}}, "feature 'action' has shape None"),
        ({"video_path": "{nonsense}.mp4"}, "video_path has an unknown field"),
        ({"video_path": "../../{video_key}.mp4"}, "must stay inside"),
        ({"data_path": "/etc/{video_key}.parquet"}, "must stay inside|unknown field"),
        ({"data_path": 7}, "data_path has an unknown field"),
    ],
)
def test_a_dataset_of_another_form_is_refused(
    tmp_path: Path, write: Callable[..., dict[str, np.ndarray]], keys: dict[str, object], message: str
) -> None:
    write(tmp_path)
    change_info(tmp_path, **keys)
    with pytest.raises(UserError, match=message):
        lerobot.read(tmp_path)


def test_a_plain_folder_is_no_dataset(tmp_path: Path) -> None:
    assert not lerobot.is_lerobot(tmp_path)
    with pytest.raises(UserError, match="expected the root folder of a LeRobot"):
        lerobot.read(tmp_path)


# A file per episode: v2.0 and v2.1


def test_broken_episodes_are_quarantined_and_the_rest_is_used(tmp_path: Path) -> None:
    actions = write_lerobot(tmp_path, num_episodes=8)
    sources = list(actions)

    def table(number: int) -> Path:
        return tmp_path / f"data/chunk-000/episode_{number:06d}.parquet"

    (tmp_path / sources[0]).unlink()
    table(1).unlink()
    table(2).write_bytes(table(2).read_bytes()[:100])
    lines = (tmp_path / "meta/episodes.jsonl").read_text().splitlines()
    lines[3] = lines[3].replace('"length": 12', '"length": 13')
    (tmp_path / "meta/episodes.jsonl").write_text("\n".join(lines))
    change_column(table(4), "frame_index", lambda column: [index + 1 for index in column])
    change_column(table(5), "action", lambda column: [[float("nan")] * 4, *column[1:]])
    change_column(table(6), "action", lambda column: [None, *column[1:]])
    data = lerobot.read(tmp_path)
    assert [episode.source for episode in data.episodes] == sources[7:]
    reasons = dict(data.quarantined)
    assert list(reasons) == sources[:7]
    expected = [
        "video file is missing",
        "data file is missing",
        "unreadable",
        "12 rows in the data file, meta/episodes says 13",
        "frame_index does not count",
        "infinite or missing",
        "44 action numbers, expected 12 x 4",
    ]
    assert all(words in reason for words, reason in zip(expected, reasons.values(), strict=True))
    faults = {source.name: source.fault for source in find_sources([tmp_path], [], 0.0)}
    assert faults == {source: reasons.get(source) for source in sources}


def test_of_an_episode_that_is_listed_twice_the_last_line_counts(tmp_path: Path) -> None:
    """A recording that was broken off and resumed leaves such lists."""
    actions = write_lerobot(tmp_path, num_episodes=2)
    path = tmp_path / "meta/episodes.jsonl"
    first, second = path.read_text().splitlines()
    path.write_text("\n".join([first.replace('"length": 12', '"length": 7'), second, first]))
    assert [episode.source for episode in lerobot.read(tmp_path).episodes] == list(actions)


@pytest.mark.parametrize("text", ["{", '{"episode_index": 0}', "[1]", '{"episode_index": "x", "length": 3}'])
def test_a_damaged_list_of_episodes_is_an_error(tmp_path: Path, text: str) -> None:
    write_lerobot(tmp_path)
    (tmp_path / "meta/episodes.jsonl").write_text(text)
    with pytest.raises(UserError, match="expected lines with episode_index and length"):
        lerobot.read(tmp_path)


# Many episodes in a file: v3.0


def frames_of(place: Place) -> tuple[list[int], list[float], np.ndarray]:
    """Index, time and 32 x 32 pixels of each frame that the decoder gives."""
    fit = SquareFitter(32, "crop")
    pictures = [(picture.index, picture.time_s, fit(picture).astype(int)) for picture in decode(place)]
    index, time_s, pixels = zip(*pictures, strict=True)
    return list(index), list(time_s), np.stack(pixels)


@pytest.mark.parametrize("rate_hz", [10, 30, 50])
def test_an_episodes_span_holds_exactly_its_frames(tmp_path: Path, rate_hz: int) -> None:
    lengths = (12, 9, 1, 15, 12)
    write_lerobot_v3(tmp_path, lengths, rate_hz=rate_hz)
    for number, episode in enumerate(lerobot.read(tmp_path).episodes):
        index, time_s, pixels = frames_of(episode.place)
        assert index == list(range(lengths[number]))
        np.testing.assert_allclose(time_s, np.arange(lengths[number]) / rate_hz, atol=1e-3)
        # Another frame of the walk, or one of the neighbouring episode, is off by more than 3.
        difference = np.abs(pixels - square_frames(number, lengths[number])).mean((1, 2, 3))
        assert difference.max() < 1.5


@pytest.mark.parametrize("rate_hz", [10, 30, 50])
def test_frames_are_those_also_between_key_frames_and_with_seconds_that_have_drifted(
    tmp_path: Path, rate_hz: int
) -> None:
    lengths = (12, 9, 15)
    actions = write_lerobot_v3(tmp_path, lengths, rate_hz=rate_hz)
    path = tmp_path / next(iter(actions)).partition("#")[0]
    frames = np.concatenate([square_frames(number, length) for number, length in enumerate(lengths)])
    write_foreign(path, frames, rate=rate_hz)  # one key frame, and frames that need later ones
    for column in ("from_timestamp", "to_timestamp"):
        change_column(
            tmp_path / EPISODES, f"videos/{CAMERA}/{column}", lambda times: [s + 0.3 / rate_hz for s in times]
        )
    for number, episode in enumerate(lerobot.read(tmp_path).episodes):
        index, _, pixels = frames_of(episode.place)
        assert index == list(range(lengths[number]))
        expected = square_frames(number, lengths[number])
        difference = np.abs(pixels[:, None] - expected[None]).mean((2, 3, 4))
        assert (
            difference.diagonal() <= difference.min(1) + 0.1
        ).all()  # where it stands still, several are alike


def test_broken_episodes_of_shared_files_are_quarantined_and_the_rest_is_used(tmp_path: Path) -> None:
    actions = write_lerobot_v3(tmp_path, (12,) * 12, per_video=2, per_table=2)
    sources = list(actions)
    (tmp_path / f"videos/{CAMERA}/chunk-000/file-000.mp4").unlink()
    (tmp_path / "data/chunk-000/file-001.parquet").unlink()
    damaged = tmp_path / "data/chunk-000/file-002.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    change_column(
        tmp_path / "data/chunk-000/file-003.parquet", "action", lambda rows: [[np.inf] * 4, *rows[1:]]
    )
    change_column(
        tmp_path / "data/chunk-000/file-004.parquet", "episode_index", lambda rows: [8] * 13 + [9] * 11
    )
    change_column(tmp_path / EPISODES, "length", lambda rows: [*rows[:-1], 13])
    change_column(
        tmp_path / EPISODES, f"videos/{CAMERA}/file_index", lambda rows: [*rows[:10], None, rows[11]]
    )
    data = lerobot.read(tmp_path)
    assert [episode.source for episode in data.episodes] == [sources[7]]
    reasons = {int(source[-6:]): reason for source, reason in data.quarantined}
    expected = {
        0: "the video file is missing",
        1: "the video file is missing",
        2: "the data file is missing",
        3: "the data file is missing",
        4: "unreadable",
        5: "unreadable",
        6: "infinite or missing",
        8: "13 rows in the data file, meta/episodes says 12",
        9: "11 rows in the data file, meta/episodes says 12",
        10: "does not say its video_file_index",
        11: "12 frames from from_timestamp to to_timestamp, and a length of 13",
    }
    assert reasons.keys() == expected.keys()
    assert all(expected[number] in reasons[number] for number in expected)


def test_rows_are_found_by_their_episode_wherever_they_stand(tmp_path: Path) -> None:
    """Datasets that were merged or thinned out keep tables whose rows are not where the dataset counts them."""
    actions = write_lerobot_v3(tmp_path, (12, 9), per_table=2)
    table = pq.read_table(tmp_path / TABLE)
    pq.write_table(pa.concat_tables([table.slice(12), table.slice(0, 12)]), tmp_path / TABLE)
    for episode, action in zip(lerobot.read(tmp_path).episodes, actions.values(), strict=True):
        np.testing.assert_array_equal(episode.action, action)


def test_each_table_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lerobot_v3(tmp_path, (5,) * 6, per_table=3)
    read: list[str] = []
    opened = pq.ParquetFile
    monkeypatch.setattr(pq, "ParquetFile", lambda path: read.append(path.name) or opened(path))
    lerobot.read(tmp_path)
    assert read == ["file-000.parquet", "file-000.parquet", "file-001.parquet"]  # the episodes, two tables


@pytest.mark.parametrize("column", ["length", f"videos/{CAMERA}/from_timestamp"])
def test_a_list_of_episodes_without_a_column_is_an_error(tmp_path: Path, column: str) -> None:
    write_lerobot_v3(tmp_path)
    pq.write_table(pq.read_table(tmp_path / EPISODES).drop_columns([column]), tmp_path / EPISODES)
    with pytest.raises(UserError, match=f"no column {column}"):
        lerobot.read(tmp_path)


def test_a_damaged_or_missing_list_of_episodes_of_shared_files_is_an_error(tmp_path: Path) -> None:
    write_lerobot_v3(tmp_path)
    (tmp_path / EPISODES).write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"file-000.parquet: unreadable"):
        lerobot.read(tmp_path)
    (tmp_path / EPISODES).unlink()
    with pytest.raises(UserError, match="expected a row per episode"):
        lerobot.read(tmp_path)


# Among the sources


@pytest.mark.parametrize("write", WRITERS)
def test_datasets_in_a_folder_are_datasets_and_their_labels_are_found(
    tmp_path: Path, write: Callable[..., dict[str, np.ndarray]]
) -> None:
    actions = write(tmp_path / "robots/one")
    write(tmp_path / "robots/two")
    found = find_sources([tmp_path / "robots"], [], 0.0)
    assert len(found) == 2 * len(actions)
    assert robots_among(found) == [tmp_path / "robots/one", tmp_path / "robots/two"]
    robot = lerobot.read(tmp_path / "robots/one")
    assert names_of_episodes(found, robot) == {source: f"one/{source}" for source in actions}
    assert names_of_episodes(find_sources([tmp_path / "robots/one"], [], 0.0), robot) == {
        s: s for s in actions
    }


def test_a_broken_dataset_in_a_folder_is_quarantined_and_one_that_was_named_is_an_error(
    tmp_path: Path,
) -> None:
    write_lerobot(tmp_path / "robots/good", num_episodes=2)
    write_lerobot(tmp_path / "robots/old", num_episodes=2)
    change_info(tmp_path / "robots/old", codebase_version="v1.0")
    faults = {source.name: source.fault for source in find_sources([tmp_path / "robots"], [], 0.0)}
    assert len(faults) == 3
    assert "codebase_version is 'v1.0'" in str(faults["old"])
    with pytest.raises(UserError, match=r"codebase_version is 'v1\.0'"):
        find_sources([tmp_path / "robots/old"], [], 0.0)


def test_an_episode_is_not_tested_where_its_file_is_trained_on(tmp_path: Path) -> None:
    actions = write_lerobot_v3(tmp_path)
    file = tmp_path / next(iter(actions)).partition("#")[0]
    with pytest.raises(UserError, match=r"file-000\.mp4: is among the sources and among the test sources"):
        find_sources([tmp_path], [file], 0.0)
    with pytest.warns(UserWarning, match="its episodes are used, and not all of it as one"):
        assert {source.name for source in find_sources([tmp_path, file], [], 0.0)} == actions.keys()


def test_a_camera_without_a_robot_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    with pytest.warns(UserWarning, match="camera 'wrist': no robot's dataset is among the sources"):
        find_sources([tmp_path], [], 0.0, camera="wrist")
