"""Atari inside `jit`: ale-py's XLA handle, for the fused driver (CPU and CUDA; `NextStep` restarts only).

The state holds the emulators' address, which must never reach a checkpoint: `save` keeps the actions since the start
in its place and `load` plays them again. The log has room for `LOG` agent steps; a longer run continues with new
episodes, and says so.
"""

import warnings
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from repro.envs import packages
from repro.envs.atari import reseed, vector_env
from repro.envs.base import Actions, EnvironmentInfo, Space, Spaces, TimeStep
from repro.envs.resize import bilinear_jit, luminance_jit
from repro.envs.settings import EnvSettings

LOG = 2**17
"""Agent steps that `save` can hold: more than Atari 100k takes; one byte a step and environment."""


def supports(settings: EnvSettings) -> bool:
    """Whether the handle can do this here.

    Resets cannot be masked inside `jit`, so games always need the library's own restart: no lower bound on no-ops,
    limits without them, one call per agent step. No JPEG, one device (the emulators live behind one pointer).
    """
    masked = settings.noop_min > 0 or settings.pool == "resized" or settings.limit_counts_noops
    return not masked and not settings.jpeg and jax.default_backend() in ("cpu", "gpu") and jax.device_count() == 1


class AtariState(NamedTuple):
    """The handle and what `AtariEnv` keeps between steps."""

    handle: jax.Array
    """uint8 `[8]`: a pointer."""
    over: jax.Array
    lost: jax.Array
    lives: jax.Array
    log: jax.Array
    """uint8 `[LOG, N]`: actions since `init`."""
    steps: jax.Array
    """int32: agent steps since `init`."""


class AtariJaxEnv:
    """`JaxEnv` of one game; step by step equal to `AtariEnv` until that first seeds a game anew.

    All states of one object share its emulators: only the newest one may be stepped.
    """

    def __init__(self, game: str, seeds: Sequence[int], settings: EnvSettings) -> None:
        self.num_envs = len(seeds)
        self._seeds = list(seeds)
        self._settings = settings
        self._vector = vector_env(game, self.num_envs, settings)
        self._handle, self._library_reset, self._library_step = self._vector.xla()
        self.obs_spaces: Spaces = {"image": Space((*settings.size, 1 if settings.gray else 3), "uint8")}
        self._actions = int(self._vector.single_action_space.n)
        self.action_spaces: Spaces = {"action": Space((), "int32", classes=self._actions)}

    def init(self) -> tuple[AtariState, TimeStep]:
        """Restarts the emulators from the seeds."""
        state, frames = self._start(self._seeds)
        nothing = jnp.zeros(self.num_envs, bool)
        reward = jnp.zeros(self.num_envs, jnp.float32)
        return state, TimeStep({"image": self._image(frames)}, reward, ~nothing, nothing, nothing)

    def step(self, state: AtariState, actions: Actions) -> tuple[AtariState, TimeStep]:
        """One agent step; where an episode had ended the action is ignored and the next episode begins."""
        state, frames, reward, first, last, terminal = self._advance(state, actions["action"])
        return state, TimeStep({"image": self._image(frames)}, reward, first, last, terminal)

    def save(self, state: AtariState) -> dict[str, np.ndarray]:
        """The log of actions and its length (fixed shapes); no pointer."""
        return {"log": np.asarray(state.log), "steps": np.asarray(state.steps)}

    def load(self, saved: Any) -> AtariState:
        """Plays the log again without drawing observations; afterwards everything continues exactly."""
        count = int(saved["steps"])
        if count > LOG:
            warnings.warn(f"Atari log holds {LOG} of {count} steps: continuing with new episodes", stacklevel=2)
            state, _ = jax.jit(lambda: self._start([reseed(seed, count) for seed in self._seeds]))()
            return state._replace(over=jnp.ones(self.num_envs, bool), steps=jnp.int32(count))

        @jax.jit
        def replay(log: jax.Array) -> AtariState:
            state = self._start(self._seeds)[0]
            return jax.lax.fori_loop(0, count, lambda t, s: self._advance(s, log[t].astype(jnp.int32))[0], state)

        return replay(jnp.asarray(saved["log"]))

    def close(self) -> None:
        """Stops the emulator's threads."""
        self._vector.close()

    def info(self) -> EnvironmentInfo:
        """Package versions and settings, for the run record."""
        return EnvironmentInfo(packages.versions("ale-py", "gymnasium"), asdict(self._settings))

    def _start(self, seeds: Sequence[int]) -> tuple[AtariState, jax.Array]:
        handle, (frames, info) = self._library_reset(self._handle, np.array(seeds, np.int32))
        nothing = jnp.zeros(self.num_envs, bool)
        log = jnp.zeros((LOG, self.num_envs), jnp.uint8)
        return AtariState(handle, nothing, nothing, info["lives"], log, jnp.int32(0)), frames

    def _advance(self, state: AtariState, actions: jax.Array) -> tuple[AtariState, jax.Array, Any, Any, Any, Any]:
        actions = jnp.clip(actions, 0, self._actions - 1)
        first = state.over | state.lost
        played = jnp.where(first, 0, actions).astype(jnp.int32)
        handle, (frames, reward, terminated, truncated, info) = self._library_step(state.handle, played)
        lives = info["lives"]
        over = (terminated | truncated) & ~state.over
        lost = jnp.zeros_like(over)
        if self._settings.life_loss == "episode":
            lost = (lives < state.lives) & (lives > 0) & ~over & ~first
        last = (over | lost) & ~first
        terminal = last if self._settings.terminal_on_limit else last & ~truncated
        log = state.log.at[state.steps].set(actions.astype(jnp.uint8), mode="drop")
        state = AtariState(handle, over, lost, lives, log, state.steps + 1)
        return state, frames, jnp.where(first, 0, reward).astype(jnp.float32), first, last, terminal

    def _image(self, frames: jax.Array) -> jax.Array:
        """`[N, *size, channels]` from the library's `[N, 1, height, width(, 3)]`."""
        if self._settings.resize == "area":
            return frames.reshape(self.num_envs, *self._settings.size, -1)
        images = bilinear_jit(frames[:, 0], self._settings.size)
        return luminance_jit(images) if self._settings.gray else images
