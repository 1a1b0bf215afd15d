"""Policy: the last few frames in, an action out. Trained by cloning (behaviour cloning, BC).

    frames (last `context`) ──patch──▶ merge 2x2 patches ──▶ blocks ──mean──▶ logits or mean action

The frames are stacked along their channels, so motion is visible inside a patch and the network mixes one
picture's patches only. Small patches are merged before the first attention: pixels of a patch are looked
at closely, while attention, whose cost a CPU feels most, works on a quarter of the rows.

Every arm of the comparison uses this network. Those that clone a whole video take the same number of updates;
the one that has the few labels alone stops where held-out ones say so (`supervised.fit`).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from genie_lite.adapt.footage import Footage
from genie_lite.adapt.setting import Setting
from genie_lite.adapt.supervised import ActionReader, ActionSpace, Examples, FitConfig, fit
from genie_lite.artifact import read_weights, write_weights
from genie_lite.card import read_card
from genie_lite.config import parse
from genie_lite.data.loading.loader import to_frames
from genie_lite.errors import UserError
from genie_lite.files import write_json
from genie_lite.nn.attention import Attention, check_heads
from genie_lite.nn.patch import grid_of, patchify

FORMAT = 1
CARD_KEYS = {"actions": dict, "frame_hw": list, "config": dict, "sha256": str, "about": dict}
NORMALISER = ("pixel_mean", "pixel_std", "action_mean", "action_std")

# frames (uint8 `b t h w c`, the newest last) and a generator -> actions (int64 `b`)
PolicyFn = Callable[[np.ndarray, torch.Generator], np.ndarray]


class PolicyConfig(FitConfig):
    """Shape and training of a policy."""

    patch: int = Field(default=8, ge=1)  # pixels
    merge: int = Field(default=2, ge=1)  # patches down and across that become one row; 1 keeps every patch
    width: int = Field(default=128, ge=1)  # a multiple of twice the heads
    depth: int = Field(default=3, ge=1)
    heads: int = Field(default=4, ge=1)

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "PolicyConfig":
        check_heads(self.width, self.heads)
        return self

    def check_frame(self, frame_hw: tuple[int, int]) -> None:
        """See whether such frames can be cut into merged patches.

        Raises:
            UserError: they cannot.
        """
        side = self.patch * self.merge
        if frame_hw[0] % side or frame_hw[1] % side:
            raise UserError(
                f"adapt.policy: patch {self.patch} times merge {self.merge} is {side} pixels, which do not tile "
                f"frames of {frame_hw[0]}x{frame_hw[1]}; choose a patch and a merge whose product divides both"
            )


class _Block(nn.Module):
    """Attention between the rows of one picture, then an MLP, each on a normalised residual branch."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_space = nn.LayerNorm(width, bias=False)
        self.space = Attention(width, heads)
        self.norm_mlp = nn.LayerNorm(width, bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, rows: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        rows = rows + self.space(self.norm_space(rows))[0]
        return rows + self.mlp(self.norm_mlp(rows))


class Policy(ActionReader):
    """Frames to the logits of the actions, or to the normalised mean action; `answer` gives real ones."""

    pixel_mean: Float[Tensor, " c"]
    pixel_std: Float[Tensor, " c"]

    def __init__(self, config: PolicyConfig, frame_hw: tuple[int, int], actions: ActionSpace) -> None:
        super().__init__(actions)
        self.config, self.frame_hw = config, frame_hw
        self.grid_hw = grid_of(frame_hw, config.patch * config.merge)
        self.embed = nn.Linear(3 * config.context * config.patch**2, config.width)
        self.merge = nn.Linear(config.merge**2 * config.width, config.width)
        self.place = nn.Parameter(0.02 * torch.randn(self.grid_hw[0] * self.grid_hw[1], config.width))
        self.blocks = nn.ModuleList(_Block(config.width, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, bias=False)
        self.head = nn.Linear(config.width, len(actions.names))
        self.register_buffer("pixel_mean", torch.full((3,), 0.5))
        self.register_buffer("pixel_std", torch.full((3,), 0.25))

    def forward(self, frames: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b a"]:
        """Frames in [0, 1], t = context, oldest first."""
        frames = (frames - self.pixel_mean[:, None, None]) / self.pixel_std[:, None, None]
        patches = patchify(rearrange(frames, "b t c h w -> b 1 (t c) h w"), self.config.patch)[:, 0]
        rows = rearrange(
            F.gelu(self.embed(patches)),
            "b (y p x q) d -> b (y x) (p q d)",
            p=self.config.merge,
            q=self.config.merge,
            y=self.grid_hw[0],
            x=self.grid_hw[1],
        )
        rows = self.merge(rows).float() + self.place
        for block in self.blocks:
            rows = block(rows)
        return self.head(self.norm(rows).mean(dim=1)).float()


def fit_policy(
    footage: Footage, examples: Examples, actions: ActionSpace, config: PolicyConfig, setting: Setting
) -> Policy:
    """Clone: at each row's frame, do what the examples say. See `supervised.fit`."""
    rows = examples.rows
    some = footage.frames[rows[:: max(1, len(rows) // 1000)]].astype(np.float32) / 255

    def build() -> Policy:
        policy = Policy(config, footage.frame_hw, actions)
        policy.pixel_mean.copy_(torch.from_numpy(some.mean(axis=(0, 1, 2))))
        policy.pixel_std.copy_(torch.from_numpy(some.std(axis=(0, 1, 2))).clamp_min(0.02))
        return policy

    return fit(build, lambda chosen: footage.ending_at(chosen, config.context), examples, config, setting)


def policy_fn(policy: Policy, temperature: float = 1.0) -> PolicyFn:
    """A discrete policy at play: draws an action, sharpened by the temperature (0: the likeliest).

    Where an episode is still shorter than the policy's context, its first frame is repeated, as in training.
    """
    context = policy.config.context

    def choose(frames: np.ndarray, generator: torch.Generator) -> np.ndarray:
        missing = max(0, context - frames.shape[1])
        seen = np.concatenate([np.repeat(frames[:, :1], missing, axis=1), frames[:, -context:]], axis=1)
        probability = policy.answer(to_frames(seen)).cpu()
        if temperature == 0:
            return probability.argmax(dim=1).numpy()
        sharpened = probability.clamp_min(1e-9).log().div(temperature).softmax(dim=1)
        return torch.multinomial(sharpened, 1, generator=generator)[:, 0].numpy()

    return choose


def random_fn(num_actions: int) -> PolicyFn:
    """Every action equally often."""
    return lambda frames, generator: torch.randint(num_actions, (len(frames),), generator=generator).numpy()


def fixed_fn(action: int) -> PolicyFn:
    """Always the same action: what can be reached without looking."""
    return lambda frames, generator: np.full(len(frames), action, dtype=np.int64)


def save_policy(folder: Path, policy: Policy, about: Mapping[str, Any]) -> None:
    """Write `policy.safetensors` (with the normalisers), then `policy.json`, whose presence means finished.

    Args:
        folder: made if needed.
        policy: what to save.
        about: plain data to keep beside it, such as the hashes of what it was learnt from.
    """
    sha256 = write_weights(folder / "policy.safetensors", policy)
    card = {
        "format": FORMAT,
        "actions": {"kind": policy.actions.kind, "names": list(policy.actions.names)},
        "frame_hw": list(policy.frame_hw),
        "context": policy.config.context,
        "normaliser": {name: getattr(policy, name).tolist() for name in NORMALISER},
        "config": policy.config.model_dump(),
        "sha256": sha256,
        "about": dict(about),
    }
    write_json(folder / "policy.json", card)


def read_policy_card(folder: Path) -> dict[str, Any]:
    """What is known of a saved policy.

    Raises:
        UserError: no finished policy, a damaged one, or another format.
    """
    path = folder / "policy.json"
    if not path.is_file():
        raise UserError(f"{folder}: no finished policy here (policy.json is missing); run adapt")
    return read_card(path, "a policy's card", FORMAT, CARD_KEYS, "run adapt again")


def load_policy(folder: Path) -> Policy:
    """Load a saved policy, in evaluation mode.

    Raises:
        UserError: no finished policy, another format, or weights that do not match the card.
    """
    card, path = read_policy_card(folder), folder / "policy.safetensors"
    weights = read_weights(path, card["sha256"], "policy.json", "copy the whole folder")
    try:
        policy = _policy_of(card, str(folder / "policy.json"))
        policy.load_state_dict(weights, strict=True)
    except UserError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{folder / 'policy.json'}: does not describe the weights beside it; delete it and run adapt again"
        ) from error
    return policy.eval()


def _policy_of(card: Mapping[str, Any], where: str) -> Policy:
    """A policy of the shape that a card tells, without its weights."""
    actions = ActionSpace(card["actions"]["kind"], tuple(card["actions"]["names"]))
    height, width = card["frame_hw"]
    return Policy(parse(card["config"], PolicyConfig, where), (height, width), actions)
