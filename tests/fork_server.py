"""A program that has imported what commands need, once, and forks for every command that it is told on stdin.

    python -m tests.fork_server MODULE...        what is imported before the first command

A line on stdin is one command: {"processes": [{"argv", "folder", "environment"}, ...], "out", "err", "limit_s"}; one on
stdout is its exit code. A command's processes run side by side; when one fails the others are ended with it. When they
take longer than the limit all are ended, and write down where they were.
"""

import contextlib
import faulthandler
import gc
import importlib
import json
import os
import runpy
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def become(process: Mapping[str, Any], out: str, err: str) -> None:
    """Let this process have the arguments, the folder, the environment and the files of the one asked for."""
    os.environ.clear()
    os.environ.update(process["environment"])
    os.chdir(process["folder"])
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, out, os.O_WRONLY | os.O_APPEND),
        (2, err, os.O_WRONLY | os.O_APPEND),
    ):
        opened = os.open(path, flags)
        os.dup2(opened, number)
        os.close(opened)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    faulthandler.enable(2)
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
    sys.argv = list(process["argv"])
    sys.path[0] = str(Path(sys.argv[0]).parent) if sys.argv[0].endswith(".py") else process["folder"]


def wait(children: set[int], limit_s: int) -> int:
    """The exit code of a command: 0 when all its processes did well, else that of the first that did not."""
    code = 0
    signal.signal(signal.SIGALRM, lambda *_: end(children, signal.SIGABRT))
    signal.alarm(limit_s)
    while children:
        child, status = os.wait()
        children.discard(child)
        if status and not code:
            code = os.waitstatus_to_exitcode(status)
            end(children, signal.SIGKILL)
    signal.alarm(0)
    return code


def end(children: set[int], how: signal.Signals) -> None:
    """End the processes that are left; SIGABRT lets each write down where it was."""
    for each in children:
        with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
            os.kill(each, how)


def run() -> None:
    """What `python FILE`, `python -c CODE` or `python -m MODULE` does with the arguments that this process has."""
    if sys.argv[0] == "-c":
        code = sys.argv.pop(1)
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    elif sys.argv[0].endswith(".py"):
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def serve() -> bool:
    """Fork for every command; True in a process that is to run one, False when there are no more."""
    while line := sys.stdin.readline():
        asked = json.loads(line)
        threads = len(os.listdir("/proc/self/task")) if Path("/proc/self/task").is_dir() else 1
        assert threads == 1, "a fork would lose the other threads"
        children = set[int]()
        for process in asked["processes"]:
            if (child := os.fork()) == 0:
                become(process, asked["out"], asked["err"])
                return True
            children.add(child)
        print(wait(children, asked["limit_s"]), flush=True)  # noqa: T201
    return False


if __name__ == "__main__":
    for name in sys.argv[1:]:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what is here for good need not be walked, and so copied, by every fork
    if serve():
        run()
