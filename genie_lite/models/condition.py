"""What tells a world where to go: latent actions of the video, or true actions where they are known.

    codes      every transition by its latent action, which the video itself tells                (the default)
    actions    a transition with a label by its true action, any other by one learnt vector "missing"

With `actions` a few labelled transitions teach what an action does and all the other video teaches how the world
goes on. So that the missing vector also stays right where actions are known, a share `missing` of the labelled
transitions is shown without its label, too.

With `with_codes` an unlabelled transition keeps its latent action, added to the missing vector. Then the video without
labels teaches what is steerable as well; but what is steered by codes need not be what is steered by actions, and
nothing makes the two agree. It is there to be compared; see docs/decisions/0009.

All of it is one table of vectors, of which every transition takes a row:

    0 … num_actions - 1      the actions, which are the codes of such a world
    num_actions              missing; with codes, num_actions + code

Source: mixed labels with a learnt embedding for no action: Dreamer 4, arXiv:2509.24527, section 3.2.
Differs: tokens are sampled by MaskGIT, actions are choices, hidden labels, and codes for the unlabelled if asked for.
"""

from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from genie_lite.config import Config

UNKNOWN = -1  # of a transition without a label


class CodesCondition(Config):
    """Latent actions."""

    kind: Literal["codes"] = "codes"


class ActionsCondition(Config):
    """True actions, where they are known."""

    kind: Literal["actions"] = "actions"
    missing: float = Field(default=0.1, ge=0, lt=1)  # share of labelled transitions shown without their label
    with_codes: bool = False  # the others keep their latent action


ConditionConfig = Annotated[CodesCondition | ActionsCondition, Field(discriminator="kind")]


class ActionTable(nn.Module):
    """One vector per action, and one for none."""

    def __init__(self, config: ActionsCondition, num_actions: int, code_dim: int) -> None:
        super().__init__()
        self.num_actions, self.with_codes, self.missing_share = num_actions, config.with_codes, config.missing
        self.action = nn.Embedding(num_actions, code_dim)
        self.missing = nn.Parameter(0.02 * torch.randn(code_dim))

    def vectors(self, code_vectors: Float[Tensor, "codes d"]) -> Float[Tensor, "rows d"]:
        """The table, given those of the latent actions."""
        none = self.missing + code_vectors if self.with_codes else self.missing[None]
        return torch.cat([self.action.weight, none])

    def rows(
        self, codes: Int[Tensor, "b k"], actions: Int[Tensor, "b k"] | None = None
    ) -> Int[Tensor, "b k"]:
        """Which row each transition takes; UNKNOWN, or no actions at all, takes none's."""
        none = self.num_actions + (codes if self.with_codes else torch.zeros_like(codes))
        return none if actions is None else torch.where(actions == UNKNOWN, none, actions)

    def hide(
        self, actions: Int[Tensor, "b k"], generator: torch.Generator, share: tuple[int, int] = (0, 1)
    ) -> Int[Tensor, "b k"]:
        """Forget some of the labels, drawn for the whole batch of which these are every `share[1]`-th."""
        first, every = share
        b, k = actions.shape
        is_hidden = torch.rand(b * every, k, generator=generator)[first::every] < self.missing_share
        return actions.masked_fill(is_hidden.to(actions.device), UNKNOWN)
