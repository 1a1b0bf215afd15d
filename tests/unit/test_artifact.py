"""Run folders: what was saved is what is loaded, and nothing else is."""

import json
from pathlib import Path

import pytest
import torch

from genie_lite.artifact import is_finished, read_artifact, write_artifact
from genie_lite.errors import UserError
from genie_lite.files import write_bytes
from genie_lite.models.dynamics import load_dynamics
from genie_lite.models.lam import load_lam
from genie_lite.models.tokenizer import load_tokenizer
from genie_lite.models.world import World
from tests import models


def write_run(run: Path) -> None:
    tokenizer, lam, dynamics = models.tokenizer(), models.lam(), models.dynamics()

    def write(stage, model, config, parents):  # type: ignore[no-untyped-def]
        return write_artifact(run / stage, stage, model, config, "", parents, {}, {"val": 1.0}, 0.5)

    parents = {
        "tokenizer": write("tokenizer", tokenizer, tokenizer.config, {}),
        "lam": write("lam", lam, lam.config, {}),
    }
    write("dynamics", dynamics, dynamics.spec, parents)


def test_every_stage_gives_the_same_outputs_after_loading(tmp_path: Path) -> None:
    write_run(tmp_path)
    frames = models.frames()
    with torch.no_grad():
        torch.testing.assert_close(
            load_tokenizer(tmp_path / "tokenizer")(frames).reconstruction,
            models.tokenizer().eval()(frames).reconstruction,
        )
        torch.testing.assert_close(
            load_lam(tmp_path / "lam")(frames).prediction, models.lam().eval()(frames).prediction
        )
        tokens, codes = torch.randint(16, (2, 6, 4)), torch.randn(2, 5, 4)
        logits = [
            model(tokens, codes, torch.Generator().manual_seed(0)).logits
            for model in (load_dynamics(tmp_path / "dynamics"), models.dynamics().eval())
        ]
    torch.testing.assert_close(*logits)
    fresh = World(models.tokenizer(), models.lam(), models.dynamics())
    taken = torch.tensor([[0, 1, 2], [3, 2, 1]])
    torch.testing.assert_close(
        World.load(tmp_path).rollout(frames, taken, 0), fresh.rollout(frames, taken, 0)
    )


def test_another_stages_folder_is_named(tmp_path: Path) -> None:
    write_run(tmp_path)
    with pytest.raises(UserError, match="expected stage 'lam', found 'tokenizer'"):
        load_lam(tmp_path / "tokenizer")


def test_weights_of_another_version_are_told_in_one_line(tmp_path: Path) -> None:
    model = models.lam()
    model.register_parameter("gone_since", torch.nn.Parameter(torch.zeros(1)))
    write_artifact(tmp_path / "lam", "lam", model, model.config, "", {}, {}, {}, 0.5)
    with pytest.raises(UserError, match="weights of another model") as caught:
        load_lam(tmp_path / "lam")
    assert "\n" not in str(caught.value)


def test_an_unfinished_stage_is_named(tmp_path: Path) -> None:
    write_bytes(tmp_path / "lam" / "model.safetensors", b"")
    assert not is_finished(tmp_path / "lam")
    with pytest.raises(UserError, match="no finished lam here"):
        load_lam(tmp_path / "lam")


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path)
    path = tmp_path / "lam" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match="does not match the sha256"):
        load_lam(tmp_path / "lam")


def test_a_world_of_strangers_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path)
    other = models.tokenizer(seed=1)
    write_artifact(tmp_path / "tokenizer", "tokenizer", other, other.config, "", {}, {}, {}, 0.0)
    with pytest.raises(UserError, match="trained on another tokenizer"):
        World.load(tmp_path)


def test_a_manifest_that_is_not_one_is_refused(tmp_path: Path) -> None:
    write_bytes(tmp_path / "artifact.json", b"[]")
    with pytest.raises(UserError, match="not a genie_lite manifest"):
        read_artifact(tmp_path, "lam")
    write_bytes(tmp_path / "artifact.json", json.dumps({"stage": "lam", "format": 99}).encode())
    with pytest.raises(UserError, match="format 99"):
        read_artifact(tmp_path, "lam")


@pytest.mark.parametrize(
    ("key", "value"), [("weights", None), ("weights", []), ("stage", None), ("meta", None)]
)
def test_a_manifest_that_lacks_something_is_told_in_one_line(tmp_path: Path, key: str, value: object) -> None:
    write_run(tmp_path)
    path = tmp_path / "lam" / "artifact.json"
    tree = json.loads(path.read_text())
    del tree[key]
    write_bytes(path, json.dumps(tree if value is None else tree | {key: value}).encode())
    with pytest.raises(UserError, match="not a whole genie_lite manifest, missing or wrong") as caught:
        load_lam(tmp_path / "lam")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def fail(source: str, target: str) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
