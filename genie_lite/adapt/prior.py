"""Which code a picture leads one to expect, whatever is done there: learnt from all video, without any label.

    frame ──the policy's network──▶ p(code | frame)

An action leads to one code where the way is free and to another before a wall, and a table of codes by action
(`reverse.py`) can only say the commoner one. The picture knows which of them it can be. Both together, the action
being told by the code alone, whatever the picture shows:

    p(code | frame, action) ∝ p(code | frame) · p(code | action) / p(code)

The first factor takes no labels, so it is learnt from every transition of the training split; the other two take the
few labels that there are. Maze, seed 0, held-out episodes: the code is the right one in 45 % by the table of 200
labels, in 47 % by one of all labels, in 92 % with the picture (`docs/gymnasium.md`).

    prior/policy.safetensors, policy.json     see `policy.py`; an "action" of this network is a code

Source: a policy over latent actions as in LAPA (arXiv:2410.11758, section 3.2), used as a prior in Bayes' rule. Differs
from Genie (arXiv:2402.15391, section 3.3), whose users map an action to one code wherever they are.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from genie_lite.adapt.footage import Footage
from genie_lite.adapt.policy import (
    Policy,
    PolicyConfig,
    fit_policy,
    load_policy,
    read_policy_card,
    save_policy,
)
from genie_lite.adapt.setting import Setting
from genie_lite.adapt.supervised import ActionSpace, Examples

FOLDER = "prior"
MOST_CODES = 4096  # of a larger alphabet most codes are seen too seldom to expect them anywhere


def fit_prior(
    footage: Footage,
    rows: np.ndarray,
    code: Int[Tensor, " rows"],
    num_codes: int,
    config: PolicyConfig,
    setting: Setting,
) -> Policy:
    """Learn which code follows a frame.

    Args:
        footage: frames.
        rows: of the footage, at which transitions begin.
        code: of each of them.
        num_codes: of the alphabet, at most `MOST_CODES`.
        config: sizes and steps of the network.
        setting: seed, device, and whom to tell.
    """
    assert num_codes <= MOST_CODES
    codes = ActionSpace("discrete", tuple(str(each) for each in range(num_codes)))
    return fit_policy(footage, Examples(rows, F.one_hot(code, num_codes).float()), codes, config, setting)


@torch.no_grad()
def expect(prior: Policy, frames: Float[Tensor, "b c h w"]) -> Float[Tensor, "b num_codes"]:
    """How likely each code is to follow each frame; sums to 1.

    One row at a time: what a picture leads one to expect must not depend, by its rounding, on who else plays.
    """
    return torch.cat([prior.answer(frame[None, None]) for frame in frames])


def save_prior(folder: Path, prior: Policy, about: Mapping[str, object]) -> None:
    """Write it below the folder of `adapt`, with what it was learnt from."""
    save_policy(folder / FOLDER, prior, about)


def load_prior(folder: Path, lam_sha: str) -> Policy | None:
    """The prior over the codes of a latent action model; None where there is none, or one of another model.

    Raises:
        UserError: it is damaged.
    """
    about = prior_about(folder)
    is_ours = about is not None and about.get("lam") == lam_sha
    return load_policy(folder / FOLDER) if is_ours else None


def prior_about(folder: Path) -> Mapping[str, object] | None:
    """What the prior below a folder was learnt from; None where there is none."""
    if not (folder / FOLDER / "policy.json").is_file():
        return None
    return read_policy_card(folder / FOLDER)["about"]
