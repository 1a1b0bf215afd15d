"""What is installed, which devices there are, and what would fail and why.

Every check is a small function that returns one `Finding`; none of them raises, trains or downloads.
"""

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from genie_lite.errors import UserError

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


WITHOUT_ENGINE = "its games can neither be recorded nor played"
ENGINE_TIMEOUT_S = 60  # to import the engine; it takes two seconds on an idle machine


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis.

    state: "ok", "note" (training works, but know this) or "fail" (training on video will not work).
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


def has_failed(findings: Sequence[Finding]) -> bool:
    """Whether something that training on video needs does not work."""
    return any(finding.state == "fail" for finding in findings)


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

        from genie_lite.data.video.codec import encode_mp4, read_frames

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
    from genie_lite.envs.setup import INSTALL_COMMAND, PYTHON_VARIABLE, engine_python

    python = engine_python()
    if not python.is_file():
        advice = f"make setup, or {INSTALL_COMMAND}"
        return Finding("game engine", "note", f"no Procgen at {python}; {WITHOUT_ENGINE}", advice)
    if problem := _why_not_imported(python):
        advice = f"delete {python.parent.parent}, then {INSTALL_COMMAND}"
        if os.environ.get(PYTHON_VARIABLE):
            advice = f"set {PYTHON_VARIABLE} to a Python that has Procgen"
        return Finding("game engine", "note", f"{python} does not work: {problem}; {WITHOUT_ENGINE}", advice)
    return Finding("game engine", "ok", f"Procgen in {python.parent.parent}")


def _why_not_imported(python: Path) -> str:
    """What a Python says when it imports the engine, nothing if all is well."""
    try:
        done = subprocess.run(
            [str(python), "-I", "-c", "import procgen"],
            capture_output=True,
            text=True,
            timeout=ENGINE_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {ENGINE_TIMEOUT_S} s"
    except OSError as error:
        return str(error)
    said = done.stderr.strip().splitlines() or ["it said nothing"]
    return f"exit code {done.returncode}: {said[-1]}" if done.returncode else ""


def _wandb() -> Finding:
    from genie_lite.train.logging import check_wandb

    try:
        check_wandb("online")
    except UserError as error:
        return Finding("wandb", "note", str(error), "`wandb: offline` and `wandb: off` need no login")
    return Finding("wandb", "ok", "logged in: `wandb: online` works")


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
