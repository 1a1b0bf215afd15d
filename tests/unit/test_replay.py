"""A replay proves that the same world was played, or says where it was not."""

import dataclasses
import json
from collections.abc import Callable
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
    assert found.header == replay.header
    again = verify(found, World.load(run, found.header.sampling), run)
    assert np.array_equal(again.frames, played.frames)
    assert (tmp_path / "a.replay").stat().st_size < 10_000


def test_other_streams_beside_it_change_nothing(run: Path, recorded: tuple[Replay, Played]) -> None:
    assert play(world(run), RIDE, batch=3)[0].sha256 == recorded[0].header.sha256


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
    with pytest.raises(
        UserError, match=r"^the frames differ from frame 3 on; made with .*torch.* the same machine"
    ):
        verify(dataclasses.replace(replay, ride=other), world(run), run)


def test_no_frame_is_named_where_only_a_hash_was_changed(run: Path, recorded: tuple[Replay, Played]) -> None:
    replay, _ = recorded
    header = replay.header.model_copy(update={"tokens_sha256": "0"})
    with pytest.raises(UserError, match=r"^the hashes differ; "):
        verify(dataclasses.replace(replay, header=header), world(run), run)


def test_another_world_is_refused(tmp_path: Path, recorded: tuple[Replay, Played]) -> None:
    other = write_run(tmp_path / "other", seed=1)
    with pytest.raises(UserError, match="has another tokenizer, lam, dynamics than the replay was made with"):
        verify(recorded[0], world(other), other)


def rewrite(path: Path, header: dict[str, object] | str | None = None, **tensors: np.ndarray) -> None:
    """Change parts of a replay's header, or all of it, and its arrays."""
    with safe_open(path, framework="numpy") as file:
        found = file.metadata()
    if isinstance(header, str):
        found["header"] = header
    elif header is not None:
        found["header"] = json.dumps(json.loads(found["header"]) | header)
    save_file(load_file(path) | tensors, path, found)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:300]), "a.replay: not a whole replay"),
        (lambda path: path.write_bytes(b""), "a.replay: not a whole replay"),
        (lambda path: rewrite(path, "[" * 200_000), "a.replay: not a whole replay"),
        (lambda path: rewrite(path, "{"), "a.replay: not a whole replay"),
        (lambda path: rewrite(path, {"weights": [1]}), "a.replay: weights"),
        (lambda path: rewrite(path, {"place": "5"}), "a.replay: place"),
        (lambda path: rewrite(path, {"seed": -1}), "a.replay: seed"),
        (
            lambda path: rewrite(path, {"sampling": {"refinementz": 1}}),
            "a.replay: sampling: unknown key 'refinementz'",
        ),
        (
            lambda path: rewrite(path, codes=np.zeros(6, np.float32)),
            "a.replay: not a replay of format 1: .*'F32'",
        ),
        (lambda path: rewrite(path, more=np.zeros(1)), "a.replay: not a replay of format 1: .*'more'"),
        (
            lambda path: rewrite(path, codes=np.zeros(0, np.int64)),
            r"a.replay: not a replay: found shapes .*\[0\]",
        ),
        (
            lambda path: rewrite(path, start=np.zeros(3, np.uint8)),
            r"a.replay: not a replay: found shapes \[3\]",
        ),
    ],
)
def test_a_file_that_is_no_replay_is_told_in_a_line(
    tmp_path: Path, recorded: tuple[Replay, Played], change: Callable[[Path], object], words: str
) -> None:
    path = tmp_path / "a.replay"
    write_replay(path, recorded[0])
    change(path)
    with pytest.raises(UserError, match=f"^.*/{words}"):
        read_replay(path)


def test_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; genie-lite rollout --replay FILE writes one"):
        read_replay(tmp_path / "a.replay")
