"""What the cells of `latent_actions.py` share: the recording, its video with distractors, and what is made of both.

    OUT/base/                    the recording, its labels, its shards
    OUT/videos/<video>/          the same shards with a distractor
    OUT/ceilings/*.npz           what the same network reads with all labels; by input, video, seed, and a hash of all
                                 that it is made from
    OUT/tokenizers/<video>/      of cells that train a world; by seed

Each is made when the first cell asks for it. One that was made from something else is never taken for it: another
ceiling is made, anything else is refused.
"""

import hashlib
import io
import json
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from pathlib import Path

import numpy as np
from latent_plan import CLEAN, Cell, Plan, distractor_of, recipe_of_base
from torch import nn

from genie_lite.adapt.ceiling import read_supervised
from genie_lite.adapt.footage import load_footage
from genie_lite.adapt.setting import Setting
from genie_lite.data.distract.backgrounds import Backgrounds
from genie_lite.data.distract.draw import draw_distractor
from genie_lite.data.distract.shards import distract_shards
from genie_lite.data.ingest.ingest import ingest
from genie_lite.data.labels import Labels, fingerprint, join
from genie_lite.data.shards.shards import ShardSet
from genie_lite.envs.distracted import DistractedEnv
from genie_lite.envs.games import game_of
from genie_lite.envs.protocol import Env
from genie_lite.envs.record import RecordConfig, record
from genie_lite.errors import UserError
from genie_lite.evals.transitions import Transitions
from genie_lite.files import write_bytes
from genie_lite.folder import labels_in_training, labels_of, sources_of
from genie_lite.nn.features import FrozenFeatures
from genie_lite.progress import bar, bars
from genie_lite.recipe import Recipe
from genie_lite.train.fit import fit


@dataclass(frozen=True)
class Shared:
    """Everything that the cells of a plan share, made when it is first asked for."""

    plan: Plan
    out: Path
    device: str = "cpu"

    @cached_property
    def base(self) -> Recipe:
        """The recipe of the recording, which is made if need be."""
        recipe = recipe_of_base(self.plan, self.out)
        if (section := recipe.record) is not None:
            splits = (
                ("train", section.episodes, section.levels, section.seed),
                ("test", section.test_episodes, section.test_levels, section.seed + 1),
            )
            for split, episodes, levels, seed in splits:
                shared = section.model_dump(include={"game", "explore", "wander", "max_frames"})
                config = RecordConfig(episodes=episodes, levels=levels, seed=seed, **shared)
                with bar(f"record {split}") as show:
                    record(config, recipe.folder / "videos" / split, progress=show)
        sources, test_sources = sources_of(recipe)
        with bar("ingest") as show:
            ingest(
                sources,
                recipe.folder / "shards",
                recipe.data.ingest,
                test_sources=test_sources,
                camera=recipe.data.camera,
                progress=show,
            )
        return recipe

    @cached_property
    def labels(self) -> Labels:
        """All true actions, for readers and ceilings; `adapt` draws its budget from them."""
        return labels_of(self.base)

    def shown(self, recipe: Recipe) -> dict[str, Labels]:
        """Labels that a cell's latent action model may be shown: those that a run of its recipe would show it."""
        return labels_in_training(recipe.model_copy(update={"out": self.base.out, "name": self.base.name}))

    @cached_property
    def backgrounds(self) -> ShardSet:
        """Footage for backgrounds."""
        if self.plan.backgrounds is None:
            raise UserError(
                f"plan {self.plan.name}: backgrounds: missing; name a folder of shards with other footage"
            )
        return ShardSet.open(self.plan.backgrounds)

    def shards(self, video: str) -> ShardSet:
        """A video, distracted if its name says so."""
        clean = ShardSet.open(self.base.folder / "shards", verify=False)
        if video == CLEAN:
            return clean
        out, config = self.out / "videos" / video, distractor_of(video)
        footage = self.backgrounds if config.kind == "background" else None
        with bar(f"distract {video}") as show:
            distract_shards(clean, out, config, footage, show)
        return ShardSet.open(out, verify=False)

    def supervised(
        self, recipe: Recipe, cell: Cell, shards: ShardSet, test: Transitions, eye: FrozenFeatures | None
    ) -> np.ndarray:
        """What the same network, trained on all labels of the training split, says of held-out transitions."""
        made_from = ceiling_key(recipe, shards, self.labels, eye)
        path = self.out / "ceilings" / f"{cell.input}_{cell.video}_{recipe.seed}_{made_from}.npz"
        if not path.is_file():
            with bars() as show:
                footage = load_footage(
                    chain.from_iterable(shards.samples(split) for split in ("train", "test")),
                    sum(shards.num_samples(split) for split in ("train", "test")),
                    partial(show, "frames"),
                )
                known = self.labels.locate(footage.source, footage.frame_index) >= 0
                train = np.flatnonzero(footage.has_next & known & (footage.split == "train"))
                wanted = np.flatnonzero(footage.has_next & known & (footage.split == "test"))
                setting = Setting(recipe.seed, self.device, show, "supervised inverse model")
                answer = read_supervised(
                    recipe.lam.model,
                    footage,
                    self.labels,
                    train,
                    wanted,
                    recipe.adapt.idm,
                    setting,
                    eye=eye,
                )
            buffer = io.BytesIO()
            source, frame_index = footage.source[wanted], footage.frame_index[wanted]
            np.savez(buffer, answer=answer.numpy(), source=source, frame_index=frame_index)
            write_bytes(path, buffer.getvalue())
        with np.load(path) as kept:
            rows = join(kept["source"], kept["frame_index"], test.episode, test.frame_index)
            answer = kept["answer"][rows]
        return answer.argmax(axis=1) if self.labels.kind == "discrete" else answer.astype(np.float64)

    def tokenizer(self, recipe: Recipe, video: str, shards: ShardSet) -> Path:
        """The tokenizer of a video and a seed, which all of its worlds share."""
        run = self.out / "tokenizers" / video / f"seed-{recipe.seed}"
        fit("tokenizer", recipe.tokenizer, shards, run, seed=recipe.seed, wandb="off", trainer=recipe.trainer)
        return run / "tokenizer"

    def game(self, recipe: Recipe, video: str, num_envs: int) -> Env:
        """The real game, seen as in a video."""
        assert recipe.record is not None, "only games can be played"
        game = game_of(recipe.record.game)
        env, config = game.open(num_envs), distractor_of(video)
        if config.kind == "none":
            return env
        footage = Backgrounds.of(self.backgrounds) if config.kind == "background" else None
        frame_hw = game.size_px, game.size_px
        return DistractedEnv(
            env, lambda level: draw_distractor(config, f"level {level}", "test", frame_hw, footage)
        )


def ceiling_key(recipe: Recipe, shards: ShardSet, labels: Labels, eye: nn.Module | None) -> str:
    """A hash of all that a ceiling is made from, its seed left out; the bottleneck has no part in it."""
    weights = {} if eye is None else eye.state_dict()
    made_from = {
        "network": json.loads(recipe.lam.model.model_dump_json(exclude={"code"})),
        "training": json.loads(recipe.adapt.idm.model_dump_json()),
        "shards": shards.fingerprint,
        "labels": fingerprint(labels),
        "eye": {
            name: hashlib.sha256(each.cpu().numpy().tobytes()).hexdigest() for name, each in weights.items()
        },
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]
