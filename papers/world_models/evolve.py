"""The stages of C at work: training by CMA-ES in the dream or in the real environment, and evaluation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from papers.world_models import controller, dream, mdnrnn
from papers.world_models.config import Config
from papers.world_models.jobs import STEPS, key_of
from papers.world_models.real import Agent, ControllerPolicy, Games, play, uniform_policy
from repro.optim import cma_es
from repro.pipeline.artefacts import save_arrays
from repro.pipeline.stages import Job

EVALUATION_SEED = 1_000_000
"""Environments of an evaluation are seeded from here on."""


class TrainController(Job):
    """CMA-ES, one controller for each of `labels`, side by side and from the same random numbers."""

    def __init__(self, config: Config, seed: int, of: Mapping[str, Any], labels: Sequence[str] = ("",)) -> None:
        self.config, self.seed, self.labels = config, seed, labels
        es = config.es
        parameters = controller.count(config.controller, config.rnn)
        constants = cma_es.constants(parameters, es.population)
        one = (cma_es.init(jnp.zeros(parameters), es.sigma), jnp.zeros(parameters), jnp.float32(-jnp.inf))
        self.state = jax.tree.map(lambda x: jnp.stack([x] * len(labels)), one)
        """Of every controller: the distribution, the best mean evaluated so far and its score."""
        self.history: list[np.ndarray] = []
        """Of every generation `[labels, 5]`: its number, mean, best and worst fitness of the population, sigma."""
        self.evaluations: list[np.ndarray] = []
        """`[labels, 2]`: generation, mean return of the distribution's mean."""

        def ask(states: cma_es.State) -> jax.Array:
            key = key_of(seed, "act", states.generation[0])
            normal = jax.random.normal(key, (es.population, parameters))
            return jax.vmap(cma_es.ask, (0, None))(states, normal)

        def tell(of: tuple[cma_es.State, jax.Array, jax.Array]) -> cma_es.State:
            state, candidates, returns = of
            fitness = jnp.trunc(returns.mean(-1) * 10_000) / 10_000
            return cma_es.tell(state, constants, candidates, cost(candidates, fitness, es.weight_decay))

        # One after the other: vmapped, the eigendecompositions would be done in every generation.
        self.ask, self.tell = jax.jit(ask), jax.jit(lambda *of: jax.lax.map(tell, of))

    def rollouts(self, controllers: jax.Array, each: int, key: jax.Array, number: int) -> jax.Array:
        """Returns `[labels, P, each]` of controllers `[labels, P, N]`; `number` is the generation's, -1 for an
        evaluation."""
        raise NotImplementedError

    def step(self, index: int) -> Mapping[str, Any]:
        """One generation, and after every so many the evaluation of the distribution's mean."""
        es, (state, best, score) = self.config.es, self.state
        candidates = self.ask(state)
        returns = self.rollouts(controller.rounded(candidates), es.rollouts, key_of(self.seed, "sample", index), index)
        fitness = np.asarray(returns).mean(-1)
        state = self.tell(state, candidates, returns)
        generation, sigma = index + 1, np.asarray(state.sigma)
        metrics = {"mean": fitness.mean(), "best": fitness.max(-1).mean(), "sigma": sigma.mean()}
        number = np.full(len(self.labels), generation)
        self.history.append(np.stack([number, fitness.mean(-1), fitness.max(-1), fitness.min(-1), sigma], -1))
        if generation % es.evaluate_every == 0 or generation == es.generations:
            mean = controller.rounded(state.mean)
            found = self.rollouts(mean[:, None], es.evaluation_rollouts, key_of(self.seed, "evaluate"), -1)
            value = found.mean((1, 2))
            self.evaluations.append(np.stack([number, value], -1))
            best, score = jnp.where((value > score)[:, None], mean, best), jnp.maximum(score, value)
            metrics["evaluated"] = value.mean()
        self.state = (state, best, score)
        return metrics

    def loose(self) -> dict[str, np.ndarray]:
        """The history."""
        return {"history": np.array(self.history), "evaluations": np.array(self.evaluations)}

    def restore(self, loose: Mapping[str, np.ndarray]) -> None:
        """Undoes `loose`."""
        self.history, self.evaluations = list(loose["history"]), list(loose["evaluations"])

    def write(self, folder: Path) -> None:
        """Of every label the controller with the highest evaluation, and the history."""
        arrays: dict[str, Any] = {}
        for i, label in enumerate(self.labels):
            found = {"controller": self.state[1][i], "score": self.state[2][i]}
            found |= {name: of[:, i] for name, of in self.loose().items()}
            arrays |= {name + label: array for name, array in found.items()}
        save_arrays(folder, arrays)


def cost(candidates: jax.Array, fitness: jax.Array, weight_decay: float) -> jax.Array:
    """What CMA-ES minimises: -fitness - weight_decay mean(weights^2), the release's sign."""
    return -fitness - weight_decay * jnp.square(candidates).mean(-1)


class DreamController(TrainController):
    """C trained in the dream, at each of some temperatures."""

    def __init__(
        self,
        config: Config,
        seed: int,
        of: Mapping[str, Any],
        temperatures: Sequence[float],
        labels: Sequence[str] = ("",),
    ) -> None:
        super().__init__(config, seed, of, labels)
        self.params = of["rnn"] if config.dream.products == "float32" else mdnrnn.rounded(of["rnn"])
        self.starts, self.temperatures = of["starts"], jnp.array(temperatures, jnp.float32)

    def rollouts(self, controllers: jax.Array, each: int, key: jax.Array, number: int) -> jax.Array:
        """Lengths of dreamed episodes, those of a generation at all temperatures in one program."""
        temperatures, members, parameters = controllers.shape
        found = dream.lengths(
            self.params,
            self.config.rnn,
            self.config.controller,
            self.starts,
            jnp.repeat(controllers.reshape(-1, parameters), each, 0),
            jnp.repeat(self.temperatures, members * each),
            key,
            self.config.dream.max_steps,
        )
        return found.reshape(temperatures, members, each).astype(jnp.float32)


class RealController(TrainController):
    """C trained in the real environment."""

    def __init__(self, config: Config, seed: int, of: Mapping[str, Any]) -> None:
        super().__init__(config, seed, of)
        self.agent = Agent(config, of["vae"], of.get("rnn"))

    def rollouts(self, controllers: jax.Array, each: int, key: jax.Array, number: int) -> jax.Array:
        """Returns of real episodes; tracks differ between members and generations, those of evaluations are fixed."""
        (controllers,) = controllers
        episodes = len(controllers) * each
        envs = min(self.config.es.envs, episodes)
        policy = ControllerPolicy(self.agent, controllers, envs, key, each)
        begin = 100_000 * (1 + self.seed) + (number + 1) * self.config.es.envs
        games = Games(self.config, episodes, envs, begin, policy)
        try:
            return jnp.asarray(play(games), jnp.float32).reshape(1, len(controllers), each)
        finally:
            games.env.close()


class Evaluate(Job):
    """Episodes in the real environment: of a controller, or of uniform random actions."""

    def __init__(self, config: Config, seed: int, episodes: int, policy: Any, first: int = EVALUATION_SEED) -> None:
        self.policy = policy
        self.games = Games(config, episodes, config.evaluation.envs, first + 10_000 * seed, policy)

    def step(self, index: int) -> Mapping[str, Any]:
        """A few steps of every environment."""
        for _ in range(STEPS):
            self.games.step()
        finished = self.games.returns[self.games.lengths > 0]
        return {"mean": finished.mean()} if len(finished) else {}

    def done(self, steps: int) -> int:
        """Episodes."""
        return self.games.done()

    def loose(self) -> dict[str, np.ndarray]:
        """The games and the policy's memory."""
        memory = dict(zip(("cell", "hidden"), map(np.asarray, getattr(self.policy, "state", ())), strict=False))
        return {**self.games.state(), **memory}

    def restore(self, loose: Mapping[str, np.ndarray]) -> None:
        """Undoes `loose`."""
        self.games.restore(loose)
        if "cell" in loose:
            self.policy.state = (jnp.asarray(loose["cell"]), jnp.asarray(loose["hidden"]))

    def write(self, folder: Path) -> None:
        """Returns and lengths."""
        versions = self.games.env.info().package_versions
        save_arrays(folder, {"returns": self.games.returns, "lengths": self.games.lengths})
        save_arrays(folder, {name: np.array(version) for name, version in versions.items()}, "versions.npz")

    def close(self) -> None:
        """Ends the environments."""
        self.games.env.close()


class DreamEpisodes(Job):
    """A number of dreamed episodes, all in one step."""

    def __init__(self, config: Config, seed: int, episodes: int, of: Mapping[str, Any], temperature: float) -> None:
        self.config, self.seed, self.episodes, self.of, self.temperature = config, seed, episodes, of, temperature
        self.returns = np.zeros(0)

    def play(self) -> Any:
        """Returns of the episodes."""
        raise NotImplementedError

    def step(self, index: int) -> Mapping[str, Any]:
        """All episodes."""
        self.returns = np.asarray(self.play())
        return {"mean": self.returns.mean()}

    def done(self, steps: int) -> int:
        """Episodes."""
        return steps * self.episodes

    def loose(self) -> dict[str, np.ndarray]:
        """The returns."""
        return {"returns": self.returns}

    def restore(self, loose: Mapping[str, np.ndarray]) -> None:
        """Undoes `loose`."""
        self.returns = loose["returns"]

    def write(self, folder: Path) -> None:
        """Returns."""
        save_arrays(folder, {"returns": self.returns})


class DreamEvaluate(DreamEpisodes):
    """Of one controller, with other random numbers than in training."""

    def play(self) -> Any:
        """See `DreamEpisodes`."""
        train = DreamController(self.config, self.seed, self.of, [self.temperature])
        key = key_of(self.seed, "evaluate", 1)
        return train.rollouts(jnp.asarray(self.of["controller"])[None, None], self.episodes, key, -1)[0, 0]


class DreamRandom(DreamEpisodes):
    """Of uniform random actions: as long as real ones under the same if M has learned the game."""

    def play(self) -> Any:
        """See `DreamEpisodes`."""
        policy, episodes = uniform_policy(self.config, self.seed), np.arange(self.episodes)
        steps = range(self.config.dream.max_steps)
        actions = np.stack([policy(episodes, t, None) for t in steps]).astype(np.float32)
        key, temperature = key_of(self.seed, "evaluate", 4), jnp.float32(self.temperature)
        return dream.lengths_under(self.of["rnn"], self.config.rnn, self.of["starts"], actions, temperature, key)
