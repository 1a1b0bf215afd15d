"""Other open Genie implementations, run from checkouts that the caller names; nothing of them is copied.

    tinyworlds   https://github.com/AlmondGod/tinyworlds at a99f3a8, all of it
    swm          https://github.com/galilai-group/stable-worldmodel, pull request 227 at 06d960b;
                 stable_worldmodel/wm/genie/module.py is enough

Equal for all: width, depth (that many blocks in each encoder, decoder and dynamics model), heads, tokens of a
frame, codes, actions, parameters of a feed-forward layer (8 width²; tinyworlds' gated one has two thirds of the
inner width and three matrices), AdamW in its fused form, and the loop (`measure.training_step`). What is each
project's own is how it attends, normalises, quantizes, injects actions and masks. They run eagerly, as genie_lite does.

A dynamics step is given tokens and the vectors of the actions, and so is a sampler: encoding them is left out for
everybody, since it can be done once before training, and so is decoding a sampled frame. swm trains its
latent action model together with its dynamics; here each is a step by itself.
"""

import argparse
import importlib
import importlib.util
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from measure import training_step
from torch import Tensor, nn

from genie_lite.errors import UserError

Stage = Literal["tokenizer", "lam", "dynamics"]
Precision = Literal["fp32", "bf16"]
CODE_DIM = 32  # width of a code's vector, where a project lets one choose


@dataclass(frozen=True)
class Shape:
    """Sizes that all rivals share."""

    batch: int  # clips
    frames: int  # of a clip
    size_px: int = 64  # of both sides of a frame
    patch: int = 8  # of the tokenizer; 64 tokens a frame
    lam_patch: int = 16
    width: int = 128
    depth: int = 4  # blocks in the encoder, as many in the decoder, and in the dynamics model
    heads: int = 4
    codes: int = 1024  # of the tokenizer
    actions: int = 8  # codes of the latent action model

    def __str__(self) -> str:
        return f"{self.batch}x{self.frames}"

    @property
    def num_tokens(self) -> int:
        """Of a frame."""
        return (self.size_px // self.patch) ** 2


@dataclass(frozen=True)
class Job:
    """What is timed, and the size of the model that does it."""

    run: Callable[[], object]
    parameters: int

    def __call__(self) -> object:
        return self.run()


class Peer(Protocol):
    """A rival: jobs on random data of a shape, ready to be timed."""

    @property
    def name(self) -> str:
        """In a column's title and on the command line."""
        ...

    def tokenizer_step(self, shape: Shape, precision: Precision = "fp32") -> Job:
        """One training step on a batch of clips."""
        ...

    def lam_step(self, shape: Shape, precision: Precision = "fp32") -> Job:
        """One training step of the latent action model on a batch of clips."""
        ...

    def dynamics_step(self, shape: Shape, precision: Precision = "fp32") -> Job:
        """One training step on the tokens and action vectors of a batch of clips."""
        ...

    def sample_frame(self, shape: Shape, passes: int, precision: Precision = "fp32") -> Job:
        """The tokens (or their vectors) of a new frame, by its own sampler, from those of shape.frames - 1 frames."""
        ...


class TinyWorlds:
    """AlmondGod/tinyworlds. Its sampler stops early where its schedule has no token left to fill in."""

    name = "tinyworlds"

    def __init__(self, checkout: Path) -> None:
        _expect(checkout / "models" / "dynamics.py", "--tinyworlds", "a checkout of tinyworlds")
        with _importable(checkout, "models"):
            self.tokenizers = importlib.import_module("models.video_tokenizer")
            self.lams = importlib.import_module("models.latent_actions")
            self.dynamics = importlib.import_module("models.dynamics")

    def tokenizer_step(self, shape: Shape, precision: Precision = "fp32") -> Job:
        model, video = self._tokenizer(shape), _video(shape)
        return _training(model, lambda: model(video)[0], precision)

    def lam_step(self, shape: Shape, precision: Precision = "fp32") -> Job:
        hw = (shape.size_px, shape.size_px)
        model = self.lams.LatentActionModel(hw, shape.actions, shape.lam_patch, *_sizes(shape))
        video = _video(shape)
        return _training(model, lambda: model(video)[0], precision)

    def dynamics_step(self, shape: Shape, precision: Precision = "fp32") -> Job:
        model, tokens, actions = self._dynamics(shape), _tokens(shape), self._actions(shape)
        vectors = self._tokenizer(shape).quantizer.get_latents_from_indices(tokens)
        return _training(
            model, lambda: model(vectors, training=True, conditioning=actions, targets=tokens)[2], precision
        )

    def sample_frame(self, shape: Shape, passes: int, precision: Precision = "fp32") -> Job:
        model, actions = self._dynamics(shape).eval(), self._actions(shape)
        to_vectors = self._tokenizer(shape).quantizer.get_latents_from_indices
        past = to_vectors(_tokens(shape)[:, :-1])

        def sample() -> Tensor:
            return model.forward_inference(
                past, 1, passes, to_vectors, conditioning=actions, temperature=1.0
            )[:, -1]

        return _sampling(model, sample, precision)

    def _tokenizer(self, shape: Shape) -> Any:
        hw, (channels, levels) = (shape.size_px, shape.size_px), _channels_and_levels(shape.codes)
        return self.tokenizers.VideoTokenizer(hw, shape.patch, *_sizes(shape), channels, levels)

    def _dynamics(self, shape: Shape) -> Any:
        channels, levels = _channels_and_levels(shape.codes)
        return self.dynamics.DynamicsModel(
            (shape.size_px, shape.size_px),
            shape.patch,
            *_sizes(shape),
            num_bins=levels,
            n_actions=shape.actions,
            conditioning_dim=_log2(shape.actions),
            latent_dim=channels,
        )

    def _actions(self, shape: Shape) -> Tensor:
        """Corners of a cube, `b t-1 bits`: its quantizer has two levels in each channel."""
        return torch.randint(2, (shape.batch, shape.frames - 1, _log2(shape.actions))) * 2.0 - 1


class StableWorldModel:
    """galilai-group/stable-worldmodel, Genie. Masks of .15 to .7 of the tokens, as its training draws them."""

    name = "swm"

    def __init__(self, checkout: Path) -> None:
        path = checkout / "stable_worldmodel" / "wm" / "genie" / "module.py"
        _expect(path, "--swm", "a checkout of stable-worldmodel with its Genie")
        self.module = _module_from(path, "stable_worldmodel_genie")

    def tokenizer_step(self, shape: Shape, precision: Precision = "fp32") -> Job:
        model = self._autoencoder("ST_ViViT", shape, shape.codes, shape.patch)
        video = _video(shape).movedim(2, -1).contiguous()

        def loss() -> Tensor:
            reconstruction, _, commitment = model(video)
            return F.mse_loss(reconstruction, video) + commitment

        return _training(model, loss, precision)

    def lam_step(self, shape: Shape, precision: Precision = "fp32") -> Job:
        model = self._autoencoder("LAM", shape, shape.actions, shape.lam_patch)
        video = _video(shape).movedim(2, -1).contiguous()

        def loss() -> Tensor:
            prediction, _, commitment = model(video)
            return F.mse_loss(prediction, video[:, 1:]) + commitment

        return _training(model, loss, precision)

    def dynamics_step(self, shape: Shape, precision: Precision = "fp32") -> Job:
        model, tokens, actions = self._dynamics(shape), _tokens(shape), self._actions(shape)

        def loss() -> Tensor:
            ratio = 0.15 + 0.55 * torch.rand(shape.batch, 1, 1)
            masked = torch.rand(tokens.shape) < ratio
            return model(tokens.masked_fill(masked, shape.codes), tokens, actions)["loss"]

        return _training(model, loss, precision)

    def sample_frame(self, shape: Shape, passes: int, precision: Precision = "fp32") -> Job:
        model, tokens, actions = self._dynamics(shape).eval(), _tokens(shape), self._actions(shape)
        new = shape.frames - 1
        tokens[:, new] = shape.codes  # all of it masked

        def sample() -> Tensor:
            return model.sample_frame(tokens, new, passes, actions, temperature=1.0)

        return _sampling(model, sample, precision)

    def _autoencoder(self, name: str, shape: Shape, codes: int, patch: int) -> Any:
        return getattr(self.module, name)(
            encoder=self._transformer(shape),
            decoder=self._transformer(shape),
            vq=self.module.VectorQuantizer(codes, CODE_DIM),
            patch_size=patch,
            height=shape.size_px,
            width=shape.size_px,
            channels=3,
            temporal_dim=shape.frames,
            d_model=shape.width,
        )

    def _dynamics(self, shape: Shape) -> Any:
        return self.module.ST_MaskGIT(
            decoder=self._transformer(shape),
            spatial_dim=shape.num_tokens,
            temporal_dim=shape.frames,
            d_model=shape.width,
            image_vocab_size=shape.codes,
            action_embed_dim=CODE_DIM,
        )

    def _transformer(self, shape: Shape) -> nn.Module:
        return self.module.ST_Transformer(shape.depth, shape.heads, shape.width, shape.frames)

    def _actions(self, shape: Shape) -> Tensor:
        return torch.randn(shape.batch, shape.frames - 1, CODE_DIM)


def add_peer_arguments(parser: argparse.ArgumentParser) -> None:
    """Let the command line name checkouts."""
    parser.add_argument("--tinyworlds", type=Path, metavar="CHECKOUT", help="compare with tinyworlds")
    parser.add_argument("--swm", type=Path, metavar="CHECKOUT", help="compare with stable-worldmodel's Genie")


def find_peers(arguments: argparse.Namespace) -> list[Peer]:
    """The peers whose checkouts were named.

    Raises:
        UserError: a checkout lacks what is needed.
    """
    peers: list[Peer] = []
    if arguments.tinyworlds is not None:
        peers.append(TinyWorlds(arguments.tinyworlds))
    if arguments.swm is not None:
        peers.append(StableWorldModel(arguments.swm))
    return peers


def count_parameters(model: nn.Module) -> int:
    """That are trained."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _training(model: Any, loss: Callable[[], Tensor], precision: Precision) -> Job:
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
    return Job(training_step(optimizer, loss, bf16=precision == "bf16"), count_parameters(model))


def _sampling(model: Any, sample: Callable[[], Tensor], precision: Precision) -> Job:
    def run() -> Tensor:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            return sample()

    return Job(run, count_parameters(model))


def _video(shape: Shape) -> Tensor:
    """Frames in [-1, 1], `b t c h w`, as both peers have them."""
    return torch.rand(shape.batch, shape.frames, 3, shape.size_px, shape.size_px) * 2 - 1


def _tokens(shape: Shape) -> Tensor:
    return torch.randint(shape.codes, (shape.batch, shape.frames, shape.num_tokens))


def _sizes(shape: Shape) -> tuple[int, int, int, int]:
    """Width, heads, feed-forward, depth: the order that all of tinyworlds' models take them in."""
    return shape.width, shape.heads, 4 * shape.width, shape.depth


def _channels_and_levels(codes: int) -> tuple[int, int]:
    """Of tinyworlds' scalar quantizer: four levels each, as it has them, where that makes so many codes."""
    bits = _log2(codes)
    bits_each = next(each for each in (2, 3, 1) if bits % each == 0)
    return bits // bits_each, 2**bits_each


def _log2(number: int) -> int:
    if number < 2 or number & (number - 1):
        raise UserError(f"tinyworlds needs numbers of codes that are powers of 2, found {number}")
    return int(math.log2(number))


def _expect(path: Path, option: str, what: str) -> None:
    if not path.is_file():
        raise UserError(f"{option}: expected {what}, but there is no {path}")


@contextmanager
def _importable(checkout: Path, package: str) -> Iterator[None]:
    """Let a checkout's package be imported, and forget its name afterwards: it is too common to keep."""
    sys.path.insert(0, str(checkout))
    try:
        yield
    finally:
        sys.path.remove(str(checkout))
        for name in [name for name in sys.modules if name.split(".")[0] == package]:
            del sys.modules[name]


def _module_from(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, path
    assert spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
