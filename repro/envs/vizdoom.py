"""Take Cover of VizDoom: stay alive between fireballs, from images; reward 1 a step.

Every game is a process of its own, so environments run in threads. The library's saved games do not bring its random
generators back: exact resume plays the episode again from its seed (`PythonVectorEnv`).
"""

import os
import signal
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from repro.envs import packages
from repro.envs.base import EnvironmentInfo, Space
from repro.envs.python_env import Observation, Result, pack_random_state, unpack_random_state
from repro.envs.settings import DoomSettings, EnvSettings
from repro.errors import RunError, UsageError

ACTIONS = ("none", "right", "left")
"""The discrete actions, in the order of gymnasium's VizdoomTakeCover."""

THIRD = 0.3333
"""World Models, released `doomreal.py`: a continuous action beyond this moves."""


def thirds(action: np.ndarray | float) -> np.ndarray:
    """Index into `ACTIONS` (int32) of continuous actions in [-1, 1]: left, nothing, right by thirds (World Models)."""
    action = np.asarray(action)
    return np.where(action > THIRD, 1, np.where(action < -THIRD, 2, 0)).astype(np.int32)


class DoomEnv:
    """One game; observation `image`. Death is terminal, the step limit is not unless the settings say so.

    The frame after a death does not exist: its screen is taken as black.
    """

    def __init__(self, task: str, seed: int, settings: EnvSettings) -> None:
        for module in ("vizdoom", "numba"):
            packages.require(module, "vizdoom_takecover", "pip install -e .[vizdoom]")
        import vizdoom

        from repro.envs import frame_map

        if not isinstance(settings, DoomSettings):
            raise UsageError(f"suite vizdoom_takecover takes DoomSettings, not {type(settings).__name__}")
        self._settings = settings
        self._map = getattr(frame_map, settings.frame_map)
        self._random = np.random.RandomState(seed)
        height, width = settings.screen
        self._rows = height * 5 // 6
        self._blank = np.zeros((height, width, 3), np.uint8)
        self._game = vizdoom.DoomGame()
        self._folder = tempfile.TemporaryDirectory(prefix="repro-doom-")
        self._start(vizdoom, task)
        names = [button.name for button in self._game.get_available_buttons()]
        presses = {"none": (), "right": ("MOVE_RIGHT",), "left": ("MOVE_LEFT",)}
        self._buttons = [[name in presses[action] for name in names] for action in ACTIONS]
        self._steps = 0
        self.obs_spaces = {"image": Space((*settings.size, 3), "uint8")}
        self.action_spaces = {"action": Space((), "int32", classes=len(ACTIONS))}

    def origin(self) -> dict[str, np.ndarray]:
        """The generator that draws each episode's seed."""
        return pack_random_state(self._random)

    def return_to(self, origin: Mapping[str, np.ndarray]) -> None:
        """Puts the generator back."""
        unpack_random_state(self._random, origin)

    def reset(self) -> None:
        """Starts an episode, which depends on its own seed alone."""
        self._game.set_seed(int(self._random.randint(2**31 - 1)))
        self._game.new_episode()
        self._steps = 0

    def step(self, action: Mapping[str, np.ndarray]) -> Result:
        """One step of `action_repeat` tics."""
        reward = self._game.make_action(self._buttons[int(action["action"])], self._settings.action_repeat)
        self._steps += 1
        dead = self._game.is_episode_finished()
        limit = self._steps == self._settings.time_limit
        return float(reward), dead or limit, dead or (limit and self._settings.terminal_on_limit)

    def observe(self) -> Observation:
        """The rows above the status bar, as an image of the size wanted."""
        state = self._game.get_state()
        screen = self._blank if state is None else state.screen_buffer
        return {"image": self._map(screen[: self._rows], self._settings.size)}

    def close(self) -> None:
        """Ends the game's process."""
        self._game.close()
        self._folder.cleanup()

    def info(self) -> EnvironmentInfo:
        """Package versions and settings, for the run record."""
        return EnvironmentInfo(packages.versions("vizdoom"), asdict(self._settings))

    def _start(self, vizdoom: Any, task: str) -> None:
        settings, game = self._settings, self._game
        height, width = settings.screen
        game.load_config(os.path.join(vizdoom.scenarios_path, f"{task}.cfg"))
        # The game writes its preferences, and reads what an earlier one wrote: none here.
        game.set_doom_config_path(os.path.join(self._folder.name, "preferences.ini"))
        game.set_window_visible(False)
        game.set_mode(vizdoom.Mode.PLAYER)
        game.set_screen_format(vizdoom.ScreenFormat.RGB24)
        game.set_screen_resolution(getattr(vizdoom.ScreenResolution, f"RES_{width}X{height}"))
        game.set_render_hud(settings.hud)
        game.set_render_weapon(settings.weapon)
        game.set_render_crosshair(settings.crosshair)
        game.set_render_decals(settings.decals)
        game.set_render_particles(settings.particles)
        game.set_doom_skill(settings.skill)
        game.set_episode_start_time(settings.start_tic)
        game.set_episode_timeout(0)
        game.set_seed(0)
        # The game makes this folder where it runs, and gives up when another one does so at the same moment.
        os.makedirs("_vizdoom", exist_ok=True)
        # Ctrl-C reaches the game's process too, which would end before the run has kept its last step. A process
        # inherits the blocked signals of the thread that starts it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            game.init()
        except Exception as error:
            raise RunError(f"VizDoom does not start here: {type(error).__name__}: {error}") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
