"""Video shards to token shards (`data/shards/token_shards.py`): every frame's tokens and transition's code, made once.

Each shard is written whole or not at all, with a record of what it was made from beside it; `shards.json` comes last
and takes the records' place. Whatever stops the work, the next call goes on with the next shard; and where a video
shard, the tokenizer or the latent action model has changed, what was made from the old one is made again. One process
at a time works on a folder; another one waits, and then finds the work done.
"""

import fcntl
import json
import logging
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genie_lite.data.loading.clip import to_frames
from genie_lite.data.shards.check import faults_of
from genie_lite.data.shards.index import INDEX_FILE, Index, Shard, index_of, load_index, parse_shard
from genie_lite.data.shards.shards import Sample, ShardDamage, ShardSet, ShardWriter
from genie_lite.data.shards.token_shards import KIND, MOST_NUMBERS, NO_CODE, Origin, npy
from genie_lite.errors import UserError
from genie_lite.files import read_json, write_json
from genie_lite.models.lam import LatentActionModel
from genie_lite.models.tokenizer import VideoTokenizer

log = logging.getLogger(__name__)

_OUR_NAME = re.compile(r"-\d{6,}\.tar")  # behind the split, as `ShardWriter` names shards
_RECORDS = ".*.made.json"
_LOCK_FILE = ".lock"  # in the folder of tokens; it stays, since another process may be waiting for it


@dataclass(frozen=True)
class TokenizeSummary:
    """What `tokenize` did.

    made: shards written by this call. kept: shards that were valid already. damaged: video shards that could not be
    read and were left out. samples, frames: of all token shards that there are now. tokens_per_frame, has_codes: of
    each frame.
    """

    made: int
    kept: int
    damaged: int
    samples: int
    frames: int
    tokens_per_frame: int
    has_codes: bool


def tokenize(
    shards: ShardSet,
    tokenizer: VideoTokenizer,
    lam: LatentActionModel | None,
    out: Path,
    parents: Mapping[str, str],
    progress: Callable[[int, int], None] | None = None,
) -> TokenizeSummary:
    """Write the token shards of video shards, all splits; do what is missing of that.

    Args:
        shards: what to tokenise.
        tokenizer: in evaluation mode, on the device to compute on.
        lam: likewise; without it there are no codes.
        out: the folder of token shards: a new one, or one that holds nothing else.
        parents: sha256 of the weights, of `tokenizer` and, if it is given, of `lam`.
        progress: called with the number of shards that are done, and of all.

    Raises:
        UserError: another kind of shards is in the folder, too many codes, no shard can be read, or writing fails.
    """
    work = _Work(shards, tokenizer, lam, out, parents)
    with work.alone():
        kept, made, num_damaged = _do(work, progress)
    done = kept | made
    return TokenizeSummary(
        made=len(made),
        kept=len(kept),
        damaged=num_damaged,
        samples=sum(shard.samples for shard in done.values()),
        frames=sum(shard.frames for shard in done.values()),
        tokens_per_frame=tokenizer.num_tokens,
        has_codes=lam is not None,
    )


def _do(
    work: "_Work", progress: Callable[[int, int], None] | None
) -> tuple[dict[str, Shard], dict[str, Shard], int]:
    """The shards that were there, those that are made now, and how many of video are damaged."""
    kept = work.take_stock()
    done: dict[str, Shard] = {}
    num_damaged = 0
    for number, (name, shard) in enumerate(work.named.items()):
        try:
            done[name] = kept[name] if name in kept else work.write(name, shard)
        except ShardDamage as error:
            log.warning("%s; left out of the tokens", error)
            num_damaged += 1
        if progress is not None:
            progress(number + 1, len(work.named))
    if not done:
        raise UserError(f"{work.source}: none of the {len(work.named)} shards can be read; copy them again")
    work.finish(list(done.values()))
    return kept, {name: shard for name, shard in done.items() if name not in kept}, num_damaged


@torch.inference_mode()
def encode_shot(
    frames: Tensor, tokenizer: VideoTokenizer, lam: LatentActionModel | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Tokens `t n` and codes `t` of one shot `t c h w` in [0, 1]; the last code is NO_CODE; none without a lam."""
    tokens = tokenizer.encode(frames[None]).index[0].cpu().numpy().astype(np.uint16)
    if lam is None:
        return tokens, None
    codes = np.full(len(frames), NO_CODE, dtype=np.uint16)
    if len(frames) > 1:
        codes[:-1] = lam.encode(frames[None]).index[0].cpu().numpy()
    return tokens, codes


@dataclass(frozen=True)
class _Made:
    """A token shard, and what it was made from: the sha256 of the weights and of the video shard."""

    shard: Shard
    made_from: dict[str, Any]


class _Work:
    """One folder of token shards in the making."""

    def __init__(
        self,
        shards: ShardSet,
        tokenizer: VideoTokenizer,
        lam: LatentActionModel | None,
        out: Path,
        parents: Mapping[str, str],
    ) -> None:
        if max(tokenizer.num_codes, 0 if lam is None else lam.num_codes) > MOST_NUMBERS:
            raise UserError(
                f"{out}: a token is stored in 16 bits; choose a codebook of at most {MOST_NUMBERS} codes"
            )
        self.named = _named(shards)
        self._shards, self._tokenizer, self._lam, self._out = shards, tokenizer, lam, out
        self._origin = Origin(
            parents={name: parents[name] for name in ("tokenizer", *(["lam"] if lam else []))},
            num_tokens=tokenizer.num_tokens,
            source=shards.place,
            shards={name: shard.sha256 for name, shard in self.named.items()},
            num_codes={"tokenizer": tokenizer.num_codes} | ({} if lam is None else {"lam": lam.num_codes}),
        )

    @property
    def source(self) -> str:
        """Where the video is, as it is shown."""
        return self._shards.place

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes out of the folder, once whichever works on it is done."""
        self._out.mkdir(parents=True, exist_ok=True)
        try:
            self._found()
        except (UserError, OSError):
            # Not even a lock file is left in a folder of something else. Where there is one, what was found may have
            # been in the middle of a change, and is looked at again under the lock.
            if not (self._out / _LOCK_FILE).exists():
                raise
        with _locked(self._out):
            yield

    def take_stock(self) -> dict[str, Shard]:
        """The shards of an earlier call that are still what is wanted; the others are removed."""
        indexed, recorded = self._found()
        found = indexed | recorded
        for path in self._out.glob(".*.tmp"):  # what a kill left half written
            path.unlink()
        kept = self._whole([made.shard for name, made in found.items() if self._is_wanted(name, made)])
        if not recorded and kept.keys() == indexed.keys() == self.named.keys():
            return kept  # finished before
        # What is kept gets its record before the index goes, and that goes before anything it vouches for.
        for shard in kept.values():
            self._record(shard)
        (self._out / INDEX_FILE).unlink(missing_ok=True)
        for name in found.keys() - kept.keys():
            self._record_path(name).unlink(missing_ok=True)
            (self._out / name).unlink(missing_ok=True)
        return kept

    def write(self, name: str, shard: Shard) -> Shard:
        """Make one shard of one of video; raises a ShardDamage where that cannot be read."""
        split, _, number = Path(name).stem.rpartition("-")
        with ShardWriter(self._out, split, int(number)) as writer:
            for sample in self._shards.read(shard):
                writer.add_members(sample.key, self._members(sample), sample.meta["num_frames"])
            made = writer.close()
        assert made is not None, "a shard has samples"
        self._record(made)
        return made

    def finish(self, shards: Sequence[Shard]) -> None:
        """Write the index, unless it is there, and remove the records that it stands for."""
        if not (self._out / INDEX_FILE).is_file():
            names = {shard.file for shard in shards}
            sources = {name: sha256 for name, sha256 in self._origin.shards.items() if name in names}
            config = self._shards.config | {KIND: replace(self._origin, shards=sources).to_json()}
            write_json(
                self._out / INDEX_FILE,
                index_of(shards, config, kind=KIND, members=self._origin.members),
            )
        for path in self._out.glob(_RECORDS):
            path.unlink()

    def _members(self, sample: Sample) -> dict[str, bytes]:
        """The files of one sample. Raises a ShardDamage where its video cannot be decoded."""
        try:
            pixels = sample.frames()
            if len(pixels) != sample.meta["num_frames"]:
                raise UserError(f"{len(pixels)} frames, expected {sample.meta['num_frames']}")
        except UserError as error:
            raise ShardDamage(f"{self._shards.place}: sample {sample.key}: {error}") from error
        frames = to_frames(pixels).to(next(self._tokenizer.parameters()).device)
        tokens, codes = encode_shot(frames, self._tokenizer, self._lam)
        arrays = {"tokens.npy": npy(tokens)} | ({} if codes is None else {"codes.npy": npy(codes)})
        return arrays | {"json": json.dumps(sample.meta, sort_keys=True).encode()}

    def _is_wanted(self, name: str, made: _Made) -> bool:
        """Whether a shard was made from what it would be made from now."""
        return made.made_from == self._made_from(name)

    def _whole(self, shards: Sequence[Shard]) -> dict[str, Shard]:
        """Those that lie there as they were written, by name."""
        index = Index({}, tuple(shards), KIND, self._origin.members)
        faults = faults_of(self._out, index, verify=True)
        return {shard.file: shard for shard, fault in zip(shards, faults, strict=True) if fault is None}

    def _made_from(self, name: str) -> dict[str, str | None]:
        return {**self._origin.parents, "shard": self._origin.shards.get(name)}

    def _found(self) -> tuple[dict[str, _Made], dict[str, _Made]]:
        """The shards that the index names and those of records; raises a UserError where there are others."""
        indexed, recorded = self._indexed(), self._recorded()
        self._expect_no_others(indexed.keys() | recorded.keys())
        return indexed, recorded

    def _indexed(self) -> dict[str, _Made]:
        """The shards of a finished folder."""
        if not (self._out / INDEX_FILE).is_file():
            return {}
        index = load_index(self._out)
        if index.kind != KIND:
            raise UserError(
                f"{self._out}: holds shards of {index.kind}, which tokens must not be mixed with; give another folder"
            )
        origin = Origin.of(index.config, str(self._out))
        return {
            shard.file: _Made(shard, {**origin.parents, "shard": origin.shards[shard.file]})
            for shard in index.shards
        }

    def _recorded(self) -> dict[str, _Made]:
        """The shards of a folder that was not finished."""
        records = [
            read_json(path, "a record of a token shard", "delete it") for path in self._out.glob(_RECORDS)
        ]
        made = [_Made(parse_shard(record["shard"]), record["made_from"]) for record in records]
        return {each.shard.file: each for each in made}

    def _record(self, shard: Shard) -> None:
        write_json(
            self._record_path(shard.file),
            {"made_from": self._made_from(shard.file), "shard": asdict(shard)},
        )

    def _record_path(self, name: str) -> Path:
        return self._out / f".{Path(name).stem}.made.json"

    def _expect_no_others(self, known: Iterable[str]) -> None:
        """A tar that nobody vouches for may be ours, from just before a power cut; but is it one of tokens?"""
        for path in sorted(self._out.glob("*.tar")):
            if path.name not in known and not _holds_tokens(path):
                raise UserError(
                    f"{path}: holds no tokens; give an empty folder, or one that tokens were written into"
                )


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            lock = stack.enter_context((out / _LOCK_FILE).open("a"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.warning("%s: another process makes tokens here; waiting until it is done", out)
                fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:  # no locks on this file system, or a finished folder that is read only
            log.warning(
                "%s: cannot be locked (%s); start no second process on it", out, error.strerror or error
            )
        yield


def _named(shards: ShardSet) -> dict[str, Shard]:
    """Video shards by the name of the token shard that is made of each: the same one, where it has our form."""
    ours = all(_OUR_NAME.fullmatch(shard.file.removeprefix(shard.split)) for shard in shards.shards)
    counts: Counter[str] = Counter()
    named: dict[str, Shard] = {}
    for shard in shards.shards:
        name = shard.file if ours else f"{shard.split}-{counts[shard.split]:06d}.tar"
        counts[shard.split] += 1
        named[name] = shard
    return named


def _holds_tokens(path: Path) -> bool:
    try:
        with tarfile.open(path, "r:") as tar:
            first = tar.next()
    except (OSError, tarfile.TarError):
        return False
    return first is not None and first.name.endswith(".tokens.npy")
