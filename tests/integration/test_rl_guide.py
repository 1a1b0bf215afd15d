"""The Python of the guide to the environment works as it stands, on a run of the guide's name."""

import re
from pathlib import Path

import pytest

from tests.dreams import write_run

GUIDE = Path(__file__).parents[2] / "docs" / "gymnasium.md"


def test_the_python_of_the_guide_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs" / "toy-demo")
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)
    assert len(blocks) == 5
    exec(compile("\n".join(blocks), str(GUIDE), "exec"), {})
