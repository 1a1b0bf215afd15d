"""Training a dynamics model on mixed labels: which labels it sees, that it resumes exactly, and what it leaves."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from genie_lite.artifact import Artifact, read_artifact
from genie_lite.data.labels import Labels
from genie_lite.data.loading.mixture import Corpora
from genie_lite.data.shards.shards import ShardSet
from genie_lite.data.shards.token_shards import TokenShards
from genie_lite.errors import UserError
from genie_lite.models.condition import UNKNOWN, ActionsCondition
from genie_lite.models.dynamics import load_dynamics
from genie_lite.models.world import World
from genie_lite.train.config import DynamicsStage, LabelsConfig
from genie_lite.train.fit import check_labels, fit, origin_of
from genie_lite.train.labelled_tokens import LabelledTokens
from tests.training import CPU, rows, stage_config, train, write_shards

NAMES = ("stay", "go")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return write_shards(tmp_path_factory.mktemp("data") / "shards")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, shards: ShardSet) -> Path:
    """A run whose tokens are made, and whose dynamics model was led by actions."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    for stage in ("tokenizer", "lam"):
        train(stage, shards, folder, steps=2)
    learn(shards, folder)
    return folder


@pytest.fixture(scope="module")
def tokens(run: Path) -> Corpora[TokenShards]:
    return Corpora.of(TokenShards.open(run / "tokens"))


def labels() -> Labels:
    """Of all frames but the last of each shot; the choice is the parity of the frame."""
    sources, frames = [], []
    for split, count in (("train", 3), ("test", 1)):
        for number in range(count):
            for part, length in enumerate((9, 7)):
                sources += [f"{split}-{number}-{part}.mp4"] * (length - 1)
                frames += range(length - 1)
    order = np.lexsort((frames, sources))
    source, frame = np.asarray(sources)[order], np.asarray(frames)[order]
    return Labels(source, frame, frame % 2, "discrete", NAMES)


def stage(budget: int = 12, **train_settings: object) -> DynamicsStage:
    plain = stage_config("dynamics", **train_settings)
    assert isinstance(plain, DynamicsStage)
    model = plain.model.model_copy(update={"condition": ActionsCondition()})
    return DynamicsStage(model=model, labels=LabelsConfig(budget=budget, batch=2), train=plain.train)


def learn(shards: ShardSet, run: Path, config: DynamicsStage | None = None) -> Artifact:
    return fit(
        "dynamics", config or stage(), shards, run, seed=0, wandb="off", trainer=CPU, labels={"toy": labels()}
    )


def test_it_knows_its_actions_and_makes_a_world_of_them(run: Path) -> None:
    world = World.load(run)
    assert world.actions == NAMES
    assert world.num_codes == 2
    state = world.reset(torch.rand(1, 2, 3, 32, 32), seed=0)
    state, frame = world.step(state, torch.tensor([1]))
    assert frame.shape == (1, 3, 32, 32)


def test_validation_tells_what_actions_are_worth(run: Path) -> None:
    last = rows(run, "dynamics", "val")[-1]
    assert {"cross_entropy", "control_nats", "missing_cross_entropy", "missing_accuracy"} <= last.keys()


def test_a_broken_off_stage_goes_on_exactly(
    tmp_path: Path, run: Path, shards: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    from genie_lite.train.callbacks import ShowProgress

    for each in ("tokenizer", "lam", "tokens"):
        shutil.copytree(run / each, tmp_path / each)

    def die(self: object, trainer: object, *_: object) -> None:
        if getattr(trainer, "global_step", None) == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ShowProgress, "on_train_batch_end", die)
        with pytest.raises(KeyboardInterrupt):
            learn(shards, tmp_path)
    assert read_artifact(run / "dynamics", "dynamics").sha256 == learn(shards, tmp_path).sha256
    assert rows(tmp_path, "dynamics", "train") == rows(run, "dynamics", "train")


def test_other_labels_make_another_model(tmp_path: Path, run: Path, shards: ShardSet) -> None:
    for each in ("tokenizer", "lam", "tokens"):
        shutil.copytree(run / each, tmp_path / each)
    learn(shards, tmp_path, stage(budget=20))
    assert (
        read_artifact(tmp_path / "dynamics", "dynamics").sha256
        != read_artifact(run / "dynamics", "dynamics").sha256
    )
    assert not torch.equal(*(load_dynamics(each / "dynamics").to_logits.weight for each in (run, tmp_path)))


def test_labels_are_part_of_what_it_is_trained_from(shards: ShardSet) -> None:
    origins = [origin_of(stage(), shards, 0, {"toy": each}) for each in (labels(), flipped())]
    assert origins[0] != origins[1]
    plain = stage_config("dynamics")
    assert "labelled" not in origin_of(plain, shards, 0)


def flipped() -> Labels:
    return replace(labels(), action=1 - labels().action)


def test_only_the_budget_of_the_training_split_is_seen(tokens: Corpora[TokenShards]) -> None:
    windows = LabelledTokens.gather(tokens, labels(), LabelsConfig(budget=12), 4, 8, seed=0)
    assert len(windows) == 12
    whole = LabelledTokens.gather(tokens, labels(), LabelsConfig(budget=42), 4, 8, seed=0)
    assert len(whole) == 3 * (8 + 6)
    assert len(LabelledTokens.gather(tokens, labels(), LabelsConfig(episodes=2), 4, 8, seed=0)) in (
        12,
        14,
        16,
    )


def test_every_window_has_a_label_and_actions_lie_beside_their_frames(tokens: Corpora[TokenShards]) -> None:
    windows = LabelledTokens.gather(tokens, labels(), LabelsConfig(budget=12), 4, 64, seed=0)
    drawn = windows.draw(torch.Generator().manual_seed(0))
    assert drawn.tokens.shape[:2] == (64, 4)
    assert drawn.codes.shape == drawn.actions.shape == (64, 3)
    assert bool((drawn.actions != UNKNOWN).any(dim=1).all())
    both = drawn.actions[(drawn.actions != UNKNOWN).all(dim=1)]
    assert bool((both[:, 1:] != both[:, :-1]).all()), "the choice is the parity of the frame"


def test_processes_share_a_draw_out(tokens: Corpora[TokenShards]) -> None:
    windows = LabelledTokens.gather(tokens, labels(), LabelsConfig(budget=12), 4, 6, seed=0)
    whole = windows.draw(torch.Generator().manual_seed(3)).tokens
    parts = [windows.draw(torch.Generator().manual_seed(3), (rank, 2)).tokens for rank in range(2)]
    assert torch.equal(torch.stack(parts, dim=1).flatten(0, 1), whole)
    with pytest.raises(UserError, match=r"dynamics.labels.batch: 6 windows cannot be shared equally by 4"):
        windows.draw(torch.Generator(), (0, 4))


def test_held_out_windows_are_of_the_test_split_and_always_the_same(tokens: Corpora[TokenShards]) -> None:
    clips = LabelledTokens.held_out(tokens, labels(), 4).spread(3)
    again = LabelledTokens.held_out(tokens, labels(), 4).spread(3)
    assert len(clips) == 3
    assert all(torch.equal(one.tokens, other.tokens) for one, other in zip(clips, again, strict=True))
    train_only = labels().of([name for name in labels().episodes if name.startswith("train")])
    assert LabelledTokens.held_out(tokens, train_only, 4).spread(3) == []


def test_labels_of_other_videos_are_named(tokens: Corpora[TokenShards]) -> None:
    others = labels().renamed({name: f"else-{name}" for name in labels().episodes})
    with pytest.raises(
        UserError, match=r"no transition of the training split has a label.*else-test-0-0.mp4"
    ):
        LabelledTokens.gather(tokens, others, LabelsConfig(), 4, 8, seed=0)


def test_windows_longer_than_labelled_shots_are_refused(tokens: Corpora[TokenShards]) -> None:
    with pytest.raises(UserError, match=r"no labelled shot has 10 frames; lower dynamics.train.clip_frames"):
        LabelledTokens.gather(tokens, labels(), LabelsConfig(budget=12), 10, 8, seed=0)


def test_vectors_are_refused_before_anything_begins() -> None:
    given = labels()
    vectors = Labels(
        given.sources, given.frame_index, np.zeros((len(given), 2), np.float32), "continuous", ("x", "y")
    )
    with pytest.raises(UserError, match=r"kind is actions, but the labels are vectors \(x, y …\)"):
        check_labels(stage(), {"arm": vectors})
    with pytest.raises(UserError, match=r"dynamics.labels: is set, but there are no labels"):
        check_labels(stage(), {})
    other = Labels(given.sources, given.frame_index + 100, given.action, "discrete", ("a", "b"))
    with pytest.raises(UserError, match="one file names the actions"):
        check_labels(stage(), {"one": given, "two": other})
