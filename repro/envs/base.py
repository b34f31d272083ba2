"""What an environment is to the rest of the suite: spaces, time steps, and two kinds of vector environment.

Axis N counts environments: N = seeds x environments per seed, seed-major. Every environment restarts by itself: the
step after one with `is_last` ignores the action and returns the first observation of the next episode with
`is_first`, reward 0 (the convention of the Dreamer line and of ale-py's NextStep mode).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np


@dataclass(frozen=True)
class Space:
    """Shape, dtype and range of one observation or action key (without the axis N).

    `classes` is set for integer-coded categorical values (shape `()` or more): values 0 ... classes-1.
    Continuous actions are always in [-1, 1]; adapters rescale to the bounds of the environment.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    classes: int | None = None

    @property
    def discrete(self) -> bool:
        """True for categorical values."""
        return self.classes is not None

    @property
    def image(self) -> bool:
        """True for `[height, width, channels]` uint8 images."""
        return self.dtype == "uint8" and len(self.shape) == 3


Spaces = Mapping[str, Space]


class TimeStep(NamedTuple):
    """One moment in N environments. Truncation is `is_last` without `is_terminal` (it bootstraps)."""

    obs: dict[str, Any]
    """Key -> `[N, *shape]`."""
    reward: Any
    """float32 `[N]`, the reward that came with this observation; 0 where `is_first`."""
    is_first: Any
    """bool `[N]`."""
    is_last: Any
    """bool `[N]`."""
    is_terminal: Any
    """bool `[N]`."""


Actions = dict[str, Any]
"""Key -> `[N, *shape]`; int32 for discrete keys, float32 in [-1, 1] otherwise."""


class EnvironmentInfo(NamedTuple):
    """For the run record: what defined the environment."""

    package_versions: dict[str, str]
    settings: dict[str, Any]


class HostEnv(Protocol):
    """N environments stepped by the host (C++ or Python); arrays are NumPy."""

    num_envs: int
    obs_spaces: Spaces
    action_spaces: Spaces

    def reset(self) -> TimeStep:
        """Starts all episodes anew from the environments' seeds."""
        ...

    def step(self, actions: Actions) -> TimeStep:
        """One agent step of every environment."""
        ...

    def state(self) -> dict[str, np.ndarray]:
        """What `restore` needs to continue exactly (arrays only, so that it can be checkpointed)."""
        ...

    def restore(self, state: Mapping[str, np.ndarray]) -> TimeStep:
        """Continues from `state` in a freshly made environment; returns the time step that was current."""
        ...

    def close(self) -> None:
        """Frees emulators, simulators and renderers."""
        ...

    def info(self) -> EnvironmentInfo:
        """Package versions and settings."""
        ...


class JaxEnv(Protocol):
    """N environments stepped inside `jit`: functions over an opaque state pytree.

    Pure-JAX states are plain arrays with leading axis N. The state of an emulator behind an XLA handle holds a pointer:
    it must be threaded through like any state, never be copied or go under `vmap`, and a checkpoint must hold
    `save(state)` in its place.
    """

    num_envs: int
    obs_spaces: Spaces
    action_spaces: Spaces

    def init(self) -> tuple[Any, TimeStep]:
        """State and first time step from the environments' seeds."""
        ...

    def step(self, state: Any, actions: Actions) -> tuple[Any, TimeStep]:
        """One agent step of every environment."""
        ...

    def save(self, state: Any) -> Any:
        """What `load` needs to continue exactly: a pytree of arrays, without pointers. Not for use inside `jit`."""
        ...

    def load(self, saved: Any) -> Any:
        """The state again, in this or a freshly made environment. Not for use inside `jit`."""
        ...

    def close(self) -> None:
        """Frees emulators, simulators and renderers."""
        ...

    def info(self) -> EnvironmentInfo:
        """Package versions and settings."""
        ...


def actions_like(spaces: Spaces, num_envs: int) -> dict[str, np.ndarray]:
    """Zero actions `[N, *shape]` for every key."""
    return {k: np.zeros((num_envs, *s.shape), s.dtype) for k, s in spaces.items()}
