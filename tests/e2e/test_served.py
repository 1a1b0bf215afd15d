"""`genie-lite play` as people start it, and what is kept of a game verified by another process."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.sync.client import connect

from genie_lite.pretrained import pretrained
from tests.command_line import start
from tests.playing import Page
from tests.unit.test_readme import DOCUMENTS, commands_of

INTERRUPTED = 130
PLAY = sorted(
    {line for path in DOCUMENTS for line in commands_of(path) if line.startswith("genie-lite play ")}
)
REPLAYS = [
    line for path in DOCUMENTS for line in commands_of(path) if line.startswith("genie-lite replay game")
]


@contextmanager
def served(line: str) -> Iterator[str]:
    """Start a documented server on a free port, with models that come with the toolkit; gives its address."""
    arguments = [
        str(pretrained("coinrun")) if each.startswith("runs/") else each for each in shlex.split(line)[1:]
    ]
    command = [sys.executable, "-m", "genie_lite", *arguments, "--port", "0"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            said = server.stdout.readline()
            found = re.search(r"http://(\S+:\d+)", said)
            assert found, said
            yield found[1]
            server.send_signal(signal.SIGINT)
            assert server.wait(timeout=60) == INTERRUPTED
        finally:
            server.kill()


@pytest.mark.parametrize("line", PLAY)
def test_every_documented_server_can_be_played(line: str, tmp_path: Path) -> None:
    with served(line) as address:
        with urllib.request.urlopen(f"http://{address}/api/about") as answer:
            about = json.load(answer)
        assert about["num_codes"] == 6
        with connect(f"ws://{address}/ws") as socket:
            page = Page(socket)
            assert page.open().header["frame"] == 0
            shown = [page.act(code, terms="code").header["frame"] for code in (0, 3, 3)]
            assert shown == [1, 2, 3]
            with urllib.request.urlopen(
                f"http://{address}/api/sessions/{page.token}/replay?branch=0"
            ) as answer:
                (tmp_path / "game.replay").write_bytes(answer.read())
    for replay in REPLAYS if line == PLAY[0] else []:
        words = shlex.split(replay.replace("runs/maze-demo", str(pretrained("coinrun"))))
        verified = start(*words[1:], "--json", folder=tmp_path)
        assert verified.code == 0, verified.err
        assert json.loads(verified.out)["frames"] == 3
        assert (tmp_path / "game.mp4").is_file()


def test_a_taken_port_is_told_in_one_line(tmp_path: Path) -> None:
    with served(PLAY[0]) as address:
        port = address.rpartition(":")[2]
        again = start("play", pretrained("coinrun"), "--port", port, folder=tmp_path)
    assert again.code == 2
    assert again.last_line.startswith("error: --port:"), again.err
    assert "give another" in again.last_line
