"""The benchmark of play over the socket: that it plays, counts and notices errors; never how long anything took."""

import contextlib
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from genie_lite.play.config import PlayConfig
from tests import playing

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))  # as when it is run: it imports others by name
bench = importlib.import_module("play")

# It stays until it is ended: with nothing to read from, it would not wait for input.
SAYS = "import time; print('tiny: play at http://127.0.0.1:5 (Ctrl-C ends it)', flush=True); time.sleep(600)"


def given(*words: str) -> Any:
    return bench.options().parse_args(["RUN", *words])


def test_every_row_is_measured(tmp_path: Path) -> None:
    words = ("--sessions", "1", "3", "--seconds", "0.1", "--frames", "20", "--held", "2", "--held-s", "0.1")
    with playing.served(playing.offer(tmp_path), PlayConfig(sessions=8)) as address:
        rows = list(bench.measure(bench.Server(address, os.getpid(), time.perf_counter()), given(*words)))
    found = [(row["what"], row["sessions"], row["errors"]) for row in rows]
    assert found == [("first frame", 1, 0), ("play", 1, 0), ("play", 3, 0), ("long", 1, 0), ("held", 2, 0)]
    assert all(list(row) == list(rows[0]) for row in rows)
    assert rows[3]["frames"] == 20
    assert all(row["frames"] >= row["sessions"] for row in rows[1:])
    assert all(row["latency_p95_ms"] >= row["latency_ms"] > 0 for row in rows[1:])
    assert rows[0]["rss_mb"] > 10


def test_a_player_who_is_not_let_in_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--sessions", "2", "--seconds", "0.1", "--frames", "0", "--held-s", "0")
    with playing.served(playing.offer(tmp_path), PlayConfig(sessions=2)) as address:
        _, row = bench.measure(bench.Server(address, os.getpid(), time.perf_counter()), given(*words))
    assert row["errors"] == 1
    assert "2 games are being played here" in capsys.readouterr().err


def test_the_command_has_room_for_everybody() -> None:
    command = bench.play_command(given("--threads", "2", "--k", "4"))
    assert command[1:] == [
        *["-m", "genie_lite", "play", "RUN", "--port", "0", "--sessions", "87"],
        *["--threads", "2", "--k", "4"],
    ]
    assert bench.play_command(given("--held-s", "0"))[-1] == "23"


def test_a_server_is_found_by_what_it_says() -> None:
    with bench.serving([sys.executable, "-c", SAYS]) as server:
        assert server.address == "127.0.0.1:5"
        assert bench.rss_mb(server.pid) > 1
    with pytest.raises(SystemExit, match="no address"), bench.serving([sys.executable, "-c", "print('oh')"]):
        pass


def test_percentiles() -> None:
    assert bench.percentile_95([5.0]) == 5.0
    assert bench.percentile_95([float(value) for value in range(1, 101)]) == 95.0
    assert bench.percentile_95([float(value) for value in range(1, 22)]) == 20.0


def test_rows_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with playing.served(playing.offer(tmp_path)) as address:
        here = bench.Server(address, os.getpid(), time.perf_counter())
        monkeypatch.setattr(bench, "serving", lambda _: contextlib.nullcontext(here))
        monkeypatch.setattr(bench, "TABLE", tmp_path / "play.md")
        (tmp_path / "play.md").write_text("a\n<!-- play: begin -->\n<!-- play: end -->\nb\n")
        words = ["--sessions", "1", "--seconds", "0.1", "--frames", "0", "--held-s", "0", "--write"]
        monkeypatch.setattr(sys, "argv", ["play.py", str(tmp_path), *words])
        bench.main()
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["what"] for row in rows] == ["first frame", "play"]
    assert "| first frame | 1 |" in (tmp_path / "play.md").read_text()
