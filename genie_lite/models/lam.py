"""Latent action model: name what changed between two frames, with too few bits to copy the frame.

    frames ──patch──▶ encoder ──▶ code[k]                   k = 0 … t-2: how frame k became frame k+1
                     (causal: code[k] sees frames ≤ k+1)
    frames[:-1] ──patch──▶ decoder ◀── code[k]
                     (causal: sees frames ≤ k)   ──▶ prediction of frames[1:]

The decoder never sees frame k+1, so whatever it must know about it has to pass through the code. With
eight codes that is three bits: room for what was done, not for how the picture looks.

Source: Genie, arXiv:2402.15391, section 2.1 (latent action model) and appendix F (sizes for CoinRun).
Differs:
- Time has a finite window and relative positions, so that a code is the same wherever a clip is cut, but
  for its first depth * (window - 1) - 1 transitions, which see less of what came before.
- The decoder's window is its own, one frame by default. A decoder that has seen the motion so far makes
  "go on as before" the cheapest code; one that sees a still frame needs the direction itself. Worlds
  with inertia, where one frame does not show the speed, want 2 or more.
- The action is read from one learnt token per frame (as in jafar) instead of pooled patches.
- Codes of unit length and restarts of unused ones (ViT-VQGAN): with 8 codes plain VQ collapses.
- The output is linear, not a sigmoid: sigmoids saturate on the flat colours of games.
- The decoder may foretell the change instead of the frame (`predict: change`): where little moves, a model of
  this size would spend all it has on the still background. Where the whole picture scrolls there is no background.
- Optional extra weight on pixels that move (`weights.motion`), off by default.
- Optionally the decoder learns to foretell features of a frozen image model (`features`); its pixels are then
  read off without a gradient, to be looked at.
- Optionally the encoder looks at such features instead of pixels (`input`; UniVLA, arXiv:2505.06111).
- The encoder may be shown other views of the frames than the decoder foretells (`forward(frames, seen)`; LAOM,
  arXiv:2502.00379, section 4): what the views do not share cannot be told by a code.
- Optional relations between codes (`weights.additivity`, `weights.reversal`; ALAM, arXiv:2605.10819): going from a
  to c is going to b and on to c, and going back is the opposite of going. Differs: see `relative_distance`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from genie_lite.artifact import Artifact, load_weights, read_artifact
from genie_lite.config import Config, parse
from genie_lite.losses import motion_loss, pixel_loss, relative_distance
from genie_lite.models.hub import HubModel
from genie_lite.nn.attention import check_heads
from genie_lite.nn.features import FeatureConfig, FrozenFeatures, PixelFeatures, TimmFeatures
from genie_lite.nn.inject import Inject, InjectKind, prepend
from genie_lite.nn.patch import grid_of, patchify, unpatchify
from genie_lite.nn.quantize import CodeConfig, Quantizer, VQConfig
from genie_lite.nn.transformer import STTransformer
from genie_lite.types import Loss, Quantized

Relation = Literal["additivity", "reversal"]


class LAMConfig(Config):
    """Shape of a latent action model."""

    frame_hw: tuple[int, int] = (64, 64)  # pixels; each side divisible by patch
    patch: int = Field(default=16, ge=1)  # pixels; large patches are fast and enough to see what moved
    width: int = Field(default=256, ge=2)
    depth: int = Field(default=4, ge=1)  # blocks in the encoder, and as many in the decoder
    heads: int = Field(default=4, ge=1)
    window: int = Field(default=2, ge=2)  # frames that the encoder's blocks reach; 2: the one before
    past_window: int = Field(default=1, ge=1)  # the decoder's; 1: it predicts from one frame and the code
    predict: Literal["frame", "change"] = "frame"  # the next frame anew, or what to add to the frame before
    inject: InjectKind = "token"
    code: CodeConfig = VQConfig(num_codes=8, dim=32, restart_below=1.0)
    features: FeatureConfig = PixelFeatures()  # what the decoder learns from
    input: FeatureConfig = PixelFeatures()  # what the encoder looks at
    # Seconds from one frame to the next, least and most, drawn for every clip; None: one frame of the shards.
    pair_s: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _sizes_fit(self) -> "LAMConfig":
        grid_of(self.frame_hw, self.patch)
        check_heads(self.width, self.heads)
        if self.pair_s is not None and not 0 < self.pair_s[0] <= self.pair_s[1]:
            least, most = self.pair_s
            raise ValueError(f"pair_s is [{least:g}, {most:g}]; expected seconds above 0, the smaller first")
        return self


class LAMWeights(Config):
    """Weight of each term of the objective."""

    pixel: float = Field(default=1.0, ge=0)
    motion: float = Field(default=0.0, ge=0)
    features: float = Field(default=1.0, ge=0)  # of kind timm; pixels have none
    commitment: float = Field(default=0.25, ge=0)
    label: float = Field(default=1.0, ge=0)  # of true actions, where the stage has `labels`
    additivity: float = Field(default=0.0, ge=0)  # at 0 what it takes is not computed
    reversal: float = Field(default=0.0, ge=0)  # likewise

    @property
    def relations(self) -> tuple[Relation, ...]:
        """Those between codes that count."""
        given: dict[Relation, float] = {"additivity": self.additivity, "reversal": self.reversal}
        return tuple(name for name, weight in given.items() if weight > 0)


@dataclass(frozen=True)
class LAMOutput:
    """What a clip gives.

    prediction: frames[1:] as the code and the past foretell them; not clamped. rows: the decoder's last
    layer, one vector per patch, from which they are read. code: one per transition. beta: weight of the code's
    divergence from its prior; None where it has none. relations: how far codes are from each that was asked for.
    others: embeddings of the transitions of further clips.
    """

    prediction: Float[Tensor, "b k c h w"]
    rows: Float[Tensor, "b k n d"]
    code: Quantized
    beta: float | None = None
    relations: Mapping[Relation, Float[Tensor, ""]] = field(default_factory=dict)
    others: Float[Tensor, "m j e"] | None = None


class TransitionEncoder(nn.Module):
    """Frames to one vector per transition: a bottleneck makes it a code, a head for labels an action."""

    def __init__(self, config: LAMConfig, *, has_weights: bool = False) -> None:
        """Build it, with random weights but for frozen features.

        Args:
            config: its shape.
            has_weights: weights are about to be loaded, so those of frozen features are not downloaded.

        Raises:
            UserError: frozen features are wanted and timm or their weights cannot be had.
        """
        super().__init__()
        self.patch = config.patch
        self.grid_hw = grid_of(config.frame_hw, config.patch)
        num_patches = self.grid_hw[0] * self.grid_hw[1]
        self.eye = (
            FrozenFeatures(config.input, self.grid_hw, "lam.model.input", has_weights=has_weights)
            if isinstance(config.input, TimmFeatures)
            else None
        )
        self.embed = nn.Linear(3 * config.patch**2 if self.eye is None else self.eye.width, config.width)
        self.place = nn.Parameter(0.02 * torch.randn(num_patches, config.width))
        self.action_token = nn.Parameter(0.02 * torch.randn(config.width))
        self.encoder = STTransformer(config.width, config.depth, config.heads, config.window)

    def take_eye(self, eye: FrozenFeatures | None) -> None:
        """See with a copy of the frozen features of another model of this shape; None leaves one's own."""
        if eye is not None:
            assert self.eye is not None, "a model that looks at pixels has no eye"
            self.eye.load_state_dict(eye.state_dict())

    def look(self, frames: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t n d"]:
        """What the encoder mixes: one row per patch, and the action token before them; each frame by itself."""
        patches = patchify(frames, self.patch) if self.eye is None else self.eye.features(frames)
        return prepend(self.action_token, self.embed(patches) + self.place)

    def compare(self, rows: Float[Tensor, "b t n d"]) -> Float[Tensor, "b k d"]:
        """What the action token has gathered at frames[1:] of what `look` returned for a clip."""
        return self.encoder(rows, read=slice(1))[:, 1:, 0]

    def transitions(self, frames: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b k d"]:
        """What the action token has gathered at frames[1:]; row k has seen frames ≤ k + 1 only."""
        return self.compare(self.look(frames))


class LatentActionModel(TransitionEncoder, HubModel):
    """Inverse model (encode), bottleneck, forward model (decode)."""

    stage = "lam"

    def __init__(self, config: LAMConfig, *, has_weights: bool = False) -> None:
        """Build it; see `TransitionEncoder`."""
        super().__init__(config, has_weights=has_weights)
        self.config = config
        self.quantizer = Quantizer(config.code, config.width)

        num_pixels = 3 * config.patch**2
        self.embed_past = nn.Linear(num_pixels, config.width)
        self.place_past = nn.Parameter(0.02 * torch.randn_like(self.place))
        self.inject = Inject(config.inject, self.quantizer.dim, config.width)
        self.decoder = STTransformer(config.width, config.depth, config.heads, config.past_window)
        self.to_pixels = nn.Linear(config.width, num_pixels)
        if config.predict == "change":  # an untrained model copies
            nn.init.zeros_(self.to_pixels.weight)
            nn.init.zeros_(self.to_pixels.bias)

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> "LatentActionModel":
        """The model of a finished stage, in evaluation mode.

        Raises:
            UserError: its weights do not match its manifest.
        """
        config = parse(artifact.config, LAMConfig, str(artifact.folder))
        model = cls(config, has_weights=True)
        load_weights(artifact, model)
        return model

    @property
    def num_codes(self) -> int:
        """Size of the alphabet of latent actions."""
        return self.quantizer.num_codes

    @property
    def code_dim(self) -> int:
        """Width of a code's vector."""
        return self.quantizer.dim

    def encode(self, frames: Float[Tensor, "b t c h w"]) -> Quantized:
        """Infer the code of every transition; row k has seen frames ≤ k + 1 only. Shapes `b t-1 …`."""
        return self.quantizer(self.transitions(frames))

    def decode(
        self, past: Float[Tensor, "b k c h w"], vector: Float[Tensor, "b k e"]
    ) -> Float[Tensor, "b k c h w"]:
        """Predict the frame after each past frame from the past up to it and the code that follows it."""
        return self._picture(self._foretell(past, vector), past)

    def forward(
        self,
        frames: Float[Tensor, "b t c h w"],
        seen: Float[Tensor, "b t c h w"] | None = None,
        relations: Collection[Relation] = (),
        others: Float[Tensor, "m s c h w"] | None = None,
    ) -> LAMOutput:
        """Encode a clip and predict each frame but the first.

        Args:
            frames: the clip.
            seen: what the encoder is shown of it, if not the same.
            relations: to be measured between its codes; additivity takes clips of 3 frames or more.
            others: clips of which embeddings are wanted alone. The bottleneck learns nothing from them, and neither
                does the decoder.
        """
        looked = self.look(frames if seen is None else seen)
        gathered = self.compare(looked)
        code = self.quantizer(gathered)
        past = frames[:, :-1]
        rows = self._foretell(past, code.vector)
        shown = rows.detach() if self.config.features.kind == "timm" else rows
        return LAMOutput(
            prediction=self._picture(shown, past),
            rows=rows,
            code=code,
            beta=getattr(self.config.code, "beta", None),
            relations=self._relations(relations, looked, gathered),
            others=None if others is None else self.quantizer.embed(self.transitions(others), gathered),
        )

    def _relations(
        self, wanted: Collection[Relation], looked: Tensor, gathered: Tensor
    ) -> dict[Relation, Tensor]:
        """Of transitions a → b → c: every other frame makes a clip of those a → c, the frames turned round b → a."""
        found: dict[Relation, Tensor] = {}
        if not wanted:
            return found
        steps = self.quantizer.embed(gathered, gathered)
        if "additivity" in wanted:
            leaps = self.quantizer.embed(self.compare(looked[:, ::2]), gathered)
            num = leaps.shape[1]
            found["additivity"] = relative_distance(
                leaps, steps[:, : 2 * num : 2] + steps[:, 1 : 2 * num : 2]
            )
        if "reversal" in wanted:
            back = self.quantizer.embed(self.compare(looked.flip(1)), gathered).flip(1)
            found["reversal"] = relative_distance(back, -steps)
        return found

    def _foretell(self, past: Tensor, vector: Tensor) -> Tensor:
        rows = self.embed_past(patchify(past, self.patch)) + self.place_past
        return self.inject.strip(self.decoder(self.inject(rows, vector)))

    def _picture(self, rows: Tensor, past: Tensor) -> Tensor:
        pixels = unpatchify(self.to_pixels(rows), self.patch, self.grid_hw)
        return past + pixels if self.config.predict == "change" else pixels

    def code_vectors(self) -> Float[Tensor, "num_codes d"]:
        """The vector of every code, in the order of the indices."""
        return self.quantizer.all_vectors()


def objective(
    out: LAMOutput,
    frames: Float[Tensor, "b t c h w"],
    weights: LAMWeights,
    features: Float[Tensor, ""] | None = None,
    *,
    label: Float[Tensor, ""] | None = None,
    pixel_weight: Float[Tensor, "b k 1 h w"] | None = None,
) -> Loss:
    """Prediction error of frames[1:], the bottleneck's commitment or divergence, and whatever else is asked for.

    Args:
        out: of the model.
        frames: the clip that it was to foretell.
        weights: of the terms; that of the divergence is the bottleneck's own.
        features: error of the features foretold from `out.rows` (`nn/features.py`), if they are the target.
        label: error of true actions read off embeddings (`models/heads.py`), if some are known.
        pixel_weight: how much each pixel of frames[1:] counts in the prediction error, 1 on average.
    """
    terms = {
        "pixel": pixel_loss(out.prediction, frames[:, 1:], pixel_weight),
        "motion": motion_loss(out.prediction, frames[:, 1:], frames[:, :-1]),
        "features": frames.new_zeros(()) if features is None else features,
        "commitment": out.code.commitment,
        **out.relations,
    }
    if label is not None:
        terms["label"] = label
    given = weights.model_dump(include=set(terms))
    if out.beta is not None:
        terms["kl"], given["kl"] = out.code.kl, out.beta
    return Loss.weigh(terms, given)


def load_lam(folder: Path) -> LatentActionModel:
    """Load a finished latent action model, in evaluation mode.

    Raises:
        UserError: the folder holds no finished LAM, or its weights do not match its manifest.
    """
    return LatentActionModel.from_artifact(read_artifact(folder, "lam"))
