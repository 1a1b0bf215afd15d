"""What bottlenecks learn from is the batch of all processes, so that two of them take the steps of one."""

from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from einops import rearrange
from jaxtyping import Float
from torch import Tensor


def num_processes() -> int:
    """How many processes share a batch out; asked anew at every step, since models are made before they are known."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_processes(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all processes, with a gradient; as it is where there is one."""
    return tensor if num_processes() == 1 else _SumOverProcesses.apply(tensor)


def own_part(whole: Float[Tensor, "b ... d"], batch: int) -> Float[Tensor, "_ ... d"]:
    """This process's part of what all of them have drawn alike for the whole batch: a run of `batch`, as clips are."""
    first = dist.get_rank() * batch if num_processes() > 1 else 0
    return whole[first : first + batch]


def join_processes(codebook: Any, num_parts: int = 1) -> None:
    """Let a codebook learn from the rows of all processes as it would from those of one with the whole batch.

    Asked at every call: the library asks once, when a codebook is made, and models are made before processes
    know of one another. Then each process would learn from its own rows, and the first one's would be kept.

    Args:
        codebook: of the library.
        num_parts: of each vector, that share it: it gets the first parts of all vectors, then the second ones.
    """
    if num_processes() > 1:
        codebook.all_reduce_fn = dist.all_reduce
        codebook.replace_sample_fn = partial(_draw_from_all_processes, num_parts=num_parts)


class _SumOverProcesses(torch.autograd.Function):
    """Adds a tensor up over all processes; so is its gradient, since every process's loss depends on all."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone()
        dist.all_reduce(total)
        return total


def gather_rows(rows: Float[Tensor, "1 n d"], num_parts: int = 1) -> Float[Tensor, "1 all d"]:
    """The rows of all processes, in the order in which one process would have them; see `join_processes`."""
    if num_processes() == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(num_processes())]
    dist.all_gather(parts, rows.contiguous())
    return rearrange(parts, "p 1 (m n) d -> 1 (m p n) d", m=num_parts)


def _draw_from_all_processes(
    rows: Float[Tensor, "1 n d"], num: int, num_parts: int
) -> Float[Tensor, "1 num d"]:
    """The rows at which `num` codes restart; every process has the same random numbers, so all draw the same."""
    from vector_quantize_pytorch.vector_quantize_pytorch import batched_sample_vectors

    return batched_sample_vectors(gather_rows(rows, num_parts), num)
