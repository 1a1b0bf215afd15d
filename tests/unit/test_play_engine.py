"""The engine serves who waits, in order, as many at a time as the world computes together."""

import threading
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import pytest
import torch

from genie_lite.errors import UserError
from genie_lite.models.world import State, World
from genie_lite.play.batcher import Engine
from tests import models, playing


@pytest.fixture
def engine() -> Any:
    engine = Engine(playing.world(micro_batch=3))
    yield engine
    engine.close()


def start(world: World, seed: int = 0) -> State:
    return world.reset(models.frames(1, 1), seed, [0])


class Gate:
    """Keeps an engine busy until it is opened."""

    def __init__(self, engine: Engine) -> None:
        self._gate, begun = threading.Event(), threading.Event()

        def wait() -> None:
            begun.set()
            self._gate.wait()

        self.done = engine.do(wait)
        begun.wait()

    def open(self) -> None:
        self._gate.set()


def test_steps_are_taken_together_and_other_work_in_its_turn(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    step = World.step

    def counted(self: World, state: State, code: torch.Tensor) -> Any:
        calls.append(code.tolist())
        return step(self, state, code)

    state = start(engine.world)
    monkeypatch.setattr(World, "step", counted)
    gate = Gate(engine)
    first = [engine.step(lambda code=code: (state, code)) for code in range(2)]
    other = engine.do(lambda: calls.append("other"))
    last = [engine.step(lambda code=code: (state, code)) for code in (2, 3, 0)]
    gate.open()
    drawn = [each.result() for each in [*first, *last]]
    other.result()
    assert calls == [[0, 1, 2], "other", [3, 0]]
    for code, each in zip((0, 1, 2, 3, 0), drawn, strict=True):
        after, frame = step(engine.world, state, torch.tensor([code]))
        assert np.array_equal(each.tokens, after.tokens[0, -1])
        assert np.array_equal(each.picture, frame[0].mul(255).round().byte().permute(1, 2, 0).numpy())
        assert int(each.state.frame) == 1


def test_one_mistake_concerns_nobody_else(engine: Engine) -> None:
    state = start(engine.world)

    def mistaken() -> tuple[State, int]:
        raise UserError("nothing there")

    gate = Gate(engine)
    wrong, right = engine.step(mistaken), engine.step(lambda: (state, 1))
    gate.open()
    with pytest.raises(UserError, match="nothing there"):
        wrong.result()
    assert right.result().picture.shape == (16, 16, 3)
    with pytest.raises(UserError, match="code: found"):
        engine.step(lambda: (state, 99)).result()
    with pytest.raises(ZeroDivisionError):
        engine.do(lambda: 1 // 0).result()
    assert engine.do(lambda: 5).result() == 5


def test_who_has_gone_is_not_served(engine: Engine) -> None:
    served: list[int] = []
    state = start(engine.world)

    def prepare(code: int) -> tuple[State, int]:
        served.append(code)
        return state, code

    gate = Gate(engine)
    futures = [engine.step(lambda code=code: prepare(code)) for code in range(3)]
    assert futures[1].cancel()
    gate.open()
    futures[2].result()
    assert served == [0, 2]


def test_a_closed_engine_serves_nobody() -> None:
    engine = Engine(playing.world())
    gate = Gate(engine)
    waiting = engine.do(lambda: 5)
    closing = threading.Thread(target=engine.close)
    closing.start()
    with pytest.raises(CancelledError):
        waiting.result()
    gate.open()
    closing.join()
    with pytest.raises(CancelledError):
        engine.do(lambda: 5).result()
