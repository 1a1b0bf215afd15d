"""The engine's own environment and the wire to it, without the engine."""

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from genie_lite.envs import setup
from genie_lite.envs.games import game_of
from genie_lite.envs.procgen_worker import pack, read_message, unpack, write_message
from genie_lite.errors import UserError
from genie_lite.files import HOME_VARIABLE, sha256_of


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(setup.PYTHON_VARIABLE, raising=False)
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture
def commands(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """What would be run; making the venv leaves its Python behind."""
    ran: list[Sequence[str]] = []

    def run(command: list[str]) -> None:
        ran.append(command)
        if "venv" in command:
            (home / "procgen" / "bin").mkdir(parents=True)
            (home / "procgen" / "bin" / "python").touch()

    monkeypatch.setattr(setup, "_run", run)
    return ran


@pytest.mark.parametrize("game", ["maze", "coinrun"])
def test_a_missing_engine_is_told_with_the_command_that_installs_it(home: Path, game: str) -> None:
    with pytest.raises(UserError, match=r"no Python at .*python -m genie_lite.envs.setup") as caught:
        game_of(game).open(1)
    assert str(home) in str(caught.value)


def test_a_python_without_the_engine_is_told_from_a_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(setup.PYTHON_VARIABLE, sys.executable)
    with pytest.raises(
        UserError, match=r"No module named 'procgen'.*python -m genie_lite.envs.setup"
    ) as caught:
        game_of("maze").open(1)
    assert "\n" not in str(caught.value)


def test_the_engine_is_looked_for_in_the_home_unless_told(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert setup.engine_python() == home / "procgen" / "bin" / "python"
    monkeypatch.setenv(setup.PYTHON_VARIABLE, "/elsewhere/python")
    assert setup.engine_python() == Path("/elsewhere/python")


def test_setup_installs_the_pinned_engine_once(home: Path, commands: list[Sequence[str]]) -> None:
    python = setup.setup_engine()
    assert python == home / "procgen" / "bin" / "python"
    assert [command[-1] for command in commands] == [
        str(home / "procgen"),
        "procgen-mirror",
        "import procgen",
    ]
    assert str(setup.CONSTRAINTS) in commands[1]
    pinned = setup.CONSTRAINTS.read_text().splitlines()
    assert {"procgen-mirror==0.10.7", "numpy==1.26.4"} <= set(pinned)
    setup.setup_engine()
    assert len(commands) == 3, "the second call finds it"


def test_setup_makes_a_half_made_environment_anew(home: Path, commands: list[Sequence[str]]) -> None:
    half = home / "procgen" / "lib" / "half"
    half.mkdir(parents=True)
    setup.setup_engine()
    assert len(commands) == 3
    assert not half.exists()


def test_setup_makes_an_environment_of_other_versions_anew(home: Path, commands: list[Sequence[str]]) -> None:
    setup.setup_engine()
    marker = home / "procgen" / setup.MARKER
    assert json.loads(marker.read_text()) == {"constraints": sha256_of(setup.CONSTRAINTS)}
    marker.write_text(json.dumps({"constraints": "older"}))
    setup.setup_engine()
    assert len(commands) == 6


def test_a_failed_installation_leaves_no_marker_and_one_line(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "_base_python", lambda: sys.executable)
    monkeypatch.setattr(setup, "ENGINE", "../not-a-requirement")
    with pytest.raises(UserError, match="failed with code") as caught:
        setup.setup_engine()
    assert "\n" not in str(caught.value)
    assert not (home / "procgen" / setup.MARKER).exists()


def test_without_a_python_that_has_wheels_setup_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup.platform, "python_version", lambda: "3.14.1")
    monkeypatch.setattr(setup.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match=r"needs Python 3.11 or 3.12, this is 3.14.1"):
        setup._base_python()


def test_a_message_comes_back_as_it_was_sent() -> None:
    wire = io.BytesIO()
    sent = {"frames": np.arange(24, dtype=np.uint8).reshape(2, 3, 4), "none": np.zeros((0, 5), np.float32)}
    write_message(wire, {"op": "step", "enough": 3}, sent)
    write_message(wire, {"op": "next"}, {})
    wire.seek(0)
    fields, arrays = read_message(wire)
    assert fields == {"op": "step", "enough": 3}
    for name, array in sent.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype
    assert read_message(wire) == ({"op": "next"}, {})


def test_a_message_that_breaks_off_is_no_message() -> None:
    wire = io.BytesIO()
    write_message(wire, {}, {"frames": np.zeros(100)})
    for size in (0, 5, 40, len(wire.getvalue()) - 1):
        with pytest.raises(EOFError):
            read_message(io.BytesIO(wire.getvalue()[:size]))


def test_byte_strings_of_any_length_survive_packing() -> None:
    blobs = [b"", b"\x00\xff", b"maze" * 1000]
    assert unpack(pack(blobs)) == blobs
    assert unpack(pack([])) == []
