"""Progress where nobody watches: a line now and then, with the time left at the speed of this sitting."""

import pytest

from genie_lite.progress import LINE_EVERY_S, Bar, _Lines


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_log_gets_few_lines_and_the_time_left(capfd: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = _Lines("lam", 1000, clock)
    for done in range(400, 521):  # resumed at step 400, a step per second
        lines.show(done, "loss 0.5")
        clock.now_s += 1
    told = capfd.readouterr().err.splitlines()
    assert len(told) == 120 // LINE_EVERY_S
    assert told[0] == "lam  430/1000  loss 0.5  9:30 left"
    assert told[-1] == "lam  520/1000  loss 0.5  8:00 left"


def test_a_short_job_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    bar = Bar("ingest", 3)
    for done in (1, 2, 3):
        bar.show(done)
    bar.close()
    assert capfd.readouterr().err == ""
