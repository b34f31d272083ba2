"""Catch: a ball falls down a grid, a paddle in the last row must meet it (Mnih et al. 2014; bsuite has it too).

Small and pure JAX: for tests and for the fused path. Reward +1 or -1 when the ball reaches the last row, which ends
the episode; every episode takes `rows - 1` steps.
"""

from dataclasses import asdict
from typing import NamedTuple

import jax
import jax.numpy as jnp

from repro.envs.base import Actions, EnvironmentInfo, Space
from repro.envs.jax_env import enlarge
from repro.envs.settings import EnvSettings


class CatchState(NamedTuple):
    """Positions: the ball's row and column, the paddle's column."""

    row: jax.Array
    column: jax.Array
    paddle: jax.Array


class Catch:
    """Observations: `image` (ball white, paddle green) and/or `vector` (the three positions in [-1, 1])."""

    def __init__(self, task: str, settings: EnvSettings) -> None:
        self._settings = settings
        self._rows, self._columns = settings.grid
        self.time_limit = settings.time_limit
        self.terminal_on_limit = settings.terminal_on_limit
        self.action_spaces = {"action": Space((), "int32", classes=3)}
        self.obs_spaces: dict[str, Space] = {}
        if settings.pixels:
            self.obs_spaces["image"] = Space((*settings.size, 1 if settings.gray else 3), "uint8")
        if settings.proprio:
            self.obs_spaces["vector"] = Space((3,))

    def reset(self, key: jax.Array) -> tuple[CatchState, dict[str, jax.Array]]:
        """Ball in a random column of the first row, paddle in the middle."""
        column = jax.random.randint(key, (), 0, self._columns)
        state = CatchState(jnp.int32(0), column, jnp.int32(self._columns // 2))
        return state, self._observe(state)

    def step(
        self, key: jax.Array, state: CatchState, action: Actions
    ) -> tuple[CatchState, dict[str, jax.Array], jax.Array, jax.Array]:
        """Actions 0, 1, 2 move the paddle left, not at all, right; then the ball falls by one row."""
        paddle = jnp.clip(state.paddle + action["action"] - 1, 0, self._columns - 1)
        state = CatchState(state.row + 1, state.column, paddle)
        terminal = state.row == self._rows - 1
        reward = jnp.where(terminal, jnp.where(state.column == paddle, 1.0, -1.0), 0.0)
        return state, self._observe(state), reward, terminal

    def info(self) -> EnvironmentInfo:
        """No package beyond this one."""
        return EnvironmentInfo({}, asdict(self._settings))

    def _observe(self, state: CatchState) -> dict[str, jax.Array]:
        obs = {}
        if self._settings.pixels:
            grid = jnp.zeros((self._rows, self._columns, 3), jnp.uint8)
            grid = grid.at[self._rows - 1, state.paddle, 1].set(127)
            grid = grid.at[state.row, state.column].set(255)
            grid = grid[..., 1:2] if self._settings.gray else grid
            obs["image"] = enlarge(grid, self._settings.size)
        if self._settings.proprio:
            position = jnp.stack([state.row, state.column, state.paddle]).astype(jnp.float32)
            span = jnp.array([self._rows - 1, max(1, self._columns - 1), max(1, self._columns - 1)], jnp.float32)
            obs["vector"] = 2.0 * position / span - 1.0
        return obs
