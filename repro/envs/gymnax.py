"""Classic control, small bsuite games and MinAtar in JAX, from the package `gymnax`; Craftax (same interface)."""

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


def gymnax_env(task: str, settings: EnvSettings) -> "GymnaxEnv":
    """An environment of the package `gymnax`."""
    gymnax: Any = packages.require("gymnax", "gymnax", "pip install -e .[jaxenvs]")
    env, params = gymnax.make(task)
    return GymnaxEnv(env, params, "max_steps_in_episode", settings)


def craftax_env(task: str, settings: EnvSettings) -> "GymnaxEnv":
    """Craftax-Classic (Matthews et al. 2024): a reimplementation of Crafter in JAX; its scores are not Crafter's."""
    craftax: Any = packages.require("craftax.craftax_env", "craftax", "pip install -e .[jaxenvs]")
    name = {"classic_pixels": "Craftax-Classic-Pixels-v1", "classic_symbolic": "Craftax-Classic-Symbolic-v1"}[task]
    env = craftax.make_craftax_env_from_name(name, auto_reset=False)
    return GymnaxEnv(env, env.default_params, "max_timesteps", settings)


class GymnaxEnv:
    """One environment; images and grids give `image` and/or `vector` (flattened), others `vector`.

    Images are uint8, 0 ... 255 for the package's 0 ... 1. The package reports its step limit as an ordinary end; here
    it is a truncation.
    """

    def __init__(self, env: Any, params: Any, limit: str, settings: EnvSettings) -> None:
        """`limit` names the field of `params` that holds the step limit."""
        self._settings = settings
        self._env = env
        self.time_limit = settings.time_limit or int(getattr(params, limit))
        self.terminal_on_limit = settings.terminal_on_limit
        self._params = params.replace(**{limit: NEVER})
        actions = env.action_space(self._params)
        self._bounds = None
        if hasattr(actions, "n"):
            self.action_spaces = {"action": Space((), "int32", classes=int(actions.n))}
        else:
            self._bounds = np.asarray(actions.low, np.float32), np.asarray(actions.high, np.float32)
            self.action_spaces = {"action": Space(tuple(actions.shape), "float32")}
        raw = jax.eval_shape(env.reset_env, jax.random.key(0), self._params)[0]
        grid = len(raw.shape) == 3
        self.obs_spaces: dict[str, Space] = {}
        if grid and settings.pixels:
            self.obs_spaces["image"] = Space((*settings.size, raw.shape[-1]), "uint8")
        if not grid or settings.proprio:
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
        return EnvironmentInfo(packages.versions("gymnax", "craftax", "jax"), asdict(self._settings))

    def _observe(self, raw: jax.Array) -> dict[str, jax.Array]:
        obs = {}
        if "image" in self.obs_spaces:
            obs["image"] = enlarge(jnp.round(raw * 255.0).astype(jnp.uint8), self._settings.size)
        if "vector" in self.obs_spaces:
            obs["vector"] = raw.reshape(-1).astype(jnp.float32)
        return obs
