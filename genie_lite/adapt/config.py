"""What `adapt` needs to know, for games and robots alike."""

from pydantic import Field

from genie_lite.adapt.idm import IDMConfig
from genie_lite.adapt.mapping import MappingConfig
from genie_lite.adapt.policy import PolicyConfig
from genie_lite.config import Config


class AdaptConfig(Config):
    """From few labels to actions. Exactly one of the two budgets counts: episodes, where they are given."""

    labels_budget: int = Field(default=200, ge=2)  # labelled transitions: whole episodes, the last one cut
    labels_episodes: int | None = Field(default=None, ge=1)  # whole labelled episodes instead
    demonstrations: str = "*"  # glob over source names: the video whose behaviour is imitated, and labelled
    mapping: MappingConfig = MappingConfig()
    idm: IDMConfig = IDMConfig()
    policy: PolicyConfig = PolicyConfig()
    prior_steps: int = Field(default=400, ge=0)  # of the network that expects codes, see `prior.py`; 0: none
    temperature: float = Field(default=1.0, ge=0)  # of the policy at play; 0 takes the likeliest action
