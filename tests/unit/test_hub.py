"""Models by name: loaded from where they lie, saved with what is known of them, refused where they do not match."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard, PyTorchModelHubMixin

from genie_lite.errors import UserError
from genie_lite.models import hub
from genie_lite.models.heads import ActionHeads, HeadsSpec, RobotActions, read_heads, write_heads
from genie_lite.models.lam import LatentActionModel
from genie_lite.pretrained import pretrained

VERDICT: dict[str, Any] = {
    "about": {},
    "verdict": {"answer": "good for play", "sentence": "The codes steer."},
    "checks": [
        {
            "title": "Codes in use",
            "value": {"mean": 6.0, "low": 5.0, "high": 6.0, "num": 9},
            "unit": "codes",
            "threshold": "at least 4",
            "outcome": "holds",
        },
        {"title": "ΔtPSNR", "value": None, "unit": "dB", "threshold": "above 0", "outcome": "told"},
    ],
}
FRAMES = torch.rand(2, 5, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model() -> LatentActionModel:
    return LatentActionModel.from_pretrained(pretrained("coinrun"))


def test_it_is_the_mixin_that_people_know() -> None:
    assert issubclass(LatentActionModel, PyTorchModelHubMixin)


def test_a_run_and_its_stage_are_the_same_model(model: LatentActionModel) -> None:
    other = LatentActionModel.from_pretrained(str(pretrained("coinrun") / "lam"))
    assert not model.training
    assert torch.equal(model.encode(FRAMES).index, other.encode(FRAMES).index)


def test_what_is_saved_is_loaded(model: LatentActionModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "lam")
    again = LatentActionModel.from_pretrained(tmp_path / "lam")
    assert torch.equal(again.encode(FRAMES).embedding, model.encode(FRAMES).embedding)
    assert again.artifact is not None
    assert model.artifact is not None
    assert again.artifact.metrics == model.artifact.metrics
    assert {path.name for path in (tmp_path / "lam").iterdir()} == {
        "artifact.json", "config.json", "model.safetensors", "README.md",
    }  # fmt: skip


def test_nothing_of_the_machine_is_handed_on(model: LatentActionModel, tmp_path: Path) -> None:
    """A recipe names folders; the manifest and the card do not."""
    model.save_pretrained(tmp_path / "lam")
    texts = [path.read_text() for path in (tmp_path / "lam").iterdir() if path.suffix != ".safetensors"]
    assert not [text for text in texts if str(Path.home()) in text or str(pretrained("coinrun")) in text]


def test_the_card_tells_how_good_it_is(model: LatentActionModel, tmp_path: Path) -> None:
    assert model.artifact is not None
    model.verdict = VERDICT | {"about": {"lam_sha256": model.artifact.sha256}}
    model.save_pretrained(tmp_path / "lam")
    card = ModelCard.load(tmp_path / "lam" / "README.md")
    assert card.data.to_dict()["library_name"] == "genie_lite"
    assert "| Codes in use | 6 [5, 6] codes | at least 4 | holds |" in card.text
    assert "**good for play.**" in card.text
    assert model.artifact.sha256 in card.text
    assert LatentActionModel.from_pretrained(tmp_path / "lam").verdict == model.verdict


def test_a_verdict_on_other_weights_is_not_told(model: LatentActionModel, tmp_path: Path) -> None:
    assert model.artifact is not None
    model.verdict = VERDICT | {"about": {"lam_sha256": model.artifact.sha256}}
    with torch.no_grad():
        model.to_pixels.bias.add_(1)
    model.save_pretrained(tmp_path / "lam")
    assert not (tmp_path / "lam" / "inspect.json").exists()
    saved = json.loads((tmp_path / "lam" / "artifact.json").read_text())
    assert saved["meta"]["rounded_from"] == model.artifact.sha256


def test_heads_go_along_with_the_embeddings_that_they_read(model: LatentActionModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "lam")
    robots = (RobotActions(name="arm", kind="continuous", names=("a", "b")),)
    heads = ActionHeads(HeadsSpec(width=model.code_dim, robots=robots))
    write_heads(tmp_path / "lam", heads.spec, heads.state_dict())
    again = LatentActionModel.from_pretrained(tmp_path / "lam")
    again.save_pretrained(tmp_path / "lam")  # in its own place
    again.save_pretrained(tmp_path / "copy")
    embedding = again.encode(FRAMES).embedding
    assert torch.equal(read_heads(tmp_path / "copy").answer(embedding), heads.answer(embedding))
    with torch.no_grad():
        again.to_pixels.bias.add_(1)
    again.save_pretrained(tmp_path / "copy")
    assert not (tmp_path / "copy" / "heads.json").exists()


def test_weights_that_do_not_match_are_refused(model: LatentActionModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "lam")
    with (tmp_path / "lam" / "model.safetensors").open("ab") as file:
        file.write(b"more")
    with pytest.raises(UserError, match="does not match the sha256"):
        LatentActionModel.from_pretrained(tmp_path / "lam")


def test_no_such_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise OSError("no network")

    monkeypatch.setattr(hub, "snapshot_download", fail)
    with pytest.raises(UserError, match="some/where: no such folder, and no repository"):
        LatentActionModel.from_pretrained("some/where")


def test_a_repository_is_downloaded(
    model: LatentActionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}

    def download(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        model.save_pretrained(tmp_path / "snapshot")
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(hub, "snapshot_download", download)
    LatentActionModel.from_pretrained("some/where", revision="v1")
    assert asked["name"] == "some/where"
    assert asked["revision"] == "v1"
    assert "model.safetensors" in asked["allow_patterns"]


def test_a_new_model_has_nothing_to_tell(model: LatentActionModel, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="was not loaded from a finished stage"):
        LatentActionModel(model.config).save_pretrained(tmp_path / "lam")
