"""From few labels to a policy: which labels each arm may use, and that the latents' detour pays."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genie_lite.adapt import adapt as adaptation
from genie_lite.adapt.adapt import ARMS, Adapted, Plan, adapt, adapt_shards, arm_folder, read_adapted, teach
from genie_lite.adapt.config import AdaptConfig
from genie_lite.adapt.continuous import HeldOut, group_joints, r_squared
from genie_lite.adapt.footage import Footage
from genie_lite.adapt.idm import IDMConfig
from genie_lite.adapt.mapping import MappingConfig
from genie_lite.adapt.material import Material, gather
from genie_lite.adapt.policy import PolicyConfig, load_policy
from genie_lite.adapt.setting import Setting
from genie_lite.data.labels import Labels
from genie_lite.data.shards.shards import ShardSet
from genie_lite.errors import UserError
from genie_lite.latents.extract import extract
from genie_lite.latents.table import Latents
from genie_lite.models.lam import LatentActionModel
from genie_lite.nn.features import FrozenFeatures, TimmFeatures
from tests import models
from tests.footage import footage, write_shards

CONFIG = AdaptConfig(
    labels_budget=12,
    mapping=MappingConfig(steps=30, hidden=8, folds=3),
    idm=IDMConfig(steps=5, batch=4, precision="32-true"),
    policy=PolicyConfig(patch=4, merge=2, width=16, depth=1, heads=2, steps=8, batch=8, precision="32-true"),
    prior_steps=4,
)
NAMES = ("left", "stay", "right")


def latents_of(shown: Footage, code: np.ndarray, seed: int = 0) -> Latents:
    """Latent actions of footage, with embeddings that tell nothing."""
    rows = len(code)
    return Latents(
        source=shown.source,
        key=shown.source,
        split=shown.split,
        frame_index=shown.frame_index,
        timestamp_s=np.zeros(rows),
        horizon_frames=np.ones(rows, dtype=int),
        dt_s=np.ones(rows),
        code=np.where(shown.has_next, code, -1).astype(np.int32),
        tokens=np.where(shown.has_next, code, -1).astype(np.int32)[:, None],
        embedding=np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32),
        recon_psnr_db=np.zeros(rows),
        copy_psnr_db=np.zeros(rows),
        valid=shown.has_next,
    )


def game(num_shots: int = 8, length: int = 9) -> Material:
    """A game whose codes are the actions under other names: 3 of 4 codes, and train and test shots."""
    split = ("test", *("train",) * (num_shots - 1))
    shown = footage((length,) * num_shots, split=split)
    action = np.random.default_rng(0).integers(3, size=len(shown))
    labels = Labels(shown.source, shown.frame_index, action, "discrete", NAMES)
    code = np.array([2, 0, 3])[action]
    return gather(shown, latents_of(shown, code), 4, labels, CONFIG, seed=0)


def true_action(material: Material, rows: np.ndarray) -> list[int]:
    return material.target[rows].argmax(1).tolist()


def test_budget_counts_transitions_of_the_train_split_only() -> None:
    material = game()
    assert material.labelled.sum() == 12
    assert set(material.split[material.labelled]) == {"train"}
    assert len(material.rows) == 8 * 8, "the last frame of a shot has no transition"
    assert material.footage.has_next[material.rows].all()


def test_join_does_not_rely_on_the_order_of_rows() -> None:
    shown = footage((5, 6))
    action = np.arange(11) % 3
    labels = Labels(shown.source[::-1], shown.frame_index[::-1], action[::-1], "discrete", NAMES)
    latents = latents_of(shown, action)
    order = np.r_[5:11, 0:5]
    material = gather(
        shown, latents.select(order), 3, labels, CONFIG.model_copy(update={"labels_budget": 5}), 0
    )
    assert material.rows.tolist() == [5, 6, 7, 8, 9, 0, 1, 2, 3]
    assert true_action(material, np.arange(9)) == action[material.rows].tolist()
    assert material.given.code.tolist() == action[material.rows].tolist()


def test_labels_of_other_videos_are_named() -> None:
    shown = footage((5, 6))
    labels = Labels(np.array(["else/where.mp4"] * 3), np.arange(3), np.zeros(3, int), "discrete", NAMES)
    with pytest.raises(UserError, match=r"0 of 9 .*'else/where\.mp4', video source 'shot-0\.mp4'"):
        gather(shown, latents_of(shown, np.zeros(11)), 3, labels, CONFIG, 0)


def test_a_games_transition_over_several_frames_is_refused() -> None:
    shown = footage((5, 6))
    labels = Labels(shown.source, shown.frame_index, np.zeros(11, int), "discrete", NAMES)
    latents = latents_of(shown, np.zeros(11))
    thinned = replace(latents, horizon_frames=np.where(np.arange(11) == 6, 3, 1), dt_s=np.full(11, 0.1))
    told = r"1 of 9 labelled .* frames 1 to 4 of shot-1\.mp4; .* rate_hz=30, .* window_s=0\.03333$"
    with pytest.raises(UserError, match=told):
        gather(shown, thinned, 3, labels, CONFIG, 0)
    angles = Labels(shown.source, shown.frame_index, np.ones((11, 2), np.float32), "continuous", ("a", "b"))
    few = CONFIG.model_copy(update={"labels_budget": 5})
    assert gather(shown, thinned, 3, angles, few, 0).known.all()


def test_a_robots_transition_may_reach_several_frames_ahead() -> None:
    """With a window of 2 frames, the last two of a shot lead nowhere; all others keep the command of their own."""
    shown = footage((5, 6))
    latents = latents_of(shown, np.arange(11) % 3)
    ahead = np.array([True] * 3 + [False] * 2 + [True] * 4 + [False] * 2)
    latents = replace(latents, horizon_frames=np.where(ahead, 2, 0), valid=ahead)
    command = np.arange(22, dtype=np.float32).reshape(11, 2)
    labels = Labels(shown.source, shown.frame_index, command, "continuous", ("a", "b"))
    material = gather(shown, latents, 3, labels, CONFIG.model_copy(update={"labels_budget": 5}), 0)
    assert material.rows.tolist() == np.flatnonzero(ahead).tolist()
    assert material.target.tolist() == command[ahead].tolist()
    assert material.given.code.tolist() == (np.arange(11) % 3)[ahead].tolist()


def test_only_demonstrations_are_labelled_and_imitated() -> None:
    shown = footage((5, 6, 7))
    labels = Labels(shown.source, shown.frame_index, np.zeros(18, int), "discrete", NAMES)
    config = CONFIG.model_copy(update={"demonstrations": "shot-[12].mp4", "labels_budget": 5})
    material = gather(shown, latents_of(shown, np.zeros(18)), 3, labels, config, 0)
    assert set(material.source) == {"shot-1.mp4", "shot-2.mp4"}
    nothing = CONFIG.model_copy(update={"demonstrations": "expert_*"})
    with pytest.raises(UserError, match=r"'expert_\*' matches none of the 3 sources, such as 'shot-0\.mp4'"):
        gather(shown, latents_of(shown, np.zeros(18)), 3, labels, nothing, 0)


def test_every_arm_learns_from_its_own_labels_and_no_others() -> None:
    """Wrong labels outside of the budget change the oracle, and nobody else."""
    material = game()
    spoilt = material.target.clone()
    outside = torch.from_numpy(~material.labelled)
    spoilt[outside] = spoilt[outside].roll(1, dims=1)
    lies = replace(material, target=spoilt)
    for arm in ARMS:
        honest, fooled = (
            teach(arm, each, CONFIG, models.lam().config, Setting(0)) for each in (material, lies)
        )
        assert honest.rows.tolist() == fooled.rows.tolist()
        assert set(material.split[honest.rows]) == {"train"}, "no arm is taught on test episodes"
        assert torch.equal(honest.target, fooled.target) == (arm != "oracle"), arm


def test_how_many_transitions_each_arm_clones() -> None:
    material = game()
    rows = {arm: len(teach(arm, material, CONFIG, models.lam().config, Setting(0)).rows) for arm in ARMS}
    assert rows == {"latent": 56, "bc_labels": 12, "idm_labels": 56, "oracle": 56}


def test_codes_that_mean_actions_are_relabelled_without_a_mistake() -> None:
    lesson = teach("latent", game(), CONFIG, models.lam().config, Setting(0))
    assert lesson.fitted is not None
    assert lesson.fitted.kind == "dictionary"
    assert lesson.accuracy == 1.0


def test_known_labels_are_kept() -> None:
    """A code that means nothing must not overwrite what is known."""
    material = game()
    noise = torch.randint(4, (len(material.rows),), generator=torch.Generator().manual_seed(0))
    material = replace(material, given=type(material.given)(noise, material.given.context))
    lesson = teach("latent", material, CONFIG, models.lam().config, Setting(0))
    kept = material.labelled[lesson.rows]
    assert torch.equal(lesson.target[kept], material.target[material.labelled])
    assert lesson.accuracy < 0.8


def run(tmp_path: Path, material: Material, **change: object) -> Adapted:
    config = CONFIG.model_copy(update=change)
    return adapt(material, Plan(tmp_path, config, models.lam().config, {"lam": "abc"}, Setting(0)), ARMS)


def test_all_arms_are_saved_with_what_they_rest_on(tmp_path: Path) -> None:
    adapted = run(tmp_path, game())
    assert set(adapted.summary["arms"]) == set(ARMS)
    for arm in ARMS:
        policy = load_policy(arm_folder(tmp_path, arm))
        assert policy.actions.names == NAMES
        assert sum(p.numel() for p in policy.parameters()) == sum(
            p.numel() for p in load_policy(tmp_path / "arms/oracle").parameters()
        )
    card = json.loads((tmp_path / "policy.json").read_text())
    assert card["about"]["parents"] == {"lam": "abc"}
    assert card["about"]["labels_used"] == 12
    assert adapted.summary["arms"]["oracle"]["labels_used"] == 56
    stopped = {arm: about["stopped"] for arm, about in adapted.summary["arms"].items()}
    for part in (stopped["bc_labels"]["policy"], stopped["idm_labels"]["inverse_model"]):
        assert 1 <= part["steps"] <= part["most"]
    assert stopped["latent"] == stopped["oracle"] == {"policy": None, "inverse_model": None}
    assert stopped["idm_labels"]["policy"] is None, "it clones a whole video, as ours does"
    assert (tmp_path / "mapping.json").is_file()
    assert not (tmp_path / "arms/bc_labels/mapping.json").exists()
    assert read_adapted(tmp_path).summary == json.loads(json.dumps(adapted.summary))


def test_finished_arms_are_kept_and_changed_inputs_train_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []
    fit = adaptation.fit_policy
    monkeypatch.setattr(
        adaptation, "fit_policy", lambda *args, **keys: trained.append(1) or fit(*args, **keys)
    )
    material = game()
    first = run(tmp_path, material)
    assert len(trained) == 4
    assert run(tmp_path, material).summary == read_adapted(first.folder).summary
    assert len(trained) == 4
    (tmp_path / "adapt.json").unlink()
    (tmp_path / "arms/oracle/policy.json").unlink()
    run(tmp_path, material)
    assert len(trained) == 5, "only the arm that was missing"
    run(tmp_path, material, temperature=0.5)
    assert len(trained) == 9


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no valid JSON"),
        ('{"format": 1, "kind"', "no valid JSON"),
        ("null", "expected an object, found NoneType"),
        ('{"format": 2}', "format 2, this version reads 1"),
        ('{"format": 1, "kind": "discrete", "labels": []}', r"labels: found \[\], expected dict"),
    ],
)
def test_a_damaged_summary_is_told_in_one_line(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "adapt.json"
    path.write_text(content)
    for read in (lambda: read_adapted(tmp_path), lambda: run(tmp_path, game())):
        with pytest.raises(UserError, match=said) as error:
            read()
        assert str(error.value).startswith(str(path))
        assert "delete it and run adapt again" in str(error.value)


def keep_labels(material: Material, num: int) -> Material:
    """The first `num` labelled transitions, all of one episode."""
    labelled = np.zeros_like(material.labelled)
    labelled[np.flatnonzero(material.labelled)[:num]] = True
    return replace(material, labelled=labelled)


def test_one_label_is_refused_and_two_are_enough(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"1 labelled transition in shot-\d\.mp4 .* expected at least 2"):
        run(tmp_path, keep_labels(game(), 1))
    adapted = run(tmp_path, keep_labels(game(), 2))
    assert adapted.summary["labels"]["transitions"] == 2
    for arm in ARMS:
        weights = load_policy(arm_folder(tmp_path, arm)).state_dict()
        assert all(tensor.isfinite().all() for tensor in weights.values())


def test_frames_that_the_policy_cannot_cut_are_refused_before_any_work(tmp_path: Path) -> None:
    policy = CONFIG.policy.model_copy(update={"patch": 5})
    with pytest.raises(UserError, match=r"10 pixels, which do not tile frames of 16x16"):
        run(tmp_path, game(), policy=policy)


@pytest.fixture
def shards(tmp_path: Path) -> ShardSet:
    return write_shards(tmp_path / "shards", ("train", "train", "test"), lengths=(9, 9, 9))


def robot_labels(shards: ShardSet) -> Labels:
    """The square's place, as the pixels show it, under the names of two joints."""
    sources, index, action = [], [], []
    for split in ("train", "test"):
        for sample in shards.samples(split):
            bright = sample.frames()[..., 0] > 150
            across = [np.argwhere(frame).mean(axis=0) for frame in bright]
            sources += [sample.meta["source"]] * len(bright)
            index += sample.meta["source_frames"]
            action += across
    columns = np.array(sources), np.array(index), np.array(action, dtype=np.float32)
    return Labels(*columns, "continuous", ("kLeftElbow", "kRightElbow"))


def test_inverse_models_see_with_the_eye_that_is_given_and_download_none(
    shards: ShardSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from genie_lite.torchvision_shim import repair

    repair()
    import timm

    create, given = timm.create_model, FrozenFeatures.state_dict
    asked: list[str] = []

    def offline(name: str, **options: Any) -> Any:
        if options["pretrained"]:
            raise OSError("no network")
        return create(name, **options)

    def note(self: FrozenFeatures, *args: Any, **options: Any) -> Any:
        asked.append("eye")
        return given(self, *args, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    look = TimmFeatures(name="test_vit", size_px=32)
    lam = LatentActionModel(models.lam().config.model_copy(update={"input": look}), has_weights=True).eval()
    extract(lam, shards, tmp_path / "latents", lam_sha="a")
    monkeypatch.setattr(FrozenFeatures, "state_dict", note)
    config = CONFIG.model_copy(update={"idm": CONFIG.idm.model_copy(update={"steps": 1})})
    teach("idm_labels", game(), config, lam.config, Setting(0), lam.eye)
    assert asked, "copied from the eye that was given"
    asked.clear()
    labels, out = robot_labels(shards), tmp_path / "out"
    adapt_shards(shards, tmp_path / "latents", labels, out, config, seed=0, eye=lam.eye)
    assert asked
    with pytest.raises(UserError, match="no weights of 'test_vit' to be had"):
        adapt_shards(shards, tmp_path / "latents", labels, tmp_path / "other", config, seed=0)


def test_a_robot_is_scored_on_held_out_episodes(shards: ShardSet, tmp_path: Path) -> None:
    extract(models.lam().eval(), shards, tmp_path / "latents", lam_sha="a")
    config = CONFIG.model_copy(update={"labels_episodes": 2})
    labels = robot_labels(shards)
    adapted = adapt_shards(shards, tmp_path / "latents", labels, tmp_path / "out", config, seed=0)
    assert len(adapted.summary["labels"]["episodes"]) == 2
    assert adapted.summary["labels"]["transitions"] == 16
    assert adapted.summary["labels"]["action"] == "the command at frame k"
    assert adapted.summary["decoders"]["stopped"]["idm_labels"]["steps"] <= CONFIG.idm.steps
    scores = adapted.summary["decoders"]["r2"]
    rivals = {"mean", "hold_last", "idm_labels", "idm_all", "idm_change_labels", "idm_change_all"}
    assert set(scores) == {"latent", "latent_change"} | rivals
    assert set(scores["latent"]) == {"all", "left_arm", "right_arm"}
    assert scores["mean"]["all"] <= 0
    held_out = adapted.held_out()
    assert set(held_out.source) == {"test-2-0.mp4", "test-2-1.mp4", "test-2-2.mp4"}
    assert len(held_out.truth) == 3 * 7, "the first transition of a shot has none before it"
    now = labels.locate(held_out.source, held_out.frame_index)
    before = labels.locate(held_out.source, held_out.frame_index - 3)
    np.testing.assert_allclose(held_out.truth, labels.action[now], rtol=1e-6)
    np.testing.assert_allclose(held_out.predictions["hold_last"], labels.action[before], rtol=1e-6)
    of_change = adapted.summary["decoders"]["r2_of_change"]
    assert set(of_change) == {"latent_change", "idm_change_labels", "idm_change_all"}
    residual = np.square((held_out.predictions["idm_change_all"] - held_out.truth) / held_out.scale).sum()
    change = np.square((held_out.predictions["hold_last"] - held_out.truth) / held_out.scale).sum()
    assert of_change["idm_change_all"]["all"] == pytest.approx(1 - residual / change, abs=1e-5)
    assert held_out.r_squared()["hold_last"]["all"] == pytest.approx(scores["hold_last"]["all"], abs=1e-6)
    policy = load_policy(tmp_path / "out")
    assert policy.actions.names == ("kLeftElbow", "kRightElbow")
    assert policy.answer(footage((4,)).ending_at(np.arange(4), policy.config.context)).shape == (4, 2)


def test_a_robot_without_held_out_labels_still_gets_a_policy(shards: ShardSet, tmp_path: Path) -> None:
    extract(models.lam().eval(), shards, tmp_path / "latents", lam_sha="a")
    labels = robot_labels(shards)
    train = labels.select(np.char.startswith(labels.sources, "train"))
    with pytest.warns(UserWarning, match="none in the test split"):
        adapted = adapt_shards(shards, tmp_path / "latents", train, tmp_path / "out", CONFIG, seed=0)
    assert adapted.summary["decoders"]["r2"] is None
    assert load_policy(tmp_path / "out").actions.kind == "continuous"


@pytest.mark.parametrize(("budget", "moves"), [(2, 1), (3, 2)])
def test_a_robot_learns_changes_from_two_of_them(
    budget: int, moves: int, shards: ShardSet, tmp_path: Path
) -> None:
    extract(models.lam().eval(), shards, tmp_path / "latents", lam_sha="a")
    config = CONFIG.model_copy(update={"labels_budget": budget})
    labels = robot_labels(shards)

    def held_out() -> HeldOut:
        adapted = adapt_shards(shards, tmp_path / "latents", labels, tmp_path / "out", config, seed=0)
        return adapted.held_out()

    if moves < 2:
        with pytest.raises(UserError, match="1 of 2 labelled transitions come right after another one"):
            held_out()
    else:
        assert all(np.isfinite(guess).all() for guess in held_out().predictions.values())


def test_latents_of_other_shards_are_refused(shards: ShardSet, tmp_path: Path) -> None:
    extract(models.lam().eval(), shards, tmp_path / "latents", lam_sha="a")
    other = write_shards(tmp_path / "other", ("train", "test"))
    with pytest.raises(UserError, match="extracted from other shards"):
        adapt_shards(other, tmp_path / "latents", robot_labels(shards), tmp_path / "out", CONFIG, seed=0)


def test_r_squared_of_the_truth_the_mean_and_worse() -> None:
    truth = np.array([[0.0, 10.0], [2.0, 30.0]])
    scale = np.array([1.0, 10.0])
    assert r_squared(truth, truth, scale) == 1.0
    assert r_squared(truth, np.broadcast_to(truth.mean(axis=0), truth.shape), scale) == 0.0
    assert r_squared(truth, truth[::-1], scale) == -3.0
    assert r_squared(truth[:1], truth[:1] + 1, scale) == 0.0, "a constant truth has nothing to explain"


def test_groups_are_scored_apart() -> None:
    truth = np.array([[0.0, 0.0], [2.0, 2.0]])
    guess = np.array([[0.0, 1.0], [2.0, 1.0]])
    held_out = HeldOut(
        np.array(["a", "a"]), np.arange(2), truth, {"x": guess}, np.ones(2), {"left": [0], "right": [1]}
    )
    assert held_out.r_squared()["x"] == {"all": 0.5, "left": 1.0, "right": 0.0}


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (
            ("kLeftShoulderPitch", "kRightWristYaw", "kLeftHandThumbBend", "kRightHandIndex", "kLeftElbow"),
            {"left_arm": [0, 4], "right_arm": [1], "left_hand": [2], "right_hand": [3]},
        ),
        (
            ("left_hip_pitch_joint", "waist_yaw_joint", "right_hand_thumb_0_joint"),
            {"left_leg": [0], "waist": [1], "right_hand": [2]},
        ),
        (("joint_0", "kLeftElbow"), {"all": [0, 1]}),
        (("shoulder_pan.pos", "gripper.pos"), {"all": [0, 1]}),
    ],
)
def test_joints_are_grouped_by_their_names(names: tuple[str, ...], groups: dict[str, list[int]]) -> None:
    assert group_joints(names) == groups
