"""DeepMind Control (Tassa et al. 2018), from vectors or pixels, through `dm_control` and MuJoCo."""

import ctypes
import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from repro.envs import packages
from repro.envs.base import EnvironmentInfo, Space
from repro.envs.python_env import Observation, pack_random_state, unpack_random_state
from repro.envs.settings import EnvSettings
from repro.errors import UsageError

DOMAINS = {"cup": "ball_in_cup", "point": "point_mass"}
"""First word of a task name -> domain, where they differ."""


class DMCEnv:
    """One task: action repeat, actions rescaled from [-1, 1], float32 observations under the suite's own names.

    Proprioception never renders; pixels are rendered once per agent step.
    """

    def __init__(self, task: str, seed: int, settings: EnvSettings) -> None:
        """Raises `UsageError` if pixels are wanted and nothing can render here."""
        self._settings = settings
        self._env = _load(task, seed)
        spec = self._env.action_spec()
        self._low, self._high = np.asarray(spec.minimum, float), np.asarray(spec.maximum, float)
        self.action_spaces = {"action": Space(tuple(spec.shape), "float32")}
        self.obs_spaces: dict[str, Space] = {}
        if settings.proprio:
            for key, value in self._env.observation_spec().items():
                self.obs_spaces[key] = Space(tuple(value.shape), "float32")
        if settings.pixels:
            self.obs_spaces["image"] = Space((*settings.size, 3), "uint8")
            self._env.physics.model.vis.quality.shadowsize = settings.shadowsize
            self._camera = settings.camera if settings.camera is not None else 2 * task.startswith("quadruped")
            self._check_rendering()
        self._observation: Mapping[str, Any] = {}
        self._steps = 0

    def origin(self) -> dict[str, np.ndarray]:
        """The task's generator; physics and task are rebuilt from it by every reset."""
        return pack_random_state(self._env.task.random)

    def return_to(self, origin: Mapping[str, np.ndarray]) -> None:
        """Puts the task's generator back."""
        unpack_random_state(self._env.task.random, origin)

    def reset(self) -> None:
        """Starts an episode."""
        self._observation = self._env.reset().observation
        self._steps = 0

    def step(self, action: Mapping[str, np.ndarray]) -> tuple[float, bool, bool]:
        """Repeats the action, sums the rewards, stops at the end; terminal where the discount is 0."""
        inner = self._rescale(action["action"])
        reward = 0.0
        for _ in range(self._settings.action_repeat):
            step = self._env.step(inner)
            reward += step.reward or 0.0
            self._steps += 1
            limit = self._steps == self._settings.time_limit
            if step.last() or limit:
                break
        self._observation = step.observation
        terminal = step.last() and step.discount == 0
        return reward, step.last() or limit, terminal or (self._settings.terminal_on_limit and (step.last() or limit))

    def observe(self) -> Observation:
        """Vectors and, if wanted, the rendered image."""
        obs = {}
        if self._settings.proprio:
            obs = {k: np.asarray(v, np.float32) for k, v in self._observation.items()}
        if self._settings.pixels:
            obs["image"] = self._render()
        return obs

    def close(self) -> None:
        """Frees the renderer."""
        self._env.close()

    def info(self) -> EnvironmentInfo:
        """Versions (they change pixels) and settings."""
        settings = {**asdict(self._settings), "renderer": os.environ.get("MUJOCO_GL", "")}
        return EnvironmentInfo(packages.versions("dm-control", "mujoco"), settings)

    def _rescale(self, action: np.ndarray) -> np.ndarray:
        return to_bounds(np.asarray(action, float), self._low, self._high)

    def _render(self) -> np.ndarray:
        height, width = self._settings.size
        return self._env.physics.render(height, width, camera_id=self._camera)

    def _check_rendering(self) -> None:
        try:
            self._render()
        except Exception as error:
            raise UsageError(
                f"DMC pixels cannot be rendered here (MUJOCO_GL={os.environ.get('MUJOCO_GL')}: "
                f"{type(error).__name__}); run: {packages.RENDERING}"
            ) from error


def to_bounds(action: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Actions `[..., A]` in [-1, 1] to the bounds of the environment; dimensions without finite bounds unchanged."""
    bounded = np.isfinite(low) & np.isfinite(high)
    low, high = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
    scaled = low + (np.clip(action, -1.0, 1.0) + 1.0) / 2.0 * (high - low)
    return np.where(bounded, scaled, action)


def _load(task: str, seed: int) -> Any:
    first, _, rest = task.partition("_")
    domain = DOMAINS.get(first, first)
    name = task[len(domain) + 1 :] if task.startswith(domain) else rest
    return _suite().load(domain, name, task_kwargs={"random": seed})


def _suite() -> Any:
    """`dm_control.suite`; the renderer is chosen when that is first imported."""
    if "MUJOCO_GL" not in os.environ:
        os.environ["MUJOCO_GL"] = renderer()
    return packages.require("dm_control.suite", "dmc", "pip install -e .")


def renderer() -> str:
    """The value of MUJOCO_GL that works on this machine: `egl`, `osmesa` (same pixels), or `disable`."""
    if _loads("libEGL.so.1") and (_loads("libOpenGL.so.0") or _loads("libGL.so.1")):
        return "egl"
    return "osmesa" if _loads("libOSMesa.so.8") or _loads("libOSMesa.so.6") else "disable"


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
