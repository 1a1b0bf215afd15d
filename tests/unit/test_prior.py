"""What a picture leads one to expect, and which code of an action it is there."""

from pathlib import Path

import numpy as np
import pytest
import torch

from genie_lite.adapt.footage import Footage
from genie_lite.adapt.mapping import MappingConfig
from genie_lite.adapt.policy import Policy, PolicyConfig
from genie_lite.adapt.prior import FOLDER, expect, fit_prior, load_prior, prior_about, save_prior
from genie_lite.adapt.reverse import fit_reverse
from genie_lite.adapt.setting import Setting
from genie_lite.adapt.supervised import ActionSpace
from genie_lite.controls import Controls
from genie_lite.data.loading.clip import to_frames
from genie_lite.errors import UserError
from tests.unit.test_adapt import game, run
from tests.unit.test_reverse import choices

NETWORK = PolicyConfig(
    context=1, patch=4, merge=2, width=16, depth=1, heads=2, steps=150, batch=16, precision="32-true"
)
BRIGHT, DARK = 200, 30
NUM_CODES = 6


def rooms(num: int = 64) -> tuple[Footage, torch.Tensor]:
    """Bright frames, after which code 0 or 1 comes, and dark ones, after which it is 4 or 5."""
    random = np.random.default_rng(0)
    bright = random.integers(0, 2, num).astype(bool)
    level = np.where(bright, BRIGHT, DARK)[:, None, None, None]
    frames = (level + random.integers(-9, 10, (num, 16, 16, 3))).astype(np.uint8)
    code = np.where(bright, 0, 4) + random.integers(0, 2, num)
    footage = Footage(
        frames=frames,
        source=np.full(num, "a.mp4"),
        frame_index=np.arange(num),
        split=np.full(num, "train"),
        first=np.zeros(num, np.int64),
        has_next=np.ones(num, bool),
    )
    return footage, torch.from_numpy(code)


def room(level: int, num: int = 1) -> torch.Tensor:
    return to_frames(np.full((num, 16, 16, 3), level, np.uint8))


@pytest.fixture(scope="module")
def prior() -> Policy:
    footage, code = rooms()
    return fit_prior(footage, np.arange(len(code)), code, NUM_CODES, NETWORK, Setting(0)).eval()


def test_it_expects_the_codes_that_follow_such_pictures(prior: Policy) -> None:
    bright, dark = expect(prior, torch.cat([room(BRIGHT), room(DARK)]))
    assert bright[[0, 1]].sum() > 0.9
    assert dark[[4, 5]].sum() > 0.9
    assert bright.sum() == pytest.approx(1)


def test_what_is_expected_does_not_depend_on_who_else_asks(prior: Policy) -> None:
    frames = to_frames(np.random.default_rng(1).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8))
    together = expect(prior, frames)
    assert torch.equal(together, torch.cat([expect(prior, frames[row : row + 1]) for row in range(5)]))


def test_an_action_has_another_code_where_another_is_expected(prior: Policy) -> None:
    """Action 0 leads to code 0 or, more often, 4; action 1 to 1 or 5: by a table alone the room is not known."""
    reverse = fit_reverse(
        choices([0] * 7 + [1] * 7, [0] * 3 + [4] * 4 + [1] * 3 + [5] * 4), MappingConfig(), 0
    ).reverse
    controls = Controls("discrete", ("x", "y"), (), (), 6, reverse=reverse, prior=prior)
    actions = torch.tensor([0, 1, 0, 1])
    rows = torch.cat([room(BRIGHT, 2), room(DARK, 2)])
    assert controls.reads_frames
    assert controls.codes_of(actions, frames=rows).tolist() == [0, 1, 4, 5]
    assert controls.codes_of(actions).tolist() == [4, 5, 4, 5]


def test_a_code_that_no_label_holds_is_never_said(prior: Policy) -> None:
    reverse = fit_reverse(choices([0, 0, 1, 1], [2, 2, 3, 3]), MappingConfig(), 0).reverse
    controls = Controls("discrete", ("x", "y"), (), (), 6, reverse=reverse, prior=prior)
    assert controls.codes_of(torch.tensor([0, 1]), frames=room(BRIGHT, 2)).tolist() == [2, 3]


def test_it_is_the_same_when_it_was_kept(prior: Policy, tmp_path: Path) -> None:
    save_prior(tmp_path, prior, {"lam": "a" * 64})
    loaded = load_prior(tmp_path, "a" * 64)
    assert loaded is not None
    assert torch.equal(expect(loaded, room(77, 2)), expect(prior, room(77, 2)))
    assert load_prior(tmp_path, "b" * 64) is None  # of another model's codes
    assert load_prior(tmp_path / "nowhere", "a" * 64) is None
    (tmp_path / FOLDER / "policy.safetensors").write_bytes(b"?")
    with pytest.raises(UserError, match="policy"):
        load_prior(tmp_path, "a" * 64)


def test_adapt_learns_it_of_all_video_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    material, learnt = game(), []

    def note(footage: Footage, rows: np.ndarray, *rest: object) -> Policy:
        learnt.append(rows)
        return Policy(NETWORK, footage.frame_hw, ActionSpace("discrete", ("0", "1", "2", "3")))

    monkeypatch.setattr("genie_lite.adapt.adapt.fit_prior", note)
    run(tmp_path, material)
    (rows,) = learnt
    train = material.footage.has_next & (material.footage.split == "train")
    assert sorted(rows.tolist()) == np.flatnonzero(train).tolist()
    run(tmp_path, material)
    run(tmp_path, material, labels_budget=8)  # labels have no part in it
    assert len(learnt) == 1
    run(tmp_path, material, prior_steps=9)
    assert len(learnt) == 2
    assert prior_about(tmp_path) is not None


def test_none_is_learnt_where_none_is_wanted(tmp_path: Path) -> None:
    run(tmp_path, game(), prior_steps=0)
    assert prior_about(tmp_path) is None
