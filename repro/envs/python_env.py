"""N single environments written in Python, stepped one after the other or by threads, as one `HostEnv`.

Exact resume needs no snapshot of simulators: an environment is a function of its random generators at the start of the
episode and of the episode's actions, so `state()` keeps those and `restore()` plays the episode again without drawing
its images. The cost is bounded by one episode.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from repro.envs.base import Actions, EnvironmentInfo, Spaces, TimeStep
from repro.errors import RunError, UsageError

Observation = dict[str, np.ndarray]
Result = tuple[float, bool, bool]
"""Reward, is_last, is_terminal."""


class SingleEnv(Protocol):
    """One environment. Deterministic: `origin`, then `reset`, then the actions decide everything."""

    obs_spaces: Spaces
    action_spaces: Spaces

    def origin(self) -> dict[str, np.ndarray]:
        """State of the random generators that the next `reset` starts from (fixed shapes)."""
        ...

    def return_to(self, origin: Mapping[str, np.ndarray]) -> None:
        """Puts the random generators back; the next call is `reset`."""
        ...

    def reset(self) -> None:
        """Starts an episode."""
        ...

    def step(self, action: Mapping[str, np.ndarray]) -> Result:
        """Reward, is_last, is_terminal of one agent step."""
        ...

    def observe(self) -> Observation:
        """The current observation; draws images, so it is called once per agent step."""
        ...

    def close(self) -> None:
        """Frees what the environment holds."""
        ...

    def info(self) -> EnvironmentInfo:
        """Package versions and settings."""
        ...


class PythonVectorEnv:
    """`HostEnv` over `SingleEnv`s; environment i is `envs[i]` alone.

    With `threads` as many environments as there are cores run at once: for those that spend their time outside Python.
    """

    def __init__(self, envs: Sequence[SingleEnv], threads: bool = False) -> None:
        self.num_envs = len(envs)
        self.obs_spaces = envs[0].obs_spaces
        self.action_spaces = envs[0].action_spaces
        self._envs = list(envs)
        self._seeded = [env.origin() for env in envs]
        self._origins = list(self._seeded)
        self._logs: list[list[dict[str, np.ndarray]]] = [[] for _ in envs]
        self._last = np.ones(self.num_envs, bool)
        self._pool = ThreadPoolExecutor(min(len(envs), os.cpu_count() or 1)) if threads and len(envs) > 1 else None

    def reset(self) -> TimeStep:
        """Starts all episodes anew from the environments' seeds."""
        for env, origin in zip(self._envs, self._seeded, strict=True):
            env.return_to(origin)
        self._last[:] = True
        nothing = {k: np.zeros((self.num_envs, *s.shape), s.dtype) for k, s in self.action_spaces.items()}
        return self.step(nothing)

    def step(self, actions: Actions) -> TimeStep:
        """One agent step; environments that had ended begin their next episode instead."""
        actions = {k: np.asarray(v) for k, v in actions.items()}
        first = self._last.copy()

        def turn(i: int) -> tuple[Result, Observation]:
            env = self._envs[i]
            if first[i]:
                self._origins[i], self._logs[i] = env.origin(), []
                env.reset()
                return (0.0, False, False), env.observe()
            action = {k: v[i].copy() for k, v in actions.items()}
            self._logs[i].append(action)
            return env.step(action), env.observe()

        return self._timestep(first, self._each(turn))

    def _each(self, turn: Callable[[int], tuple[Result, Observation]]) -> list[tuple[Result, Observation]]:
        """`turn(i)` of every environment."""

        def guarded(i: int) -> tuple[Result, Observation]:
            try:
                return turn(i)
            except (RunError, UsageError):
                raise
            except Exception as error:
                raise RunError(f"environment {i} failed: {type(error).__name__}: {error}") from error

        return list((self._pool.map if self._pool else map)(guarded, range(self.num_envs)))

    def _timestep(self, first: np.ndarray, turns: Sequence[tuple[Result, Observation]]) -> TimeStep:
        results, observations = zip(*turns, strict=True)
        reward, last, terminal = zip(*results, strict=True)
        self._last = np.array(last, bool)
        obs = {k: np.stack([o[k] for o in observations]) for k in self.obs_spaces}
        return TimeStep(obs, np.array(reward, np.float32), first, self._last.copy(), np.array(terminal, bool))

    def state(self) -> dict[str, np.ndarray]:
        """Generators at the start of the running episodes, their actions `[N, T, *shape]` and lengths `[N]`."""
        lengths = np.array([len(log) for log in self._logs])
        state = {"lengths": lengths}
        for key in self._origins[0]:
            state[f"origin.{key}"] = np.stack([origin[key] for origin in self._origins])
        for key, space in self.action_spaces.items():
            padded = np.zeros((self.num_envs, int(lengths.max()), *space.shape), space.dtype)
            for i, log in enumerate(self._logs):
                for t, action in enumerate(log):
                    padded[i, t] = action[key]
            state[f"actions.{key}"] = padded
        return state

    def restore(self, state: Mapping[str, np.ndarray]) -> TimeStep:
        """Plays the running episodes again; afterwards everything continues exactly."""
        lengths = np.asarray(state["lengths"])
        if lengths.shape != (self.num_envs,):
            raise UsageError(f"the saved state holds {lengths.shape[0]} environments, this run has {self.num_envs}")

        def replay(i: int) -> tuple[Result, Observation]:
            env = self._envs[i]
            self._origins[i] = {k: np.asarray(state[f"origin.{k}"][i]) for k in self._seeded[i]}
            env.return_to(self._origins[i])
            env.reset()
            self._logs[i] = [
                {k: np.asarray(state[f"actions.{k}"][i, t]) for k in self.action_spaces} for t in range(lengths[i])
            ]
            result = (0.0, False, False)
            for action in self._logs[i]:
                result = env.step(action)
            return result, env.observe()

        return self._timestep(lengths == 0, self._each(replay))

    def close(self) -> None:
        """Frees simulators and renderers."""
        if self._pool:
            self._pool.shutdown()
        for env in self._envs:
            env.close()

    def info(self) -> EnvironmentInfo:
        """Package versions and settings, for the run record."""
        return self._envs[0].info()


def pack_random_state(random: np.random.RandomState) -> dict[str, np.ndarray]:
    """The complete state of a `RandomState` as arrays."""
    state: Any = random.get_state(legacy=False)
    return {
        "key": state["state"]["key"].copy(),
        "rest": np.array([state["state"]["pos"], state["has_gauss"], state["gauss"]], np.float64),
    }


def unpack_random_state(random: np.random.RandomState, arrays: Mapping[str, np.ndarray]) -> None:
    """Undoes `pack_random_state`."""
    pos, has_gauss, gauss = np.asarray(arrays["rest"])
    key = np.asarray(arrays["key"], np.uint32)
    random.set_state(("MT19937", key, int(pos), int(has_gauss), float(gauss)))
