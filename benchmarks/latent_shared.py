"""What the cells of `latent_actions.py` share: the recording, its video with distractors, and what is made of both.

    OUT/base/                    the recording, its labels, its shards
    OUT/videos/<video>/          the same shards with a distractor
    OUT/ceilings/*.npz           what the same network reads with all labels; by input, video and seed
    OUT/tokenizers/<video>/      of cells that train a world; by seed

Each is made when the first cell asks for it.
"""

import io
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from pathlib import Path

import numpy as np
from latent_plan import CLEAN, Cell, Plan, distractor_of, recipe_of_base

from genie_lite.adapt.ceiling import read_supervised
from genie_lite.adapt.footage import load_footage
from genie_lite.adapt.setting import Setting
from genie_lite.data.distract.backgrounds import Backgrounds
from genie_lite.data.distract.draw import draw_distractor
from genie_lite.data.distract.shards import distract_shards
from genie_lite.data.ingest.ingest import ingest
from genie_lite.data.labels import Labels, join
from genie_lite.data.shards.index import INDEX_FILE
from genie_lite.data.shards.shards import ShardSet
from genie_lite.envs.distracted import DistractedEnv
from genie_lite.envs.games import game_of
from genie_lite.envs.protocol import Env
from genie_lite.envs.record import RecordConfig, record
from genie_lite.errors import UserError
from genie_lite.evals.transitions import Transitions
from genie_lite.files import write_bytes
from genie_lite.folder import labels_of, sources_of
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
        """All true actions; every budget is drawn from them."""
        return labels_of(self.base)

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
        if not (out / INDEX_FILE).is_file():
            footage = self.backgrounds if config.kind == "background" else None
            with bar(f"distract {video}") as show:
                distract_shards(clean, out, config, footage, show)
        return ShardSet.open(out, verify=False)

    def supervised(self, recipe: Recipe, cell: Cell, shards: ShardSet, test: Transitions) -> np.ndarray:
        """What the same network, trained on all labels of the training split, says of held-out transitions."""
        path = self.out / "ceilings" / f"{cell.input}_{cell.video}_{recipe.seed}.npz"
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
                    recipe.lam.model, footage, self.labels, train, wanted, recipe.adapt.idm, setting
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
