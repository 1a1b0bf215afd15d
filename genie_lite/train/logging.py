"""Where numbers go: always a local metrics.jsonl, and Weights & Biases if asked."""

import importlib.util
import json
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from genie_lite.errors import UserError
from genie_lite.files import write_bytes

WandbMode = Literal["online", "offline", "off"]
Row = Mapping[str, float | int | str]
METRICS_FILE = "metrics.jsonl"


class MetricsFile:
    """One JSON object per line: `step` and `split`, then numbers. No step is there twice after a resume."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def truncate(self, step: int) -> None:
        """Forget what lies beyond a checkpoint's step, and a last line that was cut off in the middle."""
        if not self._path.is_file():
            return
        lines = self._path.read_text().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        kept = [line for line in whole if json.loads(line)["step"] <= step]
        write_bytes(self._path, "".join(kept).encode())

    def append(self, row: Row) -> None:
        """Write one row and hand it to the operating system, so that it outlives this process."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def sync(self) -> None:
        """Have all rows on the disk, so that they outlive a power cut."""
        if self._path.is_file():
            with self._path.open("r+b") as file:
                os.fsync(file.fileno())


def check_wandb(mode: WandbMode) -> None:
    """Find out before any work is done whether wandb can be used as asked.

    Raises:
        UserError: wandb is not installed, or `online` without a login.
    """
    if mode == "off":
        return
    if importlib.util.find_spec("wandb") is None:
        raise UserError(f"wandb: {mode}, but wandb is not installed; pip install wandb, or set wandb: off")
    if mode == "online" and not _is_logged_in():
        raise UserError("wandb: online, but there is no login; run 'wandb login', or set wandb: offline")


def open_wandb(
    mode: Literal["online", "offline"], folder: Path, config: Mapping[str, Any]
) -> Callable[[Row], None]:
    """Begin, or continue, the wandb run of a stage folder and return what logs a row to it."""
    check_wandb(mode)
    import wandb

    run = wandb.init(
        mode=mode,
        project="genie_lite",
        name=f"{folder.parent.name}-{folder.name}",
        id=_run_id(folder),
        resume="allow" if mode == "online" else None,
        dir=folder,
        config=dict(config),
        settings=wandb.Settings(silent=True, console="off"),
    )
    # Validation rows come after the training row of the same step; wandb's own counter would drop them.
    run.define_metric("*", step_metric="step")

    def log(row: Row) -> None:
        split = row["split"]
        run.log({name if name == "step" else f"{split}/{name}": row[name] for name in row if name != "split"})

    return log


def close_wandb() -> None:
    """End the current wandb run, so that the next stage begins its own."""
    import wandb

    wandb.finish()


def _is_logged_in() -> bool:
    import wandb

    return wandb.login(prompt=False)


def _run_id(folder: Path) -> str:
    """Drawn once per stage folder, so that a resumed stage continues the same run."""
    path = folder / "wandb" / "id"
    if not path.is_file():
        write_bytes(path, secrets.token_hex(4).encode())
    return path.read_text()
