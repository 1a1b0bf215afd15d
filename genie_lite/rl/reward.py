"""A learned reward: what a transition brought, and whether it ended the episode, read off its two frames.

    (frame k, frame k + 1) ──convolutions──▶ the strongest and the mean response anywhere
        ──▶ log odds of the end · reward if it goes on · reward if it ends

    reward = P(end) · reward if it ends + (1 - P(end)) · reward if it goes on

Ends are rare, so a quarter of what is shown in training are ends; their true share is put back into the odds
afterwards, and the two rewards are each learnt from their own rows, which no such share distorts.

Source: a reward and a continuation head beside a world model, DreamerV3, arXiv:2301.04104, section "World model
learning". Differs: it is trained afterwards, from the few labelled episodes, on frames as the tokenizer shows them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange, reduce
from jaxtyping import Float, UInt8
from numpy import ndarray
from pydantic import Field
from torch import Tensor, nn

from genie_lite.artifact import read_weights, write_weights
from genie_lite.card import read_card
from genie_lite.config import Config, parse
from genie_lite.data.loading.loader import to_frames
from genie_lite.errors import UserError
from genie_lite.files import write_json
from genie_lite.rl.scorer import Verdict, in_groups

FORMAT = 1
PATCH_PX = 4
FOLDER, CARD, WEIGHTS = "reward", "reward.json", "reward.safetensors"
CARD_KEYS = {"frame_hw": list, "config": dict, "sha256": str, "about": dict}
AGAIN = "run genie-lite reward again"


class RewardConfig(Config):
    """Shape and training of a reward head."""

    labels_episodes: int = Field(default=100, ge=2)  # labelled ones, at most
    width: int = Field(default=16, ge=1)  # responses of the first layer; twice as many of the others
    steps: int = Field(default=300, ge=1)
    batch: int = Field(default=32, ge=4)  # a quarter of them ends
    lr: float = Field(default=2e-3, gt=0)  # the highest; a cosine takes it to 0
    weight_decay: float = Field(default=0.05, ge=0)
    folds: int = Field(default=5, ge=2)  # of the episodes, each held out once


@dataclass(frozen=True)
class Foretold:
    """logit: log odds that the episode is over. going, ending: the reward if it is not, and if it is."""

    logit: Float[Tensor, " b"]
    going: Float[Tensor, " b"]
    ending: Float[Tensor, " b"]

    @property
    def reward(self) -> Float[Tensor, " b"]:
        """To be expected."""
        end = self.logit.sigmoid()
        return end * self.ending + (1 - end) * self.going


class RewardHead(nn.Module):
    """See above. Carries what it was trained on: how rare ends are, and the scale of rewards before and at an end.

    log_odds: of ends as they are, less those in training. reward_mean, reward_std: if it goes on, and if it ends.
    """

    log_odds: Float[Tensor, ""]
    reward_mean: Float[Tensor, " 2"]
    reward_std: Float[Tensor, " 2"]

    def __init__(self, config: RewardConfig, frame_hw: tuple[int, int]) -> None:
        super().__init__()
        self.config, self.frame_hw = config, frame_hw
        width = config.width
        # Without its norms it takes many times as long to see an end that is a few pixels large.
        self.see = nn.Sequential(
            nn.Conv2d(6, width, PATCH_PX, stride=PATCH_PX),
            nn.GELU(),
            nn.BatchNorm2d(width),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.GELU(),
            nn.BatchNorm2d(2 * width),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.GELU(),
        )
        self.head = nn.Linear(4 * width, 3)
        self.register_buffer("log_odds", torch.zeros(()))
        self.register_buffer("reward_mean", torch.zeros(2))
        self.register_buffer("reward_std", torch.ones(2))

    def forward(self, pair: Float[Tensor, "b 2 c h w"]) -> Float[Tensor, "b 3"]:
        """Log odds where ends are as common as in training, and the two rewards, normalised."""
        seen = self.see(rearrange(pair.sub(0.5).mul(4), "b two c h w -> b (two c) h w"))
        strongest, mean = (reduce(seen, "b d h w -> b d", how) for how in ("max", "mean"))
        return self.head(torch.cat([strongest, mean], dim=1))

    def read(self, out: Float[Tensor, "b 3"]) -> Foretold:
        """What an answer of `forward` says of transitions, ends as rare as they are."""
        going, ending = (out[:, 1:] * self.reward_std + self.reward_mean).unbind(dim=1)
        return Foretold(out[:, 0] + self.log_odds, going, ending)


class LearnedReward:
    """A reward head as an environment asks it. An episode is over where that is likelier than not."""

    def __init__(self, head: RewardHead, device: torch.device, together: int) -> None:
        """Put a head on a device; it is asked about so many transitions together, see `in_groups`."""
        self._head, self._device, self._together = head.to(device).eval(), device, together

    def __call__(self, before: UInt8[ndarray, "b h w c"], after: UInt8[ndarray, "b h w c"]) -> Verdict:
        pairs = to_frames(np.stack([before, after], axis=1)).to(self._device)
        answers = in_groups(self._head, pairs, self._together)
        with torch.inference_mode():
            found = self._head.read(answers.to(self._device))
        return found.reward.double().cpu().numpy(), (found.logit > 0).cpu().numpy()


def save_reward(folder: Path, head: RewardHead, about: Mapping[str, Any]) -> None:
    """Write `reward.safetensors`, then `reward.json`, whose presence means finished.

    Args:
        folder: RUN/reward; made if needed.
        head: what to save.
        about: plain data to keep beside it: held-out scores, and hashes of what it was learnt from.
    """
    sha256 = write_weights(folder / WEIGHTS, head)
    card = {
        "format": FORMAT,
        "frame_hw": list(head.frame_hw),
        "config": head.config.model_dump(),
        "sha256": sha256,
        "about": dict(about),
    }
    write_json(folder / CARD, card)


def read_reward_card(folder: Path) -> dict[str, Any]:
    """What is known of a saved reward head; `about.scores` is how good it is on episodes that it has not seen.

    Raises:
        UserError: none here, a damaged one, or another format.
    """
    if not (folder / CARD).is_file():
        raise UserError(f"{folder}: no finished reward head here ({CARD} is missing); {AGAIN}")
    return read_card(folder / CARD, "a reward head's card", FORMAT, CARD_KEYS, AGAIN)


def load_reward(folder: Path) -> RewardHead:
    """Load a saved reward head, in evaluation mode.

    Raises:
        UserError: none here, another format, or weights that do not match the card.
    """
    card, path = read_reward_card(folder), folder / WEIGHTS
    weights = read_weights(path, card["sha256"], CARD, "copy the whole folder")
    try:
        height, width = card["frame_hw"]
        head = RewardHead(parse(card["config"], RewardConfig, str(folder / CARD)), (height, width))
        head.load_state_dict(weights, strict=True)
    except UserError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{folder / CARD}: does not describe the weights beside it; delete it and {AGAIN}"
        ) from error
    return head.eval()
