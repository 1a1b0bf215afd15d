"""A user's mistake is one clear line and exit code 2, never a traceback."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from genie_lite import cli
from genie_lite.errors import UserError
from tests.command_line import Outcome, call
from tests.videos import moving_square, wandering_square, write

TOY = Path(__file__).parents[2] / "recipes" / "toy" / "demo.yaml"


def expect_mistake(outcome: Outcome, *words: str) -> None:
    assert outcome.code == 2, outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    assert outcome.last_line.startswith("error: ")
    for word in words:
        assert word in outcome.last_line


@pytest.mark.parametrize(
    "command",
    [
        "",
        "record",
        "ingest",
        "run",
        "train",
        "extract",
        "adapt",
        "evaluate",
        "report",
        "data",
        "data report",
        "data verify",
        "data quality",
        "tokenize",
        "export",
    ],
)
def test_every_command_explains_itself(command: str) -> None:
    outcome = call(*command.split(), "--help")
    assert outcome.code == 0
    assert "Usage: genie-lite" in outcome.out


def test_without_a_command_the_help_is_shown() -> None:
    assert "Commands:" in call().out


def test_help_needs_no_torch() -> None:
    script = (
        "import sys; from genie_lite import cli; sys.exit = lambda code: None; cli.main(['--help']);"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("False")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fly"], ["No such command", "fly"]),
        (["rollout", "--pretrained", "pong", "--codes", "0"], ["--pretrained", "'pong'", "coinrun"]),
        (["rollout", "--pretrained"], ["--pretrained", "a name after it"]),
        (["ingest", ".", "--out", "x", "--shard-index", "0"], ["--shard-index and --num-shards", "both"]),
        (
            ["ingest", ".", "--out", "x", "--shard-index", "2", "--num-shards", "2"],
            ["--shard-index", "0 to 1"],
        ),
        (["ingest", ".", "--out", "x", "--address", "h:1"], ["--address", "--engine ray"]),
        (["data", "report", "http://h/x"], ["http://h/x", "expected a folder"]),
        (["data", "verify", "nowhere"], ["nowhere", "no finished shards"]),
        (["data", "report", "nowhere"], ["nowhere", "genie-lite ingest"]),
        (["tokenize", "nowhere", "x", "--out", "y"], ["nowhere", "no finished tokenizer"]),
        (["run"], ["Missing argument", "RECIPE"]),
        (["record", "toy"], ["Missing option", "--out"]),
        (["train", "x.yaml", "--stage", "lamb"], ["--stage", "lamb", "tokenizer"]),
        (["run", "nowhere.yaml"], ["nowhere.yaml", "no such recipe"]),
        (["run", TOY, "lam.modle.width=3"], ["lam", "unknown key 'modle', did you mean 'model'?"]),
        (["run", TOY, "lam.model.widht=3"], ["lam.model", "unknown key 'widht', did you mean 'width'?"]),
        (["run", TOY, "lam.model.width"], ["expected key=value"]),
        (["run", TOY, "lam.train.lr=3e-4"], ["lam.train.lr", "3.0e-4"]),
        (["run", TOY, "data.ingest.size_px=64"], ["tokenizer.model.frame_hw", "make them equal"]),
        (["run", TOY, "record.test_levels=[0, 10]"], ["record", "share levels"]),
        (["run", TOY, "evaluate.levels=[30, 60]"], ["evaluate.levels", "share levels"]),
        (["run", TOY, "record.episodes=100"], ["record", "100 episodes"]),
        (["run", TOY, "lam.train.clip_frames=100"], ["clip_frames", "segment_frames"]),
        (["run", TOY, "data.source=here"], ["record and data.source"]),
        (["run", TOY, "record=null", "out=runs"], ["data.source", "missing"]),
        (["run", TOY, "name=a/b"], ["name"]),
        (["record", "tictactoe", "--out", "videos", "--episodes", "1"], ["unknown game 'tictactoe'"]),
        (["record", "maize", "--out", "videos", "--episodes", "1"], ["did you mean 'maze'?"]),
        (["record", "toy", "--out", "videos", "--episodes", "9", "--levels", "7"], ["--levels", "A:B"]),
        (["record", "toy", "--out", "videos", "--episodes", "9", "--levels", "0:3"], ["9 episodes"]),
        (["record", "toy", "--out", "videos", "--episodes", "9", "--levels", "0:²"], ["--levels", "A:B"]),
        (["ingest", "nowhere", "--out", "shards"], ["nowhere", "no such file or folder"]),
        (["ingest", "size_px=32", "--out", "shards"], ["no source"]),
        (
            ["ingest", ".", "--out", "shards", "sise_px=32"],
            ["unknown key 'sise_px', did you mean 'size_px'?"],
        ),
        (["ingest", ".", "--out", "shards"], ["no video in there"]),
        (["extract", "nowhere", ".", "--out", "latents"], ["nowhere", "not a run's folder"]),
        (["extract", "nowhere", ".", "--out", "latents", "--format", "csv"], ["--format", "csv"]),
        (["adapt", "nowhere", "--labels", ".", "--out", "policy"], ["nowhere", "not a run's folder"]),
        (
            ["adapt", "nowhere", "--labels", ".", "--out", "policy", "--labels-budget", "1"],
            ["--labels-budget", "greater than or equal to 2"],
        ),
        (["evaluate", "nowhere"], ["nowhere", "not a run's folder"]),
        (["report", "nowhere"], ["nowhere", "no such run"]),
        (
            ["rollout", "nowhere", "--start", ".", "--codes", "0,x", "--frames", "2", "--out", "x.mp4"],
            ["--codes", "0,3,3,1"],
        ),
        (
            ["rollout", "nowhere", "--start", ".", "--codes", "²", "--frames", "2", "--out", "x.mp4"],
            ["--codes", "0,3,3,1"],
        ),
        (
            ["rollout", "nowhere", "--start", ".", "--codes", "0", "--frames", "2", "--out", "x.mp4"],
            ["nowhere", "not a run's folder"],
        ),
    ],
)
def test_mistakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    expect_mistake(call(*arguments), *words)


def test_a_folder_without_usable_video_says_why(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.mp4", moving_square(40)).read_bytes()
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    outcome = call("ingest", tmp_path / "videos", "--out", tmp_path / "shards")
    expect_mistake(outcome, "none of 1 videos", "not a readable")


def test_a_video_shorter_than_a_clip_is_told(tmp_path: Path) -> None:
    write(tmp_path / "videos" / "short.mp4", moving_square(5))
    expect_mistake(
        call("ingest", tmp_path / "videos", "--out", tmp_path / "shards"), "none of 1 videos", "16 frames"
    )


def test_one_bad_video_does_not_harm_the_rest(tmp_path: Path) -> None:
    videos = [write(tmp_path / "videos" / f"{name}.mp4", wandering_square(name, 40, 32)) for name in "abc"]
    whole = videos[0].read_bytes()
    (tmp_path / "videos" / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    outcome = call("ingest", tmp_path / "videos", "--out", tmp_path / "shards", "size_px=32", "--json")
    assert outcome.code == 0, outcome.err
    summary = json.loads(outcome.out)
    assert (summary["sources"], summary["ingested"], summary["quarantined"]) == (4, 3, 1)
    rows = [json.loads(line) for line in (tmp_path / "shards" / "manifest.jsonl").read_text().splitlines()]
    assert {Path(row["path"]).name: row["status"] for row in rows}["cut.mp4"] == "quarantined"


def test_a_path_with_an_equals_sign_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for shift, name in enumerate("ab"):
        write(tmp_path / "rate=10" / f"{name}.mp4", moving_square(40, shift=shift))
    outcome = call("ingest", "rate=10", "--out", "shards", "size_px=32", "--json")
    assert json.loads(outcome.out)["ingested"] == 2, outcome.err


def test_debug_shows_the_traceback_of_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such recipe"):
        call("run", tmp_path / "nowhere.yaml", "--debug")


def test_our_own_mistakes_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("genie_lite.doctor.diagnose", fail)
    with pytest.raises(ZeroDivisionError):
        call("doctor")


def test_a_full_disk_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", "runs/x")

    monkeypatch.setattr("genie_lite.doctor.diagnose", fail)
    expect_mistake(call("doctor"), "runs/x", "No space left")


@pytest.mark.parametrize(
    "command", [["record", "toy", "--episodes", "1"], ["ingest", "videos"]], ids=["record", "ingest"]
)
def test_a_place_that_is_a_file_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "videos" / "a.mp4", moving_square(20))
    (tmp_path / "taken").write_text("")
    for out in ("taken", "taken/deeper"):
        expect_mistake(call(*command, "--out", out), "taken")


def test_an_interruption_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("genie_lite.doctor.diagnose", interrupt)
    outcome = call("doctor")
    assert outcome.code == 130
    assert outcome.err.strip() == "interrupted; run the same command again to go on"


def test_results_are_one_json_object_on_stdout() -> None:
    outcome = call("doctor", "--json")
    findings = json.loads(outcome.out)
    assert {finding["name"] for finding in findings} >= {"python", "packages", "video", "game engine", "disk"}
    assert all(finding["state"] in {"ok", "note", "fail"} for finding in findings)


def test_stages_and_formats_of_the_command_line_are_those_of_the_package() -> None:
    from genie_lite.pipeline import TRAINED

    assert tuple(cli.Stage) == TRAINED


def test_a_folder_of_somebody_else_runs_no_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pipe:` is taken from what the user gives, not from a recipe that lies in a run."""
    recipe = yaml.safe_load(TOY.read_text()) | {
        "record": None,
        "data": {"source": f"pipe:touch {tmp_path}/pwned; cat {{file}}", "ingest": {"size_px": 32}},
    }
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    for line in (
        ("rollout", tmp_path / "evil", "--codes", "0", "--frames", "1", "--out", tmp_path / "x.mp4"),
        ("evaluate", tmp_path / "evil"),
        ("extract", tmp_path / "evil", tmp_path, "--out", tmp_path / "y"),
    ):
        expect_mistake(call(*line), "pipe:", "GENIE_LITE_ALLOW_COMMANDS=1")
    assert not (tmp_path / "pwned").exists()


def test_a_place_that_cannot_be_written_to_is_one_line(tmp_path: Path) -> None:
    write(tmp_path / "videos" / "a.mp4", moving_square(40))
    expect_mistake(
        call("ingest", tmp_path / "videos", "--out", "/proc/shards"), "/proc/shards", "another folder"
    )


def test_shards_are_not_written_among_the_videos(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", moving_square(40))
    expect_mistake(call("ingest", tmp_path, "--out", tmp_path), "holds the video a.mp4")
    assert not (tmp_path / "shards.json").exists()


def test_an_export_takes_no_folder_that_holds_something_else(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "recipe.yaml").write_text("mine")
    expect_mistake(call("export", tmp_path / "a", "--out", tmp_path / "b"), "holds something else")
    assert (tmp_path / "b" / "recipe.yaml").read_text() == "mine"
