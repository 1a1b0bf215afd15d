"""Every command of the documents is one that the command line accepts; tests/e2e runs those that need no engine."""

import re
import subprocess
from pathlib import Path

import pytest

import genie_lite
from tests.command_line import parse

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "latent-actions.md"
MANUALS = [
    GUIDE,
    ROOT / "docs" / "play.md",
    ROOT / "docs" / "gymnasium.md",
    *sorted((ROOT / "docs" / "results").glob("*.md")),
]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *MANUALS,
    *sorted((ROOT / "data").glob("*/CARD.md")),
]


def commands_of(path: Path) -> list[str]:
    """Lines of the bash blocks and of the indented blocks."""
    text = path.read_text()
    fenced = "\n".join(re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL))
    indented = "\n".join(line[4:] for line in text.splitlines() if line.startswith("    "))
    lines = [line.partition("  #")[0].strip() for line in f"{fenced}\n{indented}".splitlines()]
    return [line for line in lines if line.startswith(("genie-lite ", "make ", "python "))]


COMMANDS = sorted(
    {(path.relative_to(ROOT).as_posix(), line) for path in DOCUMENTS for line in commands_of(path)}
)


@pytest.mark.parametrize(("document", "line"), COMMANDS)
def test_every_command_is_accepted(document: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """D10: documents that show paths and commands that are no more."""
    monkeypatch.chdir(ROOT)
    program, _, rest = line.partition(" ")
    if program == "genie-lite":
        parse(line)
    elif program == "make":
        subprocess.run(["make", "--dry-run", *rest.split()], check=True, capture_output=True)
    else:
        file = _program(rest.split())
        assert (ROOT / file).is_file(), f"{document}: no program {file}"


def _program(words: list[str]) -> Path:
    """The file that a Python command runs."""
    match words:
        case ["-m", "pytest", file, *_]:
            return Path(file)
        case ["-m", module, *_]:
            return Path(*module.split(".")).with_suffix(".py")
        case [file, *_]:
            return Path(file)
    raise AssertionError("no program")


def test_the_readme_shows_every_command_of_the_command_line() -> None:
    shown = {line.split()[1] for line in commands_of(ROOT / "README.md") if line.startswith("genie-lite ")}
    assert shown == {
        "record", "ingest", "run", "train", "extract", "adapt", "evaluate", "report", "rollout", "replay", "doctor",
        "data", "tokenize", "export", "inspect", "play", "reward",
    }  # fmt: skip


def test_the_python_of_the_readme_compiles() -> None:
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL):
        compile(block, "README.md", "exec")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_that_are_named_exist(path: Path) -> None:
    named = re.findall(r"`((?:genie_lite|recipes|docs|tests|data)/[\w./-]+)`", path.read_text())
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing, f"{path.name} names {missing}"


def test_make_help_lists_the_tasks() -> None:
    command = ["make", "--no-print-directory", "help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert [line.split()[1] for line in done.stdout.splitlines()] == [
        "help",
        "setup",
        "demo",
        "test",
        "check",
        "bench",
    ]


def test_the_version_is_one_everywhere() -> None:
    assert f'version = "{genie_lite.__version__}"' in (ROOT / "pyproject.toml").read_text()
