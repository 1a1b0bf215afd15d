"""A replay: what leads through a world, in a small file, and proof that it leads to the same frames again.

    start    uint8 t h w c     the frames to begin from
    codes    int64 k           the codes that were taken
    frames   uint8 k 8         the first bytes of every frame's sha256, to find the first that differs
    header   JSON: seed, sampling, sha256 of all frames and of all tokens, hashes of the weights, where it was made

The file is one of safetensors: nothing in it can run.
"""

import hashlib
import json
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from numpy import ndarray
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from genie_lite import __version__
from genie_lite.artifact import read_artifact
from genie_lite.config import Config, parse
from genie_lite.errors import UserError
from genie_lite.files import write_bytes
from genie_lite.models.sampling import SamplingConfig
from genie_lite.models.world import World
from genie_lite.steer import Played, Ride, play
from genie_lite.train.config import STAGES

FORMAT = "1"
MARK_BYTES = 8
KINDS = {"start": "U8", "codes": "I64", "frames": "U8"}


class Header(Config):
    """What stands beside the arrays. Everything is checked: a replay may come from anybody.

    seed: of all noise. run: where the world was found. weights: sha256 of each stage's. compiled: see `World`. sha256,
    tokens_sha256: see `Played`. place: versions and machine that it was made with.
    """

    seed: int = Field(ge=0, lt=2**63)
    run: str
    weights: dict[str, str]
    sampling: SamplingConfig
    compiled: bool
    sha256: str
    tokens_sha256: str
    place: dict[str, str]


@dataclass(frozen=True)
class Replay:
    """A ride, how frames were drawn on it, and what it showed; marks: of every frame."""

    ride: Ride
    header: Header
    marks: UInt8[ndarray, "k m"]


@dataclass(frozen=True)
class Proof:
    """What a replay says of the frames that were shown. sha256, tokens_sha256: see `Played`; marks: of every frame."""

    sha256: str
    tokens_sha256: str
    marks: UInt8[ndarray, "k m"]


def proof_of(frames: Iterable[UInt8[ndarray, "h w c"]], tokens: Int[ndarray, "k n"]) -> Proof:
    """Likewise, of frames that come one by one and are not kept."""
    whole, digests = hashlib.sha256(), []
    for frame in frames:
        data = frame.tobytes()
        whole.update(data)
        digests.append(hashlib.sha256(data).digest()[:MARK_BYTES])
    return Proof(
        whole.hexdigest(),
        hashlib.sha256(tokens.astype("<i4").tobytes()).hexdigest(),
        np.frombuffer(b"".join(digests), np.uint8).reshape(-1, MARK_BYTES),
    )


def record(ride: Ride, world: World, run: Path, played: Played | Proof) -> Replay:
    """A replay of what was just played in the world of a run."""
    proof = played if isinstance(played, Proof) else proof_of(played.frames, played.tokens)
    header = Header(
        seed=ride.seed,
        run=str(run.resolve()),
        weights=weights_of(run),
        sampling=world.sampling,
        compiled=world.compiled,
        sha256=proof.sha256,
        tokens_sha256=proof.tokens_sha256,
        place=place_of(world),
    )
    return Replay(ride, header, proof.marks)


def write_replay(path: Path, replay: Replay) -> None:
    """Write a replay, whole or not at all."""
    write_bytes(path, replay_bytes(replay))


def replay_bytes(replay: Replay) -> bytes:
    """What `write_replay` writes."""
    tensors = {"start": replay.ride.start, "codes": replay.ride.codes, "frames": replay.marks}
    header = {"format": FORMAT, "header": replay.header.model_dump_json()}
    return save({name: np.ascontiguousarray(each) for name, each in tensors.items()}, header)


def read_replay(path: Path) -> Replay:
    """Read a replay.

    Raises:
        UserError: no such file, no replay, another format, or damaged.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; genie-lite rollout --replay FILE writes one")
    try:
        with safe_open(path, framework="numpy") as file:
            found = file.metadata() or {}
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 - no mapping
            if found.get("format") != FORMAT or kinds != KINDS:
                raise UserError(
                    f"{path}: not a replay of format {FORMAT}: found format {found.get('format')} with {kinds}, "
                    f"expected {KINDS}; play it again, or use the version that wrote it"
                )
            start, codes, marks = (file.get_tensor(name) for name in KINDS)
        header = parse(json.loads(found["header"]), Header, str(path))
    except UserError:
        raise  # says what is wrong already
    except (SafetensorError, KeyError, ValueError, RecursionError, OSError) as error:
        raise UserError(f"{path}: not a whole replay ({error}); copy it again or play it again") from error
    _check_shapes(path, start, codes, marks)
    return Replay(Ride(start, codes, header.seed), header, marks)


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
    header, found = replay.header, weights_of(run)
    if other := [stage for stage in STAGES if found[stage] != header.weights.get(stage)]:
        raise UserError(
            f"{run}: has another {', '.join(other)} than the replay was made with; name its own run with --run"
        )
    played, _ = play(world, replay.ride, progress=progress)
    proof = proof_of(played.frames, played.tokens)
    if (proof.sha256, proof.tokens_sha256) != (header.sha256, header.tokens_sha256):
        raise UserError(
            f"{_difference(replay, proof)}; made with {header.place}, played with {place_of(world)}: "
            "the same frames are promised on the same machine and versions only"
        )
    return played


def weights_of(run: Path) -> dict[str, str]:
    """Sha256 of the weights of a run's stages."""
    return {stage: read_artifact(run / stage, stage).sha256 for stage in STAGES}


def place_of(world: World) -> dict[str, str]:
    """What rounding depends on, beside the weights: versions and the machine."""
    on_gpu = world.device.type == "cuda"
    device = torch.cuda.get_device_name(world.device) if on_gpu else torch.backends.cpu.get_cpu_capability()
    machine = f"{platform.machine()} {platform.processor()}".strip()
    return {"genie_lite": __version__, "torch": torch.__version__, "machine": machine, "device": device}


def _check_shapes(path: Path, start: ndarray, codes: ndarray, marks: ndarray) -> None:
    """What the world would stumble over; sizes and values it checks itself."""
    if start.ndim != 4 or codes.ndim != 1 or not len(codes) or marks.shape != (len(codes), MARK_BYTES):
        found = ", ".join(str(list(each.shape)) for each in (start, codes, marks))
        raise UserError(f"{path}: not a replay: found shapes {found}, expected t h w 3, k and k {MARK_BYTES}")


def _difference(replay: Replay, proof: Proof) -> str:
    different = (proof.marks != replay.marks).any(axis=1)
    return f"the frames differ from frame {different.argmax()} on" if different.any() else "the hashes differ"
