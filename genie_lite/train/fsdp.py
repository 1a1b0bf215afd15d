"""FSDP2: weights, gradients and the optimizer's moments shared out, so that every process keeps a part of each tensor.

    block ──▶ its whole weights are gathered ──▶ forward, and again backward ──▶ gradients are summed up, part by part

Outside of a forward pass a parameter is a `DTensor`: arithmetic on it is arithmetic on this process's part. What
leaves training is made whole again: `gather`. Buffers, such as codebooks, every process has whole, and all equal.

Source: torch.distributed.fsdp.fully_shard; the processes, and checkpoints of whole tensors, are Lightning's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from genie_lite.nn.transformer import Block
from genie_lite.train.framework import ModelParallelStrategy
from genie_lite.train.rank import is_main_process

NAME = "fsdp2"  # in a recipe


class SharedOut(ModelParallelStrategy):
    """Lightning's strategy over all processes, however many there are, with a checkpoint that is one plain file."""

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        # Lightning knows how many processes there are only now, and would take one per machine.
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = True) -> dict[str, Any]:
        """As Lightning does, but never by unpickling: it forgets here what `Trainer.fit` was told."""
        return super().load_checkpoint(checkpoint_path, weights_only=True)


def share_out(model: nn.Module, mesh: DeviceMesh | None, also: Sequence[str] = ()) -> None:
    """Share the weights of a model out among the processes of a mesh; without one, leave it as it is.

    Args:
        model: with the same weights on every process.
        mesh: of the strategy, None unless it is `SharedOut`.
        also: methods that are called beside `forward` and need whole weights, too.
    """
    if mesh is None:
        return
    processes = mesh["data_parallel"]
    # Shared out again after every pass, so that outside of one no parameter is ever whole.
    for part in [*(each for each in model.modules() if isinstance(each, Block)), model]:
        fully_shard(part, mesh=processes, reshard_after_forward=True)
    for name in also:
        register_fsdp_forward_method(model, name)


def whole(tensor: Tensor) -> Tensor:
    """The whole of a tensor that is shared out, on every process; all must ask. Any other tensor as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gather(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors, in the main process's ordinary memory if they were shared out; the others get none.

    Every process must ask, for the same names in the same order: one tensor at a time is whole everywhere.
    """
    gathered = {}
    for name, tensor in tensors.items():
        full = whole(tensor)
        if is_main_process():
            gathered[name] = full.cpu() if isinstance(tensor, DTensor) else full
    return gathered


@torch.no_grad()
def alike(tensor: Tensor, pattern: Tensor) -> Tensor:
    """A copy of a tensor, where `pattern` is, and shared out as it is; no process need wait for another."""
    there = tensor.detach().to(pattern.device, copy=True)
    if not isinstance(pattern, DTensor) or isinstance(there, DTensor):
        return there
    # Every process has the whole, so each takes its own part.
    return distribute_tensor(there, pattern.device_mesh, pattern.placements, src_data_rank=None)
