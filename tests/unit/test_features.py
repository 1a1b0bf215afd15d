"""Features of a frozen timm model as what the latent action model learns to foretell."""

from pathlib import Path

import pytest
import torch

from genie_lite.config import dump
from genie_lite.errors import UserError
from genie_lite.folder import recipe_of
from genie_lite.models.lam import LAMConfig
from genie_lite.nn.features import FeatureTarget, TimmFeatures
from genie_lite.nn.quantize import VQConfig
from genie_lite.recipe import load_recipe
from genie_lite.train.config import LAMStage, TrainConfig
from genie_lite.train.module import LAMModule
from tests import models

TOY = Path(__file__).parents[2] / "recipes" / "toy" / "demo.yaml"
TINY = TimmFeatures(name="test_vit", pretrained=False)  # no weights: nothing is downloaded
CONVOLUTIONAL = TimmFeatures(name="test_efficientnet", pretrained=False)


@pytest.mark.parametrize("config", [TINY, CONVOLUTIONAL], ids=["transformer", "convolutional"])
def test_features_stand_on_the_models_own_grid_and_are_normalised(config: TimmFeatures) -> None:
    torch.manual_seed(0)
    target = FeatureTarget(config, width=16, grid_hw=(2, 2)).train()
    features = target.features(models.frames(batch=2, num=3))
    assert features.shape == (2, 3, 4, target.backbone.num_features)
    torch.testing.assert_close(features.mean(dim=-1), torch.zeros(2, 3, 4), atol=1e-4, rtol=0)
    assert torch.equal(features, target.features(models.frames(batch=2, num=3))), "frozen, also in training"
    assert not any(parameter.requires_grad for parameter in target.backbone.parameters())


def module() -> LAMModule:
    torch.manual_seed(0)
    code = VQConfig(num_codes=4, dim=4, restart_below=1.0)
    model = LAMConfig(frame_hw=models.FRAME_HW, patch=8, width=16, depth=1, heads=2, code=code, features=TINY)
    return LAMModule(LAMStage(model=model, train=TrainConfig(steps=1)))


def test_the_code_learns_from_features_and_the_picture_only_looks_on() -> None:
    stage, frames = module(), models.frames()
    out = stage.model(frames)
    (out.prediction.square().sum()).backward()
    assert stage.model.to_pixels.weight.grad is not None
    assert all(parameter.grad is None for parameter in stage.model.encoder.parameters())
    assert stage.target is not None
    stage.target(stage.model(frames).rows, frames[:, 1:]).backward()
    assert any(
        parameter.grad is not None and parameter.grad.abs().sum() > 0
        for parameter in stage.model.encoder.parameters()
    )


def test_a_trained_artifact_holds_no_image_model() -> None:
    assert not any("backbone" in name for name in module().model.state_dict())


def test_an_unknown_model_is_one_clear_line() -> None:
    with pytest.raises(UserError, match="timm knows no 'dinovv'"):
        FeatureTarget(TimmFeatures(name="dinovv", pretrained=False), 16, (2, 2))


def test_a_recipe_can_ask_for_features(tmp_path: Path) -> None:

    path = Path(__file__).parents[2] / "recipes" / "toy" / "demo.yaml"
    recipe = load_recipe(path, ["lam.model.features={kind: timm, name: test_vit, pretrained: false}"])
    assert recipe.lam.model.features == TINY


@pytest.mark.parametrize("place", ["input", "features"])
@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("{kind: timm, name: dinovv}", r"{place}.name: timm knows no 'dinovv'; it knows"),
        (
            "{kind: timm, name: vit_small_patch14_dinov2.lvd}",
            r"{place}.name: timm has no weights '.*dinov2.lvd'; of .* it has vit_small_patch14_dinov2.lvd142m",
        ),
    ],
)
def test_what_timm_does_not_know_is_told_when_the_recipe_is_loaded(place: str, model: str, said: str) -> None:
    with pytest.raises(UserError, match="lam.model." + said.format(place=place)):
        load_recipe(TOY, [f"lam.model.{place}={model}"])


def test_a_run_of_a_model_that_timm_has_dropped_can_still_be_read(tmp_path: Path) -> None:
    """What was trained to foretell features needs no timm."""
    recipe = load_recipe(TOY, ["lam.model.features={kind: timm, name: test_vit, pretrained: false}"])
    kept = dump(recipe).replace("test_vit", "dropped")
    (tmp_path / "recipe.yaml").write_text(kept)
    assert recipe_of(tmp_path).lam.model.features == TimmFeatures(name="dropped", pretrained=False)
