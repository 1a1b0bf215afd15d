"""Which of several training processes this is. Needs no Lightning, so that asking costs nothing.

Only training is shared out. One process, the main one, makes the data before it, writes all files, and does
everything after it; the others wait for the data, train along, and are done.
"""

import os

import torch.distributed as dist

# As launchers set them: torchrun; SLURM; Lightning, by machine and by process on it. Each is 0 in the main process,
# and in any other process at least one is not.
VARIABLES = ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK")


def is_main_process() -> bool:
    """Whether this process is the one that writes; true if there is only one."""
    if _is_in_group():
        return dist.get_rank() == 0
    return all(int(os.environ.get(name, 0)) == 0 for name in VARIABLES)


def num_started() -> int:
    """How many processes a launcher such as torchrun started for this training; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", 1))


def leave_group() -> bool:
    """Stop working with the other processes; whether this one goes on, alone.

    A main process that stayed in the group would wait, in every sum over processes, for those that are gone.
    """
    goes_on = is_main_process()
    if _is_in_group():
        dist.destroy_process_group()
    return goes_on


def _is_in_group() -> bool:
    return dist.is_available() and dist.is_initialized()
