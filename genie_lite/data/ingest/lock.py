"""One folder of shards, several processes: which of them may write, and which must wait."""

import fcntl
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from genie_lite.errors import UserError

LOCK_FILE = ".ingest.lock"
POLL_S = 0.1
ALONE, TOGETHER = fcntl.LOCK_EX, fcntl.LOCK_SH


@contextmanager
def locked(out: Path, kind: int, give_up: Callable[[], bool] = lambda: False) -> Iterator[bool]:
    """Hold a folder's lock, alone or together with others; False where it is taken and `give_up` says so.

    Raises:
        UserError: the file system has no locks.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = (out / LOCK_FILE).open("w")
    except OSError as error:
        raise UserError(
            f"{out}: cannot be written to ({error.strerror}); allow it or give another folder"
        ) from error
    with file as lock:
        is_ours = _taken(out, lock.fileno(), kind)
        if not is_ours and not give_up():
            warnings.warn(f"{out}: another ingest is writing here; waiting for it", stacklevel=3)
        while not is_ours and not give_up():
            time.sleep(POLL_S)
            is_ours = _taken(out, lock.fileno(), kind)
        yield is_ours


def _taken(out: Path, lock: int, kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise UserError(
            f"{out}: cannot be locked ({error.strerror}); ingest on a file system with locks and copy the shards"
        ) from error
    return True
