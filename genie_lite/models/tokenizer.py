"""Video tokenizer: frames to one discrete token per patch, and back.

    frames ──patch──▶ encoder ──▶ token[frame, patch] ──▶ decoder ──▶ reconstruction
                     (causal)      VQ or FSQ             (causal)

Both halves are causal in time: a token never depends on a later frame, so a single first frame and a
live stream are tokenised as a recorded clip is.

Source: Genie, arXiv:2402.15391, section 2.1 (ST-ViViT tokenizer) and appendix C.
Differs:
- Time has a finite window and relative positions, so that streams may be endless.
- Codes of unit length and restarts of unused ones (ViT-VQGAN, arXiv:2110.04627).
- Mean squared error only, as in the paper; no perceptual or adversarial term.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from genie_lite.artifact import load_weights, read_artifact
from genie_lite.config import Config, parse
from genie_lite.losses import pixel_loss
from genie_lite.nn.attention import check_heads
from genie_lite.nn.patch import grid_of, patchify, unpatchify
from genie_lite.nn.quantize import MOST_CODES, Quantizer, TokenConfig, VQConfig
from genie_lite.nn.ring import Ring
from genie_lite.nn.transformer import STTransformer
from genie_lite.types import Loss, Quantized


class TokenizerConfig(Config):
    """Shape of a video tokenizer."""

    frame_hw: tuple[int, int] = (64, 64)  # pixels; each side divisible by patch
    patch: int = Field(default=8, ge=1)  # pixels; 64x64 frames become 64 tokens
    width: int = Field(default=256, ge=2)
    depth: int = Field(default=4, ge=1)  # blocks in the encoder, and as many in the decoder
    heads: int = Field(default=4, ge=1)
    window: int = Field(default=4, ge=1)  # frames that temporal attention reaches; 1: each frame by itself
    code: TokenConfig = VQConfig(num_codes=1024, dim=32, restart_below=0.5)

    @model_validator(mode="after")
    def _sizes_fit(self) -> "TokenizerConfig":
        grid_of(self.frame_hw, self.patch)
        check_heads(self.width, self.heads)
        if isinstance(self.code, VQConfig) and self.code.tokens > 1:
            raise ValueError(
                f"code.tokens: found {self.code.tokens}, expected 1: the dynamics model foretells one token per patch; "
                "for more of them make patch smaller"
            )
        if len(self.code.sizes) > 1:
            raise ValueError(
                f"code.levels: {list(self.code.sizes)} make more than {MOST_CODES} codes, of which the dynamics model "
                "could not choose one per patch; take fewer or smaller levels"
            )
        return self


class TokenizerWeights(Config):
    """Weight of each term of the objective."""

    pixel: float = Field(default=1.0, ge=0)
    commitment: float = Field(default=0.25, ge=0)


@dataclass(frozen=True)
class TokenizerOutput:
    """reconstruction: of the frames, not clamped. code: one per patch, `b t n`."""

    reconstruction: Float[Tensor, "b t c h w"]
    code: Quantized


class VideoTokenizer(nn.Module):
    """Encoder, bottleneck, decoder."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.patch = config.patch
        self.grid_hw = grid_of(config.frame_hw, config.patch)
        num_pixels = 3 * config.patch**2

        self.embed = nn.Linear(num_pixels, config.width)
        self.place = nn.Parameter(0.02 * torch.randn(self.num_tokens, config.width))
        self.encoder = STTransformer(config.width, config.depth, config.heads, config.window)
        self.quantizer = Quantizer(config.code, config.width)

        self.embed_code = nn.Linear(self.quantizer.dim, config.width)
        self.place_code = nn.Parameter(0.02 * torch.randn(self.num_tokens, config.width))
        self.decoder = STTransformer(config.width, config.depth, config.heads, config.window)
        self.to_pixels = nn.Linear(config.width, num_pixels)

    @property
    def num_tokens(self) -> int:
        """Tokens of one frame."""
        return self.grid_hw[0] * self.grid_hw[1]

    @property
    def reach(self) -> int:
        """Earlier frames that a decoded one can depend on."""
        return self.decoder.reach

    @property
    def num_codes(self) -> int:
        """Size of the vocabulary of tokens."""
        return self.quantizer.num_codes

    def encode(self, frames: Float[Tensor, "b t c h w"]) -> Quantized:
        """Tokens of every patch; those of frame i have seen frames ≤ i only. Shapes `b t n …`."""
        rows = self.embed(patchify(frames, self.patch)) + self.place
        return self.quantizer(self.encoder(rows))

    def decode(self, vector: Float[Tensor, "b t n d"]) -> Float[Tensor, "b t c h w"]:
        """Frames from the vectors of their tokens; frame i depends on tokens of frames ≤ i only."""
        return self._paint(self.decoder(self._rows(vector)))

    def begin(self, age: Int[Tensor, " b"]) -> Ring:
        """The decoder's memory of streams whose next frame is number `age`, and of which nothing is known."""
        return self.decoder.begin(age)

    def decode_next(
        self, vector: Float[Tensor, "b n d"], ring: Ring
    ) -> tuple[Float[Tensor, "b c h w"], Ring]:
        """Decode only the next frame of streams whose earlier frames left `ring` in the decoder."""
        page = self.decoder.open(ring)
        rows = self.decoder.next(self._rows(vector), page)
        return self._paint(rows[:, None])[:, 0], page.close()

    def decode_tokens(self, tokens: Int[Tensor, "b t n"]) -> Float[Tensor, "b t c h w"]:
        """Frames from token indices, clamped to [0, 1]."""
        return self.decode(self.quantizer.vector_of(tokens)).float().clamp(0, 1)

    def forward(self, frames: Float[Tensor, "b t c h w"]) -> TokenizerOutput:
        """Encode and reconstruct a clip."""
        code = self.encode(frames)
        return TokenizerOutput(reconstruction=self.decode(code.vector), code=code)

    def _rows(self, vector: Tensor) -> Tensor:
        return self.embed_code(vector) + self.place_code

    def _paint(self, rows: Tensor) -> Tensor:
        return unpatchify(self.to_pixels(rows), self.patch, self.grid_hw)


def objective(out: TokenizerOutput, frames: Float[Tensor, "b t c h w"], weights: TokenizerWeights) -> Loss:
    """Reconstruction error plus the bottleneck's commitment."""
    terms = {"pixel": pixel_loss(out.reconstruction, frames), "commitment": out.code.commitment}
    return Loss.weigh(terms, weights.model_dump())


def load_tokenizer(folder: Path) -> VideoTokenizer:
    """Load a finished tokenizer, in evaluation mode.

    Raises:
        UserError: the folder holds no finished tokenizer, or its weights do not match its manifest.
    """
    artifact = read_artifact(folder, "tokenizer")
    model = VideoTokenizer(parse(artifact.config, TokenizerConfig, str(folder)))
    load_weights(artifact, model)
    return model
