"""A world for stable-baselines3, which has vector environments of its own kind.

envs = gymnasium.make_vec("genie_lite/World-v0", num_envs=16, run=…, autoreset_mode="SameStep")
PPO("CnnPolicy", WorldVecEnv(envs)).learn(100_000)
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy import ndarray

from genie_lite.errors import UserError
from genie_lite.rl.vector_env import WorldVectorEnv
from genie_lite.rl.world_env import OPTIONS, check_options

try:
    from stable_baselines3.common.vec_env import VecEnv
except ImportError as error:
    raise UserError("stable-baselines3 is missing; pip install stable-baselines3") from error


class WorldVecEnv(VecEnv):
    """The streams of a vector environment, each an environment to stable-baselines3."""

    def __init__(self, envs: WorldVectorEnv) -> None:
        """Wrap streams.

        Raises:
            UserError: streams that do not begin anew within a step, as stable-baselines3 expects it.
        """
        if envs.metadata["autoreset_mode"] != AutoresetMode.SAME_STEP:
            raise UserError(
                f"autoreset_mode: found {envs.metadata['autoreset_mode'].value}, stable-baselines3 expects "
                f"{AutoresetMode.SAME_STEP.value}; give it to make_vec"
            )
        self.envs = envs
        self._actions: ndarray = np.zeros(0)
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    def reset(self) -> ndarray:
        """Begin an episode in every stream, with the seeds and options that were set.

        Raises:
            UserError: an option that a single environment does not have.
        """
        starts = [check_options(options, OPTIONS).get("start") for options in self._options]
        frames, infos = self.envs.reset(seed=self._seeds, options={"start": starts})
        self.reset_infos = _split(infos, self.num_envs)
        self._reset_seeds()
        self._reset_options()
        return frames

    def step_async(self, actions: ndarray) -> None:
        """Keep the actions until `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[ndarray, ndarray, ndarray, list[dict[str, Any]]]:
        """Step all streams; an episode's last frame is in its info as `terminal_observation`."""
        frames, rewards, terminated, truncated, infos = self.envs.step(self._actions)
        over = terminated | truncated
        each = _split(infos, self.num_envs)
        for stream in np.flatnonzero(over):
            each[stream]["terminal_observation"] = each[stream].pop("final_obs")
            each[stream]["TimeLimit.truncated"] = bool(truncated[stream] and not terminated[stream])
        return frames, rewards.astype(np.float32), over, each

    def close(self) -> None:
        """Close the streams."""
        self.envs.close()

    def get_images(self) -> Sequence[ndarray | None]:
        """The newest frame of every stream."""
        return self.envs.render() or [None] * self.num_envs

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of the vector environment, for each of some streams."""
        return [getattr(self.envs, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refused: streams have nothing of their own to be set."""
        raise UserError(f"set_attr: the streams of a world share {attr_name!r}; make the environment with it")

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """Refused: streams have no methods of their own."""
        raise UserError(
            f"env_method: the streams of a world have no {method_name!r} of their own; call that of .envs"
        )

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """None is: streams cannot be wrapped one by one."""
        return [False for _ in self._get_indices(indices)]


def _split(infos: dict[str, Any], num: int) -> list[dict[str, Any]]:
    """One dictionary per stream, of what it has."""
    names = [name for name in infos if not name.startswith("_")]
    return [
        {name: infos[name][stream] for name in names if name != "final_info" and infos[f"_{name}"][stream]}
        for stream in range(num)
    ]
