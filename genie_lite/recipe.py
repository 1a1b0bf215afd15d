"""A recipe: everything that decides a run, in one file, checked before anything starts.

The sections are the configurations that live beside the stages; this file only puts them together, adds
where the data comes from, and checks what no section can check alone.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from genie_lite.adapt.config import AdaptConfig
from genie_lite.config import Config, load
from genie_lite.data.segment import IngestConfig
from genie_lite.models.world import SamplingConfig
from genie_lite.train.config import DynamicsStage, LAMStage, TokenizerStage


class RecordSection(Config):
    """Game play to record before anything else; levels are half-open ranges [first, end)."""

    game: str
    episodes: int = Field(ge=1)
    test_episodes: int = Field(ge=1)
    levels: tuple[int, int]
    test_levels: tuple[int, int]
    seed: int = 0
    explore: float = Field(default=0.3, ge=0, le=1)  # share of exploratory moves; see record.py
    wander: float = Field(default=0.0, ge=0, le=1)  # share of episodes that stroll about; see record.py
    max_frames: int = Field(default=200, ge=2)  # an episode is ended after so many

    @model_validator(mode="after")
    def _levels_are_apart(self) -> "RecordSection":
        for name, episodes in (("levels", self.episodes), ("test_levels", self.test_episodes)):
            first, end = getattr(self, name)
            if not 0 <= first < end:
                raise ValueError(f"{name}: found [{first}, {end}], expected 0 <= first < end")
            if episodes > end - first:
                raise ValueError(
                    f"{name}: [{first}, {end}] are {end - first} levels, {episodes} episodes need as many"
                )
        if _overlap(self.levels, self.test_levels):
            raise ValueError("levels and test_levels share levels; what is tested must not be trained on")
        return self


class DataSection(Config):
    """Where the video comes from: files, folders, LeRobot datasets, or one folder of finished shards.

    Nothing given means the recording of this run. All of `test_source` is held out; without it a share of
    `source` is (`ingest.test_share`).
    """

    source: str | list[str] | None = None
    test_source: str | list[str] | None = None
    ingest: IngestConfig = IngestConfig()


class LabelSection(Config):
    """Where the true actions are: `labels.parquet`, its folder, or a LeRobot dataset. Kept apart from the video.

    Only `adapt` (within its budget), the probe and the oracle open them. `test_source` holds those of
    `data.test_source`. Not needed for a recording or a LeRobot dataset, which bring their own.
    """

    source: str
    test_source: str | None = None


class EvaluateSection(Config):
    """How much is measured. Everything is measured on held-out sources and unseen levels."""

    clips: int = Field(default=64, ge=2)  # held-out clips for pictures
    batch: int = Field(default=16, ge=1)  # clips at a time
    prompt_frames: int = Field(default=1, ge=1)  # frames a rollout is given
    horizon: int = Field(default=15, ge=1)  # frames it has to foretell
    control_draws: int = Field(default=4, ge=1)  # random code sequences per clip
    levels: tuple[int, int] | None = None  # of the recorded game, unseen, [first, end); policies play them
    num_envs: int = Field(default=16, ge=1)  # levels played side by side


class Recipe(Config):
    """One run. `trainer` goes to lightning.Trainer as it is."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(default=0, ge=0)
    out: str = "runs"  # the run is the folder out/name
    threads: int | None = Field(default=None, ge=1)  # of the CPU; not given, torch decides
    wandb: Literal["online", "offline", "off"] = "offline"
    record: RecordSection | None = None
    data: DataSection = DataSection()
    labels: LabelSection | None = None
    tokenizer: TokenizerStage
    lam: LAMStage
    dynamics: DynamicsStage
    sampling: SamplingConfig = SamplingConfig()
    adapt: AdaptConfig = AdaptConfig()
    evaluate: EvaluateSection = EvaluateSection()
    trainer: dict[str, Any] = {}

    @property
    def folder(self) -> Path:
        """Where the run lives."""
        return Path(self.out) / self.name

    @field_validator("wandb", mode="before")
    @classmethod
    def _off_is_a_word(cls, value: Any) -> Any:
        # YAML 1.1 reads a bare `off` as false.
        return "off" if value is False else value

    @model_validator(mode="after")
    def _sections_agree(self) -> "Recipe":
        size = self.data.ingest.size_px
        for stage in ("tokenizer", "lam"):
            height, width = getattr(self, stage).model.frame_hw
            if (height, width) != (size, size):
                raise ValueError(
                    f"{stage}.model.frame_hw is [{height}, {width}], data.ingest.size_px is {size}; make them equal"
                )
        for stage in ("tokenizer", "lam", "dynamics"):
            frames = getattr(self, stage).train.clip_frames
            if frames > self.data.ingest.segment_frames:
                raise ValueError(
                    f"{stage}.train.clip_frames is {frames}, data.ingest.segment_frames only "
                    f"{self.data.ingest.segment_frames}; no shot would be long enough"
                )
        if self.record is not None and self.data.source is not None:
            raise ValueError("record and data.source are both given; keep one of them")
        if self.record and self.evaluate.levels and _overlap(self.evaluate.levels, self.record.levels):
            raise ValueError(
                "evaluate.levels and record.levels share levels; policies are scored on unseen ones"
            )
        return self


def _overlap(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Whether two half-open ranges share anything."""
    return max(first[0], second[0]) < min(first[1], second[1])


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file with `key.path=value` changes.

    Raises:
        UserError: anything that is wrong with it, in one line.
    """
    return load(path, Recipe, overrides)
