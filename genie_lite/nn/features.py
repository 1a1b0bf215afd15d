"""What a latent action model is to foretell: pixels, or the features of a frozen image model from timm.

In real video most pixels that change are of no interest: light, shadows, camera shake. Features of a
network that has seen many images change with what is in the picture. The image model is only needed in
training: it is no part of the trained model, and running one needs no timm.

Source: features as the forward model's target, UniVLA, arXiv:2505.06111, section 3.1 (DINOv2 patches).
Differs: features are averaged over the model's own patches and normalised per vector, for any backbone.
"""

from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from genie_lite.config import Config
from genie_lite.errors import UserError


class PixelFeatures(Config):
    """The frames themselves."""

    kind: Literal["pixels"] = "pixels"


class TimmFeatures(Config):
    """Patch features of a frozen timm model; without weights (`pretrained: false`) it is a random projection."""

    kind: Literal["timm"] = "timm"
    name: str = "vit_small_patch14_dinov2.lvd142m"
    pretrained: bool = True  # downloads the weights on first use


FeatureConfig = Annotated[PixelFeatures | TimmFeatures, Field(discriminator="kind")]


class FeatureTarget(nn.Module):
    """A frozen image model and the one trained layer that foretells its features from decoder rows."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: TimmFeatures, width: int, grid_hw: tuple[int, int]) -> None:
        super().__init__()
        self.grid_hw = grid_hw
        self.backbone, about = _load(config)
        self.input_hw: tuple[int, int] = tuple(about["input_size"][-2:])
        self.register_buffer("mean", torch.tensor(about["mean"])[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(about["std"])[:, None, None], persistent=False)
        self.to_features = nn.Linear(width, self.backbone.num_features)

    def train(self, mode: bool = True) -> "FeatureTarget":
        """The image model stays as it is."""
        super().train(mode)
        self.backbone.eval()
        return self

    @torch.no_grad()
    def features(self, frames: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t n e"]:
        """Unit-variance features of every patch of the grid; no gradient reaches the frames."""
        images = F.interpolate(
            rearrange(frames, "b t c h w -> (b t) c h w"), self.input_hw, mode="bilinear", antialias=True
        )
        maps = self._as_maps(self.backbone.forward_features((images - self.mean) / self.std))
        pooled = F.adaptive_avg_pool2d(maps.float(), self.grid_hw)
        rows = rearrange(pooled, "(b t) e y x -> b t (y x) e", b=frames.shape[0])
        return F.layer_norm(rows, rows.shape[-1:])

    def forward(
        self, rows: Float[Tensor, "b k n d"], frames: Float[Tensor, "b k c h w"]
    ) -> Float[Tensor, ""]:
        """Mean squared error of the features foretold from `rows`; 0 if exact, about 1 for a constant guess.

        Args:
            rows: what the decoder made of the past and the code.
            frames: the true next frames.
        """
        return F.mse_loss(self.to_features(rows).float(), self.features(frames))

    def _as_maps(self, features: Tensor) -> Tensor:
        """`b e y x` of convolutional and of transformer models alike; class and register tokens dropped."""
        if features.ndim == 4:
            is_last = features.shape[-1] == self.backbone.num_features != features.shape[1]
            return rearrange(features, "b y x e -> b e y x") if is_last else features
        patches = features[:, getattr(self.backbone, "num_prefix_tokens", 0) :]
        return rearrange(patches, "b (y x) e -> b e y x", y=round(patches.shape[1] ** 0.5))


def _load(config: TimmFeatures) -> tuple[Any, dict[str, Any]]:
    """A frozen timm model and its image size, mean and deviation.

    Raises:
        UserError: timm is missing, does not know the name, or the weights cannot be had.
    """
    from genie_lite.torchvision_shim import repair

    repair()
    try:
        import timm
        from timm.data.config import resolve_model_data_config
    except ImportError as error:
        raise UserError("lam.model.features: kind timm needs the package timm; pip install timm") from error
    if not timm.is_model(config.name):
        near = timm.list_models(f"*{config.name.split('_')[0]}*")[:3]
        hint = ", ".join(near) or "vit_tiny_patch16_224"
        raise UserError(f"lam.model.features.name: timm knows no '{config.name}'; it knows {hint}")
    try:
        backbone = timm.create_model(config.name, pretrained=config.pretrained, num_classes=0)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"lam.model.features: no weights of '{config.name}' to be had ({' '.join(str(error).split())[:120]}); "
            "go online once, or set pretrained: false"
        ) from error
    return backbone.eval().requires_grad_(False), resolve_model_data_config(backbone)
