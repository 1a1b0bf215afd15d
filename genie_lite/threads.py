"""On one thread of torch."""

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
