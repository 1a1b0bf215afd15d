"""What becomes of a shard, and a model as it is sent to whoever encodes: another process, or another machine."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from safetensors.torch import load, save

from genie_lite.config import parse
from genie_lite.data.shards.index import Shard
from genie_lite.data.shards.shards import ShardDamage
from genie_lite.latents.part import Task
from genie_lite.models.lam import LAMConfig, LatentActionModel


@dataclass(frozen=True)
class Made:
    """What became of a shard. content: its part, None where it cannot be read. fault: why not."""

    shard: Shard
    content: bytes | None
    fault: str | None


@dataclass(frozen=True)
class Packed:
    """A model in two messages. config: as JSON. weights: as safetensors."""

    config: str
    weights: bytes

    @classmethod
    def of(cls, lam: LatentActionModel) -> "Packed":
        """Pack a model, from whatever device."""
        weights = {name: tensor.cpu().contiguous() for name, tensor in lam.state_dict().items()}
        return cls(lam.config.model_dump_json(), save(weights))

    def unpack(self, device: str) -> LatentActionModel:
        """The model, in evaluation mode, on a device."""
        config = parse(json.loads(self.config), LAMConfig, "the model that was sent")
        lam = LatentActionModel(config, has_weights=True)
        lam.load_state_dict(load(self.weights), strict=True)
        return lam.eval().to(device)


def make_part(task: Task, lam: LatentActionModel, shard: Shard, on_sample: Callable[[], None]) -> Made:
    """The part of a shard, or why there is none; the caller sees to it that torch is on one thread.

    Raises:
        UserError: the shard cannot be fetched.
    """
    try:
        return Made(shard, task.make(lam, shard, on_sample), None)
    except ShardDamage as damage:
        return Made(shard, None, damage.reason)
