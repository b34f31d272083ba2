"""Steering by hand inside M's dream, beside the real game: `repro play world_models`."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from papers.world_models import mdnrnn, policies, report, vae
from papers.world_models.config import Config
from papers.world_models.pipeline import models
from repro.envs.make import as_host, make
from repro.envs.python_env import PythonVectorEnv
from repro.errors import UsageError
from repro.pipeline.evaluate import read_run
from repro.pipeline.stages import kept
from repro.play import Moment

DOOM_KEYS = {"ArrowLeft": "left", "ArrowRight": "right"}
CAR_KEYS = {"ArrowLeft": "left", "ArrowRight": "right", "ArrowUp": "gas", "ArrowDown": "brake"}


def open_run(folder: Path) -> "DreamGame":
    """The world model of the first seed of a run; `UsageError` if V and M are not finished there or C has no M."""
    _, config, _ = read_run(folder)
    if not config.remembers:
        raise UsageError(f"{folder} has no M to dream in, its C sees z alone; take a run with controller.features=zh")
    inputs = kept(folder, [f"seed{config.first_seed}/{stage}" for stage in ("vae", "rnn")])
    found = models(config, inputs, config.first_seed)
    return DreamGame(config, found["vae"], found["rnn"])


class DreamGame:
    """A `repro.play.Game`: one dream and one real environment under the same actions."""

    def __init__(self, config: Config, vae_params: vae.Params, rnn_params: mdnrnn.Params) -> None:
        self.config, self.params = config, (vae_params, rnn_params)
        self.title = f"World Models: inside the dream of {'Take Cover' if config.doom else 'CarRacing'}"
        self.keys: Mapping[str, str] = DOOM_KEYS if config.doom else CAR_KEYS
        self.temperature = config.dream.temperature
        self.env: Any = None
        self._begin = jax.jit(partial(report.begin, config))
        self._step = jax.jit(partial(report.step, config))
        self.reset(0)
        self.step(frozenset(), self.temperature)

    def reset(self, seed: int) -> Moment:
        """The first frame of a real episode, and a dream that begins there."""
        self.close()
        self.env = as_host(make(self.config.suite, self.config.task, [seed], self.config.env))
        assert isinstance(self.env, PythonVectorEnv)
        self.key, self.count = jax.random.key(seed), 0
        real = self.env.reset().obs["image"]
        self.state, image = self._begin(self.params, real, jax.random.fold_in(self.key, self.count))
        self.moment = Moment(np.asarray(image)[0], real[0], False, False)
        return self.moment

    def step(self, keys: frozenset[str], temperature: float) -> Moment:
        """One step of what is not over yet."""
        action = actions(self.config, keys)
        shown = self.moment
        self.count += 1
        if not shown.dream_over:
            seen = jnp.asarray(policies.for_model(self.config, action))
            key = jax.random.fold_in(self.key, self.count)
            self.state, image, done = self._step(self.params, self.state, seen, temperature, key)
            over = bool(done[0]) or self.count >= self.config.dream.max_steps
            shown = shown._replace(dream=np.asarray(image)[0], dream_over=over)
        if not shown.real_over:
            real = self.env.step(policies.for_environment(self.config, action))
            shown = shown._replace(real=real.obs["image"][0], real_over=bool(real.is_last[0]))
        self.moment = shown
        return shown

    def close(self) -> None:
        """Ends the real environment."""
        if self.env is not None:
            self.env.close()
            self.env = None


def actions(config: Config, keys: frozenset[str]) -> np.ndarray:
    """Outputs of a controller `[1, A]`, float32, that the keys stand for."""
    side = float("ArrowRight" in keys) - float("ArrowLeft" in keys)
    if config.doom:
        return np.array([[side]], np.float32)
    gas, brake = "ArrowUp" in keys, "ArrowDown" in keys
    return np.array([[side, 1.0 if gas else -1.0, 0.8 if brake else 0.0]], np.float32)
