"""The doctor: what it calls ok works, what does not is named with what to do."""

import stat
from pathlib import Path

import pytest

from genie_lite import doctor
from genie_lite.doctor import Finding, diagnose, has_failed
from genie_lite.envs.setup import PYTHON_VARIABLE
from genie_lite.files import HOME_VARIABLE


def engine(folder: Path, script: str) -> Path:
    """A stand-in for the engine's Python."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    return python


def named(findings: list[Finding], name: str) -> Finding:
    return next(finding for finding in findings if finding.name == name)


def test_this_machine_can_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    monkeypatch.setattr(doctor, "_wandb", lambda: Finding("wandb", "note", "not asked here"))
    findings = diagnose(tmp_path)
    assert named(findings, "video").state == "ok"
    assert named(findings, "game engine").state == "note"
    assert not has_failed(findings), "no engine and no login: training on video works"


def test_what_training_needs_decides_the_exit_code() -> None:
    fine = [Finding("python", "ok", "3"), Finding("wandb", "note", "no login")]
    assert not has_failed(fine)
    assert has_failed([*fine, Finding("video", "fail", "no decord")])


def test_an_engine_that_answers_is_ok(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTHON_VARIABLE, str(engine(tmp_path, "exit 0")))
    assert doctor._engine().state == "ok"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'No module named procgen' >&2; exit 1", "No module named procgen"),
        ("exit 3", "exit code 3"),
        ("exec sleep 60", "no answer in"),
    ],
)
def test_a_python_without_an_engine_is_not_ok(
    script: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "ENGINE_TIMEOUT_S", 0.5)
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    engine(tmp_path / "procgen", script)
    found = doctor._engine()
    assert found.state == "note"
    assert said in found.detail
    assert str(tmp_path / "procgen") in found.advice


def test_the_python_that_was_named_is_the_one_to_replace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PYTHON_VARIABLE, str(engine(tmp_path, "exit 1")))
    assert PYTHON_VARIABLE in doctor._engine().advice
    monkeypatch.setenv(PYTHON_VARIABLE, str(tmp_path / "nowhere"))
    assert "no Procgen at" in doctor._engine().detail


def test_wandb_is_judged_as_training_judges_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A login that `wandb login` left in a file counts too, though no variable names it."""
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setattr("genie_lite.train.logging._is_logged_in", lambda: True)
    assert doctor._wandb().state == "ok"
    monkeypatch.setattr("genie_lite.train.logging._is_logged_in", lambda: False)
    assert doctor._wandb().state == "note"


def test_a_missing_package_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", ("torch", "no-such-package"))
    found = doctor._packages()
    assert (found.state, has_failed([found])) == ("fail", True)
    assert "no-such-package" in found.detail


def test_video_that_cannot_be_written_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **keys: object) -> bytes:
        raise RuntimeError("no encoder")

    monkeypatch.setattr("genie_lite.data.video.codec.encode_mp4", broken)
    assert doctor._video().state == "fail"
