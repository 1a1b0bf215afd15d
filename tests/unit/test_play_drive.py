"""Who plays when nobody does: the run's own policies, as they were trained, and chance."""

from pathlib import Path

import numpy as np
import pytest
import torch

from genie_lite.adapt.policy import Policy, PolicyConfig, policy_fn, save_policy
from genie_lite.adapt.supervised import ActionSpace
from genie_lite.data.loading.clip import to_frames
from genie_lite.errors import UserError
from genie_lite.files import write_json
from genie_lite.play import drive
from genie_lite.play.drive import chance, drivers_of
from tests.play_runs import noise

CONFIG = PolicyConfig(context=3, patch=4, merge=2, width=16, depth=1, heads=2)
SIDES = ActionSpace("discrete", ("left", "right"))
JOINTS = ActionSpace("continuous", ("shoulder", "elbow", "wrist"))


def write_adapted(folder: Path, actions: ActionSpace, *arms: str) -> dict[str, Policy]:
    """A finished folder of `adapt`, of untrained policies."""
    policies = {}
    for seed, arm in enumerate(arms):
        torch.manual_seed(seed)
        policies[arm] = Policy(CONFIG, (16, 16), actions).eval()
        save_policy(folder if arm == "latent" else folder / "arms" / arm, policies[arm], {})
    keys = {"labels": {}, "arms": {arm: {} for arm in arms}, "parents": {}, "config": {}, "inputs": {}}
    write_json(folder / "adapt.json", {"format": 1, "kind": actions.kind, "seed": 0, "seconds": 1.0} | keys)
    return policies


def clips(num_frames: int = 3) -> np.ndarray:
    return np.stack([noise(num_frames, seed=seed) for seed in range(4)])


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_each_arm_drives_as_it_was_trained(tmp_path: Path) -> None:
    policies = write_adapted(tmp_path, SIDES, "latent", "bc_labels")
    drivers = drivers_of(tmp_path, SIDES.names, (16, 16), 1.0)
    assert list(drivers) == ["latent", "bc"]
    assert drivers["latent"].context == 3
    for shown, arm in (("latent", "latent"), ("bc", "bc_labels")):
        expected = policy_fn(policies[arm], 1.0)(clips(), generator())
        assert np.array_equal(drivers[shown](clips(), generator()), expected)


def test_a_robots_policy_gives_vectors_in_their_own_units(tmp_path: Path) -> None:
    policy = write_adapted(tmp_path, JOINTS, "latent")["latent"]
    driver = drivers_of(tmp_path, JOINTS.names, (16, 16), 1.0)["latent"]
    found = driver(clips(), generator())
    assert found.shape == (4, 3)
    assert np.allclose(found, policy.answer(to_frames(clips())).numpy())


def test_only_the_last_frames_count_and_the_first_is_repeated(tmp_path: Path) -> None:
    write_adapted(tmp_path, JOINTS, "latent")
    driver = drivers_of(tmp_path, JOINTS.names, (16, 16), 1.0)["latent"]
    long = clips(6)
    assert np.array_equal(driver(long, generator()), driver(long[:, -3:], generator()))
    short = long[:, -2:]
    assert np.array_equal(
        driver(short, generator()), driver(np.concatenate([short[:, :1], short], axis=1), generator())
    )


def test_a_policy_is_loaded_when_it_drives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_adapted(tmp_path, SIDES, "latent")
    loaded, load = [], drive.load_policy
    monkeypatch.setattr(drive, "load_policy", lambda folder: loaded.append(folder) or load(folder))
    driver = drivers_of(tmp_path, SIDES.names, (16, 16), 1.0)["latent"]
    assert not loaded
    for _ in range(3):
        driver(clips(), generator())
    assert loaded == [tmp_path]


def test_policies_that_do_not_fit_are_left_out(tmp_path: Path) -> None:
    assert drivers_of(tmp_path, SIDES.names, (16, 16), 1.0) == {}
    write_adapted(tmp_path, SIDES, "latent", "oracle")
    assert drivers_of(tmp_path, ("up", "down"), (16, 16), 1.0) == {}
    assert drivers_of(tmp_path, SIDES.names, (32, 32), 1.0) == {}
    (tmp_path / "arms" / "oracle" / "policy.json").unlink()
    assert list(drivers_of(tmp_path, SIDES.names, (16, 16), 1.0)) == ["latent"]


def test_a_damaged_policy_is_told_when_it_drives(tmp_path: Path) -> None:
    write_adapted(tmp_path, SIDES, "latent")
    (tmp_path / "policy.safetensors").write_bytes(b"other")
    driver = drivers_of(tmp_path, SIDES.names, (16, 16), 1.0)["latent"]
    with pytest.raises(UserError, match=r"policy\.safetensors: missing, or not the file"):
        driver(clips(), generator())


def test_chance_takes_all_choices() -> None:
    driver, same = chance(3), chance(3)
    one, other = generator(), generator()
    found = [driver(clips(1), one).tolist() for _ in range(10)]
    assert {each for row in found for each in row} == {0, 1, 2}
    assert found == [same(clips(1), other).tolist() for _ in range(10)]


def test_a_policy_is_loaded_before_it_drives_if_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_adapted(tmp_path, SIDES, "latent")
    loaded, load = [], drive.load_policy
    monkeypatch.setattr(drive, "load_policy", lambda folder: loaded.append(folder) or load(folder))
    driver = drivers_of(tmp_path, SIDES.names, (16, 16), 1.0)["latent"]
    driver.load()
    assert loaded == [tmp_path]
    driver(clips(), generator())
    assert loaded == [tmp_path]
    chance(2).load()


def test_whatever_goes_wrong_in_a_policy_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> np.ndarray:
        raise RuntimeError("out of\nmemory")

    write_adapted(tmp_path, SIDES, "latent")
    monkeypatch.setattr(drive, "load_policy", fail)
    driver = drivers_of(tmp_path, SIDES.names, (16, 16), 1.0)["latent"]
    with pytest.raises(UserError, match="driver: 'latent' cannot drive \\(out of memory\\)"):
        driver.load()
    with pytest.raises(UserError, match="driver: 'mine' cannot drive"):
        drive.Driver("mine", 1, fail)(clips(), generator())
