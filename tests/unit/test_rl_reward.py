"""A learned reward: outcomes find their transitions, ends are told on episodes that were not seen, and honestly so."""

import dataclasses
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from genie_lite.cli import app
from genie_lite.data.labels import Labels
from genie_lite.data.loading.loader import to_frames
from genie_lite.data.shards.index import index_of
from genie_lite.data.shards.shards import Sample, ShardSet, ShardWriter
from genie_lite.data.video.codec import encode_mp4
from genie_lite.errors import UserError
from genie_lite.files import write_json
from genie_lite.models.tokenizer import load_tokenizer
from genie_lite.rl.fit import RewardScore, auroc, fit_reward, reward_of
from genie_lite.rl.outcomes import Outcomes, _of_shot, gather
from genie_lite.rl.reward import LearnedReward, RewardConfig, RewardHead, load_reward, read_reward_card
from genie_lite.rl.world_env import WorldEnv
from tests import models
from tests.dreams import write_run

SIZE_PX, NUM_EPISODES, LENGTH = 32, 8, 7
CONFIG = RewardConfig(width=4, steps=40, batch=8, lr=1e-2, folds=2)


def episode(number: int) -> np.ndarray:
    """Grey frames; those of even numbers end in a bright one."""
    frames = np.full((LENGTH, SIZE_PX, SIZE_PX, 3), 60, np.uint8)
    frames += np.random.default_rng(number).integers(0, 20, frames.shape, dtype=np.uint8)
    if number % 2 == 0:
        frames[-1] = 230
    return frames


def write_shots(folder: Path, *, every: int = 1, num: int = NUM_EPISODES) -> ShardSet:
    """One shard of all episodes, whose frames are every so-many-th of their videos."""
    folder.mkdir(parents=True)
    with ShardWriter(folder, "train", 0) as writer:
        for number in range(num):
            meta = {
                "source": f"{number}.mp4",
                "split": "train",
                "source_frames": list(range(0, every * LENGTH, every)),
                "num_frames": LENGTH,
            }
            writer.add(Sample(f"shot-{number}", encode_mp4(episode(number), 10.0), meta))
        shard = writer.close()
    assert shard is not None
    write_json(folder / "shards.json", index_of([shard], {"size_px": SIZE_PX, "rate_hz": 10.0}))
    return ShardSet.open(folder)


def labels(rows: list[tuple[int, int]], reward: list[float], ended: list[bool]) -> Labels:
    """Labels of (episode, frame of its video)."""
    return Labels(
        np.array([f"{number}.mp4" for number, _ in rows]),
        np.array([frame for _, frame in rows]),
        np.zeros(len(rows), np.int64),
        "discrete",
        ("noop",),
        np.array(reward, np.float32),
        np.array(ended),
    )


def all_labels() -> Labels:
    """Of every transition: 5 for an end, 1 for anything else."""
    rows = [(number, frame) for number in range(NUM_EPISODES) for frame in range(LENGTH - 1)]
    ended = [number % 2 == 0 and frame == LENGTH - 2 for number, frame in rows]
    return labels(rows, [5.0 if end else 1.0 for end in ended], ended)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A tiny run whose shots are these episodes, with its labels beside them."""
    folder = write_run(tmp_path / "run")
    (folder / "shards").rename(tmp_path / "others")
    write_shots(folder / "shards")
    return folder


@pytest.fixture
def clear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames as they are: an untrained tokenizer would show nothing of them."""
    monkeypatch.setattr("genie_lite.rl.outcomes._as_shown", lambda shot, tokenizer: shot.frames())


# --- outcomes --------------------------------------------------------------------------------------------------


def outcomes(tmp_path: Path, found: Labels, every: int = 1) -> Outcomes:
    return gather(write_shots(tmp_path / "shards", every=every, num=2), found, models.tokenizer())


def shot_of(source_frames: list[int]) -> Sample:
    return Sample("shot", b"", {"source": "0.mp4", "source_frames": source_frames})


@pytest.mark.usefixtures("clear")
def test_an_outcome_belongs_to_the_transition_that_it_followed(tmp_path: Path) -> None:
    """Of a video of which every third frame is kept: what happened between two of them is theirs together."""
    rows = [(1, frame) for frame in range(3 * LENGTH)]
    earned = [float(frame) for _, frame in rows]
    found = outcomes(tmp_path, labels(rows, earned, [frame == 7 for _, frame in rows]), every=3)
    assert found.reward[:5].tolist() == [0 + 1 + 2, 3 + 4 + 5, 6 + 7 + 8, 9 + 10 + 11, 12 + 13 + 14]
    assert found.ended.tolist() == [False, False, True, False, False, False]
    # What came after the last frame that is shown belongs to the last transition.
    assert found.reward[5] == 15 + 16 + 17 + 18 + 19 + 20
    assert set(found.episode) == {"1.mp4"}
    pair = found.pairs(np.array([2]))[0]
    assert np.allclose(pair[0].permute(1, 2, 0), found.frames[found.row[2]] / 255)
    assert np.allclose(pair[1].permute(1, 2, 0), found.frames[found.row[2] + 1] / 255)


@pytest.mark.usefixtures("clear")
def test_an_end_that_no_frame_follows_is_not_lost(tmp_path: Path) -> None:
    """As robots' datasets have it: the last row is the done one."""
    rows = [(0, frame) for frame in range(LENGTH)]
    found = outcomes(tmp_path, labels(rows, [0.0] * LENGTH, [frame == LENGTH - 1 for _, frame in rows]))
    assert found.ended.tolist() == [False] * (LENGTH - 2) + [True]


@pytest.mark.parametrize("shown", [[0, 0, 1, 1, 2, 2], [0, 1, 2, 2]])
def test_an_end_after_a_frame_that_is_shown_again_is_not_lost(shown: list[int]) -> None:
    """A run with more frames per second than its video has some frames twice."""
    places, ended, reward = _of_shot(
        shot_of(shown), np.arange(3), np.array([False, False, True]), np.array([1.0, 2.0, 4.0])
    )
    assert ended.tolist() == [False] * (len(places) - 1) + [True]
    assert places[-1] == len(shown) - 2
    assert reward.sum() == 7.0


def test_what_came_between_two_shots_of_a_video_is_nobodys() -> None:
    """Shots are cut at `segment_frames`: only the last one's last transition has what came after it."""
    index, ended = np.arange(12), np.arange(12) == 11
    first, second = (_of_shot(shot_of(shown), index, ended, np.ones(12)) for shown in ([0, 2, 4], [6, 8, 10]))
    assert first[2].tolist() == [2.0, 2.0]
    assert not first[1].any()
    assert second[2].tolist() == [2.0, 4.0]
    assert second[1].tolist() == [False, True]


@pytest.mark.usefixtures("clear")
def test_transitions_without_a_label_are_left_out(tmp_path: Path) -> None:
    found = outcomes(tmp_path, labels([(0, 1), (0, 2), (9, 0)], [1.0, 2.0, 9.0], [False] * 3))
    assert found.row.tolist() == [1, 2]
    assert found.reward.tolist() == [1.0, 2.0]


@pytest.mark.usefixtures("clear")
def test_without_rewards_an_end_is_worth_one(tmp_path: Path) -> None:
    given = dataclasses.replace(labels([(0, 1), (0, 2)], [0.0, 0.0], [False, True]), reward=None)
    assert outcomes(tmp_path, given).reward.tolist() == [0.0, 1.0]


def test_frames_are_those_that_the_world_would_show(tmp_path: Path) -> None:
    """What a tokenizer makes of them, which is what a dream consists of."""
    run = write_run(tmp_path / "run")
    tokenizer = load_tokenizer(run / "tokenizer")
    shards = write_shots(tmp_path / "shards", num=2)
    found = gather(shards, labels([(0, 1)], [1.0], [True]), tokenizer)
    shot = next(iter(shards.samples("train"))).frames()
    shown = tokenizer.decode_tokens(tokenizer.encode(to_frames(shot)[None]).index)[0]
    assert np.array_equal(found.frames, shown.mul(255).round().byte().permute(0, 2, 3, 1).numpy())
    assert not np.array_equal(found.frames, shot)


# --- learning --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("clear")
def test_ends_and_rewards_are_told_on_episodes_that_were_not_seen(run: Path) -> None:
    head, score = fit_reward(run, all_labels(), CONFIG)
    assert (score.episodes, score.transitions, score.ends) == (NUM_EPISODES, 48, 4)
    assert score.base_rate == pytest.approx(44 / 48)
    assert score.auroc == 1.0
    assert score.accuracy == score.recall == score.precision == 1.0
    assert score.reward_mae < 0.3 * score.reward_mae_mean
    scorer = LearnedReward(head, next(head.parameters()).device, together=3)
    frames = np.concatenate([episode(0), episode(1)])
    reward, ended = scorer(frames[:-1], frames[1:])
    assert np.flatnonzero(ended).tolist() == [LENGTH - 2]
    assert reward[LENGTH - 2] == pytest.approx(5, abs=1)
    assert reward[0] == pytest.approx(1, abs=0.5)
    # A batch says what single transitions say, to the last bit.
    each = [scorer(before[None], after[None])[0][0] for before, after in pairwise(frames)]
    assert each == reward.tolist()


@pytest.mark.usefixtures("clear")
def test_ends_that_cannot_be_seen_are_scored_as_guessing(run: Path) -> None:
    """Labels that have nothing to do with the frames, and that a head all the same learns by heart."""
    found = all_labels()
    ended = np.random.default_rng(3).permutation(len(found)) < len(found) // 2
    config = CONFIG.model_copy(update={"width": 16, "steps": 150, "batch": 32, "weight_decay": 0.0})
    head, score = fit_reward(run, dataclasses.replace(found, ended=ended, reward=None), config)
    scorer = LearnedReward(head, next(head.parameters()).device, together=16)
    shots = [shot.frames() for shot in ShardSet.open(run / "shards").samples("train")]
    told = np.concatenate([scorer(frames[:-1], frames[1:])[0] for frames in shots])  # chance of the end
    assert auroc(told, ended) > 0.95
    assert 0.3 < score.auroc < 0.7


@pytest.mark.usefixtures("clear")
def test_what_was_learnt_is_kept_with_its_scores_and_found_again(run: Path) -> None:
    config = CONFIG.model_copy(update={"steps": 3})
    head, score = fit_reward(run, all_labels(), config)
    card = read_reward_card(run / "reward")
    assert card["about"]["scores"] == dataclasses.asdict(score)
    assert card["config"] == config.model_dump()
    again = load_reward(run / "reward")
    for name, tensor in head.state_dict().items():
        assert (again.state_dict()[name] == tensor).all()
    written = (run / "reward" / "reward.json").read_bytes()
    reward_of(run)
    assert (run / "reward" / "reward.json").read_bytes() == written
    assert card["about"]["labels_given"] is True
    same, _ = fit_reward(run, all_labels(), config)
    assert all((same.state_dict()[name] == tensor).all() for name, tensor in head.state_dict().items())


@pytest.mark.usefixtures("clear")
def test_it_is_made_on_first_use_and_again_for_another_tokenizer(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genie_lite.rl.fit.labels_of", lambda recipe: all_labels())
    monkeypatch.setattr("genie_lite.rl.fit.RewardConfig", lambda: CONFIG.model_copy(update={"steps": 2}))
    env = WorldEnv(run, starts=episode(0)[0], reward="learned")
    env.reset(seed=0)
    assert isinstance(env.step(0)[1], float)
    card = json.loads((run / "reward" / "reward.json").read_text())
    card["about"]["tokenizer"] = "0" * 64
    write_json(run / "reward" / "reward.json", card)
    reward_of(run)
    assert read_reward_card(run / "reward")["about"]["tokenizer"] != "0" * 64


@pytest.mark.usefixtures("clear")
def test_no_more_episodes_are_used_than_the_budget(run: Path) -> None:
    config = CONFIG.model_copy(update={"labels_episodes": 6, "steps": 2})
    assert fit_reward(run, all_labels(), config)[1].episodes == 6


@pytest.mark.usefixtures("clear")
def test_the_command_line_says_how_many_episodes(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[RewardConfig] = []
    score = RewardScore(2, 2, 2, *[0.5] * 7)

    def fit(run: Path, labels: Labels | None, config: RewardConfig, **_: object) -> tuple[None, RewardScore]:
        asked.append(config)
        return None, score

    monkeypatch.setattr("genie_lite.rl.fit.fit_reward", fit)
    for options in ([], ["--labels-episodes", "7"]):
        assert CliRunner().invoke(app, ["reward", str(run), *options, "--json"]).exit_code == 0
    assert [config.labels_episodes for config in asked] == [100, 7]


@pytest.mark.usefixtures("clear")
def test_a_head_of_other_labels_is_not_served_unless_they_were_given(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIG.model_copy(update={"steps": 2})
    now = [all_labels()]
    monkeypatch.setattr("genie_lite.rl.fit.labels_of", lambda recipe: now[0])
    monkeypatch.setattr("genie_lite.rl.fit.RewardConfig", lambda: config)
    card = run / "reward" / "reward.json"
    reward_of(run)
    made = card.read_bytes()
    assert read_reward_card(run / "reward")["about"]["labels_given"] is False
    reward_of(run)
    assert card.read_bytes() == made
    assert now[0].reward is not None
    now[0] = dataclasses.replace(now[0], reward=now[0].reward + 1)
    reward_of(run)
    assert card.read_bytes() != made
    fit_reward(run, all_labels(), config)
    given = card.read_bytes()
    reward_of(run)
    assert card.read_bytes() == given


def test_it_is_trained_where_the_world_computes(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def reward(run: Path, device: str) -> RewardHead:
        asked.append(device)
        return RewardHead(CONFIG, (SIZE_PX, SIZE_PX))

    monkeypatch.setattr("genie_lite.rl.dream.reward_of", reward)
    WorldEnv(run, starts=episode(0)[0], reward="learned", device="cpu")
    assert asked == ["cpu"]


@pytest.mark.usefixtures("clear")
def test_a_head_that_cannot_be_kept_is_used_all_the_same(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("genie_lite.rl.fit.save_reward", refuse)
    with pytest.warns(UserWarning, match="the reward head is not kept \\(Read-only file system\\)"):
        head, _ = fit_reward(run, all_labels(), CONFIG.model_copy(update={"steps": 2}))
    assert not (run / "reward").exists()
    assert head.frame_hw == (SIZE_PX, SIZE_PX)


# --- mistakes --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("clear")
def test_labels_that_nothing_can_be_learnt_from_are_told(run: Path) -> None:
    found = all_labels()
    never = dataclasses.replace(found, ended=np.zeros(len(found), bool))
    # Only one episode has a transition that goes on.
    rows = [(0, 0), *((number, LENGTH - 2) for number in range(4))]
    ends = labels(rows, [0.0] * 5, [frame > 0 for _, frame in rows])
    for given, message in (
        (dataclasses.replace(found, ended=None), "labels: no column 'ended'"),
        (ends, "labels: all 1 transitions that do not end are in one of 2 folds"),
        (never, f"labels: 0 of {NUM_EPISODES} labelled episodes come to an end; expected at least 2"),
        (found.renamed({name: f"other-{name}" for name in found.episodes}), "none of their 0 episodes"),
    ):
        with pytest.raises(UserError, match=message):
            fit_reward(run, given, CONFIG)


@pytest.mark.usefixtures("clear")
def test_a_damaged_head_is_told(run: Path) -> None:
    folder = run / "reward"
    with pytest.raises(UserError, match="no finished reward head here"):
        load_reward(folder)
    fit_reward(run, all_labels(), CONFIG.model_copy(update={"steps": 1}))
    card = json.loads((folder / "reward.json").read_text())
    for change, message in (
        ({"format": 9}, "format 9, this version reads 1"),
        ({"config": {"width": 8}}, "does not describe the weights beside it"),
        ({"sha256": "0"}, "not the file that reward.json describes"),
    ):
        write_json(folder / "reward.json", card | change)
        with pytest.raises(UserError, match=message):
            load_reward(folder)


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        ([0, 1, 2, 3], 1.0),
        ([3, 2, 1, 0], 0.0),
        ([1, 1, 1, 1], 0.5),
        ([0, 2, 1, 3], 0.75),
        ([0, 1, 1, 2], 0.875),
    ],
)
def test_auroc_is_the_share_of_pairs_in_order(score: list[float], expected: float) -> None:
    assert auroc(np.array(score, float), np.array([False, False, True, True])) == expected
