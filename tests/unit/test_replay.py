"""A replay proves that the same world was played, or says where it was not."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from genie_lite.artifact import write_artifact
from genie_lite.errors import UserError
from genie_lite.models.sampling import SamplingConfig
from genie_lite.models.world import World
from genie_lite.replay import Replay, read_replay, record, verify, write_replay
from genie_lite.steer import Played, Ride, play
from tests import models

RIDE = Ride(
    start=np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8),
    codes=np.array([0, 3, 3, 1, 2, 0]),
    seed=2**40 + 5,
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of untrained models."""
    return write_run(tmp_path / "run", seed=0)


def write_run(folder: Path, seed: int) -> Path:
    parents = {}
    for stage, model, config in (
        ("tokenizer", tokenizer := models.tokenizer(seed), tokenizer.config),
        ("lam", lam := models.lam(seed), lam.config),
        ("dynamics", dynamics := models.dynamics(seed), dynamics.spec),
    ):
        of = parents if stage == "dynamics" else {}
        parents[stage] = write_artifact(folder / stage, stage, model, config, "", of, {}, {}, 0.0)
    return folder


def world(run: Path) -> World:
    return World.load(run, SamplingConfig(refinements=3, temperature=0.9))


@pytest.fixture
def recorded(run: Path) -> tuple[Replay, Played]:
    """A ride and what it showed."""
    played, frames_per_s = play(world(run), RIDE)
    assert frames_per_s > 0
    return record(RIDE, world(run), run, played), played


def test_what_is_written_is_read_again_and_verifies(
    tmp_path: Path, run: Path, recorded: tuple[Replay, Played]
) -> None:
    replay, played = recorded
    write_replay(tmp_path / "a.replay", replay)
    found = read_replay(tmp_path / "a.replay")
    assert found.ride.seed == RIDE.seed
    assert np.array_equal(found.ride.start, RIDE.start)
    assert np.array_equal(found.ride.codes, RIDE.codes)
    assert dataclasses.replace(found, ride=RIDE, marks=replay.marks) == replay
    again = verify(found, World.load(run, found.sampling), run)
    assert np.array_equal(again.frames, played.frames)
    assert (tmp_path / "a.replay").stat().st_size < 10_000


def test_other_streams_beside_it_change_nothing(run: Path, recorded: tuple[Replay, Played]) -> None:
    assert play(world(run), RIDE, batch=3)[0].sha256 == recorded[0].sha256


def test_the_hash_is_that_of_the_bytes(recorded: tuple[Replay, Played]) -> None:
    _, played = recorded
    changed = played.frames.copy()
    changed[3, 0, 0, 0] ^= 1
    assert Played(changed, played.tokens).sha256 != played.sha256
    assert Played(played.frames.copy(order="F"), played.tokens).sha256 == played.sha256
    assert Played(played.frames, played.tokens.astype(np.int64)).tokens_sha256 == played.tokens_sha256


def test_the_first_frame_that_differs_is_named(run: Path, recorded: tuple[Replay, Played]) -> None:
    replay, _ = recorded
    other = dataclasses.replace(RIDE, codes=np.array([0, 3, 3, 2, 2, 0]))
    with pytest.raises(UserError, match=r"differ from frame 3 on; made with .*torch.* the same machine"):
        verify(dataclasses.replace(replay, ride=other), world(run), run)


def test_another_world_is_refused(tmp_path: Path, recorded: tuple[Replay, Played]) -> None:
    other = write_run(tmp_path / "other", seed=1)
    with pytest.raises(UserError, match="another tokenizer, lam, dynamics than the replay was made with"):
        verify(recorded[0], world(other), other)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content[: len(content) // 2], "not a whole replay"),
        (lambda content: b"", "not a whole replay"),
        (
            lambda content: content.replace(b'"format":"1"', b'"format":"9"'),
            "format 9 of a replay",
        ),
        (lambda content: content.replace(b'"seed":', b'"sead":'), "not a whole replay"),
        (lambda content: content.replace(b"refinements", b"refinementz"), "refinementz"),
    ],
)
def test_a_damaged_file_is_told(
    tmp_path: Path, recorded: tuple[Replay, Played], change: object, words: str
) -> None:
    path = tmp_path / "a.replay"
    write_replay(path, recorded[0])
    path.write_bytes(change(path.read_bytes()))  # pyright: ignore[reportCallIssue]
    with pytest.raises(UserError, match=words):
        read_replay(path)


def test_arrays_of_another_kind_are_told(tmp_path: Path, recorded: tuple[Replay, Played]) -> None:
    path = tmp_path / "a.replay"
    write_replay(path, recorded[0])
    tensors = load_file(path)
    tensors["codes"] = tensors["codes"].astype(np.float32)
    with safe_open(path, framework="numpy") as file:
        save_file(tensors, path, file.metadata())
    with pytest.raises(UserError, match=r"not a replay: found uint8 \[2, 16, 16, 3\], float32 \[6\]"):
        read_replay(path)


def test_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; genie-lite rollout --replay FILE writes one"):
        read_replay(tmp_path / "a.replay")
