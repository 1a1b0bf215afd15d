"""`shards.json`: what a folder of shards holds, written last, so that its presence means finished.

    format, fingerprint     the fingerprint follows the content of all shards
    kind, members           video and [mp4, json] where they are not stated; tokens state theirs
    config                  what the samples were made with
    shards                  per tar: file, split, sha256, samples, frames, bytes, and the frames of each sample

It may come from anybody: names of files and splits are plain names, never paths or commands, and every count is
compared with the others before anything is opened.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from genie_lite.errors import UserError

FORMAT = 1
INDEX_FILE = "shards.json"
MANIFEST_FILE = "manifest.jsonl"
VIDEO = "video"
VIDEO_MEMBERS = ("mp4", "json")
ADVICE = "copy the shards again, or delete the folder and ingest again"

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.tar")
_PLAIN_SPLIT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Shard:
    """An entry of `shards.json`. lengths: frames of each sample, in the order of the tar."""

    file: str
    split: str
    sha256: str
    samples: int
    frames: int
    bytes: int
    lengths: tuple[int, ...]


@dataclass(frozen=True)
class Index:
    """The content of `shards.json`. members: the suffixes of the files that every sample has; `json` is one."""

    config: dict[str, Any]
    shards: tuple[Shard, ...]
    kind: str = VIDEO
    members: tuple[str, ...] = VIDEO_MEMBERS


def index_of(
    shards: Sequence[Shard],
    config: dict[str, Any],
    kind: str = VIDEO,
    members: Sequence[str] = VIDEO_MEMBERS,
) -> dict[str, Any]:
    """The content of `shards.json` in plain form."""
    tree = {"format": FORMAT, "config": config, "fingerprint": fingerprint_of(shards)}
    if kind != VIDEO:
        tree |= {"kind": kind, "members": list(members)}
    return tree | {"shards": [asdict(shard) for shard in shards]}


def fingerprint_of(shards: Sequence[Shard]) -> str:
    """Changes with any byte of any shard, with their order, and with their number."""
    return hashlib.sha256("".join(shard.sha256 for shard in shards).encode()).hexdigest()


def load_index(folder: Path) -> Index:
    """All that `shards.json` states; the shards themselves are not looked at.

    Raises:
        UserError: no finished shards here, another format, or a damaged index.
    """
    path = folder / INDEX_FILE
    if not path.is_file():
        raise UserError(f"{folder}: no finished shards here ({INDEX_FILE} is missing); run genie-lite ingest")
    return parse_index(path.read_bytes(), str(path))


def parse_index(text: bytes, name: str) -> Index:
    """An index from the bytes of `shards.json`; raises as `load_index` does, with `name` in front."""
    try:
        tree = json.loads(text)
        if tree["format"] != FORMAT:
            raise UserError(f"{name}: format {tree['format']}, this version reads {FORMAT}; ingest again")
        shards = tuple(parse_shard(line) for line in tree["shards"])
        index = Index(dict(tree["config"]), shards, str(tree.get("kind", VIDEO)), _members(tree))
        if len({shard.file for shard in shards}) < len(shards):
            raise ValueError("a shard is named twice")
        if tree["fingerprint"] != fingerprint_of(shards):
            raise ValueError("its fingerprint is not that of the shards it names")
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{name}: not an index of shards, or damaged ({error!r}); {ADVICE}") from error
    return index


def parse_shard(line: dict[str, Any]) -> Shard:
    """A shard from its plain form, `dataclasses.asdict`.

    Raises:
        ValueError: its counts contradict each other, or its name is not a plain one.
    """
    counts = [line["samples"], line["frames"], line["bytes"], *line["lengths"]]
    if not all(type(count) is int and count > 0 for count in counts):
        raise ValueError(f"{line['file']}: a count is no positive whole number")
    named = _PLAIN_NAME.fullmatch(line["file"]) and _SHA256.fullmatch(line["sha256"])
    if not (named and _PLAIN_SPLIT.fullmatch(line["split"])):
        raise ValueError(f"{line['file']!r}: its name, its split or its sha256 is none")
    if len(line["lengths"]) != line["samples"] or sum(line["lengths"]) != line["frames"]:
        raise ValueError(f"{line['file']}: its counts contradict the lengths of its samples")
    return Shard(**dict(line, lengths=tuple(line["lengths"])))


def _members(tree: dict[str, Any]) -> tuple[str, ...]:
    members = tuple(tree.get("members", VIDEO_MEMBERS))
    if "json" not in members or not all(isinstance(member, str) for member in members):
        raise ValueError(f"members {members}: expected suffixes, json among them")
    return members
