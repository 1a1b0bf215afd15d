"""Labelled clips: the action of frame k at transition k, the same few labels as adapt has, the same in any process."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from genie_lite.adapt.config import AdaptConfig
from genie_lite.adapt.footage import Footage, load_footage
from genie_lite.adapt.material import gather
from genie_lite.data.labels import Labels
from genie_lite.data.loading.mixture import Corpora, Corpus
from genie_lite.data.shards.shards import ShardSet
from genie_lite.errors import UserError
from genie_lite.latents.table import Latents
from genie_lite.models.heads import read_heads, write_heads
from genie_lite.models.lam import LAMConfig, LAMWeights
from genie_lite.train.config import LabelsConfig, LAMStage, TrainConfig
from genie_lite.train.label_shots import robots_of
from genie_lite.train.labelled import LabelledBatch, LabelledClips
from tests import footage, training

SIZE = {"frame_hw": (32, 32), "patch": 16, "width": 16, "heads": 2, "depth": 1}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """Three shards of training shots `train-0-0.mp4` … of 9 and 7 frames, every frame of their videos."""
    return training.write_shards(tmp_path_factory.mktemp("data") / "shards")


@pytest.fixture(scope="module")
def shown(shards: ShardSet) -> Footage:
    return load_footage([*shards.samples("train"), *shards.samples("test")])


def stage(clip_frames: int = 4, pair_s: tuple[float, float] | None = None, **labels: int) -> LAMStage:
    return LAMStage(
        model=LAMConfig(**SIZE, pair_s=pair_s),
        train=TrainConfig(steps=1, clip_frames=clip_frames, batch=4),
        labels=LabelsConfig(**labels),
    )


def place_labels(shown: Footage, rows: np.ndarray | None = None) -> Labels:
    """Continuous: the place of each frame in its video, and of its video among all."""
    _, video = np.unique(shown.source, return_inverse=True)
    action = np.stack([shown.frame_index, video], axis=1).astype(np.float32)
    labels = Labels(shown.source, shown.frame_index, action, "continuous", ("frame", "video"))
    return labels if rows is None else labels.select(rows)


def latents_of(shown: Footage) -> Latents:
    """Latent actions that say nothing."""
    zeros = np.zeros(len(shown))
    given = {name: zeros for name in ("timestamp_s", "dt_s", "recon_psnr_db", "copy_psnr_db")}
    code = zeros.astype(np.int32)
    return Latents(
        source=shown.source,
        key=shown.source,
        split=shown.split,
        frame_index=shown.frame_index,
        horizon_frames=np.ones(len(shown), np.int32),
        code=code,
        tokens=code[:, None],
        embedding=zeros[:, None],
        valid=shown.has_next,
        **given,
    )


def draw(clips: LabelledClips, seed: int = 0) -> LabelledBatch:
    return clips.draw(torch.Generator().manual_seed(seed))


def known_rows(clips: LabelledClips, num_draws: int = 20) -> set[tuple[float, ...]]:
    """All actions that ever come with a label."""
    found = set()
    for seed in range(num_draws):
        actions = draw(clips, seed).actions
        found |= {tuple(row) for row in actions.action[actions.known].tolist()}
    return found


@pytest.mark.parametrize(("pair_s", "stride"), [(None, 1), ((0.2, 0.2), 2)])
def test_transition_k_has_the_label_of_frame_k(
    shards: ShardSet, shown: Footage, pair_s: tuple[float, float] | None, stride: int
) -> None:
    labels = place_labels(shown)
    clips = LabelledClips.gather(shards, [labels], stage(pair_s=pair_s, budget=36), seed=0)
    batch = draw(clips)
    assert batch.frames.shape == (16, 4, 3, 32, 32)
    names = np.unique(shown.source)
    for frames, action, known in zip(batch.frames, batch.actions.action, batch.actions.known, strict=True):
        assert known.any()
        for k in np.flatnonzero(known):
            frame, video = action[k].long().tolist()
            row = np.flatnonzero((shown.source == names[video]) & (shown.frame_index == frame))[0]
            for place, here in ((row, k), (row + stride, k + 1)):
                assert np.array_equal(
                    shown.frames[place], (frames[here] * 255).round().permute(1, 2, 0).numpy()
                )


def test_strides_are_drawn_from_the_range_and_stay_in_the_shot(shards: ShardSet, shown: Footage) -> None:
    clips = LabelledClips.gather(shards, [place_labels(shown)], stage(3, (0.1, 0.4), budget=42), seed=0)
    steps = set()
    for seed in range(10):
        actions = draw(clips, seed).actions
        both = actions.known.all(dim=1)
        steps |= set((actions.action[both, 1, 0] - actions.action[both, 0, 0]).tolist())
    assert steps == {1.0, 2.0, 3.0, 4.0}


def test_the_budget_is_that_of_adapt(shards: ShardSet, shown: Footage) -> None:
    """Whole shots in a seeded order, the last one cut; of transitions of the training split alone."""
    labels = place_labels(shown)
    clips = LabelledClips.gather(shards, [labels], stage(budget=17), seed=3)
    config = AdaptConfig(labels_budget=17)
    material = gather(shown, latents_of(shown), 4, labels, config, seed=3)
    assert len(clips) == 17
    assert known_rows(clips) == {tuple(row) for row in material.target[material.labelled].tolist()}
    whole = LabelledClips.gather(shards, [labels], stage(episodes=2), seed=3)
    assert len(whole) in (6 + 6, 8 + 6, 8 + 8)


def test_a_transition_without_a_label_counts_nothing(shards: ShardSet, shown: Footage) -> None:
    some = (shown.split == "train") & (shown.frame_index % 3 == 1)
    clips = LabelledClips.gather(shards, [place_labels(shown, some)], stage(budget=12), 0)
    rows = known_rows(clips)
    assert {row[0] % 3 for row in rows} == {1}
    actions = draw(clips).actions
    assert 0 < actions.known.sum() < actions.known.numel()
    assert (actions.action[~actions.known] == 0).all()


def test_a_shot_that_is_too_short_is_filled_up_and_what_leads_there_counts_nothing(
    shards: ShardSet, shown: Footage
) -> None:
    seven = np.char.endswith(shown.source, "-1.mp4")  # shots of 7 frames
    clips = LabelledClips.gather(shards, [place_labels(shown, seven)], stage(12, budget=18), 0)
    batch = draw(clips)
    assert batch.frames.shape[1] == 12
    assert torch.equal(batch.frames[:, -1], batch.frames[:, -2])
    assert not batch.actions.known[:, 6:].any()
    assert batch.actions.known[:, 0].all(), "nothing is lost before"


def test_choices_over_several_frames_of_a_video_are_refused_and_vectors_are_not(tmp_path: Path) -> None:
    thinned = footage.write_shards(tmp_path / "thinned", ("train",))  # every third frame of its videos
    shown = load_footage(thinned.samples("train"))
    config = stage(budget=8)
    choices = Labels(shown.source, shown.frame_index, np.zeros(len(shown), int), "discrete", ("a", "b"))
    with pytest.raises(
        UserError, match=r"robot-0: 14 labelled transitions span more than one frame .* own rate"
    ):
        LabelledClips.gather(thinned, [choices], config, 0)
    assert len(LabelledClips.gather(thinned, [place_labels(shown)], config, 0)) == 8


def test_choices_count_where_a_transition_is_one_frame(shards: ShardSet, shown: Footage) -> None:
    action = shown.frame_index % 3
    choices = Labels(shown.source, shown.frame_index, action, "discrete", ("a", "b", "c"))
    clips = LabelledClips.gather(shards, {"game": choices}, stage(4, (0.1, 0.3), budget=30), 0)
    actions = draw(clips).actions
    assert actions.known.sum(dim=1).min() > 0
    assert set(actions.action[actions.known].sum(dim=-1).tolist()) == {1.0}
    first = actions.action[actions.known.all(dim=1)].argmax(dim=-1)
    assert torch.equal((first[:, 1:] - first[:, :-1]) % 3, torch.ones_like(first[:, 1:])), (
        "strides of one frame"
    )


def test_two_robots_come_as_often_and_have_their_own_actions(shards: ShardSet, shown: Footage) -> None:
    rows = np.flatnonzero(shown.split == "train")
    arm = place_labels(shown, rows[:14])
    game = Labels(
        shown.source[rows[16:]], shown.frame_index[rows[16:]], rows[16:] % 3, "discrete", ("a", "b", "c")
    )
    clips = LabelledClips.gather(shards, [arm, game], stage(budget=12), 0)
    assert [(robot.name, robot.kind) for robot in clips.robots] == [
        ("robot-0", "continuous"),
        ("robot-1", "discrete"),
    ]
    robots = torch.cat([draw(clips, seed).actions.robot for seed in range(10)])
    assert 0.4 < float(robots.float().mean()) < 0.6
    actions = draw(clips).actions
    assert actions.action.shape[2] == 3
    assert (actions.action[actions.robot == 0, :, 2] == 0).all()


def test_two_arms_with_the_same_joints_stay_two_with_a_budget_each(
    shards: ShardSet, shown: Footage, tmp_path: Path
) -> None:
    rows = np.flatnonzero(shown.split == "train")
    left, right = place_labels(shown, rows[:16]), place_labels(shown, rows[16:])
    assert list(robots_of([left, right])) == ["robot-0", "robot-1"]
    clips = LabelledClips.gather(shards, {"left": left, "right": right}, stage(budget=6), 0)
    assert len(clips) == 6 + 6
    heads = clips.new_heads(4)
    write_heads(tmp_path, heads.spec, heads.state_dict())
    assert read_heads(tmp_path).names == ("left", "right")
    card = json.loads((tmp_path / "heads.json").read_text())
    assert [robot["name"] for robot in card["config"]["robots"]] == ["left", "right"]


def test_labels_without_a_weight_are_told_of() -> None:
    with pytest.warns(UserWarning, match=r"lam\.labels: is set, but lam\.weights\.label is 0"):
        LAMStage(labels=LabelsConfig(), weights=LAMWeights(label=0.0), train=TrainConfig(steps=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LAMStage(labels=LabelsConfig(), train=TrainConfig(steps=1))
        LAMStage(weights=LAMWeights(label=0.0), train=TrainConfig(steps=1))


def test_more_than_there_is_is_told_by_the_setting_s_name(shards: ShardSet, shown: Footage) -> None:
    labels = place_labels(shown)
    with pytest.raises(
        UserError, match=r"labels of arm: lam\.labels\.episodes: found 50, .* at most the 6 l"
    ):
        LabelledClips.gather(shards, {"arm": labels}, stage(episodes=50), 0)
    with pytest.warns(UserWarning, match=r"labels of arm: lam\.labels\.budget: found 500, but only 42 "):
        LabelledClips.gather(shards, {"arm": labels}, stage(budget=500), 0)
    with pytest.raises(UserError, match=r"adapt\.labels_episodes: found 50, .* at most the 6 l"):
        gather(shown, latents_of(shown), 4, labels, AdaptConfig(labels_episodes=50), seed=0)
    with pytest.warns(UserWarning, match=r"adapt\.labels_budget: found 500, but only 42 "):
        gather(shown, latents_of(shown), 4, labels, AdaptConfig(labels_budget=500), seed=0)


def test_processes_draw_parts_of_one_draw(shards: ShardSet, shown: Footage) -> None:
    clips = LabelledClips.gather(shards, [place_labels(shown)], stage(budget=40), 0)
    whole = draw(clips, 7)
    parts = [clips.draw(torch.Generator().manual_seed(7), (rank, 2)) for rank in (0, 1)]
    assert torch.equal(torch.cat([part.frames for part in parts]), whole.frames)
    assert torch.equal(torch.cat([part.actions.action for part in parts]), whole.actions.action)
    assert torch.equal(torch.cat([part.actions.known for part in parts]), whole.actions.known)
    assert not torch.equal(parts[0].frames, parts[1].frames)
    assert not torch.equal(draw(clips, 8).frames, whole.frames)
    with pytest.raises(UserError, match=r"lam\.labels\.batch: 16 clips .* 3 processes"):
        clips.draw(torch.Generator(), (0, 3))


def test_heads_start_with_the_statistics_of_the_budget(shards: ShardSet, shown: Footage) -> None:
    labels = place_labels(shown)
    clips = LabelledClips.gather(shards, [labels], stage(budget=17), seed=3)
    heads = clips.new_heads(4)
    rows = torch.tensor(sorted(known_rows(clips)))
    torch.testing.assert_close(heads.get_buffer("mean_0"), rows.mean(dim=0))
    torch.testing.assert_close(heads.get_buffer("std_0"), rows.std(dim=0, unbiased=False))


def test_labels_that_fit_nothing_or_two_corpora_are_told(shards: ShardSet, shown: Footage) -> None:
    others = place_labels(shown).renamed({name: f"else/{name}" for name in np.unique(shown.source)})
    with pytest.raises(UserError, match=r"robot-0: no transition .*'else/train-0-0\.mp4'.*'train-0-0\.mp4'"):
        LabelledClips.gather(shards, [others], stage(), 0)
    with pytest.raises(UserError, match=r"robot-0: there are none; .* adapt\.demonstrations"):
        LabelledClips.gather(shards, [place_labels(shown, np.zeros(len(shown), bool))], stage(), 0)
    of_test = place_labels(shown, shown.split == "test")
    with pytest.raises(UserError, match="no transition of the training split"):
        LabelledClips.gather(shards, [of_test], stage(), 0)
    twice = Corpora((Corpus(shards), Corpus(shards)))
    with pytest.raises(UserError, match=r"robot-0: train-\S+ is in two corpora"):
        LabelledClips.gather(twice, [place_labels(shown)], stage(), 0)
