"""One dream beside one real environment, steered by hand or by C: for `repro play` and for the report's films."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from papers.world_models import controller, mdnrnn, policies, report, vae
from papers.world_models.config import Config
from papers.world_models.real import Agent
from repro.envs.make import as_host, make
from repro.envs.python_env import PythonVectorEnv
from repro.evaluation.video import write_gif
from repro.play import Moment

DOOM_KEYS = {"ArrowLeft": "left", "ArrowRight": "right"}
CAR_KEYS = {"ArrowLeft": "left", "ArrowRight": "right", "ArrowUp": "gas", "ArrowDown": "brake"}
LET_C = "c"
"""The key that hands over to C, in each world by what it sees there."""


class DreamGame:
    """A `repro.play.Game`: one dream and one real environment under the same keys."""

    def __init__(
        self, config: Config, vae_params: vae.Params, rnn_params: mdnrnn.Params, trained: np.ndarray | None = None
    ) -> None:
        """`trained` `[P]` are the weights of C; without them there is no key to hand over."""
        self.config, self.params = config, (vae_params, rnn_params)
        self.title = f"World Models: inside the dream of {'Take Cover' if config.doom else 'CarRacing'}"
        self.keys: Mapping[str, str] = DOOM_KEYS if config.doom else CAR_KEYS
        self.toggles: frozenset[str] = frozenset()
        if trained is not None:
            self.keys, self.toggles = {**self.keys, LET_C: "let C steer"}, frozenset({LET_C})
        size = controller.count(config.controller, config.rnn)
        self.weights = jnp.zeros(size) if trained is None else controller.rounded(trained)
        self.temperature = config.dream.temperature
        self.env: Any = None
        self._agent = Agent(config, vae_params, rnn_params)
        self._begin = jax.jit(partial(report.begin, config))
        self._step = jax.jit(self._dream)
        self.reset(0)
        self.step(frozenset(self.toggles), self.temperature)

    def reset(self, seed: int) -> Moment:
        """The first frame of a real episode, and a dream that begins there."""
        self.close()
        self.env = as_host(make(self.config.suite, self.config.task, [seed], self.config.env))
        assert isinstance(self.env, PythonVectorEnv)
        self.key, self.count = jax.random.key(seed), 0
        self.real, self.memory = self.env.reset(), self._agent.start(1)
        image = self.real.obs["image"]
        self.state, picture = self._begin(self.params, image, jax.random.fold_in(self.key, self.count))
        self.moment = Moment(np.asarray(picture)[0], image[0], False, False)
        return self.moment

    def step(self, keys: frozenset[str], temperature: float) -> Moment:
        """One step of what is not over yet."""
        given = np.full((1, self.config.rnn.action), np.nan, np.float32)
        if LET_C not in keys & self.toggles:
            given = actions(self.config, keys)
        shown = self.moment
        self.count += 1
        key = jax.random.fold_in(self.key, self.count)
        if not shown.dream_over:
            self.state, image, done = self._step(self.params, self.weights, self.state, given, temperature, key)
            over = bool(done[0]) or self.count >= self.config.dream.max_steps
            shown = shown._replace(dream=np.asarray(image)[0], dream_over=over)
        if not shown.real_over:
            action = given
            if self.toggles:  # M goes on remembering while a person steers.
                image, first = self.real.obs["image"], self.real.is_first
                action, self.memory = self._agent(self.weights, self.memory, image, first, self.key, self.count, given)
            self.real = self.env.step(policies.for_environment(self.config, action))
            shown = shown._replace(real=self.real.obs["image"][0], real_over=bool(self.real.is_last[0]))
        self.moment = shown
        return shown

    def close(self) -> None:
        """Ends the real environment."""
        if self.env is not None:
            self.env.close()
            self.env = None

    def _dream(
        self, params: report.Models, weights: jax.Array, state: Any, given: jax.Array, temperature: Any, key: jax.Array
    ) -> Any:
        of, outputs = self.config.controller, self.config.rnn.action
        own = controller.act(of, weights, controller.features(of, state.latent, state.cell, state.hidden), outputs)
        action = jnp.where(jnp.isnan(given), own, given)
        return report.step(self.config, params, state, policies.for_model(self.config, action), temperature, key)


def actions(config: Config, keys: frozenset[str]) -> np.ndarray:
    """Outputs of a controller `[1, A]`, float32, that the keys stand for."""
    side = float("ArrowRight" in keys) - float("ArrowLeft" in keys)
    if config.doom:
        return np.array([[side]], np.float32)
    gas, brake = "ArrowUp" in keys, "ArrowDown" in keys
    return np.array([[side, 1.0 if gas else -1.0, 0.8 if brake else 0.0]], np.float32)


def film(game: DreamGame, seed: int, steps: int) -> np.ndarray:
    """C in the real environment above C in its dream, both from the same frame on: uint8 `[steps, 128, 64, 3]`. A world
    that is over turns black."""
    moment = game.reset(seed)
    frames = [np.concatenate([moment.real, moment.dream])]
    for _ in range(steps - 1):
        before, moment = moment, game.step(game.toggles, game.temperature)
        frames.append(np.concatenate([moment.real * (not before.real_over), moment.dream * (not before.dream_over)]))
    return np.stack(frames)


def write_film(game: DreamGame, out: Path, seed: int, count: int = 3, steps: int = 200) -> Path:
    """A GIF of `count` such films side by side, of real episodes seeded from `seed` on: `out/agent.gif`."""
    path = out / "agent.gif"
    films = [film(game, seed + i, steps) for i in range(count)]
    write_gif(path, np.concatenate(films, 2)[:: report.EVERY], report.FRAMES_PER_SECOND, report.COLORS)
    return path
