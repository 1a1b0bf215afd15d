"""A recipe: everything that decides a run, in one file, checked before anything starts.

The sections are the configurations that live beside the stages; this file only puts them together, adds
where the data comes from, and checks what no section can check alone.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from genie_lite.adapt.config import AdaptConfig
from genie_lite.config import Config, load
from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.envs.games import game_of
from genie_lite.envs.record import RecordConfig, check_levels
from genie_lite.models.sampling import SamplingConfig
from genie_lite.nn.features import expect_known
from genie_lite.train.config import DynamicsStage, LAMStage, TokenizerStage

SLACK_S = 1e-6  # 0.1 s are one frame at 10 frames per second, however either is rounded


class RecordSection(RecordConfig):
    """Game play to record before anything else: what to train on, and in the same manner what is held out."""

    test_episodes: int = Field(ge=1)
    test_levels: tuple[int, int]

    @field_validator("game")
    @classmethod
    def _game_is_known(cls, name: str) -> str:
        game_of(name)
        return name

    @model_validator(mode="after")
    def _levels_are_apart(self) -> "RecordSection":
        check_levels("test_levels", self.test_levels, self.test_episodes)
        if _overlap(self.levels, self.test_levels):
            raise ValueError("levels and test_levels share levels; what is tested must not be trained on")
        return self


class CorpusSection(Config):
    """Finished shards that are trained on beside the run's own, and nothing else is done with."""

    source: str  # a folder or a URL
    weight: float = Field(default=1.0, gt=0)  # share of the windows, in proportion to the other weights
    tokens: str | None = None  # their token shards, if they are made


class DataSection(Config):
    """Where the video comes from: files, folders, LeRobot datasets, or one folder or URL of finished shards.

    Nothing given means the recording of this run. All of `test_source` is held out; without it a share of
    `source` is (`ingest.test_share`).
    """

    source: str | list[str] | None = None
    test_source: str | list[str] | None = None
    camera: str | None = None  # of LeRobot datasets that have several
    ingest: IngestConfig = IngestConfig()
    weight: float = Field(default=1.0, gt=0)  # of the run's own shards, beside those of `mix`
    mix: list[CorpusSection] = []
    tokens: str | None = (
        None  # token shards that the dynamics model is trained on; made by the run if not given
    )
    strict: bool = False  # stop at a damaged shard instead of going on without it


class LabelSection(Config):
    """Where the true actions are: `labels.parquet`, its folder, or a LeRobot dataset. Kept apart from the video.

    Only `adapt`, `lam.labels` and `dynamics.labels` (each within its budget), the probe and the oracle open them.
    `test_source` holds those of `data.test_source`. Not needed for a recording or a LeRobot dataset: they bring theirs.
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

    @model_validator(mode="after")
    def _levels_are_a_range(self) -> "EvaluateSection":
        if self.levels is not None:
            check_levels("levels", self.levels, 1)
        return self


class Recipe(Config):
    """One run. `trainer` goes to lightning.Trainer as it is."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(default=0, ge=0, lt=2**63)
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
        policy = self.adapt.policy
        if (self.record or self.labels) and size % (policy.patch * policy.merge):
            raise ValueError(
                f"adapt.policy: patch {policy.patch} times merge {policy.merge} must divide data.ingest.size_px {size}"
            )
        if self.record is not None and self.data.source is not None:
            raise ValueError("record and data.source are both given; keep one of them")
        return self

    @model_validator(mode="after")
    def _the_world_steps_as_its_codes_reach(self) -> "Recipe":
        pair_s, step_s = self.lam.model.pair_s, 1 / self.data.ingest.rate_hz
        if pair_s is not None and not pair_s[0] - SLACK_S <= step_s <= pair_s[1] + SLACK_S:
            raise ValueError(
                f"lam.model.pair_s is [{pair_s[0]:g}, {pair_s[1]:g}], but a step of the world is {step_s:.3g} s "
                f"(data.ingest.rate_hz {self.data.ingest.rate_hz:g}); make that one of the distances that codes are "
                "learnt from"
            )
        return self

    @model_validator(mode="after")
    def _the_same_labels_are_compared(self) -> "Recipe":
        given = self.adapt
        for name, section in (("lam", self.lam), ("dynamics", self.dynamics)):
            shown = section.labels
            if shown is None or not section.uses_labels:
                continue
            if (
                shown.episodes is None
                and given.labels_episodes is None
                and shown.budget > given.labels_budget
            ):
                warnings.warn(
                    f"{name}.labels.budget is {shown.budget}, adapt.labels_budget {given.labels_budget}: policies "
                    "would be compared that were made with the help of unequally many labels; make them equal",
                    stacklevel=2,
                )
        return self

    @model_validator(mode="after")
    def _shots_are_long_enough(self) -> "Recipe":
        longest, asked = self.data.ingest.segment_frames, self.evaluate.prompt_frames + self.evaluate.horizon
        for stage in ("tokenizer", "lam", "dynamics"):
            frames = getattr(self, stage).train.clip_frames
            if frames > longest:
                raise ValueError(
                    f"{stage}.train.clip_frames is {frames}, data.ingest.segment_frames only {longest}; "
                    "no shot would be long enough"
                )
        if asked > longest:
            raise ValueError(
                f"evaluate.prompt_frames and horizon are {asked} together, data.ingest.segment_frames only "
                f"{longest}; no shot would be long enough"
            )
        return self

    @model_validator(mode="after")
    def _the_game_can_be_played(self) -> "Recipe":
        if self.record is None or self.evaluate.levels is None:
            return self
        if _overlap(self.evaluate.levels, self.record.levels):
            raise ValueError(
                "evaluate.levels and record.levels share levels; policies are scored on unseen ones"
            )
        game, ingest = game_of(self.record.game), self.data.ingest
        # Policies learn from the shards and play in the game itself: one action per frame, of its own size.
        for name, given, own in (
            ("rate_hz", ingest.rate_hz, game.rate_hz),
            ("size_px", ingest.size_px, game.size_px),
        ):
            if given != own:
                raise ValueError(
                    f"data.ingest.{name} is {given:g}, but policies are to play {self.record.game} at {own:g}; "
                    f"make it {own:g}, or evaluate.levels null"
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
    recipe = load(path, Recipe, overrides)
    # Not where a run's own recipe is read again: what was trained needs no timm, or another one.
    expect_known(recipe.lam.model.input, f"{path}: lam.model.input")
    expect_known(recipe.lam.model.features, f"{path}: lam.model.features")
    return recipe
