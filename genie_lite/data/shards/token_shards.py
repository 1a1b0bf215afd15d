"""Token shards: what a tokenizer, and a latent action model, made of video shards, so that nothing is decoded again.

    {split}-000000.tar   {key}.tokens.npy   uint16 [t, n]   row j: the tokens of frame j of the sample
                         {key}.codes.npy    uint16 [t]      row j: the code of frame j -> frame j + 1
                         {key}.json         what the video sample says of itself
    shards.json          that of the video shards, with kind: tokens, and in its config under `tokens` whose they are

There are codes only where a latent action model was given. The last frame of a sample has no transition: its row
holds NO_CODE and no window ever reads it, so that elsewhere this may be a code like any other. The tars are not
compressed and arrays begin at even bytes, so that they are read by memory map where they lie.
"""

import mmap
import shlex
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from io import BufferedReader, BytesIO
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from genie_lite.data.shards.index import Shard, fingerprint_of
from genie_lite.data.shards.shards import ShardDamage, ShardSet
from genie_lite.data.shards.tar import PLAIN
from genie_lite.errors import UserError

KIND = "tokens"
NO_CODE = 2**16 - 1
MOST_NUMBERS = 2**16  # different tokens, or codes, that can be stored
NPY_MAGIC = b"\x93NUMPY\x01\x00"


@dataclass(frozen=True)
class Origin:
    """What token shards were made from.

    parents: sha256 of the weights, of `tokenizer` and, where there are codes, of `lam`. num_tokens: per frame.
    source: the folder of the video shards, as it was given. shards: by the name of each token shard, the sha256 of
    its video shard. num_codes: by the name of each parent, how many different tokens or codes it has; folders of
    earlier versions do not say.
    """

    parents: Mapping[str, str]
    num_tokens: int
    source: str
    shards: Mapping[str, str]
    num_codes: Mapping[str, int] = field(default_factory=dict)

    @property
    def members(self) -> tuple[str, ...]:
        """Suffixes of the files of every sample."""
        return ("tokens.npy", *(["codes.npy"] if "lam" in self.parents else []), "json")

    def to_json(self) -> dict[str, Any]:
        """A plain form, for the config."""
        return {
            "parents": dict(self.parents),
            "num_tokens": self.num_tokens,
            "source": self.source,
            "shards": dict(self.shards),
            **({"num_codes": dict(self.num_codes)} if self.num_codes else {}),
        }

    @classmethod
    def of(cls, config: Mapping[str, Any], place: str) -> "Origin":
        """From the config of token shards.

        Raises:
            UserError: it does not say; `place` is where it is.
        """
        try:
            tree = config[KIND]
            parents, shards = dict(tree["parents"]), dict(tree["shards"])
            if not all(isinstance(each, str) for each in [*parents.values(), *shards.values()]):
                raise TypeError("a sha256 is no text")
            num_codes = {name: int(num) for name, num in dict(tree.get("num_codes", {})).items()}
            return cls(parents, int(tree["num_tokens"]), str(tree["source"]), shards, num_codes)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"{place}: does not say what its tokens were made from ({error!r}); tokenize into another folder"
            ) from error


@dataclass(frozen=True)
class TokenShards:
    """A finished folder of token shards."""

    files: ShardSet
    origin: Origin

    @classmethod
    def open(
        cls,
        folder: Path | str,
        parents: Mapping[str, str] | None = None,
        *,
        run: Path | None = None,
        verify: bool = True,
        strict: bool = False,
        allow_commands: bool = False,
    ) -> "TokenShards":
        """Open what `genie-lite tokenize` wrote.

        Args:
            folder: where it is.
            parents: the sha256 of weights that the tokens, and the codes, must have been made by.
            run: whose weights those are, for the command in the message.
            verify: as for `ShardSet.open`.
            strict: likewise.
            allow_commands: likewise.

        Raises:
            UserError: no finished token shards here, or of other parents; see `ShardSet.open` for the rest.
        """
        files = ShardSet.open(folder, verify=verify, strict=strict, kind=KIND, allow_commands=allow_commands)
        opened = cls(files, Origin.of(files.config, files.place))
        for shard in files.shards:
            if shard.file not in opened.origin.shards:
                raise UserError(
                    f"{files.place}: does not say what {shard.file} was made from; tokenize into another folder"
                )
        if parents is not None:
            opened.expect(parents, run)
        return opened

    def expect(self, parents: Mapping[str, str], run: Path | None = None) -> None:
        """Check whose tokens these are.

        Raises:
            UserError: they were made by other weights, with the command that makes them again.
        """
        for name, sha256 in parents.items():
            found = self.origin.parents.get(name)
            if found != sha256:
                made = "were made without a" if found is None else "are those of another"
                raise UserError(
                    f"{self.folder}: stale: these tokens {made} {name} ({name} {_short(found)}, expected "
                    f"{_short(sha256)}); make them again: {self.renewal(run)}"
                )

    def expect_of(self, video: ShardSet, run: Path | None = None) -> None:
        """Check which video these are the tokens of.

        Raises:
            UserError: shards of the video have changed, or come or gone, since, with the command that renews them.
        """
        known, wanted = set(self.origin.shards.values()), {shard.sha256 for shard in video.shards}
        gone = set() if video.skipped else known - wanted  # one that is skipped is not known by its hash
        if difference := len(wanted - known) + len(gone):
            raise UserError(
                f"{self.place}: stale: these tokens were not made from {video.place} as it is now (shards that "
                f"differ: {difference}); make them again: {self.renewal(run, video.place)}"
            )

    def renewal(self, run: Path | None = None, source: str | None = None) -> str:
        """The command that makes these token shards again, of the video at `source` if it is another now."""
        given = ["RUN" if run is None else str(run), source or self.origin.source, "--out", str(self.folder)]
        return shlex.join(["genie-lite", "tokenize", *given])

    @property
    def folder(self) -> Path:
        return self.files.folder

    @property
    def place(self) -> str:
        return self.files.place

    @property
    def fingerprint(self) -> str:
        """That of the video shards whose tokens these are: who trains on either trains on the same."""
        sources = [replace(shard, sha256=self.origin.shards[shard.file]) for shard in self.files.shards]
        return fingerprint_of(sources)

    @property
    def frame_hw(self) -> tuple[int, int]:
        """Height and width of the frames that the tokens stand for, in pixels."""
        return self.files.frame_hw

    @property
    def rate_hz(self) -> float:
        """Frames per second."""
        return self.files.rate_hz

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """(file, reason) of the shards that could not be used."""
        return self.files.skipped

    def of(self, split: str) -> tuple[Shard, ...]:
        """The shards of one split."""
        return self.files.of(split)

    def num_frames(self, split: str) -> int:
        """Frames in a split."""
        return self.files.num_frames(split)

    def map(self, shard: Shard) -> "MappedShard":
        """A shard, to read arrays from without reading the rest.

        Raises:
            ShardDamage: it is no longer what `shards.json` says.
        """
        with self.files.open_shard(shard) as file:
            try:
                words = _mapped(file, shard)
                with tarfile.open(fileobj=file, mode="r:") as tar:  # reads the headers alone
                    places = list(_places(tar, words, shard, self.origin))
            except (OSError, tarfile.TarError, ValueError) as error:
                advice = f"copy the shards again, or make them again: {self.renewal()}"
                message = f"{self.place}: {shard.file}: cannot be used ({error}); {advice}"
                raise ShardDamage(message, shard.file, str(error)) from error
        tokens, *codes = (list(column) for column in zip(*places, strict=True))
        return MappedShard(words, tokens, codes[0] if codes else [])


@dataclass(frozen=True)
class MappedShard:
    """One token shard, in memory as far as it is looked at.

    words: the whole tar as uint16. tokens, codes: in it, the first word of each sample's array; no codes
    where no latent action model was given.
    """

    words: np.ndarray
    tokens: list[int]
    codes: list[int]


def _mapped(file: BufferedReader, shard: Shard) -> np.ndarray:
    """An open tar as uint16, read from the disk where it is looked at; the file itself may be closed."""
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if len(mapped) != shard.bytes:  # what lies beyond the end of a file must never be touched
        raise ValueError(f"{len(mapped)} bytes, expected {shard.bytes}")
    return np.frombuffer(mapped, np.dtype("<u2"))


def npy(array: np.ndarray) -> bytes:
    """An array as the bytes of an npy file."""
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _places(
    tar: tarfile.TarFile, words: np.ndarray, shard: Shard, origin: Origin
) -> Iterator[tuple[int, ...]]:
    """The first word of tokens, and of codes, of every sample, in order."""
    data = words.data.cast("B")
    members = iter(tar)
    for length in shard.lengths:
        shapes = {"tokens.npy": (length, origin.num_tokens), "codes.npy": (length,)}
        places = []
        for suffix in origin.members:
            member = next(members, None)
            if member is None or member.type not in PLAIN or member.name.partition(".")[2] != suffix:
                raise ValueError(f"found {member and member.name}, expected a sample's {suffix}")
            if suffix in shapes:
                places.append(_first_word(data, member, shapes[suffix]))
        yield tuple(places)
    if next(members, None) is not None:
        raise ValueError(f"more than the expected {shard.samples} samples")


def _first_word(data: memoryview, member: tarfile.TarInfo, shape: tuple[int, ...]) -> int:
    """Where the rows of an npy file in a tar begin. Raises a ValueError where it is not one of uint16 in `shape`.

    Its header is compared with the only text that numpy has for such an array: cheap, and nothing is evaluated.
    """
    begin = member.offset_data
    head = bytes(data[begin : begin + 10])
    size = 10 + int.from_bytes(head[8:], "little")
    text = bytes(data[begin + 10 : begin + size]).rstrip()
    expected = f"{{'descr': '<u2', 'fortran_order': False, 'shape': {shape}, }}".encode()
    if head[:8] != NPY_MAGIC or text != expected:
        raise ValueError(
            f"{member.name}: is {(head[:8] + text)[:120]!r}, expected an npy of {expected.decode()}"
        )
    num_bytes = size + 2 * prod(shape)
    if member.size != num_bytes or begin + num_bytes > len(data) or size % 2:
        raise ValueError(f"{member.name}: {member.size} bytes, expected {num_bytes}")
    return (begin + size) // 2


def _short(sha256: str | None) -> str:
    return "none" if sha256 is None else f"{sha256[:12]}…"
