"""Who reads the videos of an ingest, and which of them."""

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.data.ingest.engine import Engine, Pool
from genie_lite.errors import UserError


@dataclass(frozen=True)
class Workers:
    """Who reads the videos, and encodes them. The result does not depend on it.

    engine: child processes of this machine, or the workers of a Ray cluster. num: how many at a time, None for
    one per core. address: of the cluster; None starts one on this machine.
    """

    engine: Literal["pool", "ray"] = "pool"
    num: int | None = None
    address: str | None = None

    def start(self, config: IngestConfig, num_sources: int, folder: Path) -> Engine:
        """An engine for so many sources; `folder` may hold what waits for its shard."""
        if self.engine == "ray":
            from genie_lite.data.ingest.ray_engine import RayEngine  # an extra that most do without

            return RayEngine(config, self.num, self.address)
        return Pool(config, max(1, min(self.num or os.cpu_count() or 1, num_sources)), folder)

    def together(self) -> AbstractContextManager[object]:
        """While it is entered, all that asks for these workers shares one cluster; for a pool it does nothing."""
        if self.engine == "ray":
            from genie_lite.data.ingest.cluster import Cluster

            return Cluster(self.num, self.address)
        return nullcontext()


POOL = Workers()


@dataclass(frozen=True)
class Share:
    """One of `num` processes, on any machines that see the same folder; each reads its share of the sources."""

    index: int
    num: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.num:
            raise UserError(f"--shard-index: found {self.index}, expected 0 to {self.num - 1} (--num-shards)")
