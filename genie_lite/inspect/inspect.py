"""The verdict on a latent action model: every measurement, what it is judged by, and what the codes are good for.

    held-out clips ──▶ control, leak, structure         pairs and triples of frames
    held-out shots ──▶ use                              every transition
    labelled shots ──▶ actions                          readers learn on `train`, and are scored on `test`

Nothing here trains or changes the model. What cannot be measured is left out, and a sentence says why.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np

from genie_lite.adapt.footage import Footage, load_footage
from genie_lite.adapt.setting import Setting
from genie_lite.data.labels import Labels
from genie_lite.data.loading.clip import Clip
from genie_lite.data.loading.loader import validation_clips
from genie_lite.data.shards.shards import ShardSet
from genie_lite.errors import UserError
from genie_lite.evals.tree import to_tree
from genie_lite.evals.untrained import CALIBRATION_SHOTS, with_random_weights
from genie_lite.inspect.actions import measure_actions
from genie_lite.inspect.agreement import code_table
from genie_lite.inspect.align import measure_alignment
from genie_lite.inspect.clips import tell
from genie_lite.inspect.config import InspectConfig
from genie_lite.inspect.control import measure_decoder, measure_world
from genie_lite.inspect.held_out import FRAMES, HeldOut
from genie_lite.inspect.judge import Check, Verdict, conclude, judge
from genie_lite.inspect.labelled import Labelled, attach
from genie_lite.inspect.leak import measure_leak
from genie_lite.inspect.measure import Measure
from genie_lite.inspect.projection import scatter
from genie_lite.inspect.spoken import Spoken, listen
from genie_lite.inspect.structure import measure_effect, measure_sums
from genie_lite.inspect.use import alphabet_of, measure_footage, measure_use
from genie_lite.latents.window import horizon_of
from genie_lite.models.lam import LatentActionModel, Relation
from genie_lite.models.world import World

FORMAT = 1
MOST_NAMES = 20  # codes that a projection tells apart by colour

Progress = Callable[[str, int, int], None]  # (what, done, total)


@dataclass(frozen=True)
class Inspection:
    """What was found. tree: all of it as plain JSON; the page is made from that alone."""

    checks: tuple[Check, ...]
    verdict: Verdict
    tree: dict[str, Any]

    def check(self, name: str) -> Check:
        """One check by its name."""
        return next(check for check in self.checks if check.name == name)


def inspect_lam(
    lam: LatentActionModel,
    shards: ShardSet,
    labels: Labels | None = None,
    options: InspectConfig | None = None,
    *,
    world: World | None = None,
    relations: Collection[Relation] = (),
    progress: Progress | None = None,
) -> Inspection:
    """Measure a latent action model on held-out video, and say what its codes are good for.

    Args:
        lam: in evaluation mode, on the device to use.
        shards: with a split `test` of shots of five frames or more; `train` is read for the baselines.
        labels: true actions of both splits, None where there are none.
        options: how much is looked at, and the thresholds.
        world: that the codes steer, None where there is none yet.
        relations: between codes that the model was trained to have (`LAMWeights.relations`): these decide, too.
        progress: called with (what, done, total).

    Raises:
        UserError: frames of another size than the model's; no held-out shot is long enough; labels of choices whose
            frames lie further apart than those of the video.
    """
    options = options or InspectConfig()
    work = _Work(lam, shards, options, progress or _say_nothing)
    measures = dict(work.measure(labels, world))
    checks = judge(measures, options.thresholds, relations)
    verdict = conclude(checks)
    return Inspection(tuple(checks), verdict, _tree(work, checks, verdict))


class _Work:
    """One inspection under way: what is read once and used by several measurements."""

    def __init__(
        self, lam: LatentActionModel, shards: ShardSet, options: InspectConfig, tell: Progress
    ) -> None:
        if shards.frame_hw != lam.config.frame_hw:
            found, wanted = ("x".join(map(str, hw)) for hw in (shards.frame_hw, lam.config.frame_hw))
            raise UserError(
                f"{shards.place}: frames of {found} pixels, the latent action model reads {wanted}; "
                f"ingest again with size_px={lam.config.frame_hw[0]}"
            )
        self.lam, self.shards, self.options, self.progress = lam, shards, options, tell
        self.stride = frames_apart(lam, shards)
        self.left_out: list[str] = []
        self.table: dict[str, Any] | None = None
        self.projection: dict[str, Any] | None = None
        self.num_transitions = 0

    def measure(self, labels: Labels | None, world: World | None) -> Iterator[tuple[str, Measure]]:
        """Everything, in the order that reads the data once."""
        lam, options, stages = (
            self.lam,
            self.options,
            ("footage", "codes", "control", "leak", "structure", "actions"),
        )
        step = {name: number for number, name in enumerate(stages)}
        self.progress("footage", step["footage"], len(stages))
        clips = self._clips()
        held_out = HeldOut.of(clips)
        device = lam.place.device
        calibration = islice(self.shards.spread("train", options.shots), CALIBRATION_SHOTS)
        other = with_random_weights(lam, calibration, options.seed, device)
        footage = self._footage(labels)
        self.progress("codes", step["codes"], len(stages))
        ours = listen(lam, footage, self.stride)
        test = ours.select(footage.split[ours.row] == "test")
        self.num_transitions = len(test)
        yield from measure_use(test, alphabet_of(lam), options.thresholds)
        yield from measure_footage(held_out)
        self.progress("control", step["control"], len(stages))
        told, untold = (tell(each, held_out, options.batch) for each in (lam, other))
        yield from measure_decoder(lam, told, untold, options.control_draws, options.seed)
        yield from measure_alignment(told)
        yield from self._control(world, clips)
        self.progress("leak", step["leak"], len(stages))
        yield from measure_leak(lam, other, held_out, options.batch)
        self.progress("structure", step["structure"], len(stages))
        yield from measure_sums(lam, other, held_out, options.batch, options.thresholds)
        codes = _by_frequency(test.code)
        yield from measure_effect(lam, held_out, codes, options.batch, options.seed)
        self.progress("actions", step["actions"], len(stages))
        rows = (
            attach(ours, listen(other, footage, self.stride), footage, labels, self.stride)
            if labels
            else None
        )
        self._draw(test, rows)
        if rows is None:
            why = (
                "there are none"
                if labels is None
                else "no transition of either split has one, or only one split has"
            )
            self.left_out.append(f"What needs labels is left out: {why}.")
        else:
            setting = Setting(options.seed, str(device), self.progress)
            yield from measure_actions(rows, lam, options.inverse, options.thresholds.way, setting)
            agreement = code_table(rows, lam.num_codes)
            self.table = None if agreement is None else to_tree(agreement)
        self.progress("actions", len(stages), len(stages))

    def _clips(self) -> list[Clip]:
        options = self.options
        return validation_clips(
            self.shards, "test", FRAMES, options.clips, stride=self.stride, batch=options.batch
        )

    def _footage(self, labels: Labels | None) -> Footage:
        """Shots of the test split, and of the training split if readers are to learn."""
        splits = ("train", "test") if labels is not None else ("test",)
        shots = chain.from_iterable(self.shards.spread(split, self.options.shots) for split in splits)
        return load_footage(shots)

    def _control(self, world: World | None, clips: list[Clip]) -> Iterator[tuple[str, Measure]]:
        if world is None:
            self.left_out.append(
                "The world's \N{GREEK CAPITAL LETTER DELTA}tPSNR at t = 4 is left out: there is no "
                "dynamics model yet. One frame ahead, in the model's own decoder, stands in for it."
            )
            return
        enough = -(-self.options.world_clips // self.options.batch)
        yield from measure_world(world, clips[:enough], self.options.control_draws, self.options.seed)

    def _draw(self, test: Spoken, rows: Labelled | None) -> None:
        """Embeddings of the test split in the plane, coloured by true choices, or by codes."""
        if rows is not None and rows.is_discrete:
            spoken, label = rows.ours.select(rows.test), rows.action[rows.test]
            names = list(rows.labels.names)
        else:
            common = _by_frequency(test.code)[:MOST_NAMES]
            spoken = test.select(np.isin(test.code, common))
            label = np.asarray([common.index(code) for code in spoken.code.tolist()])
            names = [f"code {code}" for code in common]
        some = np.linspace(0, len(spoken) - 1, min(self.options.points, len(spoken))).astype(int)
        self.projection = scatter(spoken.embedding[some], label[some], names, self.options.seed)


def frames_apart(lam: LatentActionModel, shards: ShardSet) -> int:
    """Frames of the shards from one frame of a pair to the other: 1, or the middle of what the model was trained on."""
    return horizon_of(lam, shards.rate_hz).frames


def _by_frequency(code: np.ndarray) -> list[int]:
    """Codes that occur, the commonest first."""
    codes, count = np.unique(code, return_counts=True)
    return codes[np.argsort(-count, kind="stable")].tolist()


def _tree(work: _Work, checks: list[Check], verdict: Verdict) -> dict[str, Any]:
    lam = work.lam
    return {
        "format": FORMAT,
        "about": {
            "code": to_tree(lam.config.code.model_dump()),
            "num_codes": lam.num_codes,
            "width": lam.code_dim,
            "frame_hw": list(lam.config.frame_hw),
            "shards": work.shards.fingerprint,
            "rate_hz": work.shards.rate_hz,
            "pair_s": work.stride / work.shards.rate_hz,
            "clips": work.options.clips,
            "transitions": work.num_transitions,
            "options": work.options.model_dump(mode="json"),
            "left_out": work.left_out,
        },
        "checks": [check.tree() for check in checks],
        "verdict": to_tree(verdict),
        "code_action": work.table,
        "projection": work.projection,
        "pictures": {},
    }


def _say_nothing(what: str, done: int, total: int) -> None:
    """Nobody is listening."""
