"""What is left out of a corpus for what it already holds, or by a learned judgement of its quality.

Unlike the filters of `segment`, which look at one clip, these need the whole corpus or a model: they are asked
in the order of the sources, once, where the shards are written.
"""

from dataclasses import dataclass

import numpy as np

from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.data.cutting.signature import alike, to_bytes
from genie_lite.data.quality.judge import Judge
from genie_lite.data.shards.shards import Sample
from genie_lite.errors import UserError

NEAR_DUPLICATE = "near duplicate"
LOW_QUALITY = "low quality"
SIGNATURES_FILE = "signatures.jsonl"


@dataclass(frozen=True)
class Refusal:
    """Why a clip is left out; `of`: key of the sample that it repeats."""

    reason: str
    of: str | None = None


class Signatures:
    """The signatures of all clips that were kept, and whether another one is like any of them.

    A search compares with every one of them: 16 bytes each, about a millisecond per hundred thousand.
    """

    def __init__(self) -> None:
        self._keys: list[str] = []
        self._known = np.empty((1024, 16), np.uint8)

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: str, signature: str) -> None:
        """Remember a clip."""
        if len(self) == len(self._known):
            self._known = np.concatenate([self._known, np.empty_like(self._known)])
        self._known[len(self)] = to_bytes(signature)
        self._keys.append(key)

    def find(self, signature: str) -> str | None:
        """Key of the first clip that shows the same, if there is one."""
        matches = np.flatnonzero(alike(to_bytes(signature), self._known[: len(self)]))
        return self._keys[matches[0]] if len(matches) else None


class Curator:
    """Decides on clips one after another; a clip that is kept counts for those after it."""

    def __init__(self, config: IngestConfig, judge: Judge | None) -> None:
        self._config, self._judge = config, judge
        self._signatures = Signatures()

    def recall(self, signatures: dict[str, str]) -> None:
        """Take note of clips that were kept before: key to signature."""
        for key, signature in signatures.items():
            self._signatures.add(key, signature)

    def refusal(self, sample: Sample) -> Refusal | None:
        """Why a clip is not to be kept; None if it is, and it is remembered."""
        signature = sample.meta.get("signature")
        if signature is not None and (of := self._signatures.find(signature)) is not None:
            return Refusal(NEAR_DUPLICATE, of)
        if self._is_poor(sample):
            return Refusal(LOW_QUALITY)
        if signature is not None:
            self._signatures.add(sample.key, signature)
        return None

    def _is_poor(self, sample: Sample) -> bool:
        if self._judge is None or self._config.quality is None:
            return False
        score = round(self._judge.score(sample.frames()), 4)
        sample.meta["quality"] = score
        return score < self._config.quality.min_score


def judge_of(config: IngestConfig) -> Judge | None:
    """The classifier that a configuration names.

    Raises:
        UserError: it cannot be loaded, or is another one than the configuration says.
    """
    if config.quality is None:
        return None
    judge = Judge.load(config.quality.path)
    if config.quality.sha256 not in (None, judge.sha256):
        raise UserError(
            f"quality.path: {config.quality.path} holds another classifier than quality.sha256 says; leave that out"
        )
    return judge


def identified(config: IngestConfig) -> IngestConfig:
    """The same configuration with the hash of the classifier in it: what is trained again is another one."""
    judge = judge_of(config)
    if judge is None or config.quality is None:
        return config
    quality = config.quality.model_copy(update={"sha256": judge.sha256})
    return config.model_copy(update={"quality": quality})
