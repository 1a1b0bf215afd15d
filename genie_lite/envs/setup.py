"""The game engine's own environment: `python -m genie_lite.envs.setup` makes it, once.

    $GENIE_LITE_HOME/procgen/               an ordinary venv (GENIE_LITE_HOME: ~/.cache/genie_lite by default)
    $GENIE_LITE_HOME/procgen/engine.json    written last: the environment is complete, from these constraints

The engine pins numpy < 2 and other old packages. Here they harm nobody.
"""

import fcntl
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from genie_lite.errors import UserError
from genie_lite.files import home, read_json, sha256_of, write_json

ENGINE = "procgen-mirror"
CONSTRAINTS = Path(__file__).with_name("procgen-constraints.txt")
PYTHON_VARIABLE = "GENIE_LITE_PROCGEN_PYTHON"
INSTALL_COMMAND = "python -m genie_lite.envs.setup"
MARKER = "engine.json"
PYTHONS = ("3.11", "3.12")  # the versions that the engine has wheels for


def engine_python() -> Path:
    """The Python that the engine runs in, whether or not it is there."""
    given = os.environ.get(PYTHON_VARIABLE)
    return Path(given) if given else home() / "procgen" / "bin" / "python"


def setup_engine(progress: Callable[[str], None] | None = None) -> Path:
    """Make the engine's environment, or find that it is there; returns its Python.

    Safe to call twice, at once too, and after having been killed: what is half made is made anew.

    Args:
        progress: called with a line about each step.

    Raises:
        UserError: no suitable Python on this machine, or the installation fails.
    """
    tell = progress or (lambda line: None)
    folder = home() / "procgen"
    with _locked(folder.with_name("procgen.lock")):
        python = folder / "bin" / "python"
        if _is_complete(folder):
            tell(f"game engine: found in {folder}")
            return python
        shutil.rmtree(folder, ignore_errors=True)
        tell(f"game engine: making an environment in {folder}")
        _run([_base_python(), "-m", "venv", str(folder)])
        tell(f"game engine: installing {ENGINE}")
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "--constraint", str(CONSTRAINTS), "--only-binary", ENGINE, ENGINE])
        _run([str(python), "-c", "import procgen"])
        write_json(folder / MARKER, {"constraints": sha256_of(CONSTRAINTS)})
        tell("game engine: ready")
        return python


def _is_complete(folder: Path) -> bool:
    marker = folder / MARKER
    # An interpreter that has been removed since leaves a broken link.
    return (
        marker.is_file()
        and (folder / "bin" / "python").is_file()
        and read_json(marker, "a note of what is installed", "delete it")
        == {"constraints": sha256_of(CONSTRAINTS)}
    )


def _base_python() -> str:
    """A Python with a version that the engine has wheels for: this one, or one on the path."""
    if platform.python_version().rpartition(".")[0] in PYTHONS:
        return sys.executable
    for version in PYTHONS:
        found = shutil.which(f"python{version}")
        # A version manager's stand-in may be on the path without the version behind it.
        if (
            found
            and subprocess.run([found, "-c", "import venv, ensurepip"], capture_output=True).returncode == 0
        ):
            return found
    raise UserError(
        f"game engine: {ENGINE} needs Python {' or '.join(PYTHONS)}, this is {platform.python_version()}; "
        f"install one of them, or set {PYTHON_VARIABLE} to a Python that has {ENGINE}"
    )


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise UserError(f"game engine: `{' '.join(command)}` failed with code {done.returncode}: {lines[-1]}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One at a time; the lock goes with the process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    """The command; 0 done, 2 the machine lacks something."""
    try:
        setup_engine(lambda line: _say(line))
    except UserError as error:
        _say(str(error))
        return 2
    return 0


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
