"""Pure-JAX environments: N copies of a single one in one program, and a JaxEnv driven from the host."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from repro.envs.base import Actions, EnvironmentInfo, JaxEnv, Spaces, TimeStep


class SingleJaxEnv(Protocol):
    """One environment as two pure functions; it does not restart by itself."""

    obs_spaces: Spaces
    action_spaces: Spaces
    time_limit: int | None
    terminal_on_limit: bool

    def reset(self, key: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
        """State and first observation of an episode."""
        ...

    def step(
        self, key: jax.Array, state: Any, action: Actions
    ) -> tuple[Any, dict[str, jax.Array], jax.Array, jax.Array]:
        """Next state, observation, reward, is_terminal."""
        ...

    def info(self) -> EnvironmentInfo:
        """Package versions and settings."""
        ...


class VectorState(NamedTuple):
    """State of N environments: plain arrays with leading axis N."""

    key: jax.Array
    """uint32 `[N, 2]`: key data of each environment's generator."""
    env: Any
    time: jax.Array
    """int32 `[N]`: steps of the running episode."""
    last: jax.Array
    """bool `[N]`: the next step begins an episode."""


class JaxVectorEnv:
    """`JaxEnv` over a `SingleJaxEnv`: environment i draws all its randomness from `seeds[i]`."""

    def __init__(self, single: SingleJaxEnv, seeds: Sequence[int]) -> None:
        self.num_envs = len(seeds)
        self.obs_spaces = single.obs_spaces
        self.action_spaces = single.action_spaces
        self._single = single
        self._seeds = np.asarray(seeds, np.uint32)

    def init(self) -> tuple[VectorState, TimeStep]:
        """State and first time step from the seeds."""
        keys = jax.vmap(jax.random.key)(self._seeds)
        keys, reset_keys = _split(keys, 2)
        env, obs = _strong(jax.vmap(self._single.reset)(reset_keys))
        false = jnp.zeros(self.num_envs, bool)
        state = VectorState(jax.random.key_data(keys), env, jnp.zeros(self.num_envs, jnp.int32), false)
        return state, TimeStep(obs, jnp.zeros(self.num_envs, jnp.float32), ~false, false, false)

    def step(self, state: VectorState, actions: Actions) -> tuple[VectorState, TimeStep]:
        """One step; environments that had ended begin their next episode instead."""
        keys, step_keys, reset_keys = _split(jax.random.wrap_key_data(state.key), 3)
        first = state.last
        env, obs, reward, terminal = _strong(jax.vmap(self._single.step)(step_keys, state.env, actions))

        def begin() -> tuple[Any, dict[str, jax.Array]]:
            fresh = _strong(jax.vmap(self._single.reset)(reset_keys))
            return jax.tree.map(lambda new, old: _where(first, new, old), fresh, (env, obs))

        # Not a select: resets can be dear (Craftax builds a world), and most steps end no episode.
        env, obs = jax.lax.cond(first.any(), begin, lambda: (env, obs))
        time = jnp.where(first, 0, state.time + 1)
        limit = jnp.zeros_like(first) if self._single.time_limit is None else time >= self._single.time_limit
        terminal = terminal | limit if self._single.terminal_on_limit else terminal
        terminal, last = terminal & ~first, (terminal | limit) & ~first
        reward = jnp.where(first, 0.0, reward.astype(jnp.float32))
        state = VectorState(jax.random.key_data(keys), env, time, last)
        return state, TimeStep(obs, reward, first, last, terminal)

    def save(self, state: VectorState) -> Any:
        """The state itself: plain arrays."""
        return state

    def load(self, saved: Any) -> VectorState:
        """Undoes `save`."""
        return jax.tree.map(jnp.asarray, saved)

    def close(self) -> None:
        """Nothing to free."""

    def info(self) -> EnvironmentInfo:
        """Package versions and settings, for the run record."""
        return self._single.info()


class HostFromJax:
    """Drives a `JaxEnv` step by step from the host, as a `HostEnv` (arrays are NumPy)."""

    def __init__(self, env: JaxEnv) -> None:
        self.num_envs = env.num_envs
        self.obs_spaces = env.obs_spaces
        self.action_spaces = env.action_spaces
        self._env = env
        self._init, self._step = jax.jit(env.init), jax.jit(env.step)
        self._state: Any = None
        self._timestep: Any = None

    def reset(self) -> TimeStep:
        """Starts all episodes anew from the environments' seeds."""
        self._state, self._timestep = self._init()
        return jax.device_get(self._timestep)

    def step(self, actions: Actions) -> TimeStep:
        """One step of every environment."""
        self._state, self._timestep = self._step(self._state, {k: jnp.asarray(v) for k, v in actions.items()})
        return jax.device_get(self._timestep)

    def state(self) -> dict[str, np.ndarray]:
        """Leaves of the state and of the current time step."""
        leaves = jax.tree.leaves((self._env.save(self._state), self._timestep))
        return {f"leaf.{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}

    def restore(self, state: Mapping[str, np.ndarray]) -> TimeStep:
        """Continues from `state`; returns the time step that was current."""
        if self._state is None:
            self.reset()
        like = (self._env.save(self._state), self._timestep)
        leaves = [jnp.asarray(state[f"leaf.{i}"]) for i in range(len(jax.tree.leaves(like)))]
        saved, self._timestep = jax.tree.unflatten(jax.tree.structure(like), leaves)
        self._state = self._env.load(saved)
        return jax.device_get(self._timestep)

    def close(self) -> None:
        """Frees the environment."""
        self._env.close()

    def info(self) -> EnvironmentInfo:
        """Package versions and settings, for the run record."""
        return self._env.info()


def enlarge(image: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Nearest-neighbour enlargement `[h, w, c] -> [*size, c]`."""
    rows = np.arange(size[0]) * image.shape[0] // size[0]
    columns = np.arange(size[1]) * image.shape[1] // size[1]
    return image[rows][:, columns]


def _split(keys: jax.Array, count: int) -> jax.Array:
    """Keys `[N]` -> `[count, N]`, each from its own key alone."""
    return jax.vmap(lambda key: jax.random.split(key, count), out_axes=1)(keys)


def _strong(tree: Any) -> Any:
    """Without weak types: packages start counters from Python numbers, and a program must fit its own output."""
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), tree)


def _where(mask: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    return jnp.where(mask.reshape(mask.shape + (1,) * (new.ndim - 1)), new, old)
