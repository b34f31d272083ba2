"""ProcGen (Cobbe et al. 2020), hard, unlimited levels.

The package `procgen` has no wheel for the Pythons of this suite; `procgen-mirror` is the same module for 3.11 and 3.12.
Its metadata ask for numpy 1, but it runs with numpy 2 (same frames), hence `INSTALL`.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from repro.envs import packages
from repro.envs.base import EnvironmentInfo, Space
from repro.envs.python_env import Observation
from repro.envs.resize import bilinear
from repro.envs.settings import EnvSettings
from repro.errors import RunError

INSTALL = (
    "pip install cffi cloudpickle filelock glcontext glfw gym-notices imageio imageio-ffmpeg moderngl && "
    "pip install --no-deps procgen-mirror==0.10.7 gym3==0.3.3 gym==0.26.2"
)
NATIVE = (64, 64)
STATE_BYTES = 2**17
"""Room for a saved state (a maze needs about 40 kB)."""


class ProcgenEnv:
    """One game; observation `image`: the native frame at 64x64, otherwise the 512x512 rendering by BILINEAR.

    The library begins the next episode by itself and shows no last frame: `is_last` repeats the one before, as its gym
    wrapper does. It does not tell limits from ends: every end is terminal.
    """

    def __init__(self, task: str, seed: int, settings: EnvSettings) -> None:
        procgen: Any = packages.require("procgen", "procgen_hard", INSTALL)
        self._settings = settings
        self._native = settings.size == NATIVE
        render = {} if self._native else {"render_mode": "rgb_array"}
        self._env = procgen.ProcgenGym3Env(1, task, rand_seed=seed, distribution_mode="hard", **render)
        self.obs_spaces = {"image": Space((*settings.size, 3), "uint8")}
        self.action_spaces = {"action": Space((), "int32", classes=int(self._env.ac_space.eltype.n))}
        self._image = np.zeros((*settings.size, 3), np.uint8)

    def origin(self) -> dict[str, np.ndarray]:
        """The library's state, which at this point is the start of the next episode."""
        state = self._env.callmethod("get_state")[0]
        if len(state) > STATE_BYTES:
            raise RunError(f"the state of this procgen game takes {len(state)} bytes, room is {STATE_BYTES}")
        padded = np.zeros(STATE_BYTES, np.uint8)
        padded[: len(state)] = np.frombuffer(state, np.uint8)
        return {"bytes": padded, "length": np.asarray(len(state))}

    def return_to(self, origin: Mapping[str, np.ndarray]) -> None:
        """Puts the library's state back."""
        state = np.asarray(origin["bytes"], np.uint8)[: int(origin["length"])].tobytes()
        self._env.callmethod("set_state", [state])

    def reset(self) -> None:
        """The library is at a first frame already."""
        self._look()

    def step(self, action: Mapping[str, np.ndarray]) -> tuple[float, bool, bool]:
        """One step; an end is terminal."""
        self._env.act(np.array([int(action["action"])], np.int32))
        reward, _, first = self._env.observe()
        if not first[0]:
            self._look()
        return float(reward[0]), bool(first[0]), bool(first[0])

    def observe(self) -> Observation:
        """The current frame."""
        if self._image.shape[:2] == self._settings.size:
            return {"image": self._image.copy()}
        return {"image": bilinear(self._image[None], self._settings.size)[0]}

    def close(self) -> None:
        """Frees the library's environment."""
        self._env.close()

    def info(self) -> EnvironmentInfo:
        """Package versions and settings, for the run record."""
        return EnvironmentInfo(packages.versions("procgen-mirror", "procgen2", "pillow"), asdict(self._settings))

    def _look(self) -> None:
        frame = self._env.observe()[1]["rgb"][0] if self._native else self._env.get_info()[0]["rgb"]
        self._image = np.array(frame)
