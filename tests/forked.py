"""Commands as processes of their own, without the seconds that every process needs to import its libraries.

The libraries are imported once, by `tests/fork_server.py`, and every command is a fork of it: it shares no state
with the tests or with another command, and ends as a process ends. What it cannot show is that a command imports what
it needs in the right order: so those that do not train find no more than `LIBRARIES`, and some commands of
tests/e2e are started as a user starts them.
"""

import atexit
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[1]
# What takes long to import and asks for nothing to be done before.
LIBRARIES = (
    "torch",
    "vector_quantize_pytorch",
    "huggingface_hub.hf_api",
    "pydantic",
    "rich.console",
    "typer",
)
TRAINER = (*LIBRARIES, "genie_lite.train.framework")
LIMIT_S = 300  # no command takes a fifth of it on a busy machine


def run_forked(
    argv: Sequence[str],
    folder: Path,
    libraries: tuple[str, ...] = LIBRARIES,
    environments: Sequence[Mapping[str, str]] | None = None,
    limit_s: int = LIMIT_S,
) -> subprocess.CompletedProcess[str]:
    """Run `python -c argv[1]` if argv[0] says so, `python argv[0]` if that is a file, else `python -m argv[0]`.

    One process for each of `environments`, side by side; this process's own if none is given. What they say on
    stdout and stderr lies together, and the exit code is negative for a signal: SIGABRT after `limit_s`, with where
    each process was on stderr.
    """
    with tempfile.TemporaryDirectory() as place:
        out, err = Path(place) / "out", Path(place) / "err"
        for path in (out, err):
            path.touch()
        processes = [
            {"argv": list(argv), "folder": str(folder), "environment": dict(environment)}
            for environment in environments or [os.environ]
        ]
        server = _server(libraries)
        asked = {"processes": processes, "out": str(out), "err": str(err), "limit_s": limit_s}
        _pipe(server.stdin).write(json.dumps(asked) + "\n")
        _pipe(server.stdin).flush()
        answer = _pipe(server.stdout).readline()
        assert answer, "the fork server has died; its last words are on stderr"
        return subprocess.CompletedProcess(argv, int(answer), out.read_text(), err.read_text())


def of_two() -> list[dict[str, str]]:
    """The environments of two processes that train together, as a launcher sets them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    return [meeting | {"PATH": "", "LOCAL_RANK": str(rank)} for rank in range(2)]


@cache
def _server(libraries: tuple[str, ...]) -> subprocess.Popen[str]:
    """One for the whole session of tests, which ends with it."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.fork_server", *libraries],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(_end, server)
    return server


def _end(server: subprocess.Popen[str]) -> None:
    _pipe(server.stdin).close()
    server.wait()
    _pipe(server.stdout).close()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
