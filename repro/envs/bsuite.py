"""bsuite (Osband et al. 2020): small environments that each test one ability; task names are `experiment/index`."""

import inspect
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from repro.envs import packages
from repro.envs.base import EnvironmentInfo, Space
from repro.envs.python_env import Observation, pack_random_state, unpack_random_state
from repro.envs.settings import EnvSettings
from repro.errors import UsageError


class BsuiteEnv:
    """One experiment with one of its settings (`catch/0`; a bare `catch` is index 0); observation `vector`, flat.

    The experiment's own settings stay, its random seed is ours.
    """

    def __init__(self, task: str, seed: int, settings: EnvSettings) -> None:
        """Raises `UsageError` for an index that does not exist, or data that cannot be fetched (MNIST)."""
        bsuite: Any = packages.require("bsuite.bsuite", "bsuite", "pip install -e .[bsuite]")
        sweep: Any = packages.require("bsuite.sweep", "bsuite", "pip install -e .[bsuite]")
        self._settings = settings
        name, _, index = task.partition("/")
        identifier = f"{name}/{index or 0}"
        if identifier not in sweep.SETTINGS:
            last = sum(known.startswith(f"{name}/") for known in sweep.SETTINGS) - 1
            raise UsageError(f"bsuite has no {identifier}; {name} goes from {name}/0 to {name}/{last}")
        options = dict(sweep.SETTINGS[identifier])
        takes_seed = "seed" in inspect.signature(bsuite.EXPERIMENT_NAME_TO_ENVIRONMENT[name]).parameters
        try:
            self._env = bsuite.load(name, {**options, "seed": seed} if takes_seed else options)
        except OSError as error:
            raise UsageError(f"bsuite {identifier} cannot fetch its data: {error}") from error
        self._generators = list(_generators(self._env))
        if not takes_seed:
            for generator in self._generators:
                generator.seed(seed)
        shape = self._env.observation_spec().shape
        self.obs_spaces = {"vector": Space((int(np.prod(shape)),))}
        self.action_spaces = {"action": Space((), "int32", classes=int(self._env.action_spec().num_values))}
        self._observation = np.zeros(shape)

    def origin(self) -> dict[str, np.ndarray]:
        """All generators of the environment and its wrappers."""
        states = [pack_random_state(generator) for generator in self._generators]
        return {f"{i}.{key}": value for i, state in enumerate(states) for key, value in state.items()}

    def return_to(self, origin: Mapping[str, np.ndarray]) -> None:
        """Puts the generators back."""
        for i, generator in enumerate(self._generators):
            unpack_random_state(generator, {key: origin[f"{i}.{key}"] for key in ("key", "rest")})

    def reset(self) -> None:
        """Starts an episode."""
        self._observation = self._env.reset().observation

    def step(self, action: Mapping[str, np.ndarray]) -> tuple[float, bool, bool]:
        """One step; terminal where the discount is 0."""
        step = self._env.step(int(action["action"]))
        self._observation = step.observation
        return float(step.reward), step.last(), step.last() and step.discount == 0

    def observe(self) -> Observation:
        """The observation, flat."""
        return {"vector": np.asarray(self._observation, np.float32).reshape(-1)}

    def close(self) -> None:
        """Nothing to free."""

    def info(self) -> EnvironmentInfo:
        """Package versions and settings, for the run record."""
        return EnvironmentInfo(packages.versions("bsuite", "dm-env"), asdict(self._settings))


def _generators(env: Any) -> Any:
    while env is not None:
        for value in vars(env).values():
            if isinstance(value, np.random.RandomState):
                yield value
        env = vars(env).get("_env")
