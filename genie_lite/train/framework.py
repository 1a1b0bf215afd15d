"""Lightning, imported in one place: after torchvision is made importable, and told to be quiet."""

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from genie_lite.torchvision_shim import repair

repair()  # Lightning imports torchmetrics, and that imports torchvision

import lightning as L  # noqa: E402
from lightning.fabric.utilities.exceptions import MisconfigurationException  # noqa: E402
from lightning.pytorch.callbacks import Callback  # noqa: E402
from lightning.pytorch.strategies import ModelParallelStrategy  # noqa: E402
from lightning.pytorch.utilities.types import OptimizerLRScheduler  # noqa: E402

__all__ = [
    "Callback",
    "L",
    "MisconfigurationException",
    "ModelParallelStrategy",
    "OptimizerLRScheduler",
    "interruptible",
    "quiet_lightning",
]

# What Lightning warns of although it was chosen on purpose, or is nobody's to mend here.
HARMLESS = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    r"Found \d+ module\(s\) in eval mode",  # a frozen image model is meant to be
    r"FSDP2-wrapped module .* returned a view tensor",  # the keys and values of a block; nothing writes to them
)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's announcements and its harmless warnings."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in HARMLESS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C stay a KeyboardInterrupt: Lightning exits with code 1 instead, and leaves Ctrl-C ignored."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as stopped:
        if not isinstance(stopped.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from stopped
