"""What Gymnasium is told: the name of the environment, and where its two forms are.

Nothing else is imported here: Gymnasium, or a program that only lists environments, should not wait for torch.
"""

from gymnasium.envs.registration import register, registry

ENV_ID = "genie_lite/World-v0"


def register_envs() -> None:
    """Make `genie_lite/World-v0` known to `gymnasium.make` and `gymnasium.make_vec`; nothing happens if it is."""
    if ENV_ID in registry:
        return
    register(
        id=ENV_ID,
        entry_point="genie_lite.rl.world_env:WorldEnv",
        vector_entry_point="genie_lite.rl.vector_env:WorldVectorEnv",
    )
