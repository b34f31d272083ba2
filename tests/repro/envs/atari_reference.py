"""Atari written out plainly: one `ALEInterface`, cv2 and Pillow, one frame after the other."""

from collections.abc import Callable, Sequence

import ale_py
import cv2
import numpy as np
from ale_py import roms
from PIL import Image

from repro.envs.settings import EnvSettings

ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)


class Reference:
    """One game as its paper's wrappers play it. `noops()` tells how many no-op frames the next reset takes."""

    def __init__(self, game: str, seed: int, settings: EnvSettings, noops: Callable[[], int]) -> None:
        self.settings, self.noops = settings, noops
        self.ale = ale_py.ALEInterface()
        self.ale.setInt("random_seed", seed)
        self.ale.setFloat("repeat_action_probability", settings.sticky)
        self.ale.loadROM(roms.get_rom_path(game))
        full = settings.full_actions
        self.actions = self.ale.getLegalActionSet() if full else self.ale.getMinimalActionSet()
        self.over, self.lost, self.frames = True, False, 0
        self.exact = True  # False for the picture of a finished game, which no two implementations agree on

    def screen(self) -> np.ndarray:
        gray = self.settings.gray and self.settings.resize == "area"
        return self.ale.getScreenGrayscale() if gray else self.ale.getScreenRGB()

    def small(self, screen: np.ndarray) -> np.ndarray:
        height, width = self.settings.size
        if self.settings.resize == "area":
            small = cv2.resize(screen, (width, height), interpolation=cv2.INTER_AREA)
            return small.reshape(height, width, -1)
        small = np.asarray(Image.fromarray(screen).resize((width, height), Image.Resampling.BILINEAR))
        if self.settings.gray:
            small = (small * np.array([0.299, 0.587, 1 - (0.299 + 0.587)])).sum(-1, keepdims=True).astype(np.uint8)
        return small

    def picture(self, screens: Sequence[np.ndarray]) -> np.ndarray:
        if self.settings.pool == "resized":
            image = np.max([self.small(s) for s in screens], 0)
        elif self.settings.pool == "screen":
            image = self.small(np.max(screens, 0))
        else:
            image = self.small(screens[-1])
        if self.settings.jpeg:
            image = cv2.imdecode(cv2.imencode(".jpg", image)[1], cv2.IMREAD_COLOR)
        return image

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, bool]:
        """Image, reward, is_first, is_last, is_terminal; restarts at the step after an end."""
        if self.over:
            self.ale.reset_game()
            noops = self.noops()
            for _ in range(noops):
                self.ale.act(ale_py.Action.NOOP)
            self.frames = noops if self.settings.limit_counts_noops else 0
            self.over = self.lost = False
            self.exact = True
            return self.picture([self.screen()]), 0.0, True, False, False
        first = self.lost
        lives = self.ale.lives()
        reward, screens, limit = 0.0, [], False
        for _ in range(self.settings.action_repeat):
            reward += self.ale.act(self.actions[0 if first else action])
            screens.append(self.screen())
            self.frames += 1
            self.over = self.ale.game_over()
            limit = self.frames >= (self.settings.time_limit or 108_000) and not self.over
            if self.over or limit:
                break
        self.exact = not (self.over or limit)
        self.over = self.over or limit
        episodic = self.settings.life_loss == "episode"
        self.lost = episodic and not first and not self.over and 0 < self.ale.lives() < lives
        last = (self.over or self.lost) and not first
        terminal = last and (self.settings.terminal_on_limit or not limit)
        return self.picture(screens[-2:]), 0.0 if first else reward, first, last, terminal
