"""Parts made by the workers of a Ray cluster; needs the extra `ray`.

    the task and the model ──once──▶ Ray's store ──▶ workers, a shard at a time ──▶ parts, as the bytes of their files

A worker writes nothing, and one that dies has its shard taken over by another: what the folder holds is written
by the process that started it all. Every worker must see the shards under the same paths, or fetch them from the same
address. Parts are those of one thread, as everywhere, so they are the same as the parts of any machine of that kind.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from genie_lite.data.ingest.cluster import Cluster, RayError, RayTaskError, ray
from genie_lite.data.ingest.workers import Workers
from genie_lite.data.shards.index import Shard
from genie_lite.errors import UserError
from genie_lite.latents.maker import Made, Packed, make_part
from genie_lite.latents.part import Task
from genie_lite.models.lam import LatentActionModel
from genie_lite.threads import one_thread

AHEAD = 2  # shards in hand for each worker: one in the making, and one that waits for it


def make_parts_on_ray(
    task: Task,
    lam: LatentActionModel,
    shards: Sequence[Shard],
    workers: Workers,
    on_sample: Callable[[], None],
) -> Iterator[Made]:
    """The part of every shard, in any order; those in hand are given up when it is closed.

    Raises:
        UserError: no cluster; a shard cannot be fetched; workers died again and again over one.
    """
    with Cluster(workers.num, workers.address) as cluster:
        # On the kind of device that the model is on here, if the cluster has any: others round otherwise.
        on_gpu = lam.place.device.type == "cuda" and cluster.num_at_once("GPU") > 0
        resource, device = ("GPU", "cuda") if on_gpu else ("CPU", "cpu")
        most = AHEAD * max(1, cluster.num_at_once(resource))
        make = ray.remote(num_cpus=1, num_gpus=int(on_gpu))(_make)
        work = ray.put((task, Packed.of(lam), device))
        waiting = iter(shards)
        busy: dict[Any, Shard] = {}
        try:
            while True:
                for shard in _first(waiting, most - len(busy)):
                    # In a list, for Ray would hand over what a bare reference stands for with every shard.
                    busy[make.remote([work], task.shards.shards.index(shard))] = shard
                if not busy:
                    return
                done, _ = ray.wait(list(busy), num_returns=1)
                shard = busy.pop(done[0])
                yield _result(done[0], shard, on_sample)
        finally:
            for promise in busy:
                ray.cancel(promise, force=True)


def _first(shards: Iterator[Shard], num: int) -> list[Shard]:
    return [shard for _, shard in zip(range(num), shards, strict=False)]


def _result(promise: Any, shard: Shard, on_sample: Callable[[], None]) -> Made:
    try:
        content, fault, refusal = ray.get(promise)
    except RayTaskError:
        raise  # a fault of the program, with its traceback
    except RayError as error:
        raise UserError(
            f"extract: Ray workers died over {shard.file} ({type(error).__name__}); if that was for want of memory, "
            "take fewer workers. What is finished is kept: run extract again"
        ) from error
    if refusal is not None:
        raise UserError(refusal)
    if content is not None:
        for _ in range(shard.samples):
            on_sample()
    return Made(shard, content, fault)


def _make(work: list[Any], number: int) -> tuple[bytes | None, str | None, str | None]:
    """On a worker: the part of a shard, or why it cannot be read, or a message for the user."""
    task, lam = _unpacked(work[0])
    try:
        with one_thread():
            made = make_part(task, lam, task.shards.shards[number], lambda: None)
    except UserError as error:
        return None, None, str(error)
    return made.content, made.fault, None


@lru_cache(maxsize=1)
def _unpacked(work: Any) -> tuple[Task, LatentActionModel]:
    """What a worker is handed once and keeps from shard to shard."""
    task, packed, device = ray.get(work)
    return task, packed.unpack(device)
