"""What a run offers to players, whatever kind of run it is."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from genie_lite.controls import Controls
from genie_lite.errors import UserError
from genie_lite.files import write_bytes
from genie_lite.models.sampling import SamplingConfig
from genie_lite.play import offer as offer_module
from genie_lite.play.offer import Offer, open_offer
from genie_lite.play.starts import png
from tests.play_runs import MOVES_OF_TOY, NOT_RECORDED, noise, write_run

JOINTS = Controls("continuous", ("shoulder", "elbow"), (-1.0, 0.0), (1.0, 2.0), 4)


@pytest.fixture
def adapted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs have the toy's actions."""
    monkeypatch.setattr(offer_module, "action_controls", lambda run: MOVES_OF_TOY)


def play_a_little(offer: Offer, start: np.ndarray) -> tuple[int, ...]:
    """What any player does; returns the shape of a frame."""
    frames = torch.from_numpy(start)[None].permute(0, 1, 4, 2, 3) / 255
    state = offer.world.reset(frames, 7)
    _, frame = offer.world.step(state, torch.tensor([1]))
    return tuple(frame.shape[1:])


@pytest.mark.usefixtures("adapted")
def test_a_recorded_game_that_was_adapted(tmp_path: Path) -> None:
    offer = open_offer(write_run(tmp_path / "run"))
    assert (offer.title, offer.rate_hz, offer.frame_hw) == ("run", 10.0, (16, 16))
    assert offer.controls.names == ("noop", "left", "right", "up", "down")
    assert offer.code_controls.names == ("0", "1", "2", "3")
    assert list(offer.policies) == ["random"]
    assert (offer.game, offer.no_twin) == ("toy", None)
    with offer.twin(3) as twin:
        assert twin.step(1).shape == (16, 16, 3)
        assert play_a_little(offer, twin.frame[None]) == (3, 16, 16)
    assert play_a_little(offer, offer.starts.frames(0)) == (3, 16, 16)
    assert offer.names.set(1, "left") == {1: "left"}
    assert offer.preview(1)[:4] == b"RIFF"
    own = offer.own_start(png(noise(size=40)[0]))
    assert own.shape == (1, 16, 16, 3)


def test_video_without_labels_is_played_by_its_codes(tmp_path: Path) -> None:
    offer = open_offer(write_run(tmp_path / "run", *NOT_RECORDED))
    assert offer.controls == offer.code_controls
    assert offer.controls.kind == "code"
    assert list(offer.policies) == ["random"]
    assert offer.game is None
    with pytest.raises(UserError, match="no real game is offered: the run was not recorded from a game"):
        offer.twin(0)
    assert len(offer.starts) > 0


def test_a_game_that_was_not_adapted_has_no_twin(tmp_path: Path) -> None:
    offer = open_offer(write_run(tmp_path / "run"))
    assert offer.game is None
    assert "run genie-lite adapt" in str(offer.no_twin)


def test_a_robot_is_moved_by_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offer_module, "action_controls", lambda run: JOINTS)
    offer = open_offer(write_run(tmp_path / "run", *NOT_RECORDED))
    assert offer.controls == JOINTS
    assert offer.policies == {}  # chance would only tremble


def test_an_export_has_its_own_starts(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "record=null", splits=())
    write_bytes(run / "starts" / "0.png", png(noise()[0]))
    offer = open_offer(run)
    assert np.array_equal(offer.starts.frames(0), noise())
    assert play_a_little(offer, offer.starts.frames(0)) == (3, 16, 16)


def test_a_run_that_was_moved_is_the_same(tmp_path: Path) -> None:
    before = open_offer(write_run(tmp_path / "run", *NOT_RECORDED))
    before.names.set(0, "still")
    kept = before.preview(0), before.starts.thumbnail(1)
    shutil.move(tmp_path / "run", tmp_path / "elsewhere")
    after = open_offer(tmp_path / "elsewhere")
    assert after.title == "elsewhere"
    assert after.names.get() == {0: "still"}
    assert (after.preview(0), after.starts.thumbnail(1)) == kept


@pytest.mark.usefixtures("adapted")
def test_nothing_but_models_is_read_to_open_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run")

    def never(*_: object, **__: object) -> None:
        raise AssertionError("read before it was asked for")

    for name in (
        "genie_lite.data.shards.shards.ShardSet.read",
        "genie_lite.data.shards.shards.Sample.frames",
        "genie_lite.models.world.World.reset",
        "genie_lite.envs.toy.ToyEnv.__init__",
        "genie_lite.play.drive.load_policy",
    ):
        monkeypatch.setattr(name, never)
    open_offer(run)


def test_sampling_can_be_chosen(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert open_offer(run).world.sampling.refinements == 2
    sampling = SamplingConfig(refinements=3, micro_batch=4)
    assert open_offer(run, sampling, device="cpu").world.sampling == sampling


def test_what_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run's folder"):
        open_offer(tmp_path)
    run = write_run(tmp_path / "run")
    with pytest.raises(UserError, match="is the folder of one stage; pass the run's folder"):
        open_offer(run / "lam")
    shutil.rmtree(run / "dynamics")
    with pytest.raises(UserError, match="no finished dynamics here"):
        open_offer(run)


def test_after_closing_no_preview_is_made(tmp_path: Path) -> None:
    offer = open_offer(write_run(tmp_path / "run"))
    offer.close()
    with pytest.raises(UserError, match="previews: closed"):
        offer.preview(0)
