"""Which of several training processes this is. Needs no Lightning, so that asking costs nothing."""

import os

import torch.distributed

# As the launchers set them: torchrun, Lightning, SLURM. Lightning looks at them in the same order.
VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID")


def is_main_process() -> bool:
    """Whether this process is the one that goes on alone after training; true if there is only one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank() == 0
    ranks = [os.environ[name] for name in VARIABLES if name in os.environ]
    return not ranks or int(ranks[0]) == 0
