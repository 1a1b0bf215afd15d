"""A replay: what leads through a world, in a small file, and proof that it leads to the same frames again.

    start    uint8 t h w c     the frames to begin from
    codes    int64 k           the codes that were taken
    frames   uint8 k 8         the first bytes of every frame's sha256, to find the first that differs
    header   seed, sampling, sha256 of all frames and of all tokens, hashes of the weights, where it was made

The file is one of safetensors: nothing in it can run.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from numpy import ndarray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from genie_lite.artifact import read_artifact
from genie_lite.config import parse
from genie_lite.errors import UserError
from genie_lite.files import write_bytes
from genie_lite.models.sampling import SamplingConfig
from genie_lite.models.world import World
from genie_lite.steer import Played, Ride, play

FORMAT = "1"
MARK_BYTES = 8
STAGES = ("tokenizer", "lam", "dynamics")


@dataclass(frozen=True)
class Replay:
    """A ride, how frames were drawn on it, and what it showed.

    run: where its world was found. weights: sha256 of each stage's. marks: of every frame. place: versions and
    device that it was made with.
    """

    run: Path
    ride: Ride
    sampling: SamplingConfig
    compiled: bool
    weights: Mapping[str, str]
    sha256: str
    tokens_sha256: str
    marks: UInt8[ndarray, "k m"]
    place: Mapping[str, str]


def record(ride: Ride, world: World, run: Path, played: Played) -> Replay:
    """A replay of what was just played in the world of a run."""
    return Replay(
        run=run.resolve(),
        ride=ride,
        sampling=world.sampling,
        compiled=world.compiled,
        weights=weights_of(run),
        sha256=played.sha256,
        tokens_sha256=played.tokens_sha256,
        marks=marks_of(played),
        place={"torch": torch.__version__, "device": str(world.device)},
    )


def write_replay(path: Path, replay: Replay) -> None:
    """Write a replay, whole or not at all."""
    header = {
        "format": FORMAT,
        "run": str(replay.run),
        "seed": str(replay.ride.seed),
        "sampling": replay.sampling.model_dump_json(),
        "compiled": str(replay.compiled),
        "weights": json.dumps(dict(replay.weights)),
        "sha256": replay.sha256,
        "tokens_sha256": replay.tokens_sha256,
        "place": json.dumps(dict(replay.place)),
    }
    tensors = {"start": replay.ride.start, "codes": replay.ride.codes, "frames": replay.marks}
    write_bytes(path, save({name: np.ascontiguousarray(each) for name, each in tensors.items()}, header))


def read_replay(path: Path) -> Replay:
    """Read a replay.

    Raises:
        UserError: no such file, no replay, another format, or damaged.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; genie-lite rollout --replay FILE writes one")
    try:
        with safe_open(path, framework="numpy") as file:
            header: dict[str, Any] = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise UserError(
                    f"{path}: format {header.get('format')} of a replay, this version reads {FORMAT}; "
                    "play it again, or use the version that wrote it"
                )
            start, codes, marks = (file.get_tensor(name) for name in ("start", "codes", "frames"))
        _check_arrays(path, start, codes, marks)
        return Replay(
            run=Path(header["run"]),
            ride=Ride(start, codes, int(header["seed"])),
            sampling=parse(json.loads(header["sampling"]), SamplingConfig, str(path)),
            compiled=header["compiled"] == str(True),
            weights=json.loads(header["weights"]),
            sha256=header["sha256"],
            tokens_sha256=header["tokens_sha256"],
            marks=marks,
            place=json.loads(header["place"]),
        )
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise UserError(f"{path}: not a whole replay ({error}); copy it again or play it again") from error


def verify(
    replay: Replay, world: World, run: Path, progress: Callable[[int, int], None] | None = None
) -> Played:
    """Play it again and compare every frame.

    Args:
        replay: to be verified.
        world: of the run, sampled as the replay says.
        run: the run's folder.
        progress: see `play`.

    Raises:
        UserError: the run has other weights, or a frame differs.
    """
    if (found := weights_of(run)) != dict(replay.weights):
        other = ", ".join(stage for stage in STAGES if found[stage] != replay.weights.get(stage))
        raise UserError(
            f"{run}: has another {other} than the replay was made with; name its own run with --run"
        )
    played, _ = play(world, replay.ride, progress=progress)
    if played.sha256 != replay.sha256 or played.tokens_sha256 != replay.tokens_sha256:
        here = {"torch": torch.__version__, "device": str(world.device)}
        raise UserError(
            f"the frames differ from frame {_first_difference(replay, played)} on; made with {dict(replay.place)}, "
            f"played with {here}: the same frames are promised on the same machine and versions only"
        )
    return played


def weights_of(run: Path) -> dict[str, str]:
    """Sha256 of the weights of a run's stages."""
    return {stage: read_artifact(run / stage, stage).sha256 for stage in STAGES}


def marks_of(played: Played) -> UInt8[ndarray, "k m"]:
    """The first bytes of every frame's sha256."""
    digests = [hashlib.sha256(frame.tobytes()).digest()[:MARK_BYTES] for frame in played.frames]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, MARK_BYTES)


def _check_arrays(path: Path, start: ndarray, codes: ndarray, marks: ndarray) -> None:
    """What the world would stumble over; sizes and values it checks itself."""
    are_right = (
        (start.dtype, start.ndim) == (np.uint8, 4)
        and (codes.dtype, codes.ndim) == (np.int64, 1)
        and (marks.dtype, marks.shape) == (np.uint8, (len(codes), MARK_BYTES))
        and len(codes) > 0
    )
    if not are_right:
        found = ", ".join(f"{each.dtype} {list(each.shape)}" for each in (start, codes, marks))
        raise UserError(
            f"{path}: not a replay: found {found}, expected uint8 t h w 3, int64 k and uint8 k {MARK_BYTES}"
        )


def _first_difference(replay: Replay, played: Played) -> int:
    different = (marks_of(played) != replay.marks).any(axis=1)
    return int(different.argmax())
