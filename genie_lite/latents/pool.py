"""Who makes the parts: this process, child processes side by side, or a cluster (`ray_pool.py`). They are the same.

A child is handed the model, then one shard after another, and gives back the part as the bytes of its file: it
writes nothing, so whatever becomes of it, the folder holds only what the one process that holds its lock has
written whole. Parent and child speak over a socket:

    parent  the task; the model's configuration and device; its weights as safetensors
            then the index of a shard, again and again
    child   {"kind": "sample"}                 after every shot
            {"kind": "part"} then the bytes    or {"kind": "damaged", "reason"} or {"kind": "refused", "message"}
"""

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe, wait
from types import TracebackType
from typing import Any, cast

import torch

from genie_lite.data.ingest.workers import Workers
from genie_lite.data.shards.index import Shard
from genie_lite.errors import UserError
from genie_lite.latents.maker import Made, Packed, make_part
from genie_lite.latents.part import Task
from genie_lite.models.lam import LatentActionModel
from genie_lite.threads import one_thread

DYING_S = 5.0  # from the end of the connection to the end of the process


def make_parts(
    task: Task,
    lam: LatentActionModel,
    shards: Sequence[Shard],
    num_workers: int,
    on_sample: Callable[[], None],
    cluster: Workers | None = None,
) -> Generator[Made]:
    """The part of every shard, in any order; close it to end the children, or what the cluster has in hand.

    Raises:
        UserError: a child process died, a shard cannot be fetched, or there is no such cluster.
    """
    if cluster is not None and shards:
        from genie_lite.latents.ray_pool import make_parts_on_ray  # an extra that most do without

        yield from make_parts_on_ray(task, lam, shards, cluster, on_sample)
        return
    num = min(num_workers, len(shards))
    if num <= 1:
        yield from _make_here(task, lam, shards, on_sample)
        return
    with _Pool(task, lam, num) as pool:
        yield from pool.make(shards, on_sample)


def _make_here(
    task: Task, lam: LatentActionModel, shards: Sequence[Shard], on_sample: Callable[[], None]
) -> Iterator[Made]:
    for shard in shards:
        with one_thread():
            made = make_part(task, lam, shard, on_sample)
        yield made


class _Pool:
    """Child processes, each with a shard of its own to work on."""

    def __init__(self, task: Task, lam: LatentActionModel, num: int) -> None:
        packed = Packed.of(lam)
        about = {"config": packed.config, "device": str(lam.place.device)}
        self._task, self._num = task, num
        self._model = (json.dumps(about).encode(), packed.weights)
        self._children: dict[Connection, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "_Pool":
        for _ in range(self._num):
            ours, theirs = cast(tuple[Connection, Connection], Pipe())
            with theirs:
                self._children[ours] = _child(theirs.fileno())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection, child in self._children.items():
            child.kill()
            child.wait()
            connection.close()
        self._children.clear()

    def make(self, shards: Sequence[Shard], on_sample: Callable[[], None]) -> Iterator[Made]:
        """The part of each, as it is ready."""
        waiting = deque(shards)
        busy: dict[Connection, Shard] = {}
        for connection in self._children:
            self._talk(connection, self._greet)
            self._hand_out(connection, waiting, busy)
        while busy:
            for connection in cast(list[Connection], wait(list(busy))):
                message = json.loads(self._talk(connection, Connection.recv_bytes))
                if message["kind"] == "sample":
                    on_sample()
                    continue
                shard = busy.pop(connection)
                if message["kind"] == "refused":
                    raise UserError(message["message"])
                is_whole = message["kind"] == "part"
                content = self._talk(connection, Connection.recv_bytes) if is_whole else None
                self._hand_out(connection, waiting, busy)
                yield Made(shard, content, message.get("reason"))

    def _greet(self, connection: Connection) -> None:
        connection.send(self._task)
        for message in self._model:
            connection.send_bytes(message)

    def _hand_out(self, connection: Connection, waiting: deque[Shard], busy: dict[Connection, Shard]) -> None:
        if waiting:
            busy[connection] = waiting.popleft()
            number = self._task.shards.shards.index(busy[connection])
            self._talk(connection, lambda to: to.send_bytes(str(number).encode()))

    def _talk(self, connection: Connection, say: Callable[[Connection], Any]) -> Any:
        try:
            return say(connection)
        except (EOFError, OSError) as error:  # also in the middle of a message
            raise UserError(
                f"extract: a child process died ({_cause_of_death(self._children[connection])}); if that was for want "
                "of memory, take fewer workers. What is finished is kept: run extract again"
            ) from error


def _child(handle: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        # -P: a file torch.py in the user's folder must not be taken for the library
        [sys.executable, "-P", "-m", "genie_lite.latents.pool", str(handle)],
        pass_fds=[handle],
        stdin=subprocess.DEVNULL,
        process_group=0,  # Ctrl-C is the parent's to handle, from the child's first moment on
        env=os.environ | {"PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path)},
    )


def _cause_of_death(child: subprocess.Popen[bytes]) -> str:
    try:
        code = child.wait(timeout=DYING_S)
    except subprocess.TimeoutExpired:
        return "it said nothing"
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


class _ParentGone(Exception):
    """Nobody is left to work for."""


class _Parent:
    """The child's end of the connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def hear(self) -> bytes:
        return self._try(self._connection.recv_bytes)

    def hear_task(self) -> Task:
        return self._try(self._connection.recv)

    def say(self, kind: str, content: bytes | None = None, **more: str) -> None:
        self._try(lambda: self._connection.send_bytes(json.dumps({"kind": kind, **more}).encode()))
        if content is not None:
            self._try(lambda: self._connection.send_bytes(content))

    def _try(self, talk: Callable[[], Any]) -> Any:
        try:
            return talk()
        except (EOFError, OSError) as error:  # also in the middle of a message
            raise _ParentGone from error


def _serve(parent: _Parent) -> None:
    """The child's life: make parts until the parent is gone."""
    task, about = parent.hear_task(), json.loads(parent.hear())
    lam = Packed(about["config"], parent.hear()).unpack(about["device"])
    while True:
        shard = task.shards.shards[int(parent.hear())]
        try:
            made = make_part(task, lam, shard, lambda: parent.say("sample"))
        except UserError as error:
            parent.say("refused", message=str(error))
            continue
        if made.content is None:
            parent.say("damaged", reason=made.fault or "damaged")
        else:
            parent.say("part", made.content)


def _main() -> None:
    torch.set_num_threads(1)  # as `one_thread`
    with suppress(_ParentGone):
        _serve(_Parent(Connection(int(sys.argv[1]))))


if __name__ == "__main__":
    _main()
