"""Crafter (Hafner 2022): survival in a generated world, 22 achievements, from images.

As shipped the package is not reproducible from its seed: the objects of a chunk lie in a `set`, ordered by memory
address, and creatures are removed by index. Here each world keeps them in the order they came; which of several
equally likely creatures goes may differ, its distribution does not.
"""

import collections
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from repro.envs import packages
from repro.envs.base import EnvironmentInfo, Space
from repro.envs.python_env import Observation
from repro.envs.settings import EnvSettings

EPISODE_STEPS = 10_000
"""The package's own limit."""


class OrderedSet(dict):
    """The part of `set` that worlds use, in order of insertion."""

    def add(self, item: Any) -> None:
        """Appends the item."""
        self[item] = None

    def remove(self, item: Any) -> None:
        """Removes the item."""
        del self[item]


class CrafterEnv:
    """One world; observation `image`. Death is terminal, the step limit is not unless the settings say so."""

    def __init__(self, task: str, seed: int, settings: EnvSettings) -> None:
        crafter: Any = packages.require("crafter", "crafter", "pip install -e .[crafter]")
        self._settings = settings
        height, width = settings.size
        self._env = crafter.Env(size=(width, height), length=settings.time_limit or EPISODE_STEPS, seed=seed)
        self._world = self._env._world
        _keep_order(self._world)
        # The package draws in every step; here only in `observe`. What drawing takes from the world's generator (the
        # noise of the night) is taken in the step all the same.
        self._env._obs = self._draw_noise
        self._before_noise: Any = None
        grid = self._env._local_view._grid
        self._noise_shape = tuple(grid * (np.array([width, height]) // self._env._view))
        self.obs_spaces = {"image": Space((height, width, 3), "uint8")}
        self.action_spaces = {"action": Space((), "int32", classes=len(self._env.action_names))}

    def origin(self) -> dict[str, np.ndarray]:
        """Number of the last episode: a world is generated from the seed and its episode's number."""
        return {"episode": np.asarray(self._env._episode)}

    def return_to(self, origin: Mapping[str, np.ndarray]) -> None:
        """Puts the episode counter back."""
        self._env._episode = int(origin["episode"])

    def reset(self) -> None:
        """Generates a world."""
        self._env.reset()

    def step(self, action: Mapping[str, np.ndarray]) -> tuple[float, bool, bool]:
        """One step of the world."""
        _, reward, done, info = self._env.step(int(action["action"]))
        return float(reward), bool(done), info["discount"] == 0 or bool(done and self._settings.terminal_on_limit)

    def observe(self) -> Observation:
        """The image around the player, with the inventory below."""
        random = self._world.random
        after = random.get_state()
        if self._before_noise is not None:
            random.set_state(self._before_noise)
        image = self._env.render()
        random.set_state(after)
        return {"image": image}

    def close(self) -> None:
        """Nothing to free."""

    def info(self) -> EnvironmentInfo:
        """Package versions and settings, for the run record."""
        return EnvironmentInfo(packages.versions("crafter", "pillow", "opensimplex"), asdict(self._settings))

    def _draw_noise(self) -> None:
        self._before_noise = None
        if self._world.daylight < 0.5:
            self._before_noise = self._world.random.get_state()
            self._world.random.uniform(32, 127, self._noise_shape)


def _keep_order(world: Any) -> None:
    """Gives this world (not the package) ordered chunks, from its next reset on."""
    reset = type(world).reset

    def ordered_reset(*args: Any, **kwargs: Any) -> None:
        reset(world, *args, **kwargs)
        world._chunks = collections.defaultdict(OrderedSet)

    world.reset = ordered_reset
