"""The probe: what it must find, what it must not, and what it is joined from."""

import dataclasses

import numpy as np
import pytest
import torch

from genie_lite.data.labels import Labels
from genie_lite.data.shards.shards import Sample
from genie_lite.errors import UserError
from genie_lite.evals.probe import (
    Split,
    code_columns,
    look_up,
    probe_continuous,
    probe_discrete,
    read_linear,
)
from genie_lite.evals.transitions import Transitions, label_transitions
from tests import models

NUM_CODES, NUM_ACTIONS = 6, 3


def transitions(name: str, rows: int = 240, *, tells: float, seed: int = 0) -> Transitions:
    """Actions of 12 episodes; code and embedding tell the action in a share `tells` of the rows."""
    random = np.random.default_rng(seed)
    action = random.choice(NUM_ACTIONS, rows, p=[0.6, 0.3, 0.1])
    told = np.where(random.random(rows) < tells, action, random.integers(0, NUM_ACTIONS, rows))
    return Transitions(
        code=2 * told + random.integers(0, 2, rows),  # two codes per action: a reader has to merge them
        embedding=(np.eye(NUM_ACTIONS)[told] + 0.1 * random.normal(size=(rows, 3))).astype(np.float32),
        action=action,
        episode=np.array([f"{name}-{row * 12 // rows}" for row in range(rows)]),
        frame_index=np.arange(rows) % (rows // 12),
        before=np.roll(action, 1),
        follows=np.arange(rows) % (rows // 12) > 0,
    )


def split(tells: float, seed: int = 0) -> Split:
    return Split(
        transitions("train", tells=tells, seed=seed), transitions("test", tells=tells, seed=seed + 1)
    )


def test_codes_that_name_the_action_are_read_and_beat_every_baseline() -> None:
    supervised = split(1.0).test.action
    found = probe_discrete(split(0.9), split(0.0), NUM_CODES, NUM_ACTIONS, {"supervised": supervised})
    assert found.score["code"].mean > 0.9
    assert found.score["embedding"].mean > 0.9
    assert found.score["supervised"].mean == 1
    assert found.score["majority"].mean == pytest.approx((supervised == 0).mean())
    assert all(gain.low > 0 for gain in found.gain.values())
    assert found.score["code"].num == 12


def test_codes_without_information_are_no_better_than_the_majority() -> None:
    found = probe_discrete(split(0.0), split(0.0), NUM_CODES, NUM_ACTIONS)
    assert found.score["code"].mean == pytest.approx(found.score["majority"].mean, abs=0.02)
    assert found.gain["code_over_random_lam"].mean == 0
    assert found.gain["code_over_majority"].low <= 0


def test_balanced_accuracy_gives_always_the_commonest_action_no_credit() -> None:
    found = probe_discrete(split(1.0), split(0.0), NUM_CODES, NUM_ACTIONS)
    assert found.balanced["majority"].mean == pytest.approx(1 / NUM_ACTIONS)
    assert found.balanced["code"].mean == 1
    assert found.balanced["random_lam"].mean == pytest.approx(1 / NUM_ACTIONS, abs=0.12)


def test_an_episode_on_both_sides_is_refused() -> None:
    rows = transitions("same", tells=1.0)
    with pytest.raises(AssertionError, match="train and test"):
        Split(rows, rows)


def test_a_code_never_seen_is_read_as_the_commonest_action() -> None:
    table = look_up(np.array([0, 0, 2]), np.array([1, 1, 0]), np.ones(3), num_codes=4, num_actions=2)
    assert table.tolist() == [1, 1, 0, 1]


def test_the_linear_reader_needs_no_scaling() -> None:
    random = np.random.default_rng(0)
    action = random.integers(0, 2, 400)
    vector = np.stack(
        [1e-4 * action + 5 + 1e-5 * random.normal(size=400), 1e3 * random.normal(size=400)], axis=1
    )
    read = read_linear(vector[:200], action[:200], np.ones(200), 2, vector[200:])
    assert (read == action[200:]).mean() > 0.98


def test_the_action_before_is_a_baseline_only_where_it_is_known() -> None:
    data = split(0.0)
    held = probe_discrete(data, data, NUM_CODES, NUM_ACTIONS).score["hold_last"].mean
    before = np.where(data.test.follows, np.roll(data.test.action, 1), 0)
    assert held == pytest.approx((before == data.test.action).mean())


def continuous(name: str, noise: float, seed: int) -> Transitions:
    """Four components: the embedding tells the first two, nothing tells the third, the last never moves."""
    random = np.random.default_rng(seed)
    rows = 200
    embedding = random.normal(size=(rows, 3))
    action = np.zeros((rows, 4))
    action[:, :2] = 40 * embedding[:, :2] + 7
    action[:, 2] = 0.01 * random.normal(size=rows)
    action[:, 3] = 3.0
    return Transitions(
        code=random.integers(0, NUM_CODES, rows),
        embedding=(embedding + noise * random.normal(size=(rows, 3))).astype(np.float32),
        action=action.astype(np.float32),
        episode=np.array([f"{name}-{row // 20}" for row in range(rows)]),
        frame_index=np.arange(rows),
        before=np.roll(action, 1, axis=0).astype(np.float32),
        follows=np.arange(rows) % 20 > 0,
    )


def test_r2_is_one_where_embeddings_tell_and_zero_for_the_mean() -> None:
    told = Split(continuous("train", 0.0, 0), continuous("test", 0.0, 1))
    untold = Split(continuous("train", 50.0, 0), continuous("test", 50.0, 1))
    groups = {"arm": [0, 1], "gripper": [2]}
    found = probe_continuous(told, untold, NUM_CODES, groups, {"supervised": told.test.action})
    assert found.groups["embedding"]["arm"].mean > 0.99
    assert found.groups["embedding"]["gripper"].mean < 0.1
    assert found.score["supervised"].mean == pytest.approx(1)
    assert found.score["mean"].mean == pytest.approx(0, abs=0.05)
    assert found.score["embedding"].mean == pytest.approx(2 / 3, abs=0.1)  # large units weigh no more
    assert found.gain["embedding_over_random_lam_embedding"].low > 0
    about = found.tree()["probe_about"]
    assert (about["kind"], about["action"]) == ("r2", "the command at frame k")


def test_what_is_given_the_action_before_is_scored_by_what_it_adds() -> None:
    told = Split(continuous("train", 0.0, 0), continuous("test", 0.0, 1))
    test = told.test
    before = np.where(test.follows[:, None], test.before, told.train.action.mean(axis=0))
    others = {"halfway": (test.action + before) / 2, "held": before}
    found = probe_continuous(told, told, NUM_CODES, {"arm": [0, 1]}, others, list(others))
    assert found.change["held"]["all"].mean == pytest.approx(0, abs=1e-6)
    assert found.change["halfway"]["arm"].mean == pytest.approx(
        0.75
    )  # half the distance, a quarter of its square


class Shot(Sample):
    """A sample whose frames need no decoder."""

    def frames(self, indices: list[int] | None = None) -> np.ndarray:
        return np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)


def test_rows_are_joined_by_the_native_index_of_the_frame_they_start_from() -> None:
    lam = models.lam().eval()
    shot = Shot("k", b"", {"source": "a.mp4", "source_frames": [10, 12, 14, 16, 18], "num_frames": 5})
    # Frame 14 has no label; 18 is the last frame and starts no transition; 11 was not kept, so its command,
    # which came while 10 became 12, is not that transition's.
    labels = Labels(
        sources=np.array(["a.mp4"] * 5 + ["b.mp4"]),
        frame_index=np.array([10, 11, 12, 16, 18, 14]),
        action=np.array([[1], [2], [3], [4], [0], [2]], dtype=np.float32),
        kind="continuous",
        names=("joint",),
    )
    rows = label_transitions(lam, [shot], labels)
    assert rows.frame_index.tolist() == [10, 12, 16]
    assert rows.action.tolist() == [[1], [3], [4]]
    assert rows.follows.tolist() == [False, True, False]
    assert rows.before[1] == [1]  # from frame 10, two native frames earlier, not from frame 11
    frames = torch.from_numpy(shot.frames()).permute(0, 3, 1, 2)[None] / 255
    assert rows.code.tolist() == lam.encode(frames).index[0, [0, 1, 3]].tolist()
    assert set(rows.episode) == {"a.mp4"}


def test_a_games_transition_over_several_frames_is_refused() -> None:
    meta = {"source": "a.mp4", "source_frames": [0, 1, 2, 5, 6], "source_rate_hz": 30.0, "num_frames": 5}
    lam, shot = models.lam().eval(), Shot("k", b"", meta)
    labels = Labels(np.array(["a.mp4"] * 4), np.array([0, 1, 2, 5]), np.zeros(4, int), "discrete", ("noop",))
    with pytest.raises(UserError, match=r"from frame 2 to 5 of a\.mp4 has a label; .* rate_hz=30$"):
        label_transitions(lam, [shot], labels)
    assert len(label_transitions(lam, [shot], labels.select(np.array([0, 1, 3])))) == 3


def test_shots_without_labels_give_no_rows() -> None:
    shot = Shot("k", b"", {"source": "a.mp4", "source_frames": [0, 1, 2, 3, 4], "num_frames": 5})
    labels = Labels(np.array(["b.mp4"]), np.array([0]), np.array([0]), "discrete", ("noop",))
    rows = label_transitions(models.lam().eval(), [shot], labels)
    assert len(rows) == 0
    assert {len(getattr(rows, field.name)) for field in dataclasses.fields(rows)} == {0}


def of_tokens(data: Split, alphabet: int) -> Split:
    """The same transitions, with codes of three tokens: the middle one tells the action, the others chatter."""

    def changed(rows: Transitions, seed: int) -> Transitions:
        chatter = np.random.default_rng(seed).integers(0, alphabet, (2, len(rows)))
        return dataclasses.replace(rows, code=(chatter[0] * alphabet + rows.code) * alphabet + chatter[1])

    return Split(changed(data.train, 0), changed(data.test, 1))


def test_codes_of_several_tokens_are_read_token_by_token() -> None:
    """Nearly every code of the test rows is one that was never seen as a whole."""
    told, silent = of_tokens(split(1.0), 40), of_tokens(split(0.0), 40)
    seen = np.isin(told.test.code, told.train.code).mean()
    assert seen < 0.1
    found = probe_discrete(told, silent, 40**3, NUM_ACTIONS, num_tokens=3)
    assert found.score["code"].mean > 0.9
    assert found.score["random_lam"].mean < 0.7
    assert found.gain["code_over_random_lam"].low > 0


def test_a_large_alphabet_costs_no_more_than_a_small_one() -> None:
    code = np.arange(5000) * 13 % 65536
    code[:600] = 65535
    seen, unseen = code_columns(code, np.array([65535, 65534]), 65536, 1)
    assert seen.shape == (5000, 512)
    assert seen[:600].sum() == 600, "the commonest code has a column"
    assert unseen.sum(axis=1).tolist() == [1, 0]
    seen, _ = code_columns(code, code, 65536, 4)
    assert 512 < seen.shape[1] <= 512 + 4 * 16
