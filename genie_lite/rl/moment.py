"""A stream at one moment, to come back to: kept in memory as it is, or as bytes for a file or another process.

In memory it is a copy of the stream's part of the state, caches and all: that takes memory, but no computing.
As bytes it is a file of safetensors: the tokens and codes of the last frames, the frame itself, and a JSON header;
the caches are computed anew, so it goes on bit for bit, too. Nothing in it can run.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load, save

from genie_lite.config import Config, parse
from genie_lite.errors import UserError
from genie_lite.models.world import KEPT, State, World

FORMAT = 1
MAX_AGE = 2**32  # as many frames as noise is told apart for
SHOWN, ACTION = "shown", "action"


class _Header(Config):
    """What stands beside the tensors. Everything is checked: bytes may come from anybody."""

    format: int
    age: int = Field(ge=0, lt=MAX_AGE)
    code: int = Field(ge=-1)
    start: str
    is_over: bool
    generator: dict[str, Any]
    weights: dict[str, str]


@dataclass(frozen=True)
class Moment:
    """Where a stream stood, and all that decides how it goes on.

    state: of the world, one stream. shown: its frame. action: that led to it, where actions are vectors; NaN at the
    start. age: frames since the start. code: that led to the frame. start: what the episode began from. is_over:
    whether it waits for a reset. generator: of starts and seeds to come. weights: hashes of the world's stages.
    """

    state: State = field(repr=False)
    shown: UInt8[ndarray, "h w c"] = field(repr=False)
    action: Float[ndarray, " a"]
    age: int
    code: int
    start: str
    is_over: bool
    generator: Mapping[str, Any] = field(repr=False)
    weights: Mapping[str, str] = field(repr=False)

    def to_bytes(self) -> bytes:
        """A few kilobytes beside the frame, to be kept anywhere."""
        header = _Header(
            format=FORMAT,
            age=self.age,
            code=self.code,
            start=self.start,
            is_over=self.is_over,
            generator=dict(self.generator),
            weights=dict(self.weights),
        )
        tensors = {name: tensor.cpu() for name, tensor in self.state.tensors().items()}
        own = {SHOWN: torch.from_numpy(self.shown), ACTION: torch.from_numpy(self.action)}
        return save(tensors | own, {"header": header.model_dump_json()})

    @classmethod
    def from_bytes(cls, data: bytes, world: World, weights: Mapping[str, str]) -> "Moment":
        """The moment that was kept, in the world that it is of.

        Args:
            data: from `to_bytes`.
            world: to go on in.
            weights: hashes of this world's stages; what was saved in another is not even looked at.

        Raises:
            UserError: not what `to_bytes` gave, or of another world.
        """
        try:
            tensors = load(data)
            header = parse(_header(data), _Header, "state")
            _check_generator(header.generator)
        except (SafetensorError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise UserError(f"state: not bytes of a saved state ({error}); save it again") from error
        if header.weights != dict(weights):
            raise UserError("state: of another world; restore it where it was saved")
        if header.code >= world.num_codes:
            raise UserError(
                f"state: found code {header.code}, expected at most {world.num_codes - 1}; save it again"
            )
        shown, action = (tensors.pop(name, torch.empty(0)) for name in (SHOWN, ACTION))
        expected = (*world.tokenizer.config.frame_hw, 3)
        whole = tuple(tensors.get("frame", torch.empty(0)).shape) == (1,) and action.dtype == torch.float32
        if header.format != FORMAT or shown.dtype != torch.uint8 or shown.shape != expected or not whole:
            raise UserError(
                f"state: found format {header.format} with a frame {list(shown.shape)}, expected format {FORMAT} with "
                f"one of {list(expected)}; it is of another world or version"
            )
        return cls(
            state=world.recall({name: tensors[name] for name in KEPT if name in tensors}),
            shown=shown.numpy(),
            action=action.numpy(),
            age=header.age,
            code=header.code,
            start=header.start,
            is_over=header.is_over,
            generator=header.generator,
            weights=header.weights,
        )


def _header(data: bytes) -> Any:
    """The JSON that safetensors keep in front: 8 bytes of its length, then itself."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["header"])


def _check_generator(state: Mapping[str, Any]) -> None:
    """Whether numpy takes it; raises what numpy does if not."""
    generator: Any = np.random.PCG64()
    generator.state = state
