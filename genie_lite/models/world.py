"""The world: a first frame and codes in, frames out; all randomness from one seed.

    state = world.reset(frames, seed=7)        frames to begin from, one or more
    state, frame = world.step(state, code)     one code per stream; states are never changed in place

A state can be kept, copied and stepped again with another code: rewinding and branching need no more.
Rollouts stay in tokens: a frame is decoded to be looked at and never encoded again.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from genie_lite.artifact import read_artifact
from genie_lite.config import Config
from genie_lite.errors import UserError
from genie_lite.models.dynamics import DynamicsModel, gumbel, load_dynamics
from genie_lite.models.lam import LatentActionModel, load_lam
from genie_lite.models.tokenizer import VideoTokenizer, load_tokenizer
from genie_lite.nn.transformer import Past


class SamplingConfig(Config):
    """How the next frame is drawn."""

    # MaskGIT passes per frame; more are finer and slower. The paper takes 25.
    refinements: int = Field(default=8, ge=1, le=25)
    temperature: float = Field(default=1.0, ge=0)  # 0 takes the likeliest tokens


@dataclass(frozen=True)
class State:
    """Where a batch of streams stands. Immutable: a step returns a new one.

    past: the dynamics model's cache of committed frames. decoder: the tokenizer decoder's cache.
    frame: index of the newest frame. seed: of all noise that is still to come.
    """

    past: Past
    decoder: Past
    frame: int
    seed: int


class World:
    """Tokenizer, latent action model and dynamics model of one run, as something to act in."""

    def __init__(
        self,
        tokenizer: VideoTokenizer,
        lam: LatentActionModel,
        dynamics: DynamicsModel,
        sampling: SamplingConfig | None = None,
    ) -> None:
        self.tokenizer, self.lam, self.dynamics = tokenizer.eval(), lam.eval(), dynamics.eval()
        self.sampling = sampling or SamplingConfig()
        self.code_vectors = lam.code_vectors().detach()

    @classmethod
    def load(cls, run: Path, sampling: SamplingConfig | None = None) -> "World":
        """Load the three finished stages of a run and check that they belong together.

        Raises:
            UserError: a stage is missing, or the dynamics model was trained on other parents.
        """
        dynamics = load_dynamics(run / "dynamics")
        _check_parents(run)
        return cls(load_tokenizer(run / "tokenizer"), load_lam(run / "lam"), dynamics, sampling)

    @property
    def num_codes(self) -> int:
        """Number of latent actions to choose from."""
        return self.lam.num_codes

    @torch.inference_mode()
    def reset(self, frames: Float[Tensor, "b t c h w"], seed: int) -> State:
        """Begin from t ≥ 1 given frames; the codes between them are inferred by the latent action model.

        Raises:
            UserError: frames of another shape, or outside [0, 1].
        """
        self._check(frames)
        token = self.tokenizer.encode(frames)
        codes = self.dynamics.first_codes(frames.shape[0])
        if frames.shape[1] > 1:
            codes = torch.cat([codes, self.lam.encode(frames).vector], dim=1)
        past = self.dynamics.commit(token.index, codes, None)
        _, decoder = self.tokenizer.extend(self.tokenizer.quantizer.vector_of(token.index), None)
        return State(past=past, decoder=decoder, frame=frames.shape[1] - 1, seed=seed)

    @torch.inference_mode()
    def step(self, state: State, code: Int[Tensor, " b"]) -> tuple[State, Float[Tensor, "b c h w"]]:
        """Take one latent action per stream; returns the new state and the frame, in [0, 1].

        Raises:
            UserError: a code outside [0, num_codes).
        """
        if int(code.min()) < 0 or int(code.max()) >= self.num_codes:
            raise UserError(f"code: found {code.tolist()}, expected integers from 0 to {self.num_codes - 1}")
        vector = self.code_vectors[code]
        noise = self._noise(state, code.shape[0])
        tokens = self.dynamics.sample(vector, state.past, noise, self.sampling.temperature)
        past = self.dynamics.commit(tokens[:, None], vector[:, None], state.past)
        frame, decoder = self.tokenizer.extend(
            self.tokenizer.quantizer.vector_of(tokens[:, None]), state.decoder
        )
        new = State(past=past, decoder=decoder, frame=state.frame + 1, seed=state.seed)
        return new, frame[:, 0].float().clamp(0, 1)

    def rollout(
        self, frames: Float[Tensor, "b t c h w"], codes: Int[Tensor, "b k"], seed: int
    ) -> Float[Tensor, "b k c h w"]:
        """Begin from given frames, take k codes, return the k sampled frames."""
        state, sampled = self.reset(frames, seed), []
        for code in codes.unbind(dim=1):
            state, frame = self.step(state, code)
            sampled.append(frame)
        return rearrange(sampled, "k b c h w -> b k c h w")

    def _check(self, frames: Tensor) -> None:
        height, width = self.tokenizer.config.frame_hw
        are_clips = frames.ndim == 5 and tuple(frames.shape[2:]) == (3, height, width)
        if not are_clips or 0 in frames.shape or not frames.is_floating_point():
            raise UserError(
                f"frames: found {list(frames.shape)} of {frames.dtype}, expected floats "
                f"[batch, frames, 3, {height}, {width}], at least one of each"
            )
        low, high = float(frames.min()), float(frames.max())
        if not (low >= 0 and high <= 1):  # so that NaN is refused, too
            raise UserError(
                f"frames: found values from {low:g} to {high:g}, expected 0 to 1; divide bytes by 255"
            )

    def _noise(self, state: State, batch: int) -> Tensor:
        """Gumbel noise of each stream for the next frame: a function of seed, stream and frame alone."""
        shape = (self.sampling.refinements, self.dynamics.sizes.num_tokens, self.dynamics.sizes.vocabulary)
        streams = [gumbel(_generator(state.seed, stream, state.frame + 1), *shape) for stream in range(batch)]
        return torch.stack(streams).to(self.code_vectors.device)


def _generator(seed: int, stream: int, frame: int) -> torch.Generator:
    # Odd 64-bit constants spread neighbouring (seed, stream, frame) over the generator's seed space.
    mixed = (seed * 0x9E3779B97F4A7C15 + stream * 0xBF58476D1CE4E5B9 + frame * 0x94D049BB133111EB) % 2**63
    return torch.Generator().manual_seed(mixed)


def _check_parents(run: Path) -> None:
    dynamics = read_artifact(run / "dynamics", "dynamics")
    for stage in ("tokenizer", "lam"):
        found = read_artifact(run / stage, stage).sha256
        if dynamics.parents.get(stage) != found:
            raise UserError(
                f"{run / 'dynamics'}: was trained on another {stage} than {run / stage}; train the dynamics stage again"
            )
