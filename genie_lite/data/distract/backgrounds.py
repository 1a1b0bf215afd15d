"""Clips of other footage to play in backgrounds, those of the train split never the same as those of the test split."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from genie_lite.data.cutting.motion import luma_of, motion_of
from genie_lite.data.shards.shards import Sample, ShardSet
from genie_lite.errors import UserError

MOST_CLIPS = 128  # of a split that are looked at
LIVELY_SHARE = 0.5  # of them that are used: those in which most moves
TEST_EVERY = 4  # sources, where the footage has no test split of its own


@dataclass(frozen=True)
class Backgrounds:
    """Clips by the split of the footage that they are shown behind."""

    clips: dict[str, tuple[Sample, ...]]
    rate_hz: float

    @classmethod
    def of(cls, shards: ShardSet) -> "Backgrounds":
        """The livelier half of a folder of shards. Its own splits are kept; without both, its sources are shared out.

        Raises:
            UserError: it holds too few sources to have some for either split, or a damaged clip.
        """
        found = {split: list(shards.spread(split, MOST_CLIPS)) for split in ("train", "test")}
        if not all(found.values()):
            found = _shared_out([*found["train"], *found["test"]], shards.place)
        return cls({split: _liveliest(clips) for split, clips in found.items()}, shards.rate_hz)

    def draw(self, split: str, seed: int) -> UInt8[np.ndarray, "t h w c"]:
        """One of the clips of a split; any split but test is taken for train."""
        clips = self.clips["test" if split == "test" else "train"]
        return clips[int(np.random.default_rng(seed).integers(len(clips)))].frames()


def _shared_out(clips: Sequence[Sample], place: str) -> dict[str, list[Sample]]:
    sources = sorted({clip.meta["source"] for clip in clips})
    if len(sources) < 2:
        raise UserError(
            f"{place}: {len(sources)} source to take backgrounds from; expected at least 2, since what is trained "
            "on and what is tested must not share any"
        )
    held_out = set(sources[::TEST_EVERY])
    return {
        "train": [clip for clip in clips if clip.meta["source"] not in held_out],
        "test": [clip for clip in clips if clip.meta["source"] in held_out],
    }


def _liveliest(clips: Sequence[Sample]) -> tuple[Sample, ...]:
    moved = [-motion_of(np.stack([luma_of(frame) for frame in clip.frames()])) for clip in clips]
    num = max(1, round(LIVELY_SHARE * len(clips)))
    return tuple(clips[place] for place in np.argsort(moved, kind="stable")[:num])
