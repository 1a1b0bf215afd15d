"""Models by name: from a run, a folder or the Hugging Face Hub, and back with a card that says how good they are.

    model = LatentActionModel.from_pretrained("runs/maze-demo")        a run, or the folder of one of its stages
    model = LatentActionModel.from_pretrained("someone/maze-lam")      a repository of the Hub
    model.save_pretrained("maze-lam")                                  weights, manifest, card
    model.push_to_hub("someone/maze-lam")

What is written is the folder of a stage (`artifact.py`) without its recipe, which names places of the machine it was
trained on, and with a README.md. Weights are safetensors; nothing is unpickled, and weights that do not match
their manifest are refused wherever they come from.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from huggingface_hub import ModelCard, ModelCardData, PyTorchModelHubMixin, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors.torch import load_file
from torch import Tensor, nn

from genie_lite.artifact import Artifact, read_artifact, write_copy
from genie_lite.errors import UserError
from genie_lite.files import read_json, write_bytes, write_json
from genie_lite.models.heads import CARD_FILE, WEIGHTS_FILE, copy_heads

VERDICT_FILE = "inspect.json"  # of `genie-lite inspect`
VERDICT_FOLDER = "inspect"  # of a run, where it is kept
# Of a repository; nothing else is downloaded.
FILES = ["artifact.json", "model.safetensors", WEIGHTS_FILE, CARD_FILE, VERDICT_FILE]
# What a download ends in where there is no network, no such repository, or a name that is none.
NOT_THERE = (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError)

ModelT = TypeVar("ModelT", bound="HubModel")


class HubModel(
    PyTorchModelHubMixin, ABC, library_name="genie_lite", license="apache-2.0", tags=["world-model"]
):
    """A model of one stage that can be had by name; see the top of this file."""

    stage: ClassVar[str]
    artifact: Artifact | None = None  # what it was loaded from
    verdict: Mapping[str, Any] | None = None  # of `genie-lite inspect`, where it was inspected

    @classmethod
    @abstractmethod
    def from_artifact(cls: type[ModelT], artifact: Artifact) -> ModelT:
        """The model of a finished stage, in evaluation mode."""

    @classmethod
    def from_pretrained(
        cls: type[ModelT], pretrained_model_name_or_path: str | Path, **options: Any
    ) -> ModelT:
        """A trained model, in evaluation mode on the CPU.

        Args:
            pretrained_model_name_or_path: the folder of a run or of one of its stages, or a repository of the Hub.
            options: of `huggingface_hub.snapshot_download`, such as revision, token or local_files_only.

        Raises:
            UserError: no such place, no such model there, or weights that do not match their manifest.
        """
        name = pretrained_model_name_or_path
        folder = Path(name) if Path(name).exists() else _downloaded(str(name), options)
        if not (folder / "artifact.json").is_file() and (folder / cls.stage).is_dir():
            folder = folder / cls.stage
        artifact = read_artifact(folder, cls.stage)
        model = cls.from_artifact(artifact)
        model.artifact, model.verdict = artifact, _verdict_of(artifact)
        return model

    def generate_model_card(self, *_: Any, **__: Any) -> ModelCard:
        """The card: what it is, how to use it, how good it is.

        Raises:
            UserError: the model was not loaded from a finished stage.
        """
        about: ModelCardData = self._hub_mixin_info.model_card_data
        return ModelCard(
            f"---\n{about.to_yaml()}\n---\n\n{_card(type(self).__name__, self._origin(), self.verdict)}"
        )

    def _save_pretrained(self, save_directory: Path) -> None:
        assert isinstance(self, nn.Module)
        origin = self._origin()
        written = write_copy(save_directory, origin, _weights(self, origin), None, origin.parents)
        write_json(save_directory / "config.json", origin.config)  # the Hub counts downloads of this one
        is_same = written.sha256 == origin.sha256
        copy_heads(origin.folder, save_directory, keep=is_same)  # they read these embeddings, and no others
        (save_directory / VERDICT_FILE).unlink(missing_ok=True)
        if self.verdict is not None and is_same:
            write_json(save_directory / VERDICT_FILE, dict(self.verdict))
        write_bytes(save_directory / "README.md", str(self.generate_model_card()).encode())

    def _origin(self) -> Artifact:
        if self.artifact is None:
            raise UserError(
                "this model was not loaded from a finished stage, so nothing is known of how it was made; "
                "save one that from_pretrained(RUN) has returned"
            )
        return self.artifact


def _weights(model: nn.Module, origin: Artifact) -> dict[str, Tensor]:
    """Those of the model; as they were stored, in half precision perhaps, where nothing has changed them since."""
    own = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    stored = load_file(origin.folder / "model.safetensors")
    return stored if all(torch.equal(own[name], stored[name].to(own[name].dtype)) for name in own) else own


def _downloaded(name: str, options: Mapping[str, Any]) -> Path:
    try:
        return Path(snapshot_download(name, allow_patterns=FILES, **options))
    except NOT_THERE as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"{name}: no such folder, and no repository of the Hugging Face Hub that can be had ({reason}); "
            "expected runs/<name>, the folder of a stage, or owner/name"
        ) from error


def _verdict_of(artifact: Artifact) -> dict[str, Any] | None:
    """What was found of just these weights, beside them or in their run."""
    for path in (artifact.folder / VERDICT_FILE, artifact.folder.parent / VERDICT_FOLDER / VERDICT_FILE):
        if path.is_file():
            found = read_json(path, "the verdict on a model", "delete it and inspect the model again")
            about = found.get("about")
            if isinstance(about, dict) and about.get("lam_sha256") == artifact.sha256:
                return found
    return None


def _card(name: str, artifact: Artifact, verdict: Mapping[str, Any] | None) -> str:
    height, width = artifact.config["frame_hw"]
    code = ", ".join(f"{key} {value}" for key, value in artifact.config["code"].items())
    facts = [
        f"frames of {height} x {width} pixels, values in [0, 1]",
        f"bottleneck: {code}",
        f"{artifact.meta['parameters'] / 1e6:.2f} million parameters, trained for {artifact.seconds:.0f} s "
        f"on {artifact.data['frames']} frames",
        f"SHA-256 of the weights: `{artifact.sha256}`; of the data: `{artifact.data['fingerprint']}`",
    ]
    usage = (
        "```python\n"
        f"from genie_lite.models.lam import {name}\n\n"
        f'model = {name}.from_pretrained("THIS REPOSITORY")\n'
        "actions = model.encode(frames)  # frames: float `b t c h w`; row k is the change from frame k to frame k + 1\n"
        "actions.index, actions.embedding\n"
        "```"
    )
    parts = [
        "# A latent action model",
        "\n".join(f"- {fact}" for fact in facts),
        usage,
        _quality(artifact, verdict),
    ]
    return "\n\n".join(parts) + "\n"


def _quality(artifact: Artifact, verdict: Mapping[str, Any] | None) -> str:
    if verdict is None:
        rows = [f"| {name} | {value:.4g} |" for name, value in artifact.metrics.items()]
        return "\n".join(
            ["## Quality", "", "Last validation, on held-out video (`genie-lite inspect` says more):", "",
             "| measured | |", "|---|---|", *rows]
        )  # fmt: skip
    rows = [
        f"| {check['title']} | {_value(check)} | {check['threshold']} | {check['outcome']} |"
        for check in verdict["checks"]
    ]
    answer = f"**{verdict['verdict']['answer']}.** {verdict['verdict']['sentence']}"
    return "\n".join(
        ["## Quality", "", f"{answer} Held-out video, 95 % intervals over its sources:", "",
         "| measured | | wanted | |", "|---|---|---|---|", *rows]
    )  # fmt: skip


def _value(check: Mapping[str, Any]) -> str:
    value, unit = check["value"], check.get("unit") or ""
    if not isinstance(value, Mapping):
        return "" if value is None else f"{value:.3g} {unit}".strip()
    if value.get("mean") is None:
        return ""
    interval = f" [{value['low']:.3g}, {value['high']:.3g}]" if value.get("low") is not None else ""
    return f"{value['mean']:.3g}{interval} {unit}".strip()
