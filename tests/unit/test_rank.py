"""The process that goes on alone after training."""

import pytest

from genie_lite.train.rank import VARIABLES, is_main_process


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0"}, True),
        ({"LOCAL_RANK": "1"}, False),
        ({"RANK": "8", "LOCAL_RANK": "0"}, False),
    ],
)
def test_rank_comes_from_the_launcher(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: bool
) -> None:
    # Other tests of this process may have left a process group behind; here only the launcher speaks.
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: False)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, rank in environment.items():
        monkeypatch.setenv(name, rank)
    assert is_main_process() is expected
