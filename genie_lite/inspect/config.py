"""How much is looked at, and how good is good enough."""

from pydantic import Field

from genie_lite.adapt.idm import IDMConfig
from genie_lite.config import Config


class Thresholds(Config):
    """What each check asks for. Fixed before any run; changed for a purpose of one's own, they show in the report."""

    # Shares of an alphabet, of which 16 codes count at most.
    codes_used: float = Field(default=5 / 8, gt=0, le=1)
    perplexity: float = Field(default=1 / 4, gt=0, le=1)
    top_code: float = Field(default=0.75, gt=0, lt=1)  # at most, share of the transitions with one code
    active_units: int = Field(default=2, ge=1)  # dimensions of a continuous bottleneck that say anything
    still: float = Field(default=0.5, gt=0, lt=1)  # at most, share of the pairs in which nothing moves
    code_gap_db: float = 0.2  # right codes over wrong ones, one frame ahead
    row_db: float = Field(default=0.2, ge=0)  # by which another row, or frame, has to fit better
    control_db: float = 1.0  # right codes over wrong ones at t = 4 in the world; 1.9 in Genie
    scene_cut: float = Field(default=2.0, gt=1)  # error across a cut over error within a shot
    future_similarity: float = Field(default=0.8, gt=0, le=1)  # at most, of two codes that share a last frame
    cycle: float = Field(default=0.5, gt=0, lt=1)  # of what right codes gain, that survives a visit elsewhere
    residual: float = Field(default=0.8, gt=0, lt=1)  # at most, of sums that should be 0, over shuffled pairs
    effect: float = Field(default=0.1, gt=0, lt=1)  # share of the predicted motion that the code decides
    shift: float = Field(default=0.02, ge=0)  # by which labels of another row have to be told better
    way: float = Field(default=0.8, gt=0, lt=1)  # from knowing nothing to a model trained with all labels


class InspectConfig(Config):
    """What `inspect_lam` looks at. Everything is measured on the split `test`; readers learn on `train`."""

    clips: int = Field(default=512, ge=2)  # held-out clips of the checks without labels
    world_clips: int = Field(default=64, ge=2)  # of these, played on in the world
    batch: int = Field(default=64, ge=1)  # clips, or pairs of frames, at a time
    shots: int = Field(default=192, ge=2)  # of each split: what codes are counted on, and actions read from
    control_draws: int = Field(default=2, ge=1)  # random code sequences per clip
    points: int = Field(default=2000, ge=2)  # of the projection
    seed: int = Field(default=0, ge=0, lt=2**63)
    inverse: IDMConfig = IDMConfig()  # the supervised model that the probe is measured by
    thresholds: Thresholds = Thresholds()
