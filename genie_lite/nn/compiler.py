"""Whether `torch.compile` can work here."""

import os
import shutil

import torch

from genie_lite.errors import UserError


def check_compiler(device: torch.device) -> None:
    """Ask for what compiling for a CPU needs, before torch fails in the middle of it.

    Raises:
        UserError: no C++ compiler.
    """
    names = [os.environ.get("CXX", "g++"), "g++", "clang++"]
    if device.type == "cpu" and not any(shutil.which(name) for name in names):
        raise UserError("compile: no C++ compiler found; install g++ or clang++, or leave it out")
