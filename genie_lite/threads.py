"""On one thread, of torch or of OpenCV."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """Several threads would add in another order: on one, numbers are the same however many processes share the work.

    And where many processes work, threads of each would only take the cores from the others.
    """
    import torch  # seconds, which whoever only imports this need not wait

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def one_cv2_thread() -> Iterator[None]:
    """Parallel over loading processes, never inside one; and so what OpenCV finds depends on no number of cores."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
