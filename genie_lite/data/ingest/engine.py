"""What reads the sources: child processes of this machine, or a cluster's workers. All give the same results.

An engine is handed sources and gives their results in the same order, a few ahead of the consumer and no
more: results hold encoded video. What is to be done with them is not its business.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Protocol, runtime_checkable

from genie_lite.data.cutting.sandbox import Result, Sandbox
from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.data.video.place import Place


@runtime_checkable
class Engine(Protocol):
    """Reads videos, side by side. Entered before it is used, and left when all is done."""

    def __enter__(self) -> "Engine": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def read(self, places: Sequence[Place]) -> Iterator[Result]:
        """What became of each video, in their order. The consumer closes the results."""
        ...


class Pool:
    """Sandboxes on this machine, each used by one thread at a time.

    config: what a sample is. num: child processes. folder: where encoded video waits for its shard.
    """

    def __init__(self, config: IngestConfig, num: int, folder: Path) -> None:
        self._sandboxes = [Sandbox(config, folder) for _ in range(num)]
        self._threads = ThreadPoolExecutor(num)
        self._idle: SimpleQueue[Sandbox] = SimpleQueue()
        for sandbox in self._sandboxes:
            self._idle.put(sandbox)

    def __enter__(self) -> "Pool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for sandbox in self._sandboxes:
            sandbox.kill()  # its thread, if one is waiting, sees the end of the connection
        self._threads.shutdown()
        for sandbox in self._sandboxes:
            sandbox.close()

    def read(self, places: Sequence[Place]) -> Iterator[Result]:
        """See `Engine`; twice as many results as child processes are held at most."""
        ahead: deque[Future[Result]] = deque()
        for place in places:
            ahead.append(self._threads.submit(self._read, place))
            if len(ahead) > 2 * len(self._sandboxes):
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

    def _read(self, place: Place) -> Result:
        sandbox = self._idle.get()
        try:
            return sandbox.read(place)
        finally:
            self._idle.put(sandbox)
