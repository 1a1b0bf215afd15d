"""A Ray cluster: joined, or started on this machine, and left; needs the extra `ray`."""

import logging
import socket
from types import TracebackType

from genie_lite.errors import UserError

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError as error:
    raise UserError("--engine ray: Ray is not installed; pip install 'genie-lite[ray]'") from error

__all__ = ["Cluster", "RayError", "RayTaskError", "ray"]

CONNECT_S = 10.0


class Cluster:
    """Entered before it is used, and left when all is done; within another one it is that one.

    num: cores of a cluster that is started here, None for all. address: of a cluster, `auto` for the one that this
    machine belongs to, None to start one here.
    """

    def __init__(self, num: int | None, address: str | None) -> None:
        self._num, self._address = num, address
        self._is_ours = False

    def __enter__(self) -> "Cluster":
        """Join it.

        Raises:
            UserError: there is none at the address.
        """
        if ray.is_initialized():
            return self
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
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_ours:
            ray.shutdown()

    def num_at_once(self, resource: str) -> int:
        """How many workers that take one of a resource each (CPU, GPU) there is room for, at most as many as wanted."""
        there = int(ray.cluster_resources().get(resource, 0))
        return there if self._num is None else min(there, self._num)


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
