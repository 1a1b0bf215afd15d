"""The world: a first frame and codes in, frames out; all randomness from one seed.

    state = world.reset(frames, seed=7)        frames to begin from, one or more
    state, frame = world.step(state, code)     one code per stream; states are never changed in place
    state, frame = world.follow(state, tokens, code)   the same, of a frame whose tokens were kept

A state can be kept, copied and stepped again with another code: rewinding and branching need no more.
Rollouts stay in tokens: a frame is decoded to be looked at and never encoded again.

The same seed gives the same world, bit for bit, on the same machine: streams are computed in groups of a fixed
size, whatever the batch; random numbers are a function of seed, stream, frame, pass and place; and the caches
are a function of the last frames' tokens and codes, which are all that is saved of a state.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from genie_lite.artifact import read_artifact
from genie_lite.errors import UserError
from genie_lite.models.dynamics import DynamicsModel, load_dynamics
from genie_lite.models.lam import LatentActionModel, load_lam
from genie_lite.models.sampling import SamplingConfig, sample
from genie_lite.models.tokenizer import VideoTokenizer, load_tokenizer
from genie_lite.nn.compiler import check_compiler
from genie_lite.nn.noise import uniform
from genie_lite.nn.ring import Page, Ring

NO_CODE = -1  # of a stream's first frame, to which no code led


@dataclass(frozen=True)
class State:
    """Where streams stand; they may be of different ages. Immutable: a step returns a new one.

    tokens, codes: of the last r frames, with the code that led to each (in a world of true actions, those of given
    frames are beyond its codes: no action is known); what lies before a stream's first frame is never read.
    frame: index of the newest frame. seed, stream: what all noise still to come depends on.
    past, decoder: the caches of the dynamics model and of the tokenizer's decoder; None in a world without.
    """

    tokens: Int[Tensor, "b r n"]
    codes: Int[Tensor, "b r"]
    frame: Int[Tensor, " b"]
    seed: Int[Tensor, " b"]
    stream: Int[Tensor, " b"]
    past: Ring | None
    decoder: Ring | None

    def __len__(self) -> int:
        """Number of streams."""
        return len(self.frame)

    def of(self, streams: slice | Int[Tensor, " s"]) -> "State":
        """Some of the streams."""
        return State(*(_take(part, streams) for part in self._parts()))

    @staticmethod
    def join(states: Sequence["State"]) -> "State":
        """Streams of several states of the same world, side by side."""
        return State(*(_join(parts) for parts in zip(*(state._parts() for state in states), strict=True)))

    def tensors(self) -> dict[str, Tensor]:
        """What has to be kept of a state, in a file of safetensors say: `World.recall` makes it again, bit for bit."""
        return {name: getattr(self, name).contiguous() for name in KEPT}

    def _parts(self) -> list[Tensor | Ring | None]:
        return [getattr(self, each.name) for each in fields(self)]


KEPT = ("tokens", "codes", "frame", "seed", "stream")


class World:
    """Tokenizer, latent action model and dynamics model of one run, as something to act in."""

    def __init__(
        self,
        tokenizer: VideoTokenizer,
        lam: LatentActionModel,
        dynamics: DynamicsModel,
        sampling: SamplingConfig | None = None,
        *,
        cache: bool = True,
        compiled: bool = False,
    ) -> None:
        """Put three models together.

        Args:
            tokenizer: of the run; so are the others.
            lam: infers the codes between the frames to begin from.
            dynamics: trained on tokens and codes of these two.
            sampling: how frames are drawn.
            cache: keep keys and values of the past. Without it, everything is computed anew from the last frames'
                tokens, for every pass: the same frames, many times slower. It is there to show that.
            compiled: let `torch.compile` make one program of a refinement pass. The first frame waits for it, and
                rounding is its own: a compiled world need not be the one that is not.
        """
        self.sampling = sampling or SamplingConfig()
        dynamics = dynamics.in_bfloat16() if self.sampling.precision == "bf16-true" else dynamics
        self.tokenizer, self.lam, self.dynamics = tokenizer.eval(), lam.eval(), dynamics.eval()
        self.cache, self.compiled = cache, compiled
        if compiled:
            check_compiler(dynamics.place.device)
        self._next_logits = torch.compile(dynamics.next_logits) if compiled else dynamics.next_logits
        with torch.no_grad():
            vectors = dynamics.code_table(lam.code_vectors())
            # The last is that of NO_CODE.
            self._vector = torch.cat([vectors.to(dynamics.dtype), dynamics.first_codes(1)[0]])

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
        """Number of latent actions to choose from, or of true ones in a world that was trained on them."""
        return len(self.actions) or self.lam.num_codes

    @property
    def actions(self) -> tuple[str, ...]:
        """Names of the true actions that a code is the number of; empty where codes are latent actions."""
        return self.dynamics.actions

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._vector.device

    @torch.inference_mode()
    def reset(
        self,
        frames: Float[Tensor, "b t c h w"],
        seed: int | Sequence[int],
        streams: Sequence[int] | None = None,
    ) -> State:
        """Begin from t ≥ 1 given frames; the codes between them are inferred by the latent action model.

        Args:
            frames: to begin from.
            seed: one of all streams, or one of each.
            streams: tells apart streams that share a seed; 0 … b - 1 if not given.

        Raises:
            UserError: frames of another shape, or outside [0, 1]; a seed that is negative or no 63-bit number.
        """
        self._check(frames)
        batch = len(frames)
        seeds = list(seed) if isinstance(seed, Sequence) else [seed] * batch
        numbers = list(range(batch)) if streams is None else list(streams)
        _check_seeds(seeds, numbers, batch)
        each_seed, each_stream = (torch.tensor(each, device=self.device) for each in (seeds, numbers))
        states = [
            self._reset(frames[group], each_seed[group], each_stream[group]) for group in self._groups(batch)
        ]
        return _first(batch, states)

    @torch.inference_mode()
    def step(self, state: State, code: Int[Tensor, " b"]) -> tuple[State, Float[Tensor, "b c h w"]]:
        """Take one latent action per stream; returns the new state and the frame, in [0, 1].

        Raises:
            UserError: a code outside [0, num_codes).
        """
        self._check_code(state, code)
        groups, code = self._groups(len(state)), code.long()
        states, frames = zip(*(self._step(state.of(each), code[each]) for each in groups), strict=True)
        return _first(len(state), states), torch.cat(frames)[: len(state)]

    @torch.inference_mode()
    def follow(
        self, state: State, tokens: Int[Tensor, "b n"], code: Int[Tensor, " b"]
    ) -> tuple[State, Float[Tensor, "b c h w"]]:
        """Append frames whose tokens are known, such as those that `step` drew once; nothing is drawn.

        Bit for bit what `step` returned when it drew these tokens, in the time of one refinement pass.

        Args:
            state: before these frames.
            tokens: of the next frame of each stream, as `State.tokens` keeps them.
            code: the latent action that led to it.

        Raises:
            UserError: tokens or codes outside their alphabets, or not one frame of each stream.
        """
        self._check_code(state, code)
        self._check_tokens(state, tokens)
        groups, code, tokens = self._groups(len(state)), code.long(), tokens.long()
        states, frames = zip(
            *(self._follow(state.of(each), tokens[each], code[each]) for each in groups), strict=True
        )
        return _first(len(state), states), torch.cat(frames)[: len(state)]

    @torch.inference_mode()
    def recall(self, tensors: Mapping[str, Tensor]) -> State:
        """The state of which `State.tensors` was kept, caches and all.

        Raises:
            UserError: tensors of another world, or of another thing.
        """
        self._check_kept(tensors)
        kept = State(**{name: tensors[name].to(self.device) for name in KEPT}, past=None, decoder=None)
        if not self.cache:
            return kept
        return _first(len(kept), [self._with_caches(kept.of(each)) for each in self._groups(len(kept))])

    def rollout(
        self, frames: Float[Tensor, "b t c h w"], codes: Int[Tensor, "b k"], seed: int
    ) -> Float[Tensor, "b k c h w"]:
        """Begin from given frames, take k codes, return the k sampled frames."""
        state, sampled = self.reset(frames, seed), []
        for code in codes.unbind(dim=1):
            state, frame = self.step(state, code)
            sampled.append(frame)
        return rearrange(sampled, "k b c h w -> b k c h w")

    # --- one group of streams ------------------------------------------------------------------------------

    def _reset(self, frames: Tensor, seed: Tensor, stream: Tensor) -> State:
        tokens = self.tokenizer.encode(frames).index
        none = torch.full_like(tokens[:, :1, 0], NO_CODE)
        codes = none if frames.shape[1] == 1 else torch.cat([none, self._between(frames)], dim=1)
        state = State(
            tokens=tokens.new_zeros(len(frames), self._num_kept, tokens.shape[-1]),
            codes=codes.new_full((len(frames), self._num_kept), NO_CODE),
            frame=torch.full_like(seed, -1),
            seed=seed,
            stream=stream,
            past=self.dynamics.begin(torch.zeros_like(seed)) if self.cache else None,
            decoder=self.tokenizer.begin(torch.zeros_like(seed)) if self.cache else None,
        )
        for token, code in zip(tokens.unbind(dim=1), codes.unbind(dim=1), strict=True):
            state, _ = self._follow(state, token, code)
        return state

    def _between(self, frames: Tensor) -> Tensor:
        """What led from each given frame to the next: latent actions, or "missing" where true ones lead."""
        return self.dynamics.rows_of(self.lam.encode(frames).index)

    def _step(self, state: State, code: Tensor) -> tuple[State, Tensor]:
        steps, places = self.sampling.refinements, state.tokens.shape[-1]
        noise = uniform(state.seed, state.stream, state.frame + 1, steps, places)
        vector = self._vector[code]

        page = None if state.past is None else self.dynamics.open(state.past)

        def predict(tokens: Tensor) -> Tensor:
            return self._next_logits(
                tokens, vector, self.dynamics.open(self._past_of(state)) if page is None else page
            )

        tokens = sample(predict, noise, self.sampling.temperature, self.dynamics.mask_token)
        return self._commit(state, tokens, code, page)

    def _follow(self, state: State, tokens: Tensor, code: Tensor) -> tuple[State, Tensor]:
        page = None if state.past is None else self.dynamics.open(state.past)
        return self._commit(state, tokens, code, page)

    def _commit(self, state: State, tokens: Tensor, code: Tensor, page: Page | None) -> tuple[State, Tensor]:
        """Append a finished frame; returns the new state and the frame as a picture."""
        before = self._decoder_of(state) if state.decoder is None else state.decoder
        frame, decoder = self.tokenizer.decode_next(self._token_vectors(tokens), before)
        after = State(
            tokens=torch.cat([state.tokens[:, 1:], tokens[:, None]], dim=1),
            codes=torch.cat([state.codes[:, 1:], code[:, None]], dim=1),
            frame=state.frame + 1,
            seed=state.seed,
            stream=state.stream,
            past=None if page is None else self.dynamics.commit(tokens, self._vector[code], page),
            decoder=None if state.decoder is None else decoder,
        )
        return after, frame.float().clamp(0, 1)

    # --- caches, from the last frames ----------------------------------------------------------------------

    @property
    def _num_kept(self) -> int:
        return max(1, self.dynamics.reach, self.tokenizer.reach)

    def _with_caches(self, state: State) -> State:
        return replace(state, past=self._past_of(state), decoder=self._decoder_of(state))

    def _past_of(self, state: State) -> Ring:
        tokens, codes = self._last(state, self.dynamics.reach)
        ring = self.dynamics.begin(state.frame + 1 - tokens.shape[1])
        for token, code in zip(tokens.unbind(dim=1), codes.unbind(dim=1), strict=True):
            ring = self.dynamics.commit(token, self._vector[code], self.dynamics.open(ring))
        return ring

    def _decoder_of(self, state: State) -> Ring:
        tokens, _ = self._last(state, self.tokenizer.reach)
        ring = self.tokenizer.begin(state.frame + 1 - tokens.shape[1])
        for token in tokens.unbind(dim=1):
            _, ring = self.tokenizer.decode_next(self._token_vectors(token), ring)
        return ring

    def _last(self, state: State, num: int) -> tuple[Tensor, Tensor]:
        first = self._num_kept - num
        return state.tokens[:, first:], state.codes[:, first:]

    def _token_vectors(self, tokens: Int[Tensor, "b n"]) -> Tensor:
        return self.tokenizer.quantizer.vector_of(tokens)

    # --- arguments -----------------------------------------------------------------------------------------

    def _groups(self, batch: int) -> list[slice | Tensor]:
        """Streams that are computed together: always as many, the last one several times if need be."""
        size = self.sampling.micro_batch
        whole = [slice(first, first + size) for first in range(0, batch - batch % size, size)]
        rest = torch.arange(batch - batch % size, batch, device=self.device)
        return [*whole, *([torch.cat([rest, rest[-1:].expand(size - len(rest))])] if len(rest) else [])]

    def _check_code(self, state: State, code: Tensor) -> None:
        if not _are_indices(code, tuple(state.frame.shape), self.num_codes):
            raise UserError(
                f"code: found {code.tolist()}, expected {len(state)} integers from 0 to {self.num_codes - 1}"
            )

    def _check_tokens(self, state: State, tokens: Tensor) -> None:
        shape, vocabulary = (len(state), self.tokenizer.num_tokens), self.dynamics.mask_token
        if not _are_indices(tokens, shape, vocabulary):
            raise UserError(
                f"tokens: found {list(tokens.shape)} of {tokens.dtype}, expected {list(shape)} integers from 0 to "
                f"{vocabulary - 1}; they are of another world"
            )

    def _check_kept(self, tensors: Mapping[str, Tensor]) -> None:
        batch = len(tensors["frame"]) if "frame" in tensors else 0
        rows = {"tokens": (self._num_kept, self.tokenizer.num_tokens), "codes": (self._num_kept,)}
        expected = {name: (torch.int64, (batch, *rows.get(name, ()))) for name in KEPT}
        found = {name: (each.dtype, tuple(each.shape)) for name, each in tensors.items()}
        if not batch or found != expected:
            raise UserError(f"state: found {found}, expected {expected}; it is of another world")
        limits = {
            "tokens": (0, self.dynamics.mask_token - 1),
            "codes": (NO_CODE, len(self._vector) - 2),
            "frame": (0, 2**32 - 2),  # the next one has noise, too
            "seed": (0, 2**63 - 1),
            "stream": (0, 2**32 - 1),
        }
        for name, (low, high) in limits.items():
            least, most = int(tensors[name].min()), int(tensors[name].max())
            if least < low or most > high:
                raise UserError(
                    f"state: found {name} from {least} to {most}, expected {low} to {high}; it is damaged or of "
                    "another world"
                )

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


def _are_indices(found: Tensor, shape: tuple[int, ...], num: int) -> bool:
    """Whether these are whole numbers from 0 to num - 1, so many of them."""
    is_whole = not (found.is_floating_point() or found.dtype == torch.bool)
    return is_whole and tuple(found.shape) == shape and int(found.min()) >= 0 and int(found.max()) < num


def _first(num: int, states: Sequence[State]) -> State:
    """The first so many streams of several groups; those that only filled up the last one are left out."""
    joined = states[0] if len(states) == 1 else State.join(states)
    return joined if len(joined) == num else joined.of(slice(num))


def _take(part: Tensor | Ring | None, streams: slice | Tensor) -> Any:
    if isinstance(part, Ring):
        return part.of(streams)
    return None if part is None else part[streams]


def _join(parts: tuple[Any, ...]) -> Any:
    assert len({type(part) for part in parts}) == 1, "states of a world with a cache and of one without"
    if isinstance(parts[0], Ring):
        return Ring.join(parts)
    return None if parts[0] is None else torch.cat(parts)


def _check_seeds(seeds: Sequence[int], streams: Sequence[int], batch: int) -> None:
    for name, found, limit in (("seed", seeds, 2**63), ("streams", streams, 2**32)):
        are_whole = all(isinstance(each, Integral) for each in found)
        if len(found) != batch or not are_whole or not all(0 <= each < limit for each in found):
            raise UserError(
                f"{name}: found {list(found)}, expected {batch} whole numbers from 0 to {limit - 1}"
            )


def _check_parents(run: Path) -> None:
    dynamics = read_artifact(run / "dynamics", "dynamics")
    for stage in ("tokenizer", "lam"):
        found = read_artifact(run / stage, stage).sha256
        if dynamics.parents.get(stage) != found:
            raise UserError(
                f"{run / 'dynamics'}: was trained on another {stage} than {run / stage}; train the dynamics stage again"
            )
