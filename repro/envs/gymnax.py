"""Classic control, small bsuite games and MinAtar in JAX, through the package `gymnax`."""

from dataclasses import asdict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from repro.envs import packages
from repro.envs.base import Actions, EnvironmentInfo, Space
from repro.envs.jax_env import enlarge
from repro.envs.settings import EnvSettings

NEVER = 2**30
"""An episode limit that is not reached."""


class GymnaxEnv:
    """One environment; grids (MinAtar) give `image` (channels 0/255) and/or `vector` (flattened), others `vector`.

    The package reports its step limit as an ordinary end; here it is a truncation.
    """

    def __init__(self, task: str, settings: EnvSettings) -> None:
        gymnax: Any = packages.require("gymnax", "gymnax", "pip install -e .[jaxenvs]")
        self._settings = settings
        self._env, self._params = gymnax.make(task)
        self.time_limit = settings.time_limit or int(self._params.max_steps_in_episode)
        self.terminal_on_limit = settings.terminal_on_limit
        self._params = self._params.replace(max_steps_in_episode=NEVER)
        actions = self._env.action_space(self._params)
        self._bounds = None
        if hasattr(actions, "n"):
            self.action_spaces = {"action": Space((), "int32", classes=int(actions.n))}
        else:
            self._bounds = np.asarray(actions.low, np.float32), np.asarray(actions.high, np.float32)
            self.action_spaces = {"action": Space(tuple(actions.shape), "float32")}
        raw = jax.eval_shape(self._env.reset_env, jax.random.key(0), self._params)[0]
        self._grid = len(raw.shape) == 3
        self.obs_spaces: dict[str, Space] = {}
        if self._grid and settings.pixels:
            self.obs_spaces["image"] = Space((*settings.size, raw.shape[-1]), "uint8")
        if not self._grid or settings.proprio:
            self.obs_spaces["vector"] = Space((int(np.prod(raw.shape)),))

    def reset(self, key: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
        """State and first observation of an episode."""
        raw, state = self._env.reset_env(key, self._params)
        return state, self._observe(raw)

    def step(
        self, key: jax.Array, state: Any, action: Actions
    ) -> tuple[Any, dict[str, jax.Array], jax.Array, jax.Array]:
        """Next state, observation, reward, is_terminal; continuous actions are clipped and rescaled from [-1, 1]."""
        inner = action["action"]
        if self._bounds is not None:
            low, high = self._bounds
            inner = low + (jnp.clip(inner, -1.0, 1.0) + 1.0) / 2.0 * (high - low)
        raw, state, reward, done, _ = self._env.step_env(key, state, inner, self._params)
        return state, self._observe(raw), reward, jnp.asarray(done, bool)

    def info(self) -> EnvironmentInfo:
        """Package versions and settings, for the run record."""
        return EnvironmentInfo(packages.versions("gymnax", "jax"), asdict(self._settings))

    def _observe(self, raw: jax.Array) -> dict[str, jax.Array]:
        obs = {}
        if "image" in self.obs_spaces:
            obs["image"] = enlarge((raw * 255).astype(jnp.uint8), self._settings.size)
        if "vector" in self.obs_spaces:
            obs["vector"] = raw.reshape(-1).astype(jnp.float32)
        return obs
