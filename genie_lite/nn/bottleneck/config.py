"""What a recipe says of a bottleneck, by `kind`.

    vq            one nearest code of a book, or several tokens side by side      learnt by moving averages
    residual_vq   several nearest codes, each of what the ones before left over   learnt by moving averages
    fsq           every channel rounded to a few levels                           nothing to learn
    vae           a Gaussian around a vector, kept near a standard normal         `beta` in the objective
    none          the vector as it is                                             nothing to learn

A discrete choice made of several tokens is one number, too, of 63 bits at most: LAPO has 64^8 of them, Moto 128^8.
What lists all codes, or keeps one in 16 bits (a world, and whatever is a tokenizer's), needs an alphabet of at most
2^16; training and extraction do not. The continuous kinds have a menu in place of an alphabet: a few centres of their
vectors, learnt beside them, which never touch what is passed on.
"""

import math
import warnings
from typing import Annotated, Literal

from pydantic import Field, model_validator

from genie_lite.config import Config
from genie_lite.errors import UserError

MOST_CODES = (
    2**16
)  # that can be listed, of one token and of an alphabet: what worlds keep of a frame are 16-bit numbers
MOST_COMPOSED = 2**63  # that several tokens may make: a code is one signed number of 64 bits
SMALLEST_BETA = 1e-5  # below, the noise of a VAE fades away and it is an autoencoder


class VQConfig(Config):
    """Codebook learnt by moving averages; codes that fall out of use restart from encoder outputs.

    With several tokens every vector is cut into as many parts of `dim` numbers and each part gets a code of its own.

    Source: VQ-VAE-2, arXiv:1906.00446 (moving averages); ViT-VQGAN, arXiv:2110.04627 (unit-length codes); LAPO,
    arXiv:2312.10812 (several tokens; with a book each they collapsed, two that share one did not).
    """

    kind: Literal["vq"] = "vq"
    num_codes: int = Field(default=1024, ge=2, le=MOST_CODES)  # of each token
    dim: int = Field(default=32, ge=1)  # width of a token's code; small, so that codes stay apart
    tokens: int = Field(default=1, ge=1)  # codes per vector, which is then `tokens * dim` wide
    share: bool = True  # one book for all tokens; otherwise each has its own
    decay: float = Field(default=0.99, ge=0, lt=1)  # of the moving averages; nearer to 1 is slower
    # A code whose average count per batch falls below restarts; 0 never restarts.
    restart_below: float = Field(default=0.0, ge=0)
    cosine: bool = True  # compare directions, with codes of unit length

    @model_validator(mode="after")
    def _codes_can_be_kept(self) -> "VQConfig":
        _expect_one_number(f"{self.tokens} tokens of {self.num_codes}", self.sizes)
        return self

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many codes each token may be."""
        return (self.num_codes,) * self.tokens

    @property
    def width(self) -> int:
        """Of a vector."""
        return self.tokens * self.dim


class ResidualVQConfig(Config):
    """Several books one after another, each for what those before it left over: coarse to fine.

    Lengths matter here, so codes are compared by distance, not by direction.

    Source: SoundStream, arXiv:2107.03312, algorithm 1.
    """

    kind: Literal["residual_vq"] = "residual_vq"
    num_codes: int = Field(default=8, ge=2, le=MOST_CODES)  # of each book
    dim: int = Field(default=32, ge=1)
    depth: int = Field(default=2, ge=1)  # books, and tokens
    share: bool = False  # one book at all depths
    decay: float = Field(default=0.99, ge=0, lt=1)
    restart_below: float = Field(default=1.0, ge=0)

    @model_validator(mode="after")
    def _codes_can_be_kept(self) -> "ResidualVQConfig":
        _expect_one_number(f"{self.depth} books of {self.num_codes}", self.sizes)
        return self

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many codes each token may be."""
        return (self.num_codes,) * self.depth

    @property
    def width(self) -> int:
        """Of a vector."""
        return self.dim


class FSQConfig(Config):
    """Finite scalar quantization: each channel is rounded to one of a few levels; there is no book to collapse.

    Source: arXiv:2309.15505. The number of codes is the product of the levels; the library's rounding needs
    three or more of them in each channel. Where that is more than can be listed, each channel is a token of its own.
    """

    kind: Literal["fsq"] = "fsq"
    levels: tuple[Annotated[int, Field(ge=3, le=MOST_CODES)], ...] = Field(default=(8, 5, 5), min_length=1)

    @model_validator(mode="after")
    def _codes_can_be_kept(self) -> "FSQConfig":
        _expect_one_number(f"levels: {list(self.levels)}", self.levels)
        return self

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many codes each token may be: all levels together are one token, or each is one."""
        num_codes = math.prod(self.levels)
        return (num_codes,) if num_codes <= MOST_CODES else self.levels

    @property
    def width(self) -> int:
        """Of a vector."""
        return len(self.levels)


class VAEConfig(Config):
    """A vector with noise, as much of it as the objective allows: rate is traded for error, softly.

    Source: beta-VAE; AdaWorld, arXiv:2503.18938, has 32 numbers and 2e-4, with an error per pixel as here.
    """

    kind: Literal["vae"] = "vae"
    dim: int = Field(default=32, ge=1)
    beta: float = Field(default=2e-4, ge=0)  # weight of the divergence in the objective, per nat
    menu: int = Field(default=8, ge=2, le=MOST_CODES)  # centres to steer by

    @model_validator(mode="after")
    def _has_noise(self) -> "VAEConfig":
        if self.beta < SMALLEST_BETA:
            warnings.warn(
                f"vae.beta: {self.beta:g} is below {SMALLEST_BETA:g}: noise fades away and the bottleneck lets all "
                "through, the next frame included; raise code.beta (2e-4 is usual), or say what it is, kind: none",
                stacklevel=1,  # here, so that Python tells it once
            )
        return self

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of the menu, from which one is chosen."""
        return (self.menu,)

    @property
    def width(self) -> int:
        """Of a vector."""
        return self.dim


class NoneConfig(Config):
    """No bottleneck but the width: the baseline that says what the others cost, or labels in its place.

    Source: LAOM, arXiv:2502.00379: without labels it takes in whatever helps to foretell the frame.
    """

    kind: Literal["none"] = "none"
    dim: int = Field(default=32, ge=1)
    menu: int = Field(default=8, ge=2, le=MOST_CODES)  # centres to steer by

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of the menu, from which one is chosen."""
        return (self.menu,)

    @property
    def width(self) -> int:
        """Of a vector."""
        return self.dim


CodeConfig = Annotated[
    VQConfig | ResidualVQConfig | FSQConfig | VAEConfig | NoneConfig, Field(discriminator="kind")
]
# Of a tokenizer: the dynamics model foretells one choice per patch.
TokenConfig = Annotated[VQConfig | FSQConfig, Field(discriminator="kind")]


def expect_listable(code: CodeConfig) -> None:
    """Refuse what steers by a code, keeps one for every frame, or makes a policy of codes, before anything is trained.

    Raises:
        UserError: the alphabet is too large for it.
    """
    num_codes = math.prod(code.sizes)
    if num_codes > MOST_CODES:
        raise UserError(
            f"lam.model.code: {' x '.join(map(str, code.sizes))} make {num_codes} codes, expected at most {MOST_CODES} "
            "for a world, and for a policy made of codes, which list them all; such a model can be trained by itself "
            "(genie-lite train lam), extracted from and inspected"
        )


def _expect_one_number(made_of: str, sizes: tuple[int, ...]) -> None:
    if math.prod(sizes) > MOST_COMPOSED:
        raise ValueError(
            f"{made_of} make more than 2^63 codes, and a code is one number of 64 bits; take fewer tokens, or "
            "smaller ones"
        )
