"""Who plays when nobody does: the policies that were made of a run's labels, and chance.

    driver(frames, generator) -> action          in the terms of the run's controls

A policy is loaded when it first drives, or before by `load`, where driving must not take long.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from genie_lite.adapt.adapt import arm_folder, read_adapted
from genie_lite.adapt.policy import PolicyFn, load_policy, policy_fn, random_fn, read_policy_card
from genie_lite.data.loading.clip import to_frames
from genie_lite.errors import UserError
from genie_lite.evaluation import POLICY_ARMS

RANDOM = "random"


@dataclass(frozen=True)
class Driver:
    """Chooses actions from frames. Safe from several threads.

    name: as it is shown. context: frames that it looks at; more are not needed, and where there are fewer the first
    one is repeated. choose: what it does.
    """

    name: str
    context: int
    choose: PolicyFn

    def __call__(
        self, frames: UInt8[np.ndarray, "b t h w c"], generator: torch.Generator
    ) -> Int[np.ndarray, " b"] | Float[np.ndarray, "b a"]:
        """The action of each stream, from its last frames, the newest last: a choice, or a vector in its own units."""
        missing = max(0, self.context - frames.shape[1])
        seen = np.concatenate([np.repeat(frames[:, :1], missing, axis=1), frames[:, -self.context :]], axis=1)
        with _told(self.name):
            return self.choose(seen, generator)

    def load(self) -> None:
        """Be ready to drive. Raises UserError: the policy cannot be loaded."""
        if isinstance(self.choose, _Later):
            with _told(self.name):
                self.choose.load()


def chance(num_choices: int) -> Driver:
    """Every choice equally often, whatever there is to be seen."""
    return Driver(RANDOM, 1, random_fn(num_choices))


def drivers_of(
    adapted: Path, names: tuple[str, ...], frame_hw: tuple[int, int], temperature: float
) -> dict[str, Driver]:
    """The policies of a run whose actions are these, under the names of its report.

    Args:
        adapted: folder of `adapt`; nothing is driven where it is not finished.
        names: of the run's choices, or of the components of its actions.
        frame_hw: of the world's frames. A policy for others, made before the run changed, is left out.
        temperature: of policies that choose; 0 takes the likeliest.

    Raises:
        UserError: a damaged folder.
    """
    if not (adapted / "adapt.json").is_file():
        return {}
    finished = read_adapted(adapted).summary["arms"]
    drivers = [
        _driver(shown, arm_folder(adapted, arm), names, frame_hw, temperature)
        for arm, shown in POLICY_ARMS.items()
        if arm in finished
    ]
    return {driver.name: driver for driver in drivers if driver is not None}


def _driver(
    name: str, folder: Path, names: tuple[str, ...], frame_hw: tuple[int, int], temperature: float
) -> Driver | None:
    if not (folder / "policy.json").is_file():
        return None
    card = read_policy_card(folder)
    if tuple(card["actions"]["names"]) != names or tuple(card["frame_hw"]) != frame_hw:
        return None
    load = _continuous_fn if card["actions"]["kind"] == "continuous" else _discrete_fn
    return Driver(name, int(card["config"]["context"]), _Later(lambda: load(folder, temperature)))


def _discrete_fn(folder: Path, temperature: float) -> PolicyFn:
    return policy_fn(load_policy(folder), temperature)


def _continuous_fn(folder: Path, _: float) -> PolicyFn:
    """A robot's policy says one action and draws nothing."""
    policy = load_policy(folder)
    return lambda frames, generator: policy.answer(to_frames(frames)).cpu().numpy()


class _Later:
    """A function that is made when it is first called."""

    def __init__(self, make: Callable[[], PolicyFn]) -> None:
        self._make, self._made, self._lock = make, None, threading.Lock()

    def __call__(self, frames: np.ndarray, generator: torch.Generator) -> np.ndarray:
        return self.load()(frames, generator)

    def load(self) -> PolicyFn:
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Whatever goes wrong in a policy is told in a line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"driver: '{name}' cannot drive ({said}); choose another one") from error
