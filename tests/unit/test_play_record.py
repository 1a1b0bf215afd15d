"""What is taken home is what was seen: a film, and a replay that verifies."""

import io
from pathlib import Path

import av
import numpy as np
import pytest

from genie_lite.models.sampling import SamplingConfig
from genie_lite.models.world import World
from genie_lite.play import record
from genie_lite.play.record import film, replay_bytes
from genie_lite.replay import read_replay, verify, write_replay
from genie_lite.replay import record as record_replay
from genie_lite.steer import Ride, play
from tests.play_runs import noise
from tests.unit.test_replay import write_run

RIDE = Ride(noise(2), np.array([0, 3, 3, 1, 2, 0]), seed=2**40 + 5)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of untrained models."""
    return write_run(tmp_path / "run", seed=0)


def world(run: Path) -> World:
    return World.load(run, SamplingConfig(refinements=3))


def test_the_replay_is_the_file_that_is_written_and_verifies(run: Path, tmp_path: Path) -> None:
    played, _ = play(world(run), RIDE)
    data = replay_bytes(RIDE, world(run), run, played)
    write_replay(tmp_path / "rollout.replay", record_replay(RIDE, world(run), run, played))
    (tmp_path / "mine.replay").write_bytes(data)
    found, other = read_replay(tmp_path / "mine.replay"), read_replay(tmp_path / "rollout.replay")
    assert found.header == other.header  # the order in which a file keeps its two headers is any
    assert np.array_equal(found.ride.codes, other.ride.codes)
    assert np.array_equal(found.marks, other.marks)
    assert np.array_equal(verify(found, World.load(run, found.header.sampling), run).frames, played.frames)


def frames_of(mp4: bytes) -> np.ndarray:
    with av.open(io.BytesIO(mp4), "r") as container:
        assert container.streams.video[0].average_rate == 10
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_a_film_shows_the_frames_large_enough_to_see() -> None:
    flat = np.full((5, 16, 16, 3), 60, np.uint8)
    flat[:, 4:8, 8:12] = (230, 40, 40)
    found = frames_of(film(iter(flat), 10.0))
    assert found.shape == (5, 256, 256, 3)
    large = flat.repeat(16, axis=1).repeat(16, axis=2)
    assert np.abs(found.astype(int) - large).mean() < 3


def test_large_frames_stay_as_they_are() -> None:
    assert frames_of(film(noise(2, size=300), 10.0)).shape == (2, 300, 300, 3)


def test_two_beside_each_other_are_one_film() -> None:
    both = np.concatenate([noise(3), noise(3, seed=1)], axis=2)
    assert frames_of(film(both, 10.0)).shape == (3, 256, 512, 3)


def test_a_long_film_is_never_whole_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = 0

    def frames():
        nonlocal taken
        for frame in noise(50):
            taken += 1
            yield frame

    seen = []
    enlarged = record._enlarged
    monkeypatch.setattr(record, "_enlarged", lambda frame: seen.append(taken) or enlarged(frame))
    film(frames(), 10.0)
    assert seen == list(range(1, 51))
