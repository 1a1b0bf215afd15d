"""The engine: one thread that owns the world and serves everybody who plays in it.

    step   whoever waits for a frame is taken along, as many as the world computes together
    do     anything else that needs the world, by itself: a past frame, a new game

What has waited longest is next; other steps may be taken along with a step. A game asks for one thing at a time, and
for what it is likely to want next only while it wants nothing else; all downloads together ask for a few frames at a
time. So whoever asks waits, at worst, for one thing of everybody else's. A world computes streams in groups of one
size, whoever they belong to: what a player sees is the same alone and in company.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Int, UInt8
from numpy import ndarray

from genie_lite.data.loading.clip import to_pixels
from genie_lite.models.world import State, World

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Drawn:
    """A new frame of one stream: where it stands now, the picture, its tokens."""

    state: State
    picture: UInt8[ndarray, "h w c"]
    tokens: Int[ndarray, " n"]


@dataclass(frozen=True)
class _Job(Generic[ResultT]):
    """work: all there is to do, or of a step, what makes its state and code."""

    future: Future[ResultT]
    work: Callable[[], Any]
    is_step: bool


class Engine:
    """Serves a world to many. Its methods may be called from any thread.

    Its thread alone computes on several cores. Every thread of Python that does so has helpers of its own (libgomp's
    teams), and as soon as there are more of them than cores, all go to sleep between any two operations: a frame
    then takes three times as long. Whoever computes beside it, or did so before, keeps to one core (`threads.py`).
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._threads = torch.get_num_threads()
        self._waiting: deque[_Job[Any]] = deque()
        self._is_open = True
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)
        self._thread.start()

    def step(self, prepare: Callable[[], tuple[State, int]]) -> Future[Drawn]:
        """Draw the next frame of one stream; `prepare` gives where it stands and the code, on the engine's thread."""
        return self._put(prepare, is_step=True)

    def do(self, work: Callable[[], ResultT]) -> Future[ResultT]:
        """Run something on the engine's thread, by itself."""
        return self._put(work, is_step=False)

    def close(self) -> None:
        """Finish what is being done, and refuse the rest."""
        with self._news:
            self._is_open = False
            left = list(self._waiting)
            self._waiting.clear()
            self._news.notify()
        for job in left:
            job.future.cancel()
        self._thread.join()

    def _put(self, work: Callable[[], Any], *, is_step: bool) -> Future[Any]:
        job = _Job(Future(), work, is_step)
        with self._news:
            if self._is_open:
                self._waiting.append(job)
                self._news.notify()
            else:
                job.future.cancel()
        return job.future

    def _serve(self) -> None:
        with torch.inference_mode():
            while jobs := self._next():
                torch.set_num_threads(
                    self._threads
                )  # a part of it holds for the process: others set it to one
                running = [job for job in jobs if job.future.set_running_or_notify_cancel()]
                if running and running[0].is_step:
                    self._step(running)
                elif running:
                    _do(running[0])

    def _next(self) -> list[_Job[Any]]:
        """What is to be done now: one job, or the steps that are computed together; nothing when it is over."""
        with self._news:
            while self._is_open and not self._waiting:
                self._news.wait()
            if not self._is_open:
                return []
            if not self._waiting[0].is_step:
                return [self._waiting.popleft()]
            steps = [job for job in self._waiting if job.is_step][: self.world.sampling.micro_batch]
            for job in steps:
                self._waiting.remove(job)
            return steps

    def _step(self, jobs: list[_Job[Any]]) -> None:
        ready = [(job, given) for job in jobs if (given := _prepared(job)) is not None]
        if not ready:
            return
        try:
            drawn = self._draw([given for _, given in ready])
        except Exception as error:
            for job, _ in ready:
                job.future.set_exception(error)
            return
        for (job, _), each in zip(ready, drawn, strict=True):
            job.future.set_result(each)

    def _draw(self, given: list[tuple[State, int]]) -> list[Drawn]:
        states, codes = zip(*given, strict=True)
        joined = states[0] if len(states) == 1 else State.join(states)
        state, frames = self.world.step(joined, torch.tensor(codes, device=self.world.device))
        pictures = to_pixels(frames)
        tokens = state.tokens[:, -1].cpu().numpy()
        alone = [stream_of(state, place) for place in range(len(state))]
        return [Drawn(*each) for each in zip(alone, pictures, tokens, strict=True)]


def stream_of(state: State, place: int) -> State:
    """One stream, by a copy: a slice would keep the memory of all that were computed with it."""
    return state.of(torch.tensor([place]))


def _prepared(job: _Job[Any]) -> tuple[State, int] | None:
    try:
        return job.work()
    except Exception as error:
        job.future.set_exception(error)
        return None


def _do(job: _Job[Any]) -> None:
    try:
        result = job.work()
    except Exception as error:
        job.future.set_exception(error)
    else:
        job.future.set_result(result)
