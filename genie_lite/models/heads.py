"""True actions read off latent ones: a linear head for every robot, learnt together with the latent action model.

    frames ──LAM encoder──▶ embedding ──head of the robot──▶ action

A gradient goes through the heads into the encoder, so that embeddings hold what the labels speak of: with
distractors, few labels in training do more than any number afterwards. Robots differ in their actions, so each
has a head of its own, and all of them share the encoder.

    lam, heads = load_lam(run / "lam"), read_heads(run / "lam")
    heads.names                                              of the robots, in `config.robots` of heads.json, too
    heads.answer(lam.encode(frames).embedding, "arm")        row k: the action of frame k -> k + 1

Source: a linear head during training: LAOM, arXiv:2502.00379, section 4.4; CLAM, arXiv:2505.04999.
Differs: standardised actions for continuous ones, cross-entropy for choices, several robots.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from genie_lite.card import read_card
from genie_lite.config import Config, parse
from genie_lite.errors import UserError
from genie_lite.files import sha256_of, write_bytes, write_json
from genie_lite.losses import mean_where

FORMAT = 1
WEIGHTS_FILE, CARD_FILE = "heads.safetensors", "heads.json"


class RobotActions(Config):
    """The actions of one robot or game.

    name: of the robot. kind: choices, or a vector of numbers. names: of the choices, or of the vector's components.
    """

    name: str
    kind: Literal["discrete", "continuous"]
    names: tuple[str, ...] = Field(min_length=1)


class HeadsSpec(Config):
    """All that is needed to build heads again: the width of an embedding, and whose actions are read off it."""

    width: int = Field(ge=1)
    robots: tuple[RobotActions, ...] = Field(min_length=1)


@dataclass(frozen=True)
class KnownActions:
    """What is known of the transitions of some clips.

    robot: whose clip it is, an index into the heads. action: one-hot, or in its own units, in the first columns.
    known: whether a transition has a label; the others' actions are not read.
    """

    robot: Int[Tensor, " b"]
    action: Float[Tensor, "b k a"]
    known: Bool[Tensor, "b k"]


class ActionHeads(nn.Module):
    """One linear head per robot over the embeddings of a latent action model, with its actions' normaliser."""

    def __init__(self, spec: HeadsSpec) -> None:
        super().__init__()
        self.spec = spec
        self.heads = nn.ModuleList(nn.Linear(spec.width, len(robot.names)) for robot in spec.robots)
        for number, robot in enumerate(spec.robots):
            self.register_buffer(f"mean_{number}", torch.zeros(len(robot.names)))
            self.register_buffer(f"std_{number}", torch.ones(len(robot.names)))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the robots, in their order."""
        return tuple(robot.name for robot in self.spec.robots)

    def standardise(self, robot: int, actions: Float[Tensor, "rows a"]) -> None:
        """Take the mean and the deviation of a robot's actions from some of them; those of choices are not asked."""
        if self.spec.robots[robot].kind == "continuous":
            mean, std = self._statistics(robot)
            mean.copy_(actions.mean(dim=0))
            deviation = actions.std(dim=0, unbiased=False)
            std.copy_(
                torch.where(deviation > 1e-6, deviation, 1.0)
            )  # a joint that never moves stays as it is

    def forward(self, embedding: Float[Tensor, "b k e"], given: KnownActions) -> Float[Tensor, ""]:
        """Error of the actions read off the embeddings, a mean over the transitions that have a label.

        Choices count by their cross-entropy in nats, log of their number for a uniform guess; vectors by the mean
        squared error of standardised actions, 1 for always saying the mean.
        """
        errors = embedding.new_zeros(given.known.shape, dtype=torch.float32)
        for number, robot in enumerate(self.spec.robots):
            # Every head sees every clip: one without a gradient would keep several processes waiting.
            wrong = self._errors(number, embedding, given.action[..., : len(robot.names)])
            errors = errors + wrong * (given.robot == number)[:, None]
        return mean_where(errors, given.known)

    @torch.no_grad()
    def answer(self, embedding: Float[Tensor, "*rows e"], robot: str | int = 0) -> Float[Tensor, "*rows a"]:
        """Probabilities of a robot's actions, or the action in its own units.

        Args:
            embedding: of transitions, as the latent action model gives it.
            robot: its name, or its place among the heads.

        Raises:
            UserError: no such robot.
        """
        number = self._number(robot)
        out = self.heads[number](embedding).float()
        if self.spec.robots[number].kind == "discrete":
            return out.softmax(dim=-1)
        mean, std = self._statistics(number)
        return out * std + mean

    def _errors(self, number: int, embedding: Tensor, action: Tensor) -> Tensor:
        out = self.heads[number](embedding).float()
        if self.spec.robots[number].kind == "discrete":
            return -(action * out.log_softmax(dim=-1)).sum(dim=-1)
        mean, std = self._statistics(number)
        return (out - (action - mean) / std).square().mean(dim=-1)

    def _statistics(self, number: int) -> tuple[Tensor, Tensor]:
        return self.get_buffer(f"mean_{number}"), self.get_buffer(f"std_{number}")

    def _number(self, robot: str | int) -> int:
        if isinstance(robot, int) and 0 <= robot < len(self.names):
            return robot
        if robot not in self.names:
            expected = ", ".join(map(repr, self.names))
            raise UserError(f"robot {robot!r}: no head for it; expected one of {expected}")
        return self.names.index(str(robot))


def write_heads(folder: Path, spec: HeadsSpec, weights: Mapping[str, Tensor]) -> None:
    """Write heads beside the model that they were trained with: `heads.safetensors`, then `heads.json`."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    write_bytes(folder / WEIGHTS_FILE, save(whole))
    card = {
        "format": FORMAT,
        "config": json.loads(spec.model_dump_json()),
        "sha256": sha256_of(folder / WEIGHTS_FILE),
    }
    write_json(folder / CARD_FILE, card)


def remove_heads(folder: Path) -> None:
    """Remove those of a model that was in this folder before."""
    for name in (CARD_FILE, WEIGHTS_FILE):
        (folder / name).unlink(missing_ok=True)


def copy_heads(folder: Path, out: Path, *, keep: bool = True) -> None:
    """Put the heads of a folder, if it has any, in the place of those of another; none, if not `keep`."""
    names = [name for name in (WEIGHTS_FILE, CARD_FILE) if (folder / name).is_file()]
    kept = {name: (folder / name).read_bytes() for name in names} if keep and len(names) == 2 else {}
    remove_heads(out)  # which may be the same folder
    for name, data in kept.items():
        write_bytes(out / name, data)


def read_heads(folder: Path) -> ActionHeads:
    """The heads that a latent action model was trained with, in evaluation mode.

    Args:
        folder: of the latent action model, such as `run / "lam"`.

    Raises:
        UserError: it was trained without labels, or what is there is damaged.
    """
    path = folder / CARD_FILE
    if not path.is_file():
        raise UserError(
            f"{folder}: no heads for actions here ({CARD_FILE} is missing); they are learnt where lam.labels is set"
        )
    advice = "copy the whole folder again or train again"
    card = read_card(path, "a card of heads", FORMAT, {"config": dict, "sha256": str}, advice)
    weights = folder / WEIGHTS_FILE
    if not weights.is_file() or sha256_of(weights) != card["sha256"]:
        raise UserError(f"{weights}: missing, or not what {CARD_FILE} says; {advice}")
    heads = ActionHeads(parse(card["config"], HeadsSpec, str(path)))
    try:
        heads.load_state_dict(load_file(weights), strict=True)
    except (RuntimeError, SafetensorError) as error:
        raise UserError(f"{weights}: weights of other heads than {CARD_FILE} names; {advice}") from error
    return heads.eval()
