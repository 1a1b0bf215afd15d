"""What is installed, which devices there are, and what would fail and why.

Every check is a small function that returns one `Finding`; none of them raises, trains or downloads.
"""

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PACKAGES = (
    "genie-lite",
    "torch",
    "torchvision",
    "lightning",
    "webdataset",
    "decord",
    "av",
    "timm",
    "vector-quantize-pytorch",
    "wandb",
)


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis.

    state: "ok", "note" (works, but know this) or "fail" (something will not work).
    advice: what to do, empty when there is nothing to do.
    """

    name: str
    state: Literal["ok", "note", "fail"]
    detail: str
    advice: str = ""


def diagnose(folder: Path = Path(".")) -> list[Finding]:
    """Run every check. `folder` is where runs would be written."""
    checks: list[Callable[[], Finding]] = [
        _python,
        _packages,
        _torch,
        _torchvision,
        _video,
        _engine,
        _wandb,
        lambda: _disk(folder),
    ]
    return [check() for check in checks]


def _python() -> Finding:
    detail = (
        f"{platform.python_version()} at {sys.executable}, {platform.machine()}, {os.cpu_count()} CPU cores"
    )
    return Finding("python", "ok", detail)


def _packages() -> Finding:
    found, missing = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding(
            "packages", "fail", f"not installed: {', '.join(missing)}", "make setup, or pip install them"
        )
    return Finding("packages", "ok", ", ".join(found))


def _torch() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding("torch", "fail", f"cannot be imported: {error}", "pip install torch")
    threads = f"{torch.get_num_threads()} CPU threads"
    if torch.cuda.is_available():
        memory_gb = torch.cuda.get_device_properties(0).total_memory / 1e9
        return Finding("device", "ok", f"{torch.cuda.get_device_name(0)}, {memory_gb:.0f} GB; {threads}")
    if torch.backends.mps.is_available():
        return Finding("device", "ok", f"Apple GPU; {threads}")
    return Finding(
        "device", "note", f"no GPU; {threads}", "recipes named demo, tiny and small are sized for this"
    )


def _torchvision() -> Finding:
    from genie_lite.torchvision_shim import repair

    try:
        repaired = repair()
    except (RuntimeError, ImportError, OSError) as error:
        return Finding(
            "torchvision", "fail", f"cannot be imported: {error}", "install the build that matches torch"
        )
    if repaired:
        return Finding(
            "torchvision", "note", "a CUDA build beside a CPU torch; its missing operators were declared"
        )
    return Finding("torchvision", "ok", "imports as it is, or is absent")


def _video() -> Finding:
    try:
        import numpy as np

        from genie_lite.data.video import encode_mp4, read_frames

        frames = np.full((4, 32, 32, 3), 128, dtype=np.uint8)
        back = read_frames(encode_mp4(frames, rate_hz=10.0))
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        return Finding(
            "video", "fail", f"writing or reading H.264 failed: {error}", "reinstall av and decord"
        )
    if back.shape != frames.shape:
        return Finding(
            "video", "fail", f"4 frames written, {back.shape} read back", "reinstall av and decord"
        )
    return Finding("video", "ok", "H.264 is written with PyAV and read with decord")


def _engine() -> Finding:
    from genie_lite.envs.setup import engine_python

    python = engine_python()
    if python.is_file():
        return Finding("game engine", "ok", f"Procgen in {python.parent.parent}")
    advice = "make setup, or python -m genie_lite.envs.setup"
    return Finding(
        "game engine", "note", f"no Procgen at {python}: recording and playing its games fails", advice
    )


def _wandb() -> Finding:
    if os.environ.get("WANDB_API_KEY"):
        return Finding("wandb", "ok", "an API key is set: `wandb: online` works")
    return Finding("wandb", "note", "no API key in the environment; `wandb: offline` and `off` need none")


def _disk(folder: Path) -> Finding:
    place = folder.resolve()
    free_gb = shutil.disk_usage(place).free / 1e9
    detail = f"{free_gb:.0f} GB free at {place}"
    if not os.access(place, os.W_OK):
        return Finding(
            "disk", "fail", f"{place} cannot be written to", "choose another folder with out=FOLDER"
        )
    if free_gb < 2:
        return Finding("disk", "fail", detail, "free some space: a demo run takes about 2 GB")
    return Finding("disk", "ok", detail)
