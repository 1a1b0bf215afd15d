"""What a frozen image model from timm sees in a clip: one vector, the mean over a few of its frames.

Torch and timm are imported when a model is made: naming a classifier in a recipe must not cost their start.

Source: the frozen model and its options are those of `nn.features`, which this layer may not import.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from einops import rearrange
from jaxtyping import Float64, UInt8
from pydantic import Field

from genie_lite.config import Config
from genie_lite.errors import UserError
from genie_lite.threads import one_thread

if TYPE_CHECKING:
    from torch import Tensor, nn

NUM_FRAMES = 4
# Clips are small, and showing them larger adds nothing: a model that takes any size is shown this one, which
# takes a third of the time of the 224 pixels that most were trained on.
IMAGE_PX = 128
SUGGESTED = "resnet18"

Side = Annotated[int, Field(ge=16, le=1024)]
Positive = Annotated[float, Field(gt=0)]


class VisionConfig(Config):
    """An image model and what it is shown.

    name: timm's. pretrained: whether its weights were learned from images; if not, it is a random projection.
    image_hw: in pixels. mean, std: of the channels it was trained with, for pixels in [0, 1]. num_frames: looked
    at, evenly over the clip.
    """

    name: str
    pretrained: bool
    image_hw: tuple[Side, Side]
    mean: tuple[float, float, float]
    std: tuple[Positive, Positive, Positive]
    num_frames: Annotated[int, Field(ge=1, le=64)] = NUM_FRAMES


class Vision:
    """A frozen image model, on the CPU and on one thread: see `threads.one_thread`."""

    def __init__(self, config: VisionConfig, network: "nn.Module") -> None:
        import torch

        self.config = config
        self._network = network.eval().requires_grad_(False)
        self._network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    @classmethod
    def create(cls, name: str, *, pretrained: bool, weights: Path | None = None, seed: int = 0) -> "Vision":
        """Make a model from timm's list.

        Args:
            name: timm's.
            pretrained: whether to take weights learned from images; timm downloads them on first use.
            weights: those weights as a .safetensors file, in place of a download.
            seed: of the random projection that a model without such weights is.

        Raises:
            UserError: timm does not know the name, or the weights cannot be had.
        """
        if weights is not None and not pretrained:
            raise UserError(f"{weights}: weights are given and pretrained is false; drop one of the two")
        network = _build(name, seed, **_origin(weights) if pretrained else {"pretrained": False})
        return cls(_config_of(name, pretrained, network), network)

    @classmethod
    def restore(cls, config: VisionConfig, tensors: Mapping[str, "Tensor"]) -> "Vision":
        """The model with the weights that `tensors` once gave; nothing is downloaded.

        Raises:
            UserError: timm does not know the name.
            RuntimeError: weights of another model.
        """
        network = _build(config.name, seed=0, pretrained=False)
        network.load_state_dict(dict(tensors), strict=True)
        return cls(config, network)

    def tensors(self) -> dict[str, "Tensor"]:
        """All weights, by name."""
        return {name: tensor.contiguous() for name, tensor in self._network.state_dict().items()}

    def __call__(self, frames: UInt8[np.ndarray, "t h w 3"]) -> Float64[np.ndarray, " d"]:
        """The clip's vector. Every clip goes through alone, so that its neighbours cannot change its last digits."""
        import torch
        import torch.nn.functional as F

        looked_at = frames[evenly(len(frames), self.config.num_frames)]
        with one_thread(), torch.inference_mode():
            pixels = rearrange(torch.from_numpy(looked_at), "t h w c -> t c h w").float() / 255
            images = F.interpolate(pixels, self.config.image_hw, mode="bilinear", antialias=True)
            mean, std = (torch.tensor(each)[:, None, None] for each in (self.config.mean, self.config.std))
            seen = self._network(((images - mean) / std).contiguous(memory_format=torch.channels_last))
            return seen.double().mean(dim=0).numpy()


def evenly(num_frames: int, num: int) -> list[int]:
    """The middles of `num` equal parts of a clip; a short clip has frames that stand for several parts."""
    return [(2 * part + 1) * num_frames // (2 * num) for part in range(num)]


def _origin(weights: Path | None) -> dict[str, Any]:
    """What timm is told of where the weights are. Safetensors alone: other formats would have to be unpickled."""
    if weights is None:
        return {
            "pretrained": True,
            "pretrained_cfg_overlay": {"hf_hub_filename": "model.safetensors", "url": ""},
        }
    if weights.suffix != ".safetensors" or not weights.is_file():
        found = "not a .safetensors file" if weights.exists() else "no such file"
        raise UserError(f"{weights}: {found}; expected the model.safetensors of the model's page on the hub")
    return {"pretrained": True, "pretrained_cfg_overlay": {"file": str(weights), "custom_load": False}}


def _build(name: str, seed: int, **options: Any) -> "nn.Module":
    """A model of timm's without its classifier, and the random numbers of others left as they are."""
    import torch
    from safetensors import SafetensorError

    from genie_lite.torchvision_shim import repair

    repair()
    import timm

    if not timm.is_model(name):  # nor a prefix that makes timm fetch a model from elsewhere
        near = timm.list_models(f"*{name.split('_')[0]}*")[:3]
        raise UserError(f"features: timm knows no '{name}'; it knows {', '.join(near) or SUGGESTED}")
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            # Asked for a model without classifier, timm would take whatever part of a weight file fits.
            network = timm.create_model(name, **options)
    except (OSError, RuntimeError, SafetensorError) as error:
        if not options["pretrained"]:
            raise
        raise UserError(_no_weights(name, options["pretrained_cfg_overlay"], error)) from error
    network.reset_classifier(0)  # pyright: ignore[reportCallIssue]
    return network


def _no_weights(name: str, origin: Mapping[str, Any], error: Exception) -> str:
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    if "file" in origin:
        return f"{origin['file']}: no weights of '{name}' ({reason}); expected the model.safetensors of that model"
    return (
        f"features: the weights of '{name}' cannot be downloaded ({reason}); go online once, give them as a local "
        f"file (--weights model.safetensors, from {_page(name)}), or choose a random projection (--no-pretrained)"
    )


def _page(name: str) -> str:
    import timm

    found = timm.get_pretrained_cfg(name)
    page = found.hf_hub_id if found is not None else None
    return f"https://huggingface.co/{page}" if page else "the model's page on the hub"


def _config_of(name: str, pretrained: bool, network: "nn.Module") -> VisionConfig:
    from timm.data.config import resolve_model_data_config

    about = resolve_model_data_config(network)
    is_fixed = bool(getattr(network, "pretrained_cfg", {}).get("fixed_input_size"))
    height, width = about["input_size"][-2:] if is_fixed else (IMAGE_PX, IMAGE_PX)
    return VisionConfig(
        name=name,
        pretrained=pretrained,
        image_hw=(height, width),
        mean=tuple(about["mean"]),
        std=tuple(about["std"]),
    )
