"""Videos read by the workers of a Ray cluster, through Ray Data; needs the extra `ray`.

    places ─▶ ray.data.map_batches(actors, each with a sandbox) ─▶ results, in order, as messages (`spill.pack`)

Only places go out and encoded clips come back: every worker must see the files under the same paths. Shards
are written by the process that started it all, so they are the same as those of any other engine.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from genie_lite.data.cutting.sandbox import Result, Sandbox
from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.data.ingest.cluster import Cluster, ray
from genie_lite.data.ingest.spill import pack, unpack
from genie_lite.data.video.place import Place

MAX_BLOCKS = 10_000  # of places; Ray keeps a record of each


class RayEngine:
    """See `engine.Engine`.

    num: actors, None for one per core of the cluster. address: see `Cluster`.
    """

    def __init__(self, config: IngestConfig, num: int | None, address: str | None) -> None:
        self._config, self._num = config, num
        self._cluster = Cluster(num, address)

    def __enter__(self) -> "RayEngine":
        """Join the cluster.

        Raises:
            UserError: there is none at the address.
        """
        self._cluster.__enter__()
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cluster.__exit__(kind, error, trace)

    def read(self, places: Sequence[Place]) -> Iterator[Result]:
        """See `Engine`; how far ahead of the consumer the cluster reads is Ray's back pressure to bound."""
        if not places:
            return
        num = self._num or max(1, int(ray.cluster_resources().get("CPU", 1)))
        rows = [{"place": json.dumps(place.to_json())} for place in places]
        blocks = ray.data.from_items(rows, override_num_blocks=min(len(rows), MAX_BLOCKS))
        data = blocks.map_batches(
            _Reader,
            fn_constructor_kwargs={"config": self._config.model_dump_json()},
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(num, len(places))),
            num_cpus=1,
        )
        for row in data.iter_rows():
            yield unpack(row["result"])


class _Reader:
    """An actor with a sandbox of its own, so that a file that crashes a decoder costs a child process and no more."""

    def __init__(self, config: str) -> None:
        self._sandbox = Sandbox(IngestConfig.model_validate_json(config))

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        places = [Place.from_json(json.loads(place)) for place in batch["place"]]
        return {"result": [pack(self._sandbox.read(place)) for place in places]}
