"""The command line in tests: in this process, where only its words are looked at, or as a user would start it."""

import contextlib
import io
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.main import get_command

from genie_lite.cli import app, main, with_pretrained
from genie_lite.recipe import load_recipe
from tests.forked import LIBRARIES, TRAINER, run_forked

TRAINING = {"run", "train", "adapt"}


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code and what it said."""

    code: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        """The line that a mistake is told in; warnings and progress stand before it."""
        return self.err.strip().splitlines()[-1]


def call(*arguments: str | Path) -> Outcome:
    """Run a command in this process."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else 1
    return Outcome(code, out.getvalue(), err.getvalue())


def start(*arguments: str | Path, folder: Path) -> Outcome:
    """Run a command as its own process, in a folder."""
    argv = ["genie_lite", *(str(argument) for argument in arguments)]
    done = run_forked(argv, folder, TRAINER if argv[1] in TRAINING else LIBRARIES)
    return Outcome(done.returncode, done.stdout, done.stderr)


def start_alone(*arguments: str | Path, folder: Path) -> Outcome:
    """The same as a user starts it: in a process that has imported nothing before."""
    command = [sys.executable, "-m", "genie_lite", *(str(argument) for argument in arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return Outcome(done.returncode, done.stdout, done.stderr)


def parse(line: str) -> list[str]:
    """Check a command line of a document: its options with the real parser, its recipe and changes with the schema.

    Returns:
        The arguments. Raises what the command would have raised.
    """
    program, *given = shlex.split(line)
    assert program == "genie-lite", line
    name, *rest = with_pretrained(given)
    group: Any = get_command(app)  # a click group; typer brings its own copy of click, or uses click's
    with group.make_context(program, [name, *rest], resilient_parsing=True) as context:
        command = group.get_command(context, name)
        assert command is not None, f"no such command: {name}"
        values = command.make_context(name, list(rest), parent=context).params
    if "recipe" in values:
        load_recipe(Path(values["recipe"]), values["overrides"] or [])
    return [name, *rest]
