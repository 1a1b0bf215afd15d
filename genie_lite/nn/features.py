"""What a latent action model looks at and foretells: pixels, or the features of a frozen image model from timm.

In real video most pixels that change are of no interest: light, shadows, camera shake. Features of a
network that has seen many images change with what is in the picture.

    target   the image model is only needed in training: it is no part of the trained model, which needs no timm
    input    the image model is a part of the trained model, weights included, so that a run is complete and a
             random one can be had again; whoever runs it needs timm, which knows its layers, and no network

Source: features as input and target, UniVLA, arXiv:2505.06111, section 3.1 (DINOv2 patches).
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
    # Pixels that frames are scaled to, on each side; None: what the weights were learnt with, 518 for DINOv2.
    size_px: int | None = Field(default=None, ge=1)


FeatureConfig = Annotated[PixelFeatures | TimmFeatures, Field(discriminator="kind")]


def expect_known(config: FeatureConfig, where: str) -> None:
    """Refuse what timm cannot build, before hours of work; nothing is built, or downloaded, to find out.

    Args:
        config: of a model.
        where: its place in a recipe.

    Raises:
        UserError: timm is missing, does not know the name, or has no weights of that name.
    """
    if config.kind == "timm":
        timm = _timm(where)
        if config != TimmFeatures(size_px=config.size_px):  # every timm that we can use has ours
            _expect_name(timm, config, where)


class FrozenFeatures(nn.Module):
    """A frozen image model, read off at the patches of a grid."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, config: TimmFeatures, grid_hw: tuple[int, int], where: str, *, has_weights: bool = False
    ) -> None:
        """Build it, with its weights.

        Args:
            config: which one.
            grid_hw: patches down and across.
            where: its place in a recipe, for errors.
            has_weights: its weights are about to be loaded from elsewhere, so none are downloaded.

        Raises:
            UserError: timm is missing, does not know the name, or the weights cannot be had.
        """
        super().__init__()
        self.grid_hw = grid_hw
        self.backbone, about = _load(config, where, has_weights=has_weights)
        size = config.size_px
        self.input_hw: tuple[int, int] = (size, size) if size else tuple(about["input_size"][-2:])
        self.register_buffer("mean", torch.tensor(about["mean"])[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(about["std"])[:, None, None], persistent=False)

    @property
    def width(self) -> int:
        """Of a patch's features."""
        return self.backbone.num_features

    def train(self, mode: bool = True) -> "FrozenFeatures":
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

    def _as_maps(self, features: Tensor) -> Tensor:
        """`b e y x` of convolutional and of transformer models alike; class and register tokens dropped."""
        if features.ndim == 4:
            is_last = features.shape[-1] == self.backbone.num_features != features.shape[1]
            return rearrange(features, "b y x e -> b e y x") if is_last else features
        patches = features[:, getattr(self.backbone, "num_prefix_tokens", 0) :]
        return rearrange(patches, "b (y x) e -> b e y x", y=round(patches.shape[1] ** 0.5))


class FeatureTarget(FrozenFeatures):
    """A frozen image model and the one trained layer that foretells its features from decoder rows."""

    def __init__(self, config: TimmFeatures, width: int, grid_hw: tuple[int, int]) -> None:
        super().__init__(config, grid_hw, "lam.model.features")
        self.to_features = nn.Linear(width, self.width)

    def forward(
        self,
        rows: Float[Tensor, "b k n d"],
        frames: Float[Tensor, "b k c h w"],
        weight: Float[Tensor, "b k 1 h w"] | None = None,
    ) -> Float[Tensor, ""]:
        """Mean squared error of the features foretold from `rows`; 0 if exact, about 1 for a constant guess.

        Args:
            rows: what the decoder made of the past and the code.
            frames: the true next frames.
            weight: how much each of their pixels counts; a patch counts as its pixels do on average.
        """
        foretold, true = self.to_features(rows).float(), self.features(frames)
        if weight is None:
            return F.mse_loss(foretold, true)
        pooled = F.adaptive_avg_pool2d(rearrange(weight, "b k 1 h w -> (b k) 1 h w"), self.grid_hw)
        counts = rearrange(pooled, "(b k) 1 y x -> b k (y x) 1", b=weight.shape[0])
        return (counts * (foretold - true) ** 2).mean()


def _load(config: TimmFeatures, where: str, *, has_weights: bool) -> tuple[Any, dict[str, Any]]:
    """A frozen timm model and its image size, mean and deviation; raises a UserError as `FrozenFeatures`."""
    timm = _timm(where)
    from timm.data.config import resolve_model_data_config

    pretrained = config.pretrained and not has_weights
    _expect_name(timm, config.model_copy(update={"pretrained": pretrained}), where)
    try:
        backbone = _create(timm, config, pretrained=pretrained)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{where}: no weights of '{config.name}' to be had ({' '.join(str(error).split())[:120]}); "
            "go online once, or set pretrained: false"
        ) from error
    patch = getattr(getattr(backbone, "patch_embed", None), "patch_size", None)
    if config.size_px is not None and patch is not None and any(config.size_px % side for side in patch):
        raise UserError(
            f"{where}.size_px: found {config.size_px}, expected a multiple of the patches of '{config.name}', "
            f"{patch[0]} pixels"
        )
    return backbone.eval().requires_grad_(False), resolve_model_data_config(backbone)


def _timm(where: str) -> Any:
    """The library, which takes seconds to import."""
    from genie_lite.torchvision_shim import repair

    repair()
    try:
        import timm
    except ImportError as error:
        raise UserError(f"{where}: kind timm needs the package timm; pip install timm") from error
    return timm


def _expect_name(timm: Any, config: TimmFeatures, where: str) -> None:
    model, _, tag = config.name.partition(".")
    if not timm.is_model(config.name):
        near = timm.list_models(f"*{model.split('_')[0]}*")[:3]
        hint = ", ".join(near) or "vit_tiny_patch16_224"
        raise UserError(f"{where}.name: timm knows no '{config.name}'; it knows {hint}")
    known = timm.list_pretrained(f"{model}.*")
    if (tag and config.name not in known) or (config.pretrained and not known):
        raise UserError(
            f"{where}.name: timm has no weights '{config.name}'; of {model} it has {', '.join(known) or 'none'}"
        )


def _create(timm: Any, config: TimmFeatures, *, pretrained: bool) -> Any:
    """Transformers have places for one size of picture, and are told which; convolutions take any."""
    given = {"pretrained": pretrained, "num_classes": 0}
    if config.size_px is None:
        return timm.create_model(config.name, **given)
    try:
        return timm.create_model(config.name, **given, img_size=config.size_px)
    except TypeError:  # has no such argument
        return timm.create_model(config.name, **given)
