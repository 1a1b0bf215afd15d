"""Where the frames of one sample come from, and when."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from genie_lite.data.shards.meta import expect_split, indices_of, source_of, times_of
from genie_lite.data.shards.shards import Sample
from genie_lite.errors import UserError


@dataclass(frozen=True)
class Shot:
    """One sample. native: index of each frame in its file; times_s: its time there."""

    source: str
    native: Int[np.ndarray, " frames"]
    times_s: Float[np.ndarray, " frames"]

    @classmethod
    def of(cls, sample: Sample, split: str) -> "Shot":
        """What a sample of a split says, checked; extraction cannot do without times, as other readers can.

        Raises:
            UserError: an entry that is missing, of another kind or length than it should be, or no order of frames.
        """
        try:
            source = source_of(sample.meta)
            expect_split(sample.meta, split)
            native = indices_of(sample.meta)
            return cls(source, native, times_of(sample.meta, native))
        except ValueError as error:
            raise UserError(f"sample {sample.key}: {error}") from error
