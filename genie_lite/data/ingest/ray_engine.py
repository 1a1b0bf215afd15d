"""Videos read by the workers of a Ray cluster, through Ray Data; needs the extra `ray`.

    places ─▶ ray.data.map_batches(actors, each with a sandbox) ─▶ results, in order, as messages (`spill.pack`)

Only places go out and encoded clips come back: every worker must see the files under the same paths. Shards
are written by the process that started it all, so they are the same as those of any other engine.
"""

import json
import logging
import socket
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from genie_lite.data.cutting.sandbox import Result, Sandbox
from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.data.ingest.spill import pack, unpack
from genie_lite.data.video.place import Place
from genie_lite.errors import UserError

try:
    import ray
    import ray.data
except ImportError as error:
    raise UserError("--engine ray: Ray is not installed; pip install 'genie-lite[ray]'") from error

CONNECT_S = 10.0
MAX_BLOCKS = 10_000  # of places; Ray keeps a record of each


class RayEngine:
    """See `engine.Engine`.

    num: actors, None for one per core of the cluster. address: of a cluster, `auto` for the one that this machine
    belongs to, None to start one here.
    """

    def __init__(self, config: IngestConfig, num: int | None, address: str | None) -> None:
        self._config, self._num, self._address = config, num, address
        self._is_ours = False

    def __enter__(self) -> "RayEngine":
        """Join the cluster.

        Raises:
            UserError: there is none at the address.
        """
        if not ray.is_initialized():
            _expect_reachable(self._address)
            self._is_ours = True
            try:
                ray.init(
                    address=self._address,
                    num_cpus=self._num if self._address is None else None,
                    include_dashboard=False,
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                )
            except (ConnectionError, ValueError, RuntimeError) as error:
                told = " ".join(str(error).split())[:200]
                raise UserError(f"--address: no Ray cluster at {self._address} ({told})") from error
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_ours:
            ray.shutdown()

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


def _expect_reachable(address: str | None) -> None:
    """Ray itself tries for minutes, and then ends the process."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(
            f"--address: no Ray cluster at {address} ({error}); start one with ray start --head, or leave it out"
        ) from error


class _Reader:
    """An actor with a sandbox of its own, so that a file that crashes a decoder costs a child process and no more."""

    def __init__(self, config: str) -> None:
        self._sandbox = Sandbox(IngestConfig.model_validate_json(config))

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        places = [Place.from_json(json.loads(place)) for place in batch["place"]]
        return {"result": [pack(self._sandbox.read(place)) for place in places]}
