"""Roll-outs in the real environment, N at once: V encodes every frame (z is sampled), C acts, M follows if seen."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from papers.world_models import controller, mdnrnn, policies, vae
from papers.world_models.config import Config
from repro.envs.make import as_host, make


class Agent:
    """V, M and C as the policy of N environments; jitted once for all controllers."""

    def __init__(self, config: Config, vae_params: vae.Params, rnn_params: mdnrnn.Params | None) -> None:
        """`rnn_params` may be None for a C that sees z alone: its LSTM state stays at zero."""
        self.config, self.params = config, (vae_params, rnn_params)
        self._step = jax.jit(self._decide)

    def start(self, count: int) -> mdnrnn.State:
        """LSTM state of `count` environments before their first frame."""
        return mdnrnn.zero_state(self.config.rnn, count)

    def __call__(
        self,
        controllers: Any,
        state: mdnrnn.State,
        images: np.ndarray,
        first: np.ndarray,
        key: jax.Array,
        step: int,
        given: np.ndarray | None = None,
    ) -> tuple[np.ndarray, mdnrnn.State]:
        """Outputs of C `[N, A]` and the next LSTM state; `controllers` `[P]` or `[N, P]`, `first` `[N]` bool. z is
        sampled with the numbers of `key` at `step`. What is `given` `[N, A]` is taken instead, where it is not NaN."""
        action, state = self._step(self.params, controllers, state, images, first, key, np.uint32(step), given)
        return np.asarray(action), state

    def _decide(
        self,
        params: Any,
        controllers: jax.Array,
        state: mdnrnn.State,
        images: jax.Array,
        first: jax.Array,
        key: jax.Array,
        step: jax.Array,
        given: jax.Array | None,
    ) -> tuple[jax.Array, mdnrnn.State]:
        config, key = self.config, jax.random.fold_in(key, step)
        of_vae, of_rnn = params
        cell, hidden = (jnp.where(first[:, None], 0.0, x) for x in state)
        mu, logvar = vae.encode(of_vae, images.astype(jnp.float32) / 255)
        latent = vae.sample(mu, logvar, jax.random.normal(key, mu.shape))
        seen = controller.features(config.controller, latent, cell, hidden)
        action = controller.act(config.controller, controllers, seen, config.rnn.action)
        if given is not None:
            action = jnp.where(jnp.isnan(given), action, given)
        if of_rnn is None:
            return action, (cell, hidden)
        parts = [latent, policies.for_model(config, action)]
        if config.rnn.predict_restart:
            parts.append(first[:, None].astype(jnp.float32))
        return action, mdnrnn.step(of_rnn, (cell, hidden), *parts)


class Games:
    """A queue of episodes played by N real environments: environment i plays the episodes i, i + N, i + 2N, ...

    So none is chosen for being short. `returns` and `lengths` `[episodes]` are complete once `done()`.
    """

    def __init__(self, config: Config, episodes: int, envs: int, seed: int, policy: Any) -> None:
        """`policy(episode numbers [N], step, timestep) -> outputs of C [N, A]`; `seed` seeds environment i with
        `seed + i`."""
        self.config, self.policy, self.count = config, policy, min(envs, episodes)
        self.env = as_host(make(config.suite, config.task, [seed + i for i in range(self.count)], config.env))
        self.timestep = self.env.reset()
        self.episode = np.arange(self.count)
        self.sums = np.zeros((2, self.count))
        self.steps = 0
        self.returns = np.full(episodes, np.nan)
        self.lengths = np.zeros(episodes, np.int64)

    def done(self) -> int:
        """Finished episodes."""
        return int((self.lengths > 0).sum())

    def step(self) -> None:
        """One step of every environment."""
        action = self.policy(self.episode, self.steps, self.timestep)
        self.timestep = self.env.step(policies.for_environment(self.config, action))
        self.steps += 1
        self.sums += np.stack([self.timestep.reward, ~self.timestep.is_first])
        for i in np.flatnonzero(self.timestep.is_last):
            if self.episode[i] < len(self.returns):
                self.returns[self.episode[i]], self.lengths[self.episode[i]] = self.sums[:, i]
            self.sums[:, i] = 0
            self.episode[i] += self.count

    def state(self) -> dict[str, np.ndarray]:
        """All of it, for a checkpoint."""
        own = {"episode": self.episode, "sums": self.sums, "returns": self.returns, "lengths": self.lengths}
        return {**own, "steps": np.array(self.steps), **{f"env.{k}": v for k, v in self.env.state().items()}}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Undoes `state`."""
        for name in ("episode", "sums", "returns", "lengths"):
            setattr(self, name, np.array(state[name]))
        self.steps = int(state["steps"])
        self.timestep = self.env.restore({k[4:]: v for k, v in state.items() if k.startswith("env.")})


class ControllerPolicy:
    """`Games` policy: the agent with one controller, or with `controllers[episode // each]`."""

    def __init__(self, agent: Agent, controllers: Any, envs: int, key: jax.Array, each: int = 0) -> None:
        self.agent, self.controllers, self.key, self.each = agent, jnp.asarray(controllers), key, each
        self.state = agent.start(envs)

    def __call__(self, episode: np.ndarray, step: int, timestep: Any) -> np.ndarray:
        """Outputs of C."""
        used = self.controllers
        if self.each:
            used = used[np.minimum(episode // self.each, len(used) - 1)]
        image, first = timestep.obs["image"], timestep.is_first
        action, self.state = self.agent(used, self.state, image, first, self.key, step)
        return action


def uniform_policy(config: Config, seed: int) -> Any:
    """`Games` policy: an independent uniform action at every step."""

    def act(episode: np.ndarray, step: int, timestep: Any) -> np.ndarray:
        return np.random.default_rng([seed, step]).uniform(-1, 1, (len(episode), config.rnn.action))

    return act


def play(games: Games) -> np.ndarray:
    """Plays all episodes; returns their returns."""
    while games.done() < len(games.returns):
        games.step()
    return games.returns
