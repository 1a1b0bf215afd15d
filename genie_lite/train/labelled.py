"""Few labelled clips, kept in memory, from which every step of the latent action model draws some.

    shards + labels ──label_shots.py──▶ LabelledClips ──draw(step)──▶ clips, known actions

The action of a transition k -> k + n is the label of frame k, as everywhere. Several robots may have labels: each
has a budget and a head of its own (`models/heads.py`), and is as often drawn as any other. Within a robot every
labelled transition is equally likely to be drawn; the other transitions of its clip count as far as they have labels
within the budget, and those without count nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genie_lite.data.labels import Labels
from genie_lite.data.loading.clip import to_frames
from genie_lite.data.loading.mixture import Corpora
from genie_lite.data.loading.windows import LoaderConfig
from genie_lite.data.shards.shards import ShardSet
from genie_lite.errors import UserError
from genie_lite.models.heads import ActionHeads, HeadsSpec, KnownActions, RobotActions
from genie_lite.train.config import LAMStage
from genie_lite.train.label_shots import LabelledShot, read_shots, robots_of

Share = tuple[int, int]  # (rank, number of processes): of a joint draw, the `rank`-th run of clips


@dataclass(frozen=True)
class LabelledBatch:
    """frames: of each clip, `b t c h w` in [0, 1]. actions: what is known of its transitions."""

    frames: Tensor
    actions: KnownActions

    def to(self, device: torch.device | str) -> "LabelledBatch":
        """The same on a device."""
        given = self.actions
        moved = KnownActions(given.robot.to(device), given.action.to(device), given.known.to(device))
        return LabelledBatch(self.frames.to(device), moved)


class LabelledClips:
    """Clips around labelled transitions; `draw` is a function of its generator alone."""

    def __init__(
        self, robots: Sequence[RobotActions], shots: Sequence[LabelledShot], clip_frames: int, batch: int
    ) -> None:
        """Keep shots in memory.

        Args:
            robots: whose actions they are.
            shots: of all of them.
            clip_frames: frames of a drawn clip.
            batch: clips of a joint draw.
        """
        self.robots = tuple(robots)
        self._shots, self._clip_frames, self._batch = shots, clip_frames, batch
        self._width = max(len(robot.names) for robot in robots)
        self._labelled = [
            [
                (place, int(frame))
                for place, shot in enumerate(shots)
                if shot.robot == number
                for frame in np.flatnonzero(np.any([shot.counts(stride) for stride in shot.strides], axis=0))
            ]
            for number in range(len(robots))
        ]

    @classmethod
    def gather(
        cls,
        shards: ShardSet | Corpora[Any],
        labels: Sequence[Labels] | Mapping[str, Labels],
        config: LAMStage,
        seed: int,
        *,
        strict: bool = False,
    ) -> "LabelledClips":
        """Draw the budget of every robot and decode the shots that it lies in.

        Args:
            shards: the video.
            labels: of one robot or several; see `label_shots.robots_of`.
            config: budget and batch, frames of a clip and how far they are apart.
            seed: of the order in which episodes enter the budget.
            strict: stop at a shard that cannot be read, instead of going on without it.

        Raises:
            UserError: a robot's labels fit no transition of the training split, or fit two corpora at once.
        """
        assert config.labels is not None
        given = robots_of(labels)
        pair = LoaderConfig(clip_frames=config.train.clip_frames, pair_s=config.model.pair_s)
        shots = read_shots(Corpora.of(shards), list(given.items()), pair, config.labels, seed, strict=strict)
        robots = [RobotActions(name=name, kind=each.kind, names=each.names) for name, each in given.items()]
        return cls(robots, shots, config.train.clip_frames, config.labels.batch // config.train.accumulate)

    def __len__(self) -> int:
        """Labelled transitions, of all robots."""
        return sum(len(rows) for rows in self._labelled)

    def new_heads(self, width: int) -> ActionHeads:
        """Untrained heads over embeddings of a width, with the normalisers of the labels."""
        heads = ActionHeads(HeadsSpec(width=width, robots=self.robots))
        for number, robot in enumerate(self.robots):
            rows = [self._shots[place].action[frame] for place, frame in self._labelled[number]]
            heads.standardise(number, torch.from_numpy(np.stack(rows)[:, : len(robot.names)]))
        return heads

    def draw(self, generator: torch.Generator, share: Share = (0, 1)) -> LabelledBatch:
        """One process's part of the clips of a step.

        Args:
            generator: the only source of randomness; the same on every process.
            share: which part it is, of how many.

        Raises:
            UserError: the clips cannot be shared equally.
        """
        rank, world_size = share
        if self._batch % world_size:
            raise UserError(
                f"lam.labels.batch: {self._batch} clips cannot be shared equally by {world_size} processes"
            )
        chance = torch.rand(self._batch, 4, generator=generator, dtype=torch.float64).numpy()
        size = self._batch // world_size
        drawn = [self._clip(row) for row in chance[rank * size : (rank + 1) * size]]
        return LabelledBatch(
            frames=to_frames(np.stack([clip.pixels for clip in drawn])),
            actions=KnownActions(
                robot=torch.tensor([clip.robot for clip in drawn]),
                action=torch.from_numpy(np.stack([clip.action for clip in drawn])),
                known=torch.from_numpy(np.stack([clip.known for clip in drawn])),
            ),
        )

    def _clip(self, chance: np.ndarray) -> "_Clip":
        """A clip around a labelled transition, from four numbers in [0, 1): robot, transition, stride, start."""
        robot = _pick(range(len(self.robots)), chance[0])
        place, frame = _pick(self._labelled[robot], chance[1])
        shot = self._shots[place]
        stride = _pick(shot.strides_at(frame), chance[2])
        before = _pick(self._frames_before(frame, len(shot.native), stride), chance[3])
        return self._cut(shot, frame - before * stride, stride)

    def _frames_before(self, frame: int, length: int, stride: int) -> range:
        """How many frames of a clip may lie before the one whose transition was drawn."""
        most = min(self._clip_frames - 2, frame // stride)
        last_start = length - 1 - (self._clip_frames - 1) * stride
        least = -((last_start - frame) // stride)  # fewer would make the clip reach beyond the shot
        return range(min(max(least, 0), most), most + 1)

    def _cut(self, shot: LabelledShot, start: int, stride: int) -> "_Clip":
        """Where a shot is too short its last frame is repeated; what leads there has no label."""
        at = start + stride * np.arange(self._clip_frames)
        known = np.where(
            at < len(shot.native), shot.counts(stride)[at.clip(max=len(shot.native) - 1)], False
        )[:-1]
        at = at.clip(max=len(shot.native) - 1)
        action = np.zeros((len(known), self._width), np.float32)
        action[:, : shot.action.shape[1]] = shot.action[at[:-1]]
        return _Clip(shot.pixels[at], shot.robot, action, known)


@dataclass(frozen=True)
class _Clip:
    pixels: np.ndarray
    robot: int
    action: np.ndarray
    known: np.ndarray


def _pick(options: Sequence[Any], chance: float) -> Any:
    """One of some options, by a number in [0, 1)."""
    return options[int(chance * len(options))]
