"""Dynamics: the tokens of the next frame, from the tokens of the past and the code that leads to it.

Training packs two copies of a clip into one sequence. The clean copy is the past as play will see it;
the hidden copy has random tokens masked and is what is predicted:

    clean   0   1   2   3          frame i reads clean frames ≤ i
    hidden      1   2   3   4      frame i reads clean frames < i, and itself
                ▲   ▲   ▲   ▲
    code        0   1   2   3      code[k] goes to frame k + 1, in both copies

so every frame of a clip is one exact example of what the sampler does: a clean past and one partly
masked new frame. The clean copy never depends on the hidden one, which makes caching it exact.

In play the past is a ring of keys and values (`nn/ring.py`) with a page open for the new frame: `next_logits` is
asked a few times (`sampling.py`), then `commit` keeps the frame.

Instead of codes, true actions may lead from frame to frame, where they are known (`condition.py`).

Sources: Genie, arXiv:2402.15391, section 2.1; mask ratios: MaskGIT, arXiv:2202.04200, section 3; the two
copies: block diffusion, arXiv:2503.09573, section 4.
Differs from Genie: the past is clean, with a share of random tokens (`corruption`), not masked; mask
ratios are drawn for every frame by itself, over MaskGIT's cosine; the code is a token by default.
"""

import copy
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import repeat
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from genie_lite.artifact import load_weights, read_artifact
from genie_lite.config import Config, parse
from genie_lite.losses import masked_cross_entropy
from genie_lite.models.condition import ActionsCondition, ActionTable, CodesCondition, ConditionConfig
from genie_lite.nn.attention import check_heads
from genie_lite.nn.inject import Inject, InjectKind
from genie_lite.nn.ring import Page, Ring
from genie_lite.nn.transformer import Read, STTransformer
from genie_lite.types import Loss


class DynamicsConfig(Config):
    """Shape of a dynamics model; vocabulary and grid come from its parents."""

    width: int = Field(default=256, ge=2)
    depth: int = Field(default=6, ge=1)
    heads: int = Field(default=4, ge=1)
    window: int = Field(default=16, ge=2)  # frames that temporal attention reaches, the new one among them
    inject: InjectKind = "token"
    # Largest share of past tokens replaced by random ones, drawn per clip.
    corruption: float = Field(default=0.1, ge=0, le=1)
    condition: ConditionConfig = CodesCondition()  # what leads from frame to frame

    @model_validator(mode="after")
    def _heads_fit(self) -> "DynamicsConfig":
        check_heads(self.width, self.heads)
        return self


# (first, every): these clips are every `every`-th of a batch, from `first` on. Random numbers are drawn for the
# whole batch, so that those of a clip do not depend on how many processes share it out.
Share = tuple[int, int]
WHOLE: Share = (0, 1)


class DynamicsSizes(Config):
    """What the tokenizer, the LAM and the labels decide: never restated in a recipe."""

    vocabulary: int  # codes of the tokenizer
    num_tokens: int  # tokens of a frame
    code_dim: int  # width of a latent action's vector
    actions: tuple[str, ...] = ()  # names of the true actions, where the model is led by them


class DynamicsSpec(Config):
    """All that is needed to build the model again."""

    model: DynamicsConfig
    sizes: DynamicsSizes


class DynamicsWeights(Config):
    """Weight of each term of the objective."""

    cross_entropy: float = Field(default=1.0, gt=0)  # the only term


@dataclass(frozen=True)
class DynamicsOutput:
    """logits: for frames[1:], in float32. masked: which of their tokens were hidden."""

    logits: Float[Tensor, "b k n v"]
    masked: Bool[Tensor, "b k n"]


class DynamicsModel(nn.Module):
    """Space-time transformer over tokens and codes, with its MaskGIT sampler."""

    def __init__(self, spec: DynamicsSpec) -> None:
        super().__init__()
        config, self.sizes, self.spec = spec.model, spec.sizes, spec
        self.corruption = config.corruption
        self.mask_token = self.sizes.vocabulary
        self.embed = nn.Embedding(self.sizes.vocabulary + 1, config.width)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.place = nn.Parameter(0.02 * torch.randn(self.sizes.num_tokens, config.width))
        self.first_code = nn.Parameter(0.02 * torch.randn(self.sizes.code_dim))  # stands before frame 0
        self.inject = Inject(config.inject, self.sizes.code_dim, config.width)
        self.transformer = STTransformer(config.width, config.depth, config.heads, config.window)
        self.to_logits = nn.Linear(config.width, self.sizes.vocabulary)
        self.condition = _condition(config.condition, self.sizes)

    @property
    def reach(self) -> int:
        """Earlier frames that the next one can depend on."""
        return self.transformer.reach

    @property
    def actions(self) -> tuple[str, ...]:
        """Names of the true actions that lead it; empty where latent ones do."""
        return self.sizes.actions

    def code_table(self, code_vectors: Float[Tensor, "codes d"]) -> Float[Tensor, "rows d"]:
        """The vectors that may lead to a frame, given those of the latent actions; see `condition.py`."""
        return code_vectors if self.condition is None else self.condition.vectors(code_vectors)

    def rows_of(
        self, codes: Int[Tensor, "b k"], actions: Int[Tensor, "b k"] | None = None
    ) -> Int[Tensor, "b k"]:
        """Which row of `code_table` leads to each frame, from latent actions and, where they are known, true ones."""
        return codes if self.condition is None else self.condition.rows(codes, actions)

    def forward(
        self,
        tokens: Int[Tensor, "b t n"],
        codes: Float[Tensor, "b k d"],
        generator: torch.Generator,
        share: Share = WHOLE,
    ) -> DynamicsOutput:
        """Hide random tokens of frames 1 … t-1 and predict them.

        Args:
            tokens: a clip of t frames.
            codes: vectors of what led to t - 1 of them, rows of `code_table`.
            generator: the only source of randomness: mask ratios, masks, and in training corruption.
            share: which clips of a batch these are, where processes share one out.
        """
        masked = draw_mask(tokens[:, 1:], generator, share)
        corruption = self.corruption if self.training else 0.0
        clean = corrupt(tokens[:, :-1], corruption, self.sizes.vocabulary, generator, share)
        return DynamicsOutput(
            self.logits(clean, tokens[:, 1:].masked_fill(masked, self.mask_token), codes), masked
        )

    def logits(
        self, clean: Int[Tensor, "b k n"], hidden: Int[Tensor, "b k n"], codes: Float[Tensor, "b k d"]
    ) -> Float[Tensor, "b k n v"]:
        """Predict frames 1 … k, each from the clean frames before it and its own hidden copy."""
        num = clean.shape[1]
        codes = self._with_first(codes)
        rows = self._rows(torch.cat([clean, hidden], dim=1), torch.cat([codes[:, :-1], codes[:, 1:]], dim=1))
        time = torch.arange(num, device=rows.device)
        mask = two_copies(num, self.transformer.window, rows.device)
        hidden_copy = Read(frames=slice(num, None))
        mixed, _ = self.transformer.run(rows, torch.cat([time, time + 1]), mask, read=hidden_copy)
        return self.to_logits(self.inject.strip(mixed)).float()

    @property
    def dtype(self) -> torch.dtype:
        """Of its numbers inside; logits are float32 always."""
        return self.place.dtype

    def in_bfloat16(self) -> "DynamicsModel":
        """A copy for play, all in bfloat16 but what makes logits."""
        model = copy.deepcopy(self).bfloat16()
        model.to_logits.float()
        return model

    def begin(self, age: Int[Tensor, " b"]) -> Ring:
        """Memory of streams whose next frame is number `age`, and of which nothing is known."""
        return self.transformer.begin(age)

    def open(self, ring: Ring) -> Page:
        """What streams remember, with a place for their next frame."""
        return self.transformer.open(ring)

    def first_codes(self, batch: int) -> Float[Tensor, "b 1 d"]:
        """What stands in for the code before a stream's first frame."""
        return repeat(self.first_code, "d -> b 1 d", b=batch)

    def next_logits(
        self, hidden: Int[Tensor, "b n"], code: Float[Tensor, "b d"], page: Page
    ) -> Float[Tensor, "b n v"]:
        """Logits of the next frame, some of its tokens hidden, and the code that leads to it."""
        mixed = self.inject.strip(self._mix_next(hidden, code, page)[:, None])[:, 0]
        return self.to_logits(mixed.to(self.to_logits.weight.dtype)).float()

    def commit(self, tokens: Int[Tensor, "b n"], code: Float[Tensor, "b d"], page: Page) -> Ring:
        """Remember a finished frame and the code that led to it."""
        self._mix_next(tokens, code, page)
        return page.close()

    def _mix_next(self, tokens: Tensor, code: Tensor, page: Page) -> Tensor:
        return self.transformer.next(self._rows(tokens[:, None], code[:, None])[:, 0], page)

    def _with_first(self, codes: Tensor) -> Tensor:
        return torch.cat([self.first_codes(codes.shape[0]).to(codes.dtype), codes], dim=1)

    def _rows(self, tokens: Tensor, codes: Tensor) -> Tensor:
        return self.inject(self.embed(tokens) + self.place, codes)


def _condition(config: CodesCondition | ActionsCondition, sizes: DynamicsSizes) -> ActionTable | None:
    if isinstance(config, CodesCondition):
        return None
    if not sizes.actions:
        raise ValueError("condition: kind is actions, but it is not known which; labels name them")
    return ActionTable(config, len(sizes.actions), sizes.code_dim)


def two_copies(num: int, window: int, device: torch.device | None = None) -> Bool[Tensor, "s s"]:
    """Temporal mask of clean frames 0 … num-1 followed by hidden frames 1 … num (drawing above)."""
    time = torch.arange(num, device=device)
    frame = torch.cat([time, time + 1])
    is_clean = torch.arange(2 * num, device=device) < num
    distance = frame[:, None] - frame[None, :]
    earliest = is_clean[:, None].logical_not().long()  # a hidden frame reads strictly earlier clean frames
    reads_clean = is_clean[None, :] & (distance >= earliest) & (distance < window)
    return reads_clean | (torch.eye(2 * num, dtype=torch.bool, device=device) & ~is_clean[None, :])


def draw_mask(
    tokens: Int[Tensor, "b k n"], generator: torch.Generator, share: Share = WHOLE
) -> Bool[Tensor, "b k n"]:
    """Hide a share cos(π u / 2), u uniform, of each frame's tokens: at least one of every frame."""
    b, k, n = tokens.shape
    first, every = share
    ratio = torch.cos(0.5 * math.pi * torch.rand(b * every, k, 1, generator=generator)[first::every])
    order = torch.rand(b * every, k, n, generator=generator)[first::every]
    rank = order.argsort(dim=-1).argsort(dim=-1)
    return (rank < (ratio * n).ceil().clamp_min(1)).to(tokens.device)


def corrupt(
    tokens: Int[Tensor, "b k n"],
    most: float,
    vocabulary: int,
    generator: torch.Generator,
    share: Share = WHOLE,
) -> Int[Tensor, "b k n"]:
    """Replace a part, uniform in [0, most] per clip, by random tokens: play meets its own mistakes."""
    b, k, n = tokens.shape
    first, every = share
    part = most * torch.rand(b * every, 1, 1, generator=generator)[first::every]
    hit = torch.rand(b * every, k, n, generator=generator)[first::every] < part
    noise = torch.randint(vocabulary, (b * every, k, n), generator=generator)[first::every]
    return torch.where(hit.to(tokens.device), noise.to(tokens.device), tokens)


def objective(out: DynamicsOutput, tokens: Int[Tensor, "b t n"], weights: DynamicsWeights) -> Loss:
    """Cross-entropy of the hidden tokens of frames[1:], in nats per token."""
    terms = {"cross_entropy": masked_cross_entropy(out.logits, tokens[:, 1:], out.masked)}
    return Loss.weigh(terms, weights.model_dump())


def accuracy(out: DynamicsOutput, tokens: Int[Tensor, "b t n"]) -> float:
    """Share of hidden tokens whose likeliest prediction is right; 1 / vocabulary by chance."""
    return float((out.logits.argmax(dim=-1) == tokens[:, 1:])[out.masked].float().mean())


def load_dynamics(folder: Path) -> DynamicsModel:
    """Load a finished dynamics model, in evaluation mode.

    Raises:
        UserError: the folder holds no finished dynamics model, or its weights do not match its manifest.
    """
    artifact = read_artifact(folder, "dynamics")
    model = DynamicsModel(parse(artifact.config, DynamicsSpec, str(folder)))
    load_weights(artifact, model)
    return model
